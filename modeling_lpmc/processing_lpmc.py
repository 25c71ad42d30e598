# Copyright 2026 The LP-MusicCaps port authors. Licensed under the Apache License, Version 2.0.
"""Audio and captions in, model inputs and labels out; token ids in, captions out.

This file travels to the Hub as remote code: it imports torch, transformers and its neighbours, nothing else.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import BatchFeature, PreTrainedTokenizerFast, ProcessorMixin

from .feature_extraction_lpmc import LpmcFeatureExtractor
from .saving_lpmc import complete_directory

IGNORED_LABEL = -100  # the index that the loss leaves out
MAX_CAPTION_TOKENS = 128  # truncation of training captions, </s> kept (released hparams)


class LpmcProcessor(ProcessorMixin):
    """An `LpmcFeatureExtractor` and the tokenizer of the captions in one object.

    `sampling_rate` is required with audio; see `LpmcFeatureExtractor` for the forms audio may take.
    """

    attributes = ["feature_extractor", "tokenizer"]  # version 4 reads these three, version 5 the signature of __init__
    feature_extractor_class = "AutoFeatureExtractor"
    tokenizer_class = "AutoTokenizer"

    def __init__(self, feature_extractor: Any, tokenizer: Any) -> None:
        super().__init__(feature_extractor, tokenizer)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> LpmcProcessor:
        """Load extractor and tokenizer (tokenizer.json) from a folder or Hub id.

        The library looks both up by their auto classes. Those do not know this project where its files are plain
        modules, and would ask to run the folder's code instead of the code that is already running.
        """
        extractor = LpmcFeatureExtractor.from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        return cls(extractor, PreTrainedTokenizerFast.from_pretrained(pretrained_model_name_or_path, *args, **kwargs))

    def save_pretrained(self, save_directory: Any, push_to_hub: bool = False, **kwargs: Any) -> Any:
        """Save both with their code, in a form that every supported version reads.

        The extractor is saved once more alone: version 4 reads preprocessor_config.json and nothing else.
        """
        self.feature_extractor.save_pretrained(save_directory)
        files = super().save_pretrained(save_directory, push_to_hub=push_to_hub, **kwargs)
        complete_directory(save_directory)
        return files

    def _upload_modified_files(self, working_dir: Any, *args: Any, **kwargs: Any) -> Any:
        # `save_pretrained(push_to_hub=True)` uploads before it returns
        complete_directory(working_dir)
        return super()._upload_modified_files(working_dir, *args, **kwargs)

    def __call__(
        self,
        audio: Any = None,
        text: str | list[str] | None = None,
        sampling_rate: int | None = None,
        *,
        chunk: bool = False,
        max_length: int = MAX_CAPTION_TOKENS,
        return_tensors: str | None = None,
        device: str | torch.device = "cpu",
    ) -> BatchFeature:
        """Prepare audio, captions or both.

        Returns `input_features` (batch, mel, frames) for audio, and for text `labels` (batch, tokens): `<s> ... </s>`,
        cut at `max_length` and padded with -100 if `return_tensors` is given, else lists of their own lengths. With
        `chunk=True` also the extractor's book-keeping of windows.

        Raises `ValueError` if neither is given or one is empty, and `TypeError` for a keyword that does not exist: the
        library's own processors only warn, so that `audios=` would silently drop the audio.
        """
        if audio is None and text is None:
            raise ValueError("nothing to process; pass audio, text or both")
        result = BatchFeature({})
        if audio is not None:
            result.update(
                self.feature_extractor(
                    audio, sampling_rate=sampling_rate, chunk=chunk, return_tensors=return_tensors, device=device
                )
            )
        if text is not None:
            result["labels"] = self._labels([text] if isinstance(text, str) else list(text), max_length, return_tensors)
        return result

    def _labels(self, captions: list[str], max_length: int, return_tensors: str | None) -> Any:
        if not captions:
            raise ValueError("there are no captions in text; pass at least one")
        ids = self.tokenizer(captions, truncation=True, max_length=max_length)["input_ids"]
        if return_tensors is None:
            return ids
        longest = max(len(row) for row in ids)
        rows = [row + [IGNORED_LABEL] * (longest - len(row)) for row in ids]
        return BatchFeature({"labels": rows}, tensor_type=return_tensors)["labels"]

    def batch_decode(self, token_ids: Any, skip_special_tokens: bool = True, **kwargs: Any) -> list[str]:
        """Captions of generated ids (batch, tokens), without special tokens unless asked for."""
        return self.tokenizer.batch_decode(token_ids, skip_special_tokens=skip_special_tokens, **kwargs)

    def decode(self, token_ids: Any, skip_special_tokens: bool = True, **kwargs: Any) -> str:
        """The caption of one row of generated ids, without special tokens unless asked for."""
        return self.tokenizer.decode(token_ids, skip_special_tokens=skip_special_tokens, **kwargs)

    def decode_chunks(
        self,
        token_ids: Any,
        audio_chunk_index: list[tuple[int, int]],
        chunk_start_seconds: list[float],
        chunk_end_seconds: list[float],
    ) -> list[list[dict[str, Any]]]:
        """Generated ids of the windows back to tracks: for each clip its [{"start", "end", "text"}], times in seconds.

        The three lists are what the extractor returned with `chunk=True`.
        """
        texts = self.batch_decode(token_ids)
        tracks: list[list[dict[str, Any]]] = [[] for _ in range(1 + max((c for c, _ in audio_chunk_index), default=-1))]
        for (clip, _), start, end, text in zip(
            audio_chunk_index, chunk_start_seconds, chunk_end_seconds, texts, strict=True
        ):
            tracks[clip].append({"start": start, "end": end, "text": text.strip()})
        return tracks

    @property
    def model_input_names(self) -> list[str]:
        """Names of the arrays that a call may return for the model."""
        return ["input_features", "labels"]


__all__ = ["LpmcProcessor"]
