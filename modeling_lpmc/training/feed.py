"""Batches made ahead of the model by threads, each written once, straight from the mapped file into its buffer.

Not worker processes: a batch of 256 ten-second windows is 82 MB, and a process hands it over through shared memory,
where every page is faulted in twice and copied once more by the one thread that pins it. Copying releases the
interpreter, so threads do the same work without that (`benchmarks/training_feed.py`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, get_worker_info
from transformers.models.bart.modeling_bart import shift_tokens_right

IGNORED_LABEL = -100
LABEL_MULTIPLE = 8  # tokens; tensor cores like them
COMPILED_WIDTHS = (32, 64, 96, 128)  # tokens; each width costs a compilation of a minute

Allocate = Callable[[tuple[int, ...], torch.dtype], torch.Tensor]


def new_memory(shape: tuple[int, ...], kind: torch.dtype) -> torch.Tensor:
    """An unfilled tensor; where there is a GPU, in pinned memory, of which PyTorch keeps a stock."""
    pinned = torch.cuda.is_available() and get_worker_info() is None  # a forked worker has no GPU
    return torch.empty(shape, dtype=kind, pin_memory=pinned)


@dataclass(frozen=True)
class CaptionCollator:
    """Examples to a batch: audio stacked, `labels` padded with -100, `decoder_input_ids` made from them.

    Labels keep `<s>`: the decoder reads `</s> <s> w1 ...` and learns `<s> w1 ... </s>`, as the released model did.
    They are as wide as the next multiple of 8, or the next of `widths`, for steps that are compiled shape by shape.
    """

    pad_token_id: int
    decoder_start_token_id: int
    widths: tuple[int, ...] = ()
    allocate: Allocate = new_memory

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        longest = max(len(example["labels"]) for example in examples)
        labels = torch.full((len(examples), self._width(longest)), IGNORED_LABEL, dtype=torch.long)
        filled = labels.numpy()
        for row, example in enumerate(examples):
            filled[row, : len(example["labels"])] = example["labels"]
        batch: dict[str, torch.Tensor] = {
            str(name): self._stacked([example[name] for example in examples])
            for name in ("input_features", "input_values")
            if name in examples[0]
        }
        start = shift_tokens_right(labels, self.pad_token_id, self.decoder_start_token_id)
        return {**batch, "labels": labels, "decoder_input_ids": start}

    def _width(self, longest: int) -> int:
        wide = next((width for width in self.widths if width >= longest), None)
        return wide or -(-longest // LABEL_MULTIPLE) * LABEL_MULTIPLE

    def _stacked(self, arrays: list[np.ndarray]) -> torch.Tensor:
        kind = torch.int16 if arrays[0].dtype == np.int16 else torch.float32
        stacked = self.allocate((len(arrays), *arrays[0].shape), kind)
        rows = stacked.numpy()
        for row, array in enumerate(arrays):
            rows[row] = array  # the one copy; NumPy lets other threads run meanwhile
        return stacked


class ReadAhead(DataLoader[Any]):
    """A `DataLoader` whose batches are made by `threads` threads, in the order of `batch_sampler`, a few ahead.

    A fault in a thread is raised where its batch is taken. Batches are those of a plain `DataLoader`.
    """

    def __init__(self, dataset: Any, *, batch_sampler: Any, collate_fn: Callable[[list[Any]], Any], threads: int):
        super().__init__(dataset, batch_sampler=batch_sampler, collate_fn=collate_fn, num_workers=0)
        self.threads = threads

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        if not self.threads:
            yield from super().__iter__()
            return
        pool = ThreadPoolExecutor(self.threads, thread_name_prefix="feed")
        waiting: deque[Future[Any]] = deque()
        try:
            for draws in self.batch_sampler or ():
                waiting.append(pool.submit(self._batch, draws))
                if len(waiting) > self.threads:  # one more than threads, so that none idles while a batch is taken
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _batch(self, draws: list[Any]) -> Any:
        assert self.collate_fn is not None
        return self.collate_fn([self.dataset[draw] for draw in draws])


__all__ = ["COMPILED_WIDTHS", "IGNORED_LABEL", "CaptionCollator", "ReadAhead", "new_memory"]
