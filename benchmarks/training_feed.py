"""Clips a second that the feed of a training delivers without a model: by part, by thread, and by worker process.

    python benchmarks/training_feed.py [--clips 512] [--batches 24] [--threads 1 2] [--processes 1 2] [--folder DIR]

What must be beaten: the full-size model takes 3,100 to 4,200 clips a second on an H100 (RESULTS.md), and the paper's
whole pre-training, 33.5 M clips in three hours, is 3,100 a second. A clip is a window of ten seconds of int16, 320 kB.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from feed_material import noise_processor, prepared_corpus
from torch.utils.data import DataLoader

from modeling_lpmc.training.arguments import DataArguments
from modeling_lpmc.training.data import CaptionCollator, ClipDataset, read_split
from modeling_lpmc.training.feed import ReadAhead, new_memory
from modeling_lpmc.training.sampling import BalancedTagSampler, Draw

BATCH = 256  # clips of an update (paper 5.2)
RATE = 16_000
PRETRAINING_CLIPS = 131_072 * BATCH  # released configuration


class Recycled:
    """Memory that is used again, as PyTorch's stock of pinned memory is on a machine with a GPU: no page is new."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.held: dict[tuple[Any, ...], Any] = {}

    def __call__(self, shape: tuple[int, ...], kind: torch.dtype) -> torch.Tensor:
        if (shape, kind) not in self.held:
            buffers = [torch.ones(shape, dtype=kind) for _ in range(self.number)]
            self.held[shape, kind] = itertools.cycle(buffers)
        return next(self.held[shape, kind])


def measured(work: Callable[[], Any], clips: int, repeats: int = 3) -> tuple[float, float]:
    """Clips a second, the best of `repeats`, and microseconds of processor time a clip, the least of them.

    Other work on the machine only ever lowers the first; the second hardly knows of it. It covers the threads of this
    process, not other processes.
    """
    rates, costs = [], []
    for _ in range(repeats):
        start, used = time.perf_counter(), time.process_time()
        work()
        rates.append(clips / (time.perf_counter() - start))
        costs.append((time.process_time() - used) / clips * 1e6)
    return max(rates), min(costs)


def exhaust(batches: Iterable[Any]) -> None:
    """Take all batches."""
    for _ in batches:
        pass


def take(batches: Iterable[Any], number: int) -> None:
    """Take some batches."""
    exhaust(itertools.islice(batches, number))


def print_parts(examples: ClipDataset, draws: list[list[Draw]], sampler: BalancedTagSampler) -> None:
    """What one clip costs in one thread, part by part."""
    flat = [draw for batch in draws for draw in batch]
    held = [[examples[draw] for draw in batch] for batch in draws]
    recycled = CaptionCollator(1, 2, allocate=Recycled(2))
    fresh = CaptionCollator(1, 2)
    buffer = new_memory((BATCH, 10 * RATE), torch.int16).numpy()
    buffer[:] = 1

    def windows() -> None:
        for batch in held:
            for row, example in enumerate(batch):
                buffer[row] = example["input_values"]

    def only_labels() -> None:
        no_sound = [[{"labels": example["labels"]} for example in batch] for batch in held]
        for batch in no_sound:
            fresh(batch)

    parts: dict[str, Callable[[], Any]] = {
        "draw: tag, clip, caption, window": lambda: list(itertools.islice(sampler, len(flat))),
        "find: where the window and the tokens lie": lambda: [examples[draw] for draw in flat],
        "copy: the window into a buffer that is used again": windows,
        "labels: pad and shift": only_labels,
        "collate, buffers used again": lambda: [recycled(batch) for batch in held],
        "collate, new memory each time": lambda: [fresh(batch) for batch in held],
    }
    print("| part, one thread | clips/s | processor, microseconds a clip | clips/s of a whole core |")
    print("|---|---|---|---|")
    for name, work in parts.items():
        rate, cost = measured(work, len(flat))
        print(f"| {name} | {rate:,.0f} | {cost:.1f} | {1e6 / cost:,.0f} |", flush=True)
    print()


def print_feeds(examples: ClipDataset, draws: list[list[Draw]], threads: list[int], processes: list[int]) -> None:
    """What whole feeds deliver to the training loop."""
    clips = sum(map(len, draws))
    hours = PRETRAINING_CLIPS / 3600
    print("| feed | clips/s | hours for 33.6 M clips | clips/s of a whole core |\n|---|---|---|---|")

    def line(name: str, work: Callable[[], Any], *, alone: bool = True) -> None:
        work()
        rate, cost = measured(work, clips)
        core = f"{1e6 / cost:,.0f}" if alone else ""
        print(f"| {name} | {rate:,.0f} | {hours / rate:.1f} | {core} |", flush=True)

    for number in threads:
        collate = CaptionCollator(1, 2, allocate=Recycled(number + 3))
        loader = ReadAhead(examples, batch_sampler=draws, collate_fn=collate, threads=number)
        line(f"threads: {number}, buffers used again (as with a GPU)", partial(exhaust, loader))
    loader = ReadAhead(examples, batch_sampler=draws, collate_fn=CaptionCollator(1, 2), threads=max(threads))
    line(f"threads: {max(threads)}, new memory for each batch (as without one)", lambda: exhaust(loader))
    for number in processes:  # what the trainer used before: each batch through shared memory
        workers: Any = DataLoader(
            examples, batch_sampler=draws, collate_fn=CaptionCollator(1, 2), num_workers=number, persistent_workers=True
        )
        line(
            f"processes: {number}, batches handed over, not yet pinned",
            partial(exhaust, workers),
            alone=False,
        )
        kept = torch.ones(BATCH, 10 * RATE, dtype=torch.int16)
        pinning = (kept.copy_(batch["input_values"]) for _ in itertools.repeat(0) for batch in workers)
        line(
            f"processes: {number}, and copied once more by one thread, as for pinning",
            partial(take, pinning, len(draws)),
            alone=False,
        )
    print()


def main() -> int:
    """Prepare, read and print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--clips", type=int, default=512, help="of the corpus, thirty seconds each: 1 MB of disk")
    parser.add_argument("--batches", type=int, default=24)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--processes", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--folder", type=Path, help="where the corpus is kept; default: a temporary folder")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        preparation, seconds = prepared_corpus(folder, arguments.clips)
        if not preparation.was_finished:
            print(
                f"prepared: {arguments.clips} clips of 30 s WAV in {seconds:.1f} s, {arguments.clips / seconds:.0f}/s\n"
            )
        data = DataArguments(dataset=str(preparation.output), sampling="balanced_tags")
        start = time.perf_counter()
        clips = read_split(data, "train", None, RATE, folder / "cache", lambda *_: None)
        opened = time.perf_counter() - start
        examples = ClipDataset(clips, noise_processor(list(clips.captions[0])), data, lambda *_: None)
        length = len(examples.tokens.ids) / len(examples.tokens.offsets)
        print(f"opened in {opened:.2f} s; {length:.0f} tokens a caption\n")
        sampler = BalancedTagSampler(clips.tags, clips.caption_counts, 0, draws=arguments.batches * BATCH)
        drawn = iter(sampler)
        draws = [list(itertools.islice(drawn, BATCH)) for _ in range(arguments.batches)]
        assert len(draws[-1]) == BATCH
        print_parts(examples, draws, sampler)
        print_feeds(examples, draws, arguments.threads, arguments.processes)
    return 0


if __name__ == "__main__":
    sys.exit(main())
