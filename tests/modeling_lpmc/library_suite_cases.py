"""The captioner as a subject of transformers' own common tests. Run by test_library_suite.py, in a process of its own.

`tests.*` are the files of the library's source distribution. What they import and the distribution lacks stands below.
Its pipeline mixin is left out: it knows the library's own tasks and no others.
"""

from __future__ import annotations

import sys
import types
import unittest
from typing import Any

import numpy as np
import torch


def _stand_in(name: str, **content: Any) -> None:
    """A module that the source distribution has not: empty mixins, and a path that is no test's business."""
    module = types.ModuleType(name)
    vars(module).update(content)
    sys.modules[name] = module


_stand_in("tests.exporters.test_export", ExportTesterMixin=object)
_stand_in("tests.generation.test_utils", GenerationTesterMixin=type("GenerationTesterMixin", (), {}))
_stand_in("tests.utils.test_configuration_utils", config_common_kwargs={})
_stand_in("fetch_hub_objects_for_ci", url_to_local_path=lambda url: url)

from tests.generation.test_utils import GenerationTesterMixin  # noqa: E402
from tests.test_configuration_common import ConfigTester  # noqa: E402
from tests.test_modeling_common import ModelTesterMixin  # noqa: E402
from tests.test_processing_common import ProcessorTesterMixin  # noqa: E402
from tests.test_sequence_feature_extraction_common import SequenceFeatureExtractionTestMixin  # noqa: E402
from tests.test_training_mixin import TrainingTesterMixin  # noqa: E402
from transformers import (  # noqa: E402
    AutoConfig,
    AutoFeatureExtractor,
    AutoModel,
    AutoModelForSpeechSeq2Seq,
    AutoProcessor,
)
from transformers.models.auto import modeling_auto  # noqa: E402

from modeling_lpmc import (  # noqa: E402
    LpmcConfig,
    LpmcFeatureExtractor,
    LpmcForConditionalGeneration,
    LpmcModel,
    LpmcProcessor,
    train_tokenizer,
)

_READS_INPUT_IDS = "it indexes input_ids, which audio has not; test_conformance_loading.py resizes this model"
_STRICT = "an unknown keyword is a TypeError here, where the library's processors warn and drop what it held"
_EXPLICIT = "the arguments stand in the signature with their defaults, not in ProcessingKwargs"
_NEEDS_A_RATE = "it calls without sampling_rate, which is required, so that no audio passes at a wrong rate"
BY_HAND: dict[str, dict[str, str]] = {
    "LpmcModelTest": {
        "test_resize_embeddings_untied": _READS_INPUT_IDS,
        "test_resize_tokens_embeddings": _READS_INPUT_IDS,
        "test_training_overfit": "it knows text and images, no audio; test_training_run.py trains this model",
    },
    "LpmcProcessorTest": {
        "test_call_arguments_default_none": _EXPLICIT,
        "test_call_arguments_not_in_processor_kwargs": _EXPLICIT,
        "test_flat_kwarg_applied_when_modality_dict_lacks_it": _STRICT,
        "test_kwargs_overrides_default_subprocessor_kwargs_2_audio": _STRICT,
        "test_overlapping_text_image_kwargs_handling_2_audio": _STRICT,
        "test_structured_kwargs_nested_from_dict_2_audio": _STRICT,
        "test_unstructured_kwargs_2_audio": _STRICT,
        "test_unstructured_kwargs_batched_2_audio": _STRICT,
        "test_model_input_names": _NEEDS_A_RATE,
        "test_processor_with_multiple_inputs": _NEEDS_A_RATE,
        "test_subprocessor_defaults_3_audio": _NEEDS_A_RATE,
        "test_subprocessor_defaults_preserved_by_kwargs_2_audio": _NEEDS_A_RATE,
        "test_tokenizer_decode_defaults": "captions are decoded without special tokens unless asked for",
    },
}
"""What is skipped by hand, by case, and why."""

AutoConfig.register(LpmcConfig.model_type, LpmcConfig)
AutoModel.register(LpmcConfig, LpmcModel)
AutoModelForSpeechSeq2Seq.register(LpmcConfig, LpmcForConditionalGeneration)
AutoFeatureExtractor.register(LpmcConfig, LpmcFeatureExtractor)
AutoProcessor.register(LpmcConfig, LpmcProcessor)
# The tests look classes up by their names in these two.
modeling_auto.MODEL_MAPPING_NAMES[LpmcConfig.model_type] = "LpmcModel"
modeling_auto.MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES[LpmcConfig.model_type] = "LpmcForConditionalGeneration"


def without_those_that_cannot_apply(case: type[unittest.TestCase]) -> type[unittest.TestCase]:
    """Skip what `BY_HAND` lists for `case`, with its reasons; a name that the suite lacks is an error."""
    for name, reason in BY_HAND.get(case.__name__, {}).items():
        setattr(case, name, unittest.skip(f"by hand: {reason}")(getattr(case, name)))
    return case


class LpmcTester:
    """The smallest captioner: three convolutions, so that 32 frames become 8 positions."""

    batch_size = 3
    seq_length = 8  # what the attentions of the encoder see
    encoder_seq_length = 8
    decoder_seq_length = 7
    num_mel_bins = 16
    frames = 32
    hidden_size = 32
    num_hidden_layers = 2
    num_attention_heads = 4
    is_training = True

    def __init__(self, parent: unittest.TestCase) -> None:
        self.parent = parent

    def get_config(self) -> LpmcConfig:
        return LpmcConfig(
            vocab_size=99,
            d_model=self.hidden_size,
            encoder_layers=self.num_hidden_layers,
            decoder_layers=self.num_hidden_layers,
            encoder_attention_heads=self.num_attention_heads,
            decoder_attention_heads=self.num_attention_heads,
            encoder_ffn_dim=37,
            decoder_ffn_dim=37,
            dropout=0.0,
            attention_dropout=0.0,
            activation_dropout=0.0,
            label_smoothing=0.0,  # a test expects the plain cross-entropy
            max_position_embeddings=50,
            num_mel_bins=self.num_mel_bins,
            num_conv_layers=3,
            max_source_frames=self.encoder_seq_length,
        )

    def prepare_config_and_inputs_for_common(self) -> tuple[LpmcConfig, dict[str, torch.Tensor]]:
        shape = (self.batch_size, self.decoder_seq_length)
        return self.get_config(), {
            "input_features": torch.randn(self.batch_size, self.num_mel_bins, self.frames),
            "decoder_input_ids": torch.randint(3, 99, shape),
            "decoder_attention_mask": torch.ones(shape, dtype=torch.long),
        }


@without_those_that_cannot_apply
class LpmcModelTest(ModelTesterMixin, GenerationTesterMixin, TrainingTesterMixin, unittest.TestCase):
    all_model_classes = (LpmcModel, LpmcForConditionalGeneration)
    is_encoder_decoder = True
    model_tester: Any = None

    def setUp(self) -> None:
        self.model_tester = LpmcTester(self)
        self.config_tester = ConfigTester(self, config_class=LpmcConfig, d_model=32)

    def _prepare_for_class(self, inputs_dict: Any, model_class: Any, return_labels: bool = False) -> dict[str, Any]:
        inputs = super()._prepare_for_class(inputs_dict, model_class, return_labels=return_labels)
        if return_labels and model_class is LpmcForConditionalGeneration:  # the suite knows none for speech
            inputs["labels"] = torch.full((LpmcTester.batch_size, LpmcTester.decoder_seq_length), 7)
        return inputs

    def test_config(self) -> None:
        self.config_tester.run_common_tests()


class ExtractorTester:
    """Features as the base class pads them, (frames, mel bins)."""

    batch_size = 4
    feature_size = 16
    min_seq_length, max_seq_length, seq_length_diff = 400, 1600, 400  # frames

    def prepare_feat_extract_dict(self) -> dict[str, Any]:
        return {"num_mel_bins": self.feature_size, "sampling_rate": 8000, "chunk_seconds": 1.0, "spectrum": "power"}

    def prepare_inputs_for_common(self, equal_length: bool = False, numpify: bool = False) -> list[Any]:
        lengths = range(self.min_seq_length, self.max_seq_length + 1, self.seq_length_diff)
        frames = [self.max_seq_length if equal_length else length for length in lengths]
        clips = [np.random.rand(length, self.feature_size) for length in frames]
        return clips if numpify else [clip.tolist() for clip in clips]


@without_those_that_cannot_apply
class LpmcFeatureExtractorTest(SequenceFeatureExtractionTestMixin, unittest.TestCase):
    feature_extraction_class = LpmcFeatureExtractor

    def setUp(self) -> None:
        self.feat_extract_tester = ExtractorTester()


@without_those_that_cannot_apply
class LpmcProcessorTest(ProcessorTesterMixin, unittest.TestCase):
    processor_class = LpmcProcessor
    text_input_name = "labels"

    @classmethod
    def _setup_feature_extractor(cls) -> LpmcFeatureExtractor:
        return LpmcFeatureExtractor()

    @classmethod
    def _setup_tokenizer(cls) -> Any:
        return train_tokenizer(["a calm piano", "fast punk rock", "an ambient pad"], vocab_size=300)
