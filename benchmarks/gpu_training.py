"""Clips a second of a training update of the full-size model on a GPU: waveform, log-mel, loss, gradients, AdamW.

    python benchmarks/gpu_training.py [--parts updates feed loop] [--batches 64 256] [--tokens 64] [--phases]

Three parts, each a table: `updates` on clips that lie on the GPU; `feed`, the same updates on windows that come out of
prepared shards through the threads of `lpmc train`; `loop`, `lpmc train` itself. The released configuration of the
pre-training has 131,072 updates of 256 clips. The script counts the operations of one clip, measures what the GPU
reaches on plain matrix products, and prints what that would allow beside what was measured. On one H100 `updates` takes
about 8 minutes, `feed` 6 and `loop` 5, most of it compiling; `--tiny` tries every part on a CPU in one.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from feed_material import full_size_tokenizer, noise_processor, prepared_corpus
from gpu_ceilings import (
    SAMPLES,
    Ceilings,
    counted_flops,
    float32_products,
    median_seconds,
    new_model,
    print_ceilings,
    synchronise,
)

from modeling_lpmc.training.arguments import DataArguments
from modeling_lpmc.training.audio_cache import FULL_SCALE
from modeling_lpmc.training.data import CaptionCollator, CaptionedClips, ClipDataset, read_split
from modeling_lpmc.training.feed import COMPILED_WIDTHS, ReadAhead
from modeling_lpmc.training.sampling import BalancedTagSampler
from modeling_lpmc.training.throughput import THROUGHPUT_KEYS
from modeling_lpmc.training.train import run_training

PRETRAINING_CLIPS = 131_072 * 256  # released configuration: 4,096 epochs of 8,192 clips
SAMPLING_RATE = 16_000  # Hz
FEED_WARMUP = 5  # updates; compiling, choice of kernels, the stock of pinned memory
LOOP_WARMUP = 20  # updates of `lpmc train`
CLIPS, TINY_CLIPS = 1024, 8  # of the corpus, 1 MB each
PARTS = ("updates", "feed", "loop")
TINY_LOOP = [  # for trying the loop without a GPU
    *("model.d_model=32", "model.encoder_layers=1", "model.decoder_layers=1", "model.attention_heads=2"),
    *("model.feed_forward=64", "model.num_mel_bins=32"),
]
LEARNING_RATE = 1e-4  # paper 5.2
WEIGHT_DECAY = 0.01  # AdamW's default (released code)


@dataclass(frozen=True)
class Case:
    """One row of the table."""

    precision: str  # float32, tf32 or bfloat16
    compiled: bool
    clips: int  # of one update
    tokens: int  # of one caption, padding included


class Update:
    """One training update on random clips, as `lpmc train` makes it, in parts that can be timed apart."""

    def __init__(self, case: Case, device: str, small: bool, fused: bool = True) -> None:
        self.case = case
        self.device = device
        self.model: Any = new_model(small).to(device).train()
        self.network: Callable[..., Any] = torch.compile(self.model, dynamic=False) if case.compiled else self.model
        self.optimiser = torch.optim.AdamW(
            self.model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=fused
        )
        shape = (case.clips, case.tokens)
        self.waves = torch.randn(case.clips, SAMPLES, device=device) * 0.1
        self.labels = torch.randint(4, self.model.config.vocab_size, shape, device=device)

    def features(self) -> torch.Tensor:
        """Log-mel of the waveforms."""
        with torch.no_grad():
            return self.model.model.encoder.log_mel(self.waves)

    def loss(self, features: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        """Loss of the batch."""
        mixed = torch.autocast(self.device, torch.bfloat16) if self.case.precision == "bfloat16" else nullcontext()
        with mixed:
            return self.network(input_features=features, labels=self.labels if labels is None else labels).loss

    def step(self) -> None:
        """Move the weights."""
        self.optimiser.step()
        self.optimiser.zero_grad()

    def __call__(self) -> None:
        self.loss(self.features()).backward()
        self.step()


def flops_of_one_clip(tokens: int, device: str, small: bool) -> int:
    """Forward and backward of one clip."""
    update = Update(Case("float32", False, 1, tokens), device, small)
    return counted_flops(lambda: update.loss(update.features()).backward())


def measure(case: Case, device: str, small: bool, repeats: int) -> tuple[float, float]:
    """Median seconds of an update, and the peak of GPU memory in bytes."""
    with float32_products(case.precision == "tf32"):
        update = Update(case, device, small)
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        seconds = median_seconds(update, device, repeats=repeats, warmup=5, block=5)
    return seconds, torch.cuda.max_memory_allocated() if device == "cuda" else 0.0


def print_phases(case: Case, device: str, small: bool, repeats: int) -> None:
    """Where the time of an update goes: each part alone, the device idle around it."""
    update = Update(case, device, small)
    with float32_products(case.precision == "tf32"):
        features = update.features()

        def both() -> None:
            update.loss(features).backward()

        parts: dict[str, Callable[[], Any]] = {
            "log-mel": update.features,
            "forward and loss": lambda: update.loss(features),
            "forward, loss and backward": both,
        }
        line = [f"{name} {median_seconds(part, device, repeats=repeats) * 1e3:.1f}" for name, part in parts.items()]
        update()
        for fused in (True, False):
            optimiser = torch.optim.AdamW(update.model.parameters(), lr=0.0, fused=fused)
            both()
            line.append(
                f"AdamW{', fused' if fused else ''} {median_seconds(optimiser.step, device, repeats=repeats) * 1e3:.1f}"
            )
            del optimiser
    host = update.waves.cpu()
    host = host.pin_memory() if device == "cuda" else host
    copied = median_seconds(lambda: update.waves.copy_(host, non_blocking=True), device, repeats=repeats)
    print(
        f"Milliseconds of the parts, {case}: {'; '.join(line)}; copy of the waveforms to the GPU {copied * 1e3:.1f}\n"
    )


def print_kernels(case: Case, small: bool) -> None:
    """The kernels that take most of an update."""
    update = Update(case, "cuda", small)
    for _ in range(3):
        update()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        update()
        torch.cuda.synchronize()
    print(case)
    print(profile.key_averages().table(sort_by="self_cuda_time_total", row_limit=25, max_name_column_width=90))


def row(case: Case, seconds: float, memory: float, flops: int, ceilings: Ceilings) -> str:
    """A line of the Markdown table."""
    rate = case.clips / seconds
    share = rate * flops / ceilings.bfloat16
    cells = [
        case.precision,
        "yes" if case.compiled else "no",
        f"{case.clips}",
        f"{case.tokens}",
        f"{seconds * 1e3:.1f}",
        f"{rate:,.0f}",
        f"{rate * flops / 1e12:.0f}",
        f"{share:.1%}",
        f"{PRETRAINING_CLIPS / rate / 3600:.1f}",
        f"{memory / 2**30:.0f}",
    ]
    return f"| {' | '.join(cells)} |"


class FedUpdates:
    """Updates on windows of prepared shards, drawn as the pre-training draws them and read ahead by threads."""

    def __init__(self, case: Case, device: str, small: bool, clips: CaptionedClips, cache: Path, threads: int) -> None:
        self.update = Update(case, device, small)
        self.device = device
        data = DataArguments(sampling="balanced_tags", max_caption_tokens=case.tokens)
        processor = noise_processor(list(clips.captions[0]), self.update.model.config.num_mel_bins)
        examples = ClipDataset(clips, processor, data, lambda *_: None)
        self.sampler = BalancedTagSampler(clips.tags, clips.caption_counts, 0, draws=10**9)
        collate = CaptionCollator(1, 2, widths=COMPILED_WIDTHS if case.compiled else ())
        drawn: Any = self.sampler
        batches = torch.utils.data.BatchSampler(drawn, case.clips, drop_last=True)
        self.batches = iter(ReadAhead(examples, batch_sampler=batches, collate_fn=collate, threads=threads))

    def __call__(self) -> float:
        """One update; the seconds that its batch was waited for."""
        asked = time.perf_counter()
        batch = next(self.batches)
        waited = time.perf_counter() - asked
        waves = batch["input_values"].to(self.device, non_blocking=True).float() / FULL_SCALE
        with torch.no_grad():
            features = self.update.model.model.encoder.log_mel(waves)
        self.update.loss(features, batch["labels"].to(self.device, non_blocking=True)).backward()
        self.update.step()
        return waited


def print_feed(
    cases: list[Case], device: str, small: bool, folder: Path, threads: int, updates: int, ceilings: Ceilings
) -> None:
    """Waveforms on the disk to moved weights: the table of the real feed."""
    preparation, _ = prepared_corpus(folder, TINY_CLIPS if small else CLIPS)
    data = DataArguments(dataset=str(preparation.output), sampling="balanced_tags")
    clips = read_split(data, "train", None, SAMPLING_RATE, folder / "cache", lambda *_: None)
    print(f"Through the feed, {threads} threads, {len(clips)} clips of 30 s:\n")
    print("| precision | compiled | clips | clips/s | waited for data | of ceiling | hours, 33.6 M |")
    print("|---|---|---|---|---|---|---|", flush=True)
    for case in cases:
        with float32_products(case.precision == "tf32"):
            fed = FedUpdates(case, device, small, clips, folder / "cache", threads)
            flops = flops_of_one_clip(case.tokens, device, small)
            for _ in range(FEED_WARMUP):
                fed()
            synchronise(device)
            start = time.perf_counter()
            waited = sum(fed() for _ in range(updates))
            synchronise(device)
            seconds = time.perf_counter() - start
            fed.batches.close()  # type: ignore[attr-defined]
        rate = case.clips * updates / seconds
        share, hours = rate * flops / ceilings.bfloat16, PRETRAINING_CLIPS / rate / 3600
        print(
            f"| {case.precision} | {'yes' if case.compiled else 'no'} | {case.clips} | {rate:,.0f} | "
            f"{waited / seconds:.1%} | {share:.1%} | {hours:.1f} |",
            flush=True,
        )
        del fed
        torch.compiler.reset()
        if device == "cuda":
            torch.cuda.empty_cache()
    print()


def print_loop(cases: list[Case], small: bool, folder: Path, threads: int, updates: int) -> None:
    """`lpmc train` with the recipe of the pre-training, its own log."""
    preparation, _ = prepared_corpus(folder, TINY_CLIPS if small else CLIPS)
    tokenizer = full_size_tokenizer(folder / "tokenizer", ["a quiet noise"], 500 if small else 50_265)
    print("`lpmc train pretrain_paper` on the same shards:\n")
    print("| precision | compiled | clips | clips/s by the clock | last entry of its log |\n|---|---|---|---|---|")
    for case in cases:
        if case.precision == "tf32":
            continue  # no recipe asks for it
        output = folder / f"model-{case.precision}-{case.compiled}-{case.clips}"
        asked = [
            *(f"data.dataset={preparation.output}", "data.config=null", f"data.cache={folder / 'cache'}"),
            *(f"model.tokenizer={tokenizer}", f"optimisation.precision={case.precision}"),
            *(f"optimisation.updates={LOOP_WARMUP + updates}", "optimisation.warmup_updates=5"),
            *(f"optimisation.batch_size={case.clips}", f"optimisation.loader_workers={threads}"),
            *("optimisation.log_every=10", "evaluation.split=null", "evaluation.every_updates=null"),
            *(["optimisation.compile=true"] if case.compiled else []),
            *(TINY_LOOP if small else []),
        ]
        run_training("pretrain_paper", output, asked)
        curve = json.loads((output / "training.json").read_text())["loss_curve"]
        first = next(point for point in curve if point["update"] >= LOOP_WARMUP)
        seconds = curve[-1]["seconds"] - first["seconds"]
        rate = case.clips * (curve[-1]["update"] - first["update"]) / max(seconds, 1e-9)
        told = {key: value for key, value in curve[-1].items() if key in THROUGHPUT_KEYS}
        print(
            f"| {case.precision} | {'yes' if case.compiled else 'no'} | {case.clips} | {rate:,.0f} | {told or '-'} |",
            flush=True,
        )
        torch.compiler.reset()
    print()


def main() -> int:
    """Print ceilings, counted work and the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--batches", type=int, nargs="+", default=[64, 256])
    parser.add_argument("--tokens", type=int, nargs="+", default=[64])
    parser.add_argument("--precisions", nargs="+", default=["float32", "tf32", "bfloat16"])
    parser.add_argument("--modes", nargs="+", choices=["eager", "compiled"], default=["eager", "compiled"])
    parser.add_argument("--repeats", type=int, default=5, help="blocks of five updates")
    parser.add_argument("--phases", action="store_true", help="also time the parts of an update")
    parser.add_argument("--kernels", action="store_true", help="also list the slowest kernels")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--threads", type=int, default=min(8, os.cpu_count() or 1), help="of the feed")
    parser.add_argument("--updates", type=int, default=60, help="that are measured of feed and loop")
    parser.add_argument("--folder", type=Path, help="where the corpus is kept; default: a temporary folder")
    parser.add_argument("--tiny", action="store_true", help="a tiny model, to try the script")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        return _measure(arguments, arguments.folder or Path(temporary))


def _measure(arguments: argparse.Namespace, folder: Path) -> int:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    ceilings = print_ceilings(device)
    cases = [
        Case(precision, mode == "compiled", clips, tokens)
        for tokens in arguments.tokens
        for precision in arguments.precisions
        for mode in arguments.modes
        for clips in arguments.batches
    ]
    flops = {tokens: flops_of_one_clip(tokens, device, arguments.tiny) for tokens in arguments.tokens}
    for tokens, count in flops.items():
        allowed = ceilings.bfloat16 / count
        print(
            f"One clip, {tokens} tokens: {count / 1e9:.1f} GFLOP forward and backward; "
            f"the bfloat16 ceiling allows {allowed:,.0f} clips/s\n"
        )
    if "updates" in arguments.parts:
        print_updates(cases, device, flops, ceilings, arguments)
    if "feed" in arguments.parts:
        print_feed(cases, device, arguments.tiny, folder, arguments.threads, arguments.updates, ceilings)
    if "loop" in arguments.parts:
        print_loop(cases, arguments.tiny, folder, arguments.threads, arguments.updates)
    return 0


def print_updates(
    cases: list[Case], device: str, flops: dict[int, int], ceilings: Ceilings, arguments: argparse.Namespace
) -> None:
    """The table of updates on clips that lie on the device already."""
    print(
        "| precision | compiled | clips | tokens | ms/update | clips/s | TFLOP/s | of ceiling | hours, 33.6 M | GiB |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|", flush=True)
    for case in cases:
        try:
            print(row(case, *measure(case, device, arguments.tiny, arguments.repeats), flops[case.tokens], ceilings))
        except torch.OutOfMemoryError:
            print(f"| {case.precision} | {case.compiled} | {case.clips} | {case.tokens} | out of memory | | | | | |")
        torch.compiler.reset()
        sys.stdout.flush()
        if device == "cuda":
            torch.cuda.empty_cache()
    print()
    if arguments.phases:
        for compiled in sorted({case.compiled for case in cases}):
            last = next(case for case in reversed(cases) if case.compiled == compiled)
            print_phases(last, device, arguments.tiny, arguments.repeats)
    if arguments.kernels and device == "cuda":
        for compiled in sorted({case.compiled for case in cases}):
            print_kernels(next(case for case in reversed(cases) if case.compiled == compiled), arguments.tiny)


if __name__ == "__main__":
    sys.exit(main())
