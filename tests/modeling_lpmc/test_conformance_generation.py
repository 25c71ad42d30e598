"""Generation in all its forms gives what transformers' own `generate` gives with the same weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from generation_twin import both, same, with_library_generation
from small_captioner import ending_model, features, small_model
from transformers import (
    EncoderNoRepeatNGramLogitsProcessor,
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    MaxTimeCriteria,
    StoppingCriteria,
    StoppingCriteriaList,
    WatermarkingConfig,
)
from transformers.cache_utils import DynamicCache, EncoderDecoderCache, StaticCache
from transformers.generation.streamers import BaseStreamer
from transformers.modeling_outputs import BaseModelOutput

from modeling_lpmc import LpmcForConditionalGeneration
from modeling_lpmc.modeling_lpmc import default_generation_config

CLIPS = 6  # of `features`: as many different captions from `ending_model`
EVERYTHING = {
    "return_dict_in_generate": True,
    "output_scores": True,
    "output_logits": True,
    "output_attentions": True,
    "output_hidden_states": True,
}


class OnlyEven(LogitsProcessor):
    """Forbids odd tokens except for 1 (padding), 0 and 2 being even."""

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        scores = scores.clone()
        scores[:, 3::2] = -float("inf")
        return scores


class StopAtNineTokens(StoppingCriteria):
    """Ends every caption with its ninth token."""

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor, **kwargs: Any) -> torch.BoolTensor:
        return torch.full((input_ids.shape[0],), input_ids.shape[1] >= 9, dtype=torch.bool)


PROMPT = torch.tensor([[2, 0, 5 + clip] for clip in range(CLIPS)])
BEAM_FORMS: dict[str, dict[str, Any]] = {
    "as-released": {},
    "dict": EVERYTHING,
    "dict-without-scores": {"return_dict_in_generate": True},
    "two-beams": {"num_beams": 2},
    "nine-beams": {"num_beams": 9},
    "all-beams-returned": {"num_return_sequences": 5},
    "three-returned-as-dict": {"num_return_sequences": 3, "return_dict_in_generate": True, "output_scores": True},
    "longer-captions-favoured": {"length_penalty": 2.5},
    "shorter-captions-favoured": {"length_penalty": -1.5},
    "no-length-penalty": {"length_penalty": 0.0},
    "no-early-stopping": {"early_stopping": False},
    "never-stopping-early": {"early_stopping": "never", "length_penalty": 1.5},
    "repeats-allowed": {"no_repeat_ngram_size": 0},
    "no-token-twice": {"no_repeat_ngram_size": 1},
    "no-bigram-twice": {"no_repeat_ngram_size": 2},
    "repetition-penalty": {"repetition_penalty": 1.7, "no_repeat_ngram_size": 0},
    "minimum-length": {"min_length": 12},
    "no-minimum-length": {"min_length": 0},
    "minimum-of-new-tokens": {"min_new_tokens": 9, "min_length": None},
    "number-of-new-tokens": {"max_length": None, "max_new_tokens": 7},
    "one-new-token": {"max_length": None, "max_new_tokens": 1},
    "no-forced-first-token": {"forced_bos_token_id": None},
    "no-forced-last-token": {"forced_eos_token_id": None},
    "another-forced-first-token": {"forced_bos_token_id": 17},
    "several-ends": {"eos_token_id": [2, 60]},
    "another-end": {"eos_token_id": 125, "forced_eos_token_id": 125},
    "another-padding": {"pad_token_id": 3},
    "another-start": {"decoder_start_token_id": 0},
    "bad-words": {"bad_words_ids": [[215], [125, 7], [60, 60]]},
    "suppressed": {"suppress_tokens": [215, 60]},
    "suppressed-at-first": {"begin_suppress_tokens": [215, 125]},
    "allowed-tokens": {"prefix_allowed_tokens_fn": lambda clip, tokens: [2, 40 + clip, 50 + len(tokens)]},
    "bias": {"sequence_bias": {(215,): -3.0, (125, 60): 4.0}},
    "renormalised": {"renormalize_logits": True},
    "invalid-values-removed": {"remove_invalid_values": True},
    "decay": {"exponential_decay_length_penalty": (4, 1.2)},
    "watermark": {"watermarking_config": WatermarkingConfig()},
    "logits-processor": {"logits_processor": LogitsProcessorList([OnlyEven()])},
    "library-s-processor": {
        "logits_processor": [EncoderNoRepeatNGramLogitsProcessor(1, torch.tensor([[215, 60]] * 30))]
    },
    "stopping-criteria": {"stopping_criteria": StoppingCriteriaList([StopAtNineTokens()])},
    "time-is-up": {"stopping_criteria": [MaxTimeCriteria(max_time=0.0)]},
    "max-time": {"max_time": 0.0},
    "prompt": {"decoder_input_ids": PROMPT},
    "prompt-without-the-start-token": {"decoder_input_ids": PROMPT[:, 1:]},
    "prompt-padded-on-the-left": {
        "decoder_input_ids": torch.cat([torch.ones(CLIPS, 1, dtype=torch.long), PROMPT], dim=1),
        "decoder_attention_mask": torch.tensor([[0, 1, 1, 1]] * CLIPS),
    },
    "without-cache": {"use_cache": False},
    "static-cache": {"cache_implementation": "static"},
    "dynamic-cache": {"cache_implementation": "dynamic"},
    "generation-config": {
        "generation_config": GenerationConfig(
            num_beams=3, max_length=9, decoder_start_token_id=2, eos_token_id=2, pad_token_id=1
        )
    },
}
FORMS = BEAM_FORMS | {
    "greedy": {"num_beams": 1},
    "greedy-dict": {"num_beams": 1} | EVERYTHING,
    "greedy-static-cache": {"num_beams": 1, "cache_implementation": "static"},
    "greedy-prompt": {"num_beams": 1, "decoder_input_ids": PROMPT},
    "greedy-without-cache": {"num_beams": 1, "use_cache": False},
    "greedy-several-ends": {"num_beams": 1, "eos_token_id": [2, 60]},
    "sampling": {"num_beams": 1, "do_sample": True},
    "sampling-dict": {"num_beams": 1, "do_sample": True} | EVERYTHING,
    "sampling-several": {"num_beams": 1, "do_sample": True, "num_return_sequences": 3},
    "sampling-filters": {"num_beams": 1, "do_sample": True, "temperature": 0.7, "top_k": 9, "top_p": 0.9},
    "sampling-other-filters": {"num_beams": 1, "do_sample": True, "min_p": 0.01, "typical_p": 0.9},
    "sampling-cut-offs": {"num_beams": 1, "do_sample": True, "epsilon_cutoff": 0.001, "eta_cutoff": 0.002},
    "beam-sampling": {"num_beams": 4, "do_sample": True, "temperature": 1.3},
    "beam-sampling-dict": {"num_beams": 4, "do_sample": True, "num_return_sequences": 2} | EVERYTHING,
}


@pytest.fixture(scope="module")
def captioner() -> LpmcForConditionalGeneration:
    model = ending_model()
    model.set_attn_implementation("eager")  # sdpa gives no attention weights
    return model


@pytest.mark.parametrize("settings", FORMS.values(), ids=FORMS.keys())
def test_every_form_of_generation_is_the_library_s(captioner: LpmcForConditionalGeneration, settings: Any) -> None:
    lengths = {} if "generation_config" in settings else {"max_length": 20}
    ours, theirs = both(captioner, **({"input_features": features(CLIPS)} | lengths | settings))
    same(ours, theirs)


def test_the_clips_of_these_tests_have_captions_that_differ_and_end_apart(
    captioner: LpmcForConditionalGeneration,
) -> None:
    tokens = captioner.generate(input_features=features(CLIPS), max_length=20)
    assert len({tuple(row) for row in tokens.tolist()}) == CLIPS
    assert (tokens != 1).sum(1).tolist() == [20, 20, 20, 3, 20, 15]


def test_the_twin_of_these_tests_runs_the_library_s_code_alone(captioner: LpmcForConditionalGeneration) -> None:
    twin = with_library_generation(captioner)
    for name in ("generate", "_beam_search", "_sample", "_reorder_cache"):
        code = getattr(type(twin), name).__module__
        assert not code.startswith("modeling_lpmc"), f"{name} comes from {code}"
    assert twin.lm_head.weight is captioner.lm_head.weight


@pytest.mark.parametrize("batch", [1, 2, 7])
@pytest.mark.parametrize("beams", [1, 5])
def test_batches_of_any_size_are_captioned_as_by_the_library(
    captioner: LpmcForConditionalGeneration, batch: int, beams: int
) -> None:
    same(*both(captioner, input_features=features(batch, seed=5), num_beams=beams, max_length=20))


@pytest.mark.parametrize("beams", [1, 5])
def test_the_longest_caption_that_the_positions_allow_is_the_library_s(beams: int) -> None:
    model = small_model()
    ours, theirs = both(model, input_features=features(2), num_beams=beams, max_length=64)
    same(ours, theirs)
    assert ours.shape[1] == 64


@pytest.mark.parametrize(
    "changes",
    [
        {"activation_function": "relu"},
        {"scale_embedding": True},
        {"decoder_layers": 1, "encoder_layers": 3},
        {"decoder_attention_heads": 8, "encoder_attention_heads": 2},
        {"decoder_ffn_dim": 48},
        {"vocab_size": 305},
        {"num_conv_layers": 3, "max_source_frames": 300, "max_position_embeddings": 300},
        {"tie_word_embeddings": False},
        {
            "pad_token_id": 3,
            "bos_token_id": 5,
            "eos_token_id": 6,
            "decoder_start_token_id": 7,
            "forced_eos_token_id": 6,
        },
    ],
    ids=lambda changes: next(iter(changes)),
)
@pytest.mark.parametrize("beams", [1, 5])
def test_models_of_other_shapes_are_decoded_as_by_the_library(changes: dict[str, Any], beams: int) -> None:
    model = small_model(seed=1, **changes)
    same(*both(model, input_features=features(3), num_beams=beams, max_length=16))


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_both_attentions_of_the_model_decode_as_the_library(attention: str) -> None:
    model = ending_model()
    model.set_attn_implementation(attention)
    same(*both(model, input_features=features(CLIPS), max_length=20))


@pytest.mark.parametrize("number", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("beams", [1, 5])
def test_captions_of_half_precision_are_as_likely_as_the_library_s(number: torch.dtype, beams: int) -> None:
    exact = ending_model()
    ours, theirs = both(ending_model().to(number), features(CLIPS), num_beams=beams, max_length=20)
    likelihoods = []
    for tokens in (ours, theirs):  # rounding may turn a near tie; the captions must be as good
        with torch.no_grad():
            logits = exact(input_features=features(CLIPS), decoder_input_ids=tokens[:, :-1]).logits
        chosen = logits.log_softmax(-1).gather(2, tokens[:, 1:, None]).squeeze(2)
        real = tokens[:, 1:] != 1
        likelihoods.append((chosen * real).sum(1) / real.sum(1))
    torch.testing.assert_close(likelihoods[0], likelihoods[1], rtol=0, atol=0.1)


def test_autocast_around_generation_is_obeyed() -> None:
    model = ending_model()
    settings = {"max_length": 20, "return_dict_in_generate": True, "output_scores": True}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours, theirs = both(model, input_features=features(CLIPS), **settings)
    same(ours.sequences, theirs.sequences)
    same(ours.sequences_scores, theirs.sequences_scores)


def test_dropout_acts_when_the_model_is_in_training_mode() -> None:
    model = small_model(dropout=0.3, attention_dropout=0.3).train()
    same(*both(model, input_features=features(3), max_length=16))
    torch.manual_seed(0)
    first = model.generate(input_features=features(3), max_length=16)
    assert not torch.equal(first, model.generate(input_features=features(3), max_length=16))
    assert model.training


@pytest.mark.parametrize("beams", [1, 5])
def test_ready_encoder_outputs_may_take_the_place_of_audio(captioner: LpmcForConditionalGeneration, beams: int) -> None:
    with torch.no_grad():
        encoded = captioner.get_encoder()(features(CLIPS)).last_hidden_state
    settings = {"num_beams": beams, "max_length": 20}
    from_audio = captioner.generate(features(CLIPS), **settings)
    for each in (captioner, with_library_generation(captioner)):
        for positional in ((), (features(CLIPS),)):
            given = BaseModelOutput(last_hidden_state=encoded)  # the library widens this very object for its beams
            assert torch.equal(each.generate(*positional, encoder_outputs=given, **settings), from_audio)


def test_audio_may_come_by_position_with_a_generation_config() -> None:
    model = ending_model()
    config = default_generation_config(model.config)
    config.max_length = 20
    named = model.generate(input_features=features(CLIPS), max_length=20)
    assert torch.equal(model.generate(features(CLIPS), config), named)
    assert torch.equal(model.generate(inputs=features(CLIPS), generation_config=config), named)
    same(*both(model, features(CLIPS), config))


def test_settings_of_one_call_do_not_stay_for_the_next() -> None:
    model = ending_model()
    before = model.generation_config.to_dict()
    first = model.generate(features(CLIPS), max_length=20)
    model.generate(features(CLIPS), max_length=9, num_beams=2, no_repeat_ngram_size=0, length_penalty=2.0)
    assert model.generation_config.to_dict() == before
    assert torch.equal(model.generate(features(CLIPS), max_length=20), first)


def test_changes_of_the_generation_config_are_obeyed() -> None:
    model = ending_model()
    model.generation_config.num_beams = 2
    model.generation_config.max_length = 11
    model.generation_config.no_repeat_ngram_size = 1
    ours, theirs = both(model, features(CLIPS))
    same(ours, theirs)
    assert ours.shape[1] == 11


@pytest.mark.parametrize("masked", [True, False], ids=["with-a-mask", "without"])
@pytest.mark.parametrize("kind", ["dynamic", "static"])
def test_a_greedy_caption_continues_from_the_cache_it_left(kind: str, masked: bool) -> None:
    # transformers 5 counts the prompt twice where no mask says that the cache holds it; ours must not
    model = ending_model()
    settings = {"num_beams": 1, "min_length": 0, "forced_eos_token_id": None}
    cache = EncoderDecoderCache(StaticCache(model.config, 20), StaticCache(model.config, 32))
    more = {"past_key_values": cache} if kind == "static" else {}
    whole = model.generate(features(2), max_length=14, **settings)
    begun = model.generate(features(2), max_length=7, return_dict_in_generate=True, **settings, **more)
    assert begun.past_key_values.get_seq_length() == 6
    mask = {"decoder_attention_mask": torch.ones_like(begun.sequences)} if masked else {}
    rest = model.generate(
        features(2),
        decoder_input_ids=begun.sequences,
        past_key_values=begun.past_key_values,
        max_length=14,
        **settings,
        **mask,
    )
    assert torch.equal(rest, whole)


@pytest.mark.parametrize("beams", [1, 4])
def test_a_cache_of_the_caller_s_is_filled(captioner: LpmcForConditionalGeneration, beams: int) -> None:
    def cache() -> EncoderDecoderCache:
        return EncoderDecoderCache(DynamicCache(), DynamicCache())

    mine, theirs = cache(), cache()
    settings = {"input_features": features(3), "num_beams": beams, "max_length": 10}
    ours = captioner.generate(past_key_values=mine, **settings)
    stock = with_library_generation(captioner).generate(past_key_values=theirs, **settings)
    assert torch.equal(ours, stock)
    assert mine.get_seq_length() == theirs.get_seq_length() == 9


def test_a_static_cache_of_the_caller_s_serves_twice(captioner: LpmcForConditionalGeneration) -> None:
    cache = EncoderDecoderCache(
        StaticCache(captioner.config.get_text_config(decoder=True), 20),
        StaticCache(captioner.config.get_text_config(decoder=True), 32),
    )
    expected = captioner.generate(features(3), num_beams=1, max_length=10)
    for _ in range(2):
        found = captioner.generate(features(3), num_beams=1, max_length=10, past_key_values=cache)
        assert torch.equal(found, expected)
        cache.reset()


class Words(BaseStreamer):
    """Keeps what it is sent."""

    def __init__(self) -> None:
        self.sent: list[int] = []
        self.ended = False

    def put(self, value: torch.Tensor) -> None:
        self.sent += value.flatten().tolist()

    def end(self) -> None:
        self.ended = True


def test_a_streamer_hears_every_token_and_the_end(captioner: LpmcForConditionalGeneration) -> None:
    streamer = Words()
    tokens = captioner.generate(features(1), num_beams=1, max_length=20, streamer=streamer)
    assert streamer.sent == tokens[0].tolist()
    assert streamer.ended
    with pytest.raises(ValueError, match="streamer"):
        captioner.generate(features(1), streamer=Words())


def test_a_smaller_model_may_write_ahead(captioner: LpmcForConditionalGeneration) -> None:
    settings = {"num_beams": 1, "max_length": 14, "no_repeat_ngram_size": 0}
    alone = captioner.generate(features(1), **settings)
    helped = captioner.generate(features(1), assistant_model=small_model(seed=3, decoder_layers=1), **settings)
    assert torch.equal(helped, alone)


@pytest.mark.parametrize(
    "wrong",
    [
        {"number_of_beams": 3},
        {"attention_mask": torch.ones(CLIPS, 32)},
        {"num_return_sequences": 6},
        {"num_beams": 0},
        {"max_new_tokens": 0},
        {"stop_strings": ["."]},
        {"num_beams": 1, "num_return_sequences": 2},
        {"cache_implementation": "magnetic"},
        {"penalty_alpha": 0.6, "top_k": 4, "num_beams": 1},
        {"num_beam_groups": 5, "diversity_penalty": 0.5},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_what_the_library_refuses_is_refused_in_its_words(
    captioner: LpmcForConditionalGeneration, wrong: dict[str, Any]
) -> None:
    complaints = []
    for each in (captioner, with_library_generation(captioner)):
        with pytest.raises(Exception) as caught:
            each.generate(features(CLIPS), **wrong)
        complaints.append((caught.type, str(caught.value)))
    assert complaints[0] == complaints[1]


def test_a_decoding_loop_of_the_caller_s_is_run(captioner: LpmcForConditionalGeneration) -> None:
    def loop(model: Any, input_ids: torch.Tensor, logits_processor: Any, **rest: Any) -> torch.Tensor:
        assert rest["encoder_outputs"].last_hidden_state.shape == (2, 32, 32)
        return torch.cat([input_ids, input_ids + 40], dim=1)

    assert captioner.generate(features(2), custom_generate=loop, num_beams=1).tolist() == [[2, 42], [2, 42]]


def test_scores_of_beams_are_the_log_probabilities_of_their_tokens(captioner: LpmcForConditionalGeneration) -> None:
    found = captioner.generate(
        features(CLIPS), max_length=20, return_dict_in_generate=True, output_scores=True, min_length=0
    )
    with torch.no_grad():
        logits = captioner(input_features=features(CLIPS), decoder_input_ids=found.sequences[:, :-1]).logits
    chosen = logits.log_softmax(-1).gather(2, found.sequences[:, 1:, None]).squeeze(2)
    for clip, row in enumerate(found.sequences.tolist()):
        length = row.index(2, 1)  # tokens behind the start token, with </s>
        free = [place for place in range(1, length) if place != 18]  # forced ones score 0
        expected = chosen[clip, free].sum() / length
        assert found.sequences_scores[clip].item() == pytest.approx(expected.item(), abs=1e-4)


@pytest.mark.parametrize("settings", [{}, {"length_penalty": 2.0}, {"length_penalty": 0.0}])
@pytest.mark.parametrize("beams", [1, 2, 5])
def test_candidates_are_the_library_s_hypotheses_with_its_probabilities(beams: int, settings: dict[str, float]) -> None:
    model, audio = ending_model(), features(3)
    for name, value in settings.items():
        setattr(model.generation_config, name, value)
    ids, shares = model.candidates(audio, beams)
    assert ids.shape[:2] == shares.shape == (3, beams)
    torch.testing.assert_close(shares.sum(1), torch.ones(3))
    if beams == 1:
        assert torch.equal(ids[:, 0], model.generate(audio, num_beams=1, early_stopping=False))
        return
    twin = with_library_generation(model)
    twin.own_search = False
    asked = {"num_beams": beams, "num_return_sequences": beams}
    found = twin.generate(audio, return_dict_in_generate=True, output_scores=True, **asked)
    assert torch.equal(ids.flatten(0, 1), found.sequences)
    pad = model.config.pad_token_id
    for clip in range(3):
        rows = slice(clip * beams, (clip + 1) * beams)
        lengths = [len([i for i in row.tolist()[1:] if i != pad]) for row in found.sequences[rows]]
        penalty = settings.get("length_penalty", 1.0)
        sums = torch.tensor(
            [s * n**penalty for s, n in zip(found.sequences_scores[rows].tolist(), lengths, strict=True)]
        )
        torch.testing.assert_close(shares[clip], sums.softmax(0), rtol=1e-3, atol=1e-4)
    slow, other = twin.candidates(audio, beams)
    assert torch.equal(slow, ids)
    torch.testing.assert_close(other, shares, rtol=1e-3, atol=1e-4)
