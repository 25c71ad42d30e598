"""The conformance checklist of transformers 5: each row with the tests that hold it, and a test that they exist.

A row says what the library demands of a model that is at home in it. Rows about older versions are held by
`tests/environments` and the matrix of releases (`make matrix`), those about a GPU by `test_model_cuda.py`.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

HERE = Path(__file__).parent

CHECKLIST: dict[str, tuple[str, ...]] = {
    "GenerationMixin is a direct base": ("structure::test_generation_is_a_direct_base_behind_the_model",),
    "generate makes an EncoderDecoderCache": (
        "loading::test_the_forward_s_cache_is_the_library_s_pair_of_caches",
        "generation::test_a_cache_of_the_caller_s_is_filled",
        "generation::test_a_greedy_caption_continues_from_the_cache_it_left",
    ),
    "_reorder_cache is static and leaves cross-attention alone": (
        "structure::test_beams_reorder_the_tokens_own_cache_and_leave_the_audio_s_in_place",
        "test_model_lpmc::test_the_cache_changes_the_time_and_not_the_caption",
    ),
    "support flags, modules not split, keys not moved": (
        "structure::test_all_that_bart_supports_is_inherited",
        "attention::test_the_library_is_told_what_the_model_supports",
        "attention::test_no_layer_that_may_not_be_split_is_missing_from_the_model",
    ),
    "eager, sdpa and flex attention agree": (
        "attention::test_every_kernel_gives_the_numbers_of_the_plain_one",
        "attention::test_every_kernel_writes_the_same_captions",
        "attention::test_a_kernel_of_the_user_s_is_called_by_every_attention",
    ),
    "attention is switched at run time; no class named Attention": (
        "structure::test_no_class_is_called_attention_so_that_kernels_can_be_switched",
        "attention::test_the_kernel_named_on_loading_is_used",
        "attention::test_kernels_of_the_two_halves_may_differ",
    ),
    "output_attentions and output_hidden_states": (
        "attention::test_inner_states_come_from_the_call_or_from_the_config",
        "attention::test_gradients_reach_the_inner_states",
        "attention::test_a_tuple_holds_what_the_named_result_holds",
    ),
    "_init_weights fills tables and respects loaded weights": (
        "structure::test_weights_start_as_the_config_says_and_tables_are_filled_again",
        "loading::test_every_table_missing_in_a_file_is_computed_and_every_weight_missing_is_started_afresh",
        "test_model_lpmc::test_convolutions_start_as_in_pytorch_so_that_sound_reaches_the_encoder",
    ),
    "every tensor is a parameter or a buffer": (
        "loading::test_every_tensor_is_a_parameter_or_a_buffer_so_that_a_model_can_be_built_without_memory",
        "loading::test_memory_given_afterwards_can_be_filled_with_weights_and_tables",
        "structure::test_constructors_read_no_numbers_out_of_tensors_as_there_are_none_on_the_meta_device",
    ),
    "post_init ends every constructor": ("structure::test_post_init_ends_every_constructor",),
    "tied keys: a dictionary, on version 4 a list": (
        "structure::test_ties_are_named_in_the_form_of_the_installed_version",
        "structure::test_new_embeddings_reach_all_who_share_them",
    ),
    "tie_word_embeddings is a field; no doubled head in the file": (
        "loading::test_a_config_file_without_the_field_still_ties_the_head",
        "loading::test_an_untied_head_is_a_weight_of_its_own_and_survives_saving",
        "loading::test_the_file_holds_each_parameter_once_and_no_table",
        "loading::test_at_full_size_the_head_is_counted_once_and_the_file_would_take_594_megabytes",
        "test_export_hub::test_the_head_is_stored_once",
    ),
    "resizing takes head and bias along": (
        "test_model_lpmc::test_resizing_the_vocabulary_takes_the_bias_of_the_head_along",
        "loading::test_a_resized_model_survives_saving_and_still_writes",
        "loading::test_resizing_to_a_multiple_fills_up_with_tokens_of_the_mean",
    ),
    "base_model_prefix: body and captioner load each other": (
        "loading::test_the_body_loads_from_the_captioner_s_file_and_the_captioner_from_the_body_s",
        "test_model_lpmc::test_the_base_model_holds_the_same_weights",
    ),
    "pad, bos, eos and start tokens": ("test_config_lpmc::test_tokens_have_the_numbers_that_bart_gives_them",),
    "the config class and its copies": (
        "test_config_lpmc::test_a_config_survives_every_way_of_copying_it",
        "test_config_lpmc::test_a_saved_config_comes_back_with_every_field_that_was_changed",
        "test_config_lpmc::test_names_of_other_models_for_a_size_are_understood",
        "test_config_lpmc::test_a_field_of_one_s_own_and_keywords_on_loading_are_kept",
        "test_config_lpmc::test_the_attention_kernel_is_no_field_of_the_file",
        "test_config_lpmc::test_configs_are_equal_when_all_their_fields_are",
    ),
    "generation settings stay out of the config": (
        "test_config_lpmc::test_settings_of_generation_live_in_their_own_file",
        "test_config_lpmc::test_settings_of_generation_in_an_old_config_file_do_not_stop_saving",
    ),
    "GenerationConfig is fresh": (
        "structure::test_a_fresh_generation_config_is_written_without_the_mark_of_a_derived_one",
        "test_model_lpmc::test_a_new_model_decodes_as_the_released_one",
    ),
    "gradient checkpointing": (
        "attention::test_checkpointing_recomputes_and_changes_no_gradient",
        "attention::test_checkpointing_can_be_switched_off_and_does_nothing_outside_training",
        "test_model_training::test_ways_of_the_trainer_lead_to_the_same_weights",
    ),
    "every parameter gets a gradient": (
        "attention::test_every_parameter_gets_a_gradient_so_that_distributed_training_waits_for_none",
    ),
    "main_input_name and input_modalities": (
        "structure::test_the_main_input_is_audio",
        "structure::test_the_decoder_s_main_input_stays_tokens",
        "generation::test_audio_may_come_by_position_with_a_generation_config",
    ),
    "get_encoder takes a modality": ("structure::test_encoder_and_decoder_are_found_however_they_are_asked_for",),
    "num_items_in_batch: accumulation is exact": (
        "test_model_training::test_accumulated_steps_equal_one_large_one",
        "test_model_training::test_a_mean_of_means_would_be_another_step",
        "test_model_training::test_the_trainer_takes_waveforms_as_well",
        "structure::test_the_trainer_sees_that_the_loss_counts_all_labels_of_an_update",
    ),
    "the loss shifts once": (
        "structure::test_the_loss_shifts_once",
        "test_model_lpmc::test_the_loss_is_smoothed_cross_entropy_of_labels_that_keep_their_first_token",
    ),
    "label smoothing by the model or by the Trainer": (
        "test_model_training::test_smoothing_by_the_trainer_equals_smoothing_by_the_model",
        "test_model_lpmc::test_smoothing_comes_from_the_config",
    ),
    "prepare_decoder_input_ids_from_labels": (
        "structure::test_labels_keep_their_first_token_and_are_not_changed",
        "test_model_training::test_decoder_inputs_of_the_collator_change_nothing",
        "test_model_training::test_the_collator_of_the_library_s_speech_example_works",
    ),
    "Trainer: predicting, resuming, best model": (
        "test_model_training::test_the_trainer_generates_captions_when_it_evaluates",
        "test_model_training::test_evaluation_gives_the_model_s_loss_and_logits",
        "test_model_training::test_a_run_that_was_stopped_goes_on_to_the_same_weights",
        "test_model_training::test_the_best_model_is_put_back_at_the_end",
    ),
    "static cache and torch.compile(fullgraph=True)": (
        "compile::test_the_whole_call_is_one_graph_without_a_break",
        "compile::test_a_static_cache_decodes_the_same_tokens",
        "compile::test_one_step_compiled_for_all_lengths_of_a_static_cache_gives_the_logits_of_the_whole",
        "compile::test_compiled_training_gives_the_same_loss_and_gradients",
        "test_model_cuda::test_compiled_generation_with_a_static_cache_writes_the_same_captions",
    ),
    "export": (
        "compile::test_export_keeps_the_numbers",
        "compile::test_the_library_s_exporter_takes_the_model_with_its_cache",
    ),
    "SequenceFeatureExtractor.pad and raw audio": (
        "test_feature_extraction_lpmc::test_a_short_clip_is_padded_with_silence_before_the_spectrum",
        "test_feature_extraction_lpmc::test_waveforms_are_padded_but_not_otherwise_changed",
        "test_model_training::test_the_collator_of_the_library_s_speech_example_works",
    ),
    "the extractor's JSON leaves its tables out": (
        "test_feature_extraction_lpmc::test_saving_keeps_the_settings_and_leaves_the_tables_out",
    ),
    "ProcessorMixin: unknown keywords are refused": (
        "test_processing_lpmc::test_a_misspelt_keyword_is_refused_and_not_ignored",
        "test_processing_lpmc::test_a_saved_processor_comes_back_without_running_foreign_code",
    ),
    "audio is loaded without torchaudio": (
        "test_audio_reading::test_every_common_format_and_rate_gives_the_same_tone",
        "test_export_hub::test_the_code_beside_the_weights_imports_only_what_a_stranger_has",
    ),
    "dtype: auto, bfloat16, float16": (
        "loading::test_half_precision_is_loaded_computed_generated_and_saved",
        "loading::test_a_float32_file_is_loaded_as_float32_when_no_format_is_named",
        "test_model_lpmc::test_a_bfloat16_model_hears_float32_features_and_keeps_its_mel_tables",
        "generation::test_captions_of_half_precision_are_as_likely_as_the_library_s",
    ),
    "device_map and offloading": ("loading::test_weights_spread_over_places_give_the_same_captions",),
    "auto_map and the auto classes": (
        "test_export_hub::test_the_config_names_the_classes_and_the_pipeline",
        "loading::test_the_auto_classes_find_the_classes_once_they_are_registered",
    ),
    "code is copied flat, with all it imports": (
        "test_export_hub::test_a_process_without_this_project_captions_a_file",
    ),
    "relative imports name a file": ("structure::test_relative_imports_have_the_one_form_that_travels",),
    "third-party imports are torch, numpy and transformers": (
        "test_export_hub::test_the_code_beside_the_weights_imports_only_what_a_stranger_has",
    ),
    "no isinstance across files": ("structure::test_no_file_of_the_payload_asks_for_a_class_of_another_of_them",),
    "a faster generate has the library's tokens": (
        "generation::test_every_form_of_generation_is_the_library_s",
        "generation::test_models_of_other_shapes_are_decoded_as_by_the_library",
        "generation::test_what_the_library_refuses_is_refused_in_its_words",
        "drawn::test_drawn_settings_give_the_library_s_captions_or_its_refusal",
        "changes::test_a_change_of_the_model_is_heard_in_the_next_caption",
    ),
    "copyright line": ("structure::test_every_file_of_the_payload_begins_with_the_year_of_its_copyright",),
    "copies, pickles, shards": (
        "loading::test_a_copy_is_whole_tied_and_apart_from_its_origin",
        "loading::test_shards_hold_the_same_model",
    ),
}


def module_of(short: str) -> Path:
    return HERE / (f"{short}.py" if short.startswith("test_") else f"test_conformance_{short}.py")


@pytest.mark.parametrize("row", CHECKLIST)
def test_every_row_of_the_checklist_has_its_tests(row: str) -> None:
    assert CHECKLIST[row]
    for named in CHECKLIST[row]:
        short, name = named.split("::")
        found = {
            node.name for node in ast.parse(module_of(short).read_text()).body if isinstance(node, ast.FunctionDef)
        }
        assert name in found, f"{module_of(short).name} has no {name}"


def test_every_conformance_test_module_holds_a_row() -> None:
    named = {module_of(test.split("::")[0]).name for tests in CHECKLIST.values() for test in tests}
    assert {path.name for path in HERE.glob("test_conformance_*.py")} - named == {Path(__file__).name}
