"""The model that training begins or goes on with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from lpmc_errors import ModelError
from modeling_lpmc.configuration_lpmc import LpmcConfig
from modeling_lpmc.feature_extraction_lpmc import LpmcFeatureExtractor
from modeling_lpmc.modeling_lpmc import LpmcForConditionalGeneration
from modeling_lpmc.processing_lpmc import LpmcProcessor
from modeling_lpmc.tokenizer import load_tokenizer
from modeling_lpmc.training.arguments import ModelArguments
from modeling_lpmc.training.calibration import CALIBRATION_CLIPS, calibrate_convolutions
from modeling_lpmc.training.data import CaptionedClips
from modeling_lpmc.training.run_directory import RunDirectory

WINDOW_FRAMES = 1001  # of ten seconds; each convolution after the first halves them, rounding up

Say = Callable[[str], None]


def model_to_train(
    arguments: ModelArguments, train: CaptionedClips, directory: RunDirectory, checkpoint: Path | None, tell: Say
) -> tuple[LpmcForConditionalGeneration, LpmcProcessor]:
    """The model and processor to go on with: of the checkpoint, of `start_from`, or new ones.

    Raises `ModelError` when they cannot be loaded. `tell` hears when another tokenizer had to be trained.
    """
    source = checkpoint or arguments.start_from
    if source is None:
        processor = _new_processor(arguments, train, directory, tell)
        config = _config(arguments, processor.tokenizer)
        if arguments.weights_licence:
            config.weights_licence = arguments.weights_licence
        new = LpmcForConditionalGeneration(config)
        if arguments.calibrate:
            extractor = processor.feature_extractor
            windows = train.middles(CALIBRATION_CLIPS, extractor.chunk_samples)
            features = extractor(windows, sampling_rate=extractor.sampling_rate, return_tensors="pt")["input_features"]
            calibrate_convolutions(new.model.encoder.conv_stem, features)
        return new, processor
    try:
        config = LpmcConfig.from_pretrained(source)
        config.dropout = config.attention_dropout = config.activation_dropout = arguments.dropout
        config.label_smoothing = arguments.label_smoothing
        if arguments.demonstration:
            config.demonstration = True
        if arguments.weights_licence:
            config.weights_licence = arguments.weights_licence
        model = LpmcForConditionalGeneration.from_pretrained(source, config=config, dtype=torch.float32)
        if checkpoint is not None:
            model._origin = None  # saving takes nothing over from a checkpoint, which may be gone by then
        return model, LpmcProcessor.from_pretrained(source)
    except (OSError, ValueError) as error:
        raise _not_loaded(source, error) from error


def check_start(arguments: ModelArguments) -> None:
    """Raise `ModelError` when there is no captioner at `start_from`; reading the data before may take hours."""
    if arguments.start_from is not None:
        try:
            LpmcConfig.from_pretrained(arguments.start_from)
        except (OSError, ValueError) as error:
            raise _not_loaded(arguments.start_from, error) from error


def _not_loaded(source: Path | str, error: Exception) -> ModelError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return ModelError(
        source,
        f"no captioner could be loaded ({reason})",
        "give a directory that `lpmc train` or `convert` made, as in model.start_from=DIR",
    )


def _new_processor(
    arguments: ModelArguments, train: CaptionedClips, directory: RunDirectory, tell: Say
) -> LpmcProcessor:
    captions = [caption for clip in train.captions for caption in clip]
    wanted = None if arguments.tokenizer == "train" else arguments.tokenizer
    tokenizer, source = load_tokenizer(wanted, captions, arguments.vocabulary_size)
    if wanted is not None and source == "trained":
        tell(
            f"the tokenizer {arguments.tokenizer} cannot be loaded; one of {len(tokenizer)} tokens was trained"
            " on the captions instead, so the model's vocabulary is not the released one"
        )
    directory.note("tokenizer", source)
    extractor = LpmcFeatureExtractor(num_mel_bins=arguments.num_mel_bins, spectrum=arguments.spectrum)
    return LpmcProcessor(extractor, tokenizer)


def _config(arguments: ModelArguments, tokenizer: Any) -> LpmcConfig:
    return LpmcConfig(
        vocab_size=len(tokenizer),
        max_position_embeddings=arguments.max_caption_positions,
        d_model=arguments.d_model,
        encoder_layers=arguments.encoder_layers,
        decoder_layers=arguments.decoder_layers,
        encoder_attention_heads=arguments.attention_heads,
        decoder_attention_heads=arguments.attention_heads,
        encoder_ffn_dim=arguments.feed_forward,
        decoder_ffn_dim=arguments.feed_forward,
        init_std=arguments.initial_deviation,
        dropout=arguments.dropout,
        attention_dropout=arguments.dropout,
        activation_dropout=arguments.dropout,
        num_mel_bins=arguments.num_mel_bins,
        num_conv_layers=arguments.num_conv_layers,
        max_source_frames=-(-WINDOW_FRAMES // 2 ** (arguments.num_conv_layers - 1)),
        label_smoothing=arguments.label_smoothing,
        spectrum=arguments.spectrum,
        bos_token_id=tokenizer.bos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=tokenizer.eos_token_id,  # BART starts with </s>
        **({"demonstration": True} if arguments.demonstration else {}),
    )
