"""Clips a second of a training update of the full-size model on a GPU: waveform, log-mel, loss, gradients, AdamW.

    python benchmarks/gpu_training.py [--batches 64 256] [--tokens 64] [--modes eager compiled] [--phases]

The released configuration of the pre-training has 131,072 updates of 256 clips. The script counts the operations of one
clip, measures what the GPU reaches on plain matrix products, and prints what that would allow beside what was measured.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from gpu_ceilings import SAMPLES, Ceilings, counted_flops, float32_products, median_seconds, new_model, print_ceilings

PRETRAINING_CLIPS = 131_072 * 256  # released configuration: 4,096 epochs of 8,192 clips
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

    def loss(self, features: torch.Tensor) -> torch.Tensor:
        """Loss of the batch."""
        mixed = torch.autocast(self.device, torch.bfloat16) if self.case.precision == "bfloat16" else nullcontext()
        with mixed:
            return self.network(input_features=features, labels=self.labels).loss

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
    parser.add_argument("--small", action="store_true", help="a tiny model, to try the script")
    arguments = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    ceilings = print_ceilings(device)
    cases = [
        Case(precision, mode == "compiled", clips, tokens)
        for tokens in arguments.tokens
        for precision in arguments.precisions
        for mode in arguments.modes
        for clips in arguments.batches
    ]
    flops = {tokens: flops_of_one_clip(tokens, device, arguments.small) for tokens in arguments.tokens}
    for tokens, count in flops.items():
        allowed = ceilings.bfloat16 / count
        print(
            f"One clip, {tokens} tokens: {count / 1e9:.1f} GFLOP forward and backward; "
            f"the bfloat16 ceiling allows {allowed:,.0f} clips/s\n"
        )
    print(
        "| precision | compiled | clips | tokens | ms/update | clips/s | TFLOP/s | of ceiling | hours, 33.6 M | GiB |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|", flush=True)
    for case in cases:
        try:
            print(row(case, *measure(case, device, arguments.small, arguments.repeats), flops[case.tokens], ceilings))
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
            print_phases(last, device, arguments.small, arguments.repeats)
    if arguments.kernels and device == "cuda":
        for compiled in sorted({case.compiled for case in cases}):
            print_kernels(next(case for case in reversed(cases) if case.compiled == compiled), arguments.small)
    return 0


if __name__ == "__main__":
    sys.exit(main())
