# Copyright 2026 The LP-MusicCaps port authors. Licensed under the Apache License, Version 2.0.
"""The LP-MusicCaps captioner: six convolutions over a log-mel spectrogram in front of a BART encoder-decoder.

It is composed on the installed BartEncoder and BartDecoder, whose layers, attention backends and caches it inherits, so
that the same file runs under transformers 4.53 and 5.x. What is its own: the layers in front (`layers_lpmc.py`), the
loss, and how captions are written.

This file travels to the Hub as remote code: it imports torch, transformers and its neighbours, nothing else.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
import transformers
from torch import nn
from transformers import GenerationConfig, GenerationMixin
from transformers.modeling_outputs import BaseModelOutput, Seq2SeqLMOutput, Seq2SeqModelOutput
from transformers.models.bart.modeling_bart import (
    BartDecoder,
    BartEncoder,
    BartPreTrainedModel,
    BartScaledWordEmbedding,
    shift_tokens_right,
)

from .beam_search_lpmc import search, search_scored
from .configuration_lpmc import LpmcConfig
from .decoding_lpmc import PRECISIONS, decoder_weights, forget_decoder_weights
from .layers_lpmc import LpmcConvStem, LpmcHead, LpmcLogMel
from .processing_lpmc import LpmcProcessor
from .saving_lpmc import LpmcSavingMixin
from .search_plan_lpmc import WINDOW_BOOK_KEEPING, plan_search

try:  # transformers 5: these leave alone what a checkpoint has filled
    from transformers import initialization as init
except ImportError:
    from torch.nn import init  # type: ignore[no-redef]

if TYPE_CHECKING:  # never run: transformers takes along the files that a file names so, and a saved model needs all
    from .audio_files_lpmc import UnreadableAudioError  # noqa: F401
    from .audio_track_lpmc import AudioTrack  # noqa: F401
    from .feature_extraction_lpmc import LpmcFeatureExtractor  # noqa: F401
    from .head_scores_lpmc import Head  # noqa: F401
    from .licence_lpmc import APACHE_2  # noqa: F401
    from .memory_lpmc import FastMemory  # noqa: F401
    from .pipeline_lpmc import MusicCaptioningPipeline  # noqa: F401
    from .products_lpmc import product_with  # noqa: F401

IGNORED_LABEL = -100
GENERATION_LENGTH = 128  # tokens; also for the weights trained at 110 (released inference)

# Version 5 wants {copy: source}; version 4 a list of the copies.
_TIES_ARE_A_DICT = int(transformers.__version__.split(".")[0]) >= 5


def _tied(pairs: dict[str, str]) -> Any:
    return pairs if _TIES_ARE_A_DICT else list(pairs)


def default_generation_config(config: LpmcConfig) -> GenerationConfig:
    """How the released model decodes: 5 beams and the four settings it had silently from facebook/bart-base.

    Built fresh, never from the model's config: version 5 drops generation settings found there.
    """
    return GenerationConfig(
        num_beams=5,
        max_length=min(GENERATION_LENGTH, config.max_position_embeddings),
        min_length=2,
        no_repeat_ngram_size=3,
        early_stopping=True,
        forced_bos_token_id=config.bos_token_id,
        forced_eos_token_id=config.eos_token_id,
        decoder_start_token_id=config.decoder_start_token_id,
        bos_token_id=config.bos_token_id,
        pad_token_id=config.pad_token_id,
        eos_token_id=config.eos_token_id,
    )


class LpmcPreTrainedModel(BartPreTrainedModel):
    """What all Lpmc models share: the config, the main input and how weights and tables start."""

    config: LpmcConfig
    config_class = LpmcConfig
    base_model_prefix = "model"
    main_input_name = "input_features"
    input_modalities = "audio"
    accepts_loss_kwargs = True  # Trainer: `num_items_in_batch` is honoured, so do not divide the loss again

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Conv1d):
            # PyTorch's own start, as released. The library's normal(0.02) lets the signal fade over six convolutions.
            bound = 1 / math.sqrt(module.in_channels * module.kernel_size[0])
            init.uniform_(module.weight, -bound, bound)
            if module.bias is not None:
                init.uniform_(module.bias, -bound, bound)
            return
        super()._init_weights(module)
        fill_tables: Any = getattr(module, "fill_tables", None)  # of layers with tables that no checkpoint holds
        if fill_tables is not None:
            fill_tables()
        elif isinstance(module, LpmcForConditionalGeneration):
            init.zeros_(module.final_logits_bias)

    @property
    def dummy_inputs(self) -> dict[str, torch.Tensor]:
        """A small input that the whole model accepts."""
        frames = 2 ** (self.config.num_conv_layers - 1)
        return {
            "input_features": torch.zeros(1, self.config.num_mel_bins, frames, device=self.device),
            "decoder_input_ids": torch.full((1, 2), self.config.decoder_start_token_id, device=self.device),
        }


class LpmcEncoder(LpmcPreTrainedModel, BartEncoder):
    """BartEncoder behind the mel front end and the convolutions. There is no padding mask: padding is silence."""

    def __init__(self, config: LpmcConfig) -> None:
        super().__init__(config)
        self.log_mel = LpmcLogMel(config)
        self.conv_stem = LpmcConvStem(config)
        self.post_init()

    def forward(
        self,
        input_features: torch.Tensor | None = None,
        input_values: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> BaseModelOutput:
        """Encode `input_features` (batch, mel, frames), `input_values` (batch, samples) or ready `inputs_embeds`.

        Returns `last_hidden_state` (batch, positions, d_model). Raises `ValueError` unless exactly one is given.
        """
        if sum(given is not None for given in (input_features, input_values, inputs_embeds)) != 1:
            raise ValueError("pass exactly one of input_features, input_values and inputs_embeds")
        if input_values is not None:
            input_features = self.log_mel(input_values)
        if input_features is not None:
            inputs_embeds = self.conv_stem(input_features)
        return super().forward(inputs_embeds=inputs_embeds, **kwargs)


class LpmcModel(LpmcPreTrainedModel):
    """Encoder and decoder with shared token embeddings, without the head."""

    _tied_weights_keys = _tied(
        {"decoder.embed_tokens.weight": "shared.weight", "encoder.embed_tokens.weight": "shared.weight"}
    )

    def __init__(self, config: LpmcConfig) -> None:
        super().__init__(config)
        scale = math.sqrt(config.d_model) if config.scale_embedding else 1.0
        self.shared = BartScaledWordEmbedding(config.vocab_size, config.d_model, config.pad_token_id, embed_scale=scale)
        self.encoder = LpmcEncoder(config)
        self.decoder = BartDecoder(config)
        if not _TIES_ARE_A_DICT:  # version 5 ties the three weights itself, version 4 needs them to be one module
            self.set_input_embeddings(self.shared)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        return self.shared

    def set_input_embeddings(self, value: Any) -> None:
        self.shared = value
        self.encoder.embed_tokens = value  # unused by audio; BartEncoder owns one, so it is tied and costs nothing
        self.decoder.embed_tokens = value

    def get_encoder(self, *args: Any, **kwargs: Any) -> LpmcEncoder:
        return self.encoder

    def get_decoder(self, *args: Any, **kwargs: Any) -> BartDecoder:
        return self.decoder

    def forward(
        self,
        input_features: torch.Tensor | None = None,
        input_values: torch.Tensor | None = None,
        decoder_input_ids: torch.Tensor | None = None,
        decoder_attention_mask: torch.Tensor | None = None,
        encoder_outputs: Any = None,
        past_key_values: Any = None,
        decoder_inputs_embeds: torch.Tensor | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        **kwargs: Any,
    ) -> Seq2SeqModelOutput | tuple[Any, ...]:
        """Run audio and decoder tokens through the network.

        Args:
            input_features: (batch, mel, frames) in dB; or `input_values`: (batch, samples) at the config's rate;
                or `encoder_outputs`, whose first item is (batch, positions, d_model).
            decoder_input_ids: (batch, tokens); or `decoder_inputs_embeds` (batch, tokens, d_model).

        Returns `last_hidden_state` (batch, tokens, d_model) and the usual parts of a `Seq2SeqModelOutput`.
        """
        asked = {"output_attentions": output_attentions, "output_hidden_states": output_hidden_states}
        asked = {name: value for name, value in asked.items() if value is not None}
        if encoder_outputs is None:
            encoder_outputs = self.encoder(
                input_features=input_features, input_values=input_values, return_dict=True, **asked
            )
        elif not isinstance(encoder_outputs, BaseModelOutput):
            encoder_outputs = BaseModelOutput(*encoder_outputs[:3])
        decoder_outputs = self.decoder(
            input_ids=decoder_input_ids,
            attention_mask=decoder_attention_mask,
            encoder_hidden_states=encoder_outputs.last_hidden_state,
            past_key_values=past_key_values,
            inputs_embeds=decoder_inputs_embeds,
            use_cache=use_cache,
            return_dict=True,
            **asked,
            **kwargs,
        )
        outputs = Seq2SeqModelOutput(
            last_hidden_state=decoder_outputs.last_hidden_state,
            past_key_values=decoder_outputs.past_key_values,
            decoder_hidden_states=decoder_outputs.hidden_states,
            decoder_attentions=decoder_outputs.attentions,
            cross_attentions=decoder_outputs.cross_attentions,
            encoder_last_hidden_state=encoder_outputs.last_hidden_state,
            encoder_hidden_states=encoder_outputs.hidden_states,
            encoder_attentions=encoder_outputs.attentions,
        )
        return outputs if _as_dict(self.config, return_dict) else outputs.to_tuple()


class LpmcForConditionalGeneration(LpmcSavingMixin, LpmcPreTrainedModel, GenerationMixin):
    """The captioner: `generate(input_features=...)` writes captions, `forward(..., labels=...)` gives the loss."""

    _tied_weights_keys = _tied({"lm_head.weight": "model.shared.weight"})

    final_logits_bias: torch.Tensor
    own_search = True  # False: every call of `generate` is the library's
    decoding_precision = "native"
    decoding_compiled = False

    def __init__(self, config: LpmcConfig) -> None:
        super().__init__(config)
        self.model = LpmcModel(config)
        self.register_buffer("final_logits_bias", torch.zeros(1, config.vocab_size))
        self.lm_head = LpmcHead(config.d_model, config.vocab_size, bias=False)
        self.generation_config = default_generation_config(config)
        self.post_init()

    def get_encoder(self, *args: Any, **kwargs: Any) -> LpmcEncoder:
        return self.model.encoder

    def get_decoder(self, *args: Any, **kwargs: Any) -> BartDecoder:
        return self.model.decoder

    def get_output_embeddings(self) -> nn.Module:
        return self.lm_head

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        self.lm_head = new_embeddings

    def resize_token_embeddings(self, *args: Any, **kwargs: Any) -> nn.Embedding:
        """Give the tied embeddings, and the bias of the head with them, another number of tokens."""
        embeddings = super().resize_token_embeddings(*args, **kwargs)
        missing = embeddings.weight.shape[0] - self.final_logits_bias.shape[1]
        self.final_logits_bias = nn.functional.pad(self.final_logits_bias, (0, missing))  # negative cuts
        return embeddings

    def forward(
        self,
        input_features: torch.Tensor | None = None,
        input_values: torch.Tensor | None = None,
        decoder_input_ids: torch.Tensor | None = None,
        decoder_attention_mask: torch.Tensor | None = None,
        encoder_outputs: Any = None,
        past_key_values: Any = None,
        decoder_inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        **kwargs: Any,
    ) -> Seq2SeqLMOutput | tuple[Any, ...]:
        """Logits, and the loss if `labels` are given.

        Args:
            input_features, input_values, encoder_outputs, decoder_*: see `LpmcModel`.
            labels: (batch, tokens) as the tokenizer writes them, `<s> ... </s>`, with -100 where nothing is to be
                learned. The decoder then reads them shifted right by one, `</s> <s> ...`.
            num_items_in_batch: labels that count in all micro-batches of one update (Trainer passes it). The loss is
                then their share of that update's mean, so that accumulated steps equal one big one.

        Returns a `Seq2SeqLMOutput`: `logits` (batch, tokens, vocabulary) and, in float32, `loss`.
        """
        if labels is not None:
            use_cache = False
            if decoder_input_ids is None and decoder_inputs_embeds is None:
                decoder_input_ids = self.prepare_decoder_input_ids_from_labels(labels)
        outputs = self.model(
            input_features=input_features,
            input_values=input_values,
            decoder_input_ids=decoder_input_ids,
            decoder_attention_mask=decoder_attention_mask,
            encoder_outputs=encoder_outputs,
            past_key_values=past_key_values,
            decoder_inputs_embeds=decoder_inputs_embeds,
            use_cache=use_cache,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            return_dict=True,
            **kwargs,
        )
        logits = self.lm_head(outputs.last_hidden_state)
        logits = logits + self.final_logits_bias.to(logits.device)
        loss = None if labels is None else self._caption_loss(logits, labels, num_items_in_batch)
        result = Seq2SeqLMOutput(
            loss=loss,
            logits=logits,
            past_key_values=outputs.past_key_values,
            decoder_hidden_states=outputs.decoder_hidden_states,
            decoder_attentions=outputs.decoder_attentions,
            cross_attentions=outputs.cross_attentions,
            encoder_last_hidden_state=outputs.encoder_last_hidden_state,
            encoder_hidden_states=outputs.encoder_hidden_states,
            encoder_attentions=outputs.encoder_attentions,
        )
        return result if _as_dict(self.config, return_dict) else result.to_tuple()

    def _caption_loss(
        self, logits: torch.Tensor, labels: torch.Tensor, num_items_in_batch: torch.Tensor | int | None
    ) -> torch.Tensor:
        # Not `self.loss_function`: for a class of this name it is the causal one, which would shift a second time.
        loss = nn.functional.cross_entropy(
            logits.float().flatten(0, 1),
            labels.to(logits.device).flatten(),
            ignore_index=IGNORED_LABEL,
            label_smoothing=self.config.label_smoothing,  # as released, also when evaluating
            reduction="mean" if num_items_in_batch is None else "sum",
        )
        if isinstance(num_items_in_batch, torch.Tensor):
            num_items_in_batch = num_items_in_batch.to(loss.device)
        return loss if num_items_in_batch is None else loss / num_items_in_batch

    @torch.no_grad()
    def generate(
        self,
        inputs: torch.Tensor | None = None,
        generation_config: GenerationConfig | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """Write captions: token ids (clips, tokens), `</s> <s> ... </s>` and padding.

        Takes `input_features` (clips, mel, frames) or `input_values` (clips, samples) and every setting of the
        library's `generate`. Greedy and beam search as the released model decodes run on a search of this model's own,
        with the library's tokens in less time; other settings, and all of them if `own_search` is False, on the
        library's.

        Raises `ValueError` where none or two of the inputs are given, and in int8 for a call that is the library's.
        """
        mine = self.own_search and not args
        plan = plan_search(self, inputs, generation_config, kwargs) if mine else None
        if plan is None:
            if self.decoding_precision != "native":
                raise ValueError(
                    "this call is not one that runs in int8 (greedy or beam search in evaluation mode, no autocast); "
                    'change its settings, or call set_decoding("native")'
                )
            return super().generate(inputs, generation_config, *args, **kwargs)  # type: ignore[misc]
        settings, encoder_inputs = plan
        encoded = encoder_inputs.get("encoder_outputs")
        if encoded is None:
            encoded = self.model.encoder(**encoder_inputs, return_dict=True)
        weights = decoder_weights(self, self.decoding_precision)
        return search(weights, encoded[0], settings, compiled=self.decoding_compiled)

    @torch.no_grad()
    def candidates(
        self, input_features: torch.Tensor, num_beams: int | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """All captions that a beam search ends with, best first, as `generate` would give them, and how sure it is.

        Args:
            input_features: (clips, mel, frames) in dB.
            num_beams: beams of the search and captions of a clip; by default those of the generation config.

        Returns:
            ids (clips, num_beams, tokens) as those of `generate`, and shares (clips, num_beams) in [0, 1], float32:
            the probability of each caption among those of its clip. A search with one beam has one caption, of share 1.
        """
        beams = int(num_beams or self.generation_config.num_beams or 1)
        asked: dict[str, Any] = {"num_beams": beams, "num_return_sequences": beams}
        if beams == 1:
            ids = self.generate(input_features=input_features, num_beams=1, early_stopping=False)
            return ids[:, None], torch.ones(len(ids), 1)
        plan = plan_search(self, None, None, {"input_features": input_features, **asked}) if self.own_search else None
        if plan is None:
            found = self.generate(
                input_features=input_features, return_dict_in_generate=True, output_scores=True, **asked
            )
            ids, scores = found.sequences, found.sequences_scores
        else:
            settings, encoder_inputs = plan
            encoded = self.model.encoder(**encoder_inputs, return_dict=True)
            weights = decoder_weights(self, self.decoding_precision)
            ids, scores = search_scored(weights, encoded[0], settings, compiled=self.decoding_compiled)
        ids, scores = ids.view(-1, beams, ids.shape[-1]), scores.float().view(-1, beams).cpu()
        # A score is a sum over the length (the start token apart) to a power; padding is counted by no caption.
        pad, start = self.config.pad_token_id, 1
        lengths = (ids[:, :, start:] != pad).sum(-1).clamp(min=1).float().cpu()
        penalty = 1.0 if self.generation_config.length_penalty is None else self.generation_config.length_penalty
        return ids, (scores * lengths**penalty).softmax(-1)

    def set_decoding(self, precision: str = "native", *, compiled: bool = False) -> None:
        """Choose how `generate` computes the decoder.

        Args:
            precision: "native", as the weights are, or "int8" (float32 models on a CPU), which takes less time and
                may change captions; `benchmarks/captioning.py` and `int8_captions.py` measure both.
            compiled: run its steps through `torch.compile`, on caches of few sizes. Compiling takes a minute, and again
                for another number of clips.

        Raises `ValueError` for other words or int8 with `compiled`, `RuntimeError` where int8 is not to be had.
        """
        if precision not in PRECISIONS:
            raise ValueError(f"precision {precision!r} is unknown; use one of {', '.join(PRECISIONS)}")
        if precision != "native":
            if compiled:
                raise ValueError(f"{precision} decoding can't be compiled; choose one of the two")
            decoder_weights(self, precision)
        self.decoding_precision, self.decoding_compiled = precision, compiled

    def train(self, mode: bool = True) -> LpmcForConditionalGeneration:
        """As in PyTorch; training also gives the memory back that `generate` took for its copy of the weights."""
        if mode:
            forget_decoder_weights(self)
        return super().train(mode)

    def prepare_decoder_input_ids_from_labels(self, labels: torch.Tensor) -> torch.Tensor:
        """Labels (batch, tokens) shifted right behind the decoder's start token, -100 replaced by padding."""
        return shift_tokens_right(labels, self.config.pad_token_id, self.config.decoder_start_token_id)

    def prepare_inputs_for_generation(
        self,
        *args: Any,
        audio_chunk_index: Any = None,
        chunk_start_seconds: Any = None,
        chunk_end_seconds: Any = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """As in the library; its names tell `generate` that the extractor's book-keeping of windows may come along."""
        cache, tokens = kwargs.get("past_key_values"), args[0] if args else kwargs["input_ids"]
        unsliced = "next_sequence_length" in kwargs and kwargs["next_sequence_length"] is None  # prefill of version 5
        if unsliced and cache is not None and kwargs.get("decoder_attention_mask") is None:
            # To go on from a cache, version 5 wants a mask to see that the prompt holds what the cache holds.
            held = int(cache.get_seq_length())
            if 0 < held < tokens.shape[1]:
                kwargs["next_sequence_length"] = tokens.shape[1] - held
        return super().prepare_inputs_for_generation(*args, **kwargs)  # type: ignore[misc]

    def _prepare_model_inputs(
        self, inputs: Any = None, bos_token_id: Any = None, model_kwargs: dict[str, Any] | None = None
    ) -> Any:
        # generate() knows one main input; waveforms become features here, before the encoder runs once a clip.
        model_kwargs = {} if model_kwargs is None else model_kwargs
        for name in WINDOW_BOOK_KEEPING:  # else generate() hands it to the encoder
            model_kwargs.pop(name, None)
        waveforms = model_kwargs.pop("input_values", None)
        if waveforms is not None:
            if inputs is not None or model_kwargs.get("input_features") is not None:
                raise ValueError("pass either input_features or input_values to generate(), not both")
            inputs = self.model.encoder.log_mel(waveforms)
        if inputs is None and all(model_kwargs.get(name) is None for name in ("input_features", "encoder_outputs")):
            raise ValueError("there is nothing to caption; pass input_features, input_values or encoder_outputs")
        return super()._prepare_model_inputs(inputs, bos_token_id, model_kwargs)  # type: ignore[misc]

    @staticmethod
    def _reorder_cache(past_key_values: Any, beam_idx: torch.Tensor) -> Any:
        # The cross-attention cache is the same for all beams of a clip: leaving it in place saves 18 % on a CPU.
        past_key_values.self_attention_cache.reorder_cache(beam_idx)
        return past_key_values


def _as_dict(config: LpmcConfig, return_dict: bool | None) -> bool:
    return bool(getattr(config, "return_dict", True)) if return_dict is None else return_dict


__all__ = [
    "LpmcForConditionalGeneration",
    "LpmcModel",
    "LpmcPreTrainedModel",
    "LpmcProcessor",  # AutoProcessor finds it here, so that a processor comes with all files of the model
    "default_generation_config",
]
