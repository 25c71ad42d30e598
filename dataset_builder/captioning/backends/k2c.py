"""The paper's K2C baseline: a T5 of 220 M parameters that strings keywords together into a sentence.

K2C is the keyword-to-caption augmentation of LAION-Audio-630K, made with the package keytotext. Table 2 of the paper
gives the model's size; the released code holds its captions and no script. That it is `k2t-base` is inferred: it is the
one model of that size for which the package joins keywords by "|", and 641 of the 2,839 published K2C captions carry
this separator. Input and search settings are those of the package, except that it cuts its input at full stops: a tag
may hold one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from dataset_builder.captioning.backends.local import _quiet
from dataset_builder.captioning.requests import Answer, CaptionRequest, Fault
from lpmc_errors import MissingExtraError, ModelError

DEFAULT_MODEL = "gagan3012/k2t-base"
BATCH_SIZE = 32
SEARCH = {"num_beams": 4, "length_penalty": 1.5, "no_repeat_ngram_size": 3, "early_stopping": True}  # keytotext


class K2CBackend:
    """A keyword-to-text model of transformers (T5 or another encoder-decoder), on the GPU when there is one.

    `model` is a directory or a Hub id. A request's last message is the model's whole input (see `k2c_prompt`). The
    search is a beam search without chance: temperature, top_p and seed have no effect. Loading happens in `check` and
    raises `MissingExtraError` without torch, `ModelError` when the model can't be loaded. No code of a model
    repository is run.
    """

    name = "k2c"
    provider = "local"
    concurrency = 1

    def __init__(self, model: str = DEFAULT_MODEL, batch_size: int = BATCH_SIZE) -> None:
        self.model = model
        self.batch_size = batch_size

    async def check(self) -> None:
        """Load the model. The engine calls this before the first request, so a finished store loads nothing."""
        try:
            import torch
            import transformers
        except ImportError as error:
            raise MissingExtraError("torch and transformers", extra="model") from error
        self._torch: Any = torch
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            with _quiet(transformers):
                self._tokenizer: Any = transformers.AutoTokenizer.from_pretrained(self.model)
                # Older repositories hold a pickle and no safetensors: read as weights only, it runs nothing.
                loaded: Any = transformers.AutoModelForSeq2SeqLM.from_pretrained(
                    self.model, dtype=torch.float32, weights_only=True
                )
        except ImportError as error:
            raise MissingExtraError(
                error.name or "a package", f"is needed to load {self.model} ({_reason(error)})", "install it with pip"
            ) from error
        except (OSError, ValueError, KeyError) as error:
            raise ModelError(
                self.model, f"cannot be loaded as a keyword-to-text model ({_reason(error)})", "check --model"
            ) from error
        self._model = loaded.to(self._device).eval()
        # Search settings come from here alone; a repository may bring others.
        self._model.generation_config = transformers.GenerationConfig(
            decoder_start_token_id=self._model.generation_config.decoder_start_token_id,
            eos_token_id=self._tokenizer.eos_token_id,
            pad_token_id=self._tokenizer.pad_token_id,
        )

    async def close(self) -> None:
        """Nothing to close."""

    async def answer(self, requests: Sequence[CaptionRequest]) -> list[Answer | Fault]:
        """The answers to `requests`, in their order, at most `batch_size` of equal `max_tokens` at once."""
        groups: dict[int, list[int]] = {}
        for index, request in enumerate(requests):
            groups.setdefault(request.sampling.max_tokens, []).append(index)
        results: list[Answer | Fault] = [Fault("transient", "not asked")] * len(requests)
        for max_tokens, group in groups.items():
            for start in range(0, len(group), self.batch_size):
                indices = group[start : start + self.batch_size]
                texts = [requests[index].prompt.messages[-1].content for index in indices]
                answers = await asyncio.to_thread(self._answer, texts, max_tokens)
                for index, answer in zip(indices, answers, strict=True):
                    results[index] = answer
        return results

    def _answer(self, texts: Sequence[str], max_tokens: int) -> Sequence[Answer | Fault]:
        """The answers to a batch; when it fails, each row by itself, so that one row does not spoil the others."""
        try:
            return self._generate(texts, max_tokens)
        except (RuntimeError, MemoryError, ValueError, IndexError) as error:
            if len(texts) == 1:
                return [Fault("refused", f"the keyword-to-text model failed ({_reason(error)})")]
            return [answer for text in texts for answer in self._answer([text], max_tokens)]

    def _generate(self, texts: Sequence[str], max_tokens: int) -> list[Answer]:
        encoded = self._tokenizer(list(texts), return_tensors="pt", padding=True).to(self._device)
        ids, mask = encoded.input_ids, encoded.attention_mask  # (batch, tokens), padded on the right
        with self._torch.inference_mode():
            output = self._model.generate(
                input_ids=ids, attention_mask=mask, max_new_tokens=max_tokens, do_sample=False, **SEARCH
            )
        end = self._tokenizer.eos_token_id
        answers = []
        for row, length in zip(output[:, 1:].tolist(), mask.sum(dim=1).tolist(), strict=True):  # [0]: decoder's start
            # A row that ended before its neighbours is filled up, after its end with either token.
            written = row.index(end) + 1 if end in row else len(row)
            answers.append(
                Answer(
                    self._tokenizer.decode(row[:written], skip_special_tokens=True).strip(),
                    self.model,
                    "stop" if end in row else "length",
                    length,
                    written,
                )
            )
        return answers


def _reason(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
