"""Clips a second of the full-size captioner on a GPU, from waveforms in host memory to 60 tokens a clip.

    python benchmarks/gpu_captioning.py [--batches 1 32 256] [--beams 1 5] [--modes library own compiled]

`own` is the search of the model, `compiled` the same with its steps through `torch.compile`, `library` what
transformers does with it. Each row stands beside its floor: the time that the least operations, or the bytes that must
be moved, would take at the rates which the same GPU reaches on plain matrix products and copies. MFU is the share of
the measured bfloat16 ceiling.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from dataclasses import dataclass
from typing import Any

import torch
from captioning_work import Work, decoding_work
from gpu_ceilings import (
    SAMPLES,
    Ceilings,
    counted_flops,
    float32_products,
    new_model,
    print_ceilings,
    synchronise,
)

TOKENS = 60  # written for every clip; captions of the released model have about as many
MODES = ("library", "own", "compiled")


@dataclass(frozen=True)
class Case:
    """One row of the table."""

    precision: str  # float32 or bfloat16
    mode: str
    beams: int
    clips: int


def settings(beams: int) -> dict[str, Any]:
    """Generation settings of the released model that write exactly `TOKENS` tokens after the start token."""
    length = TOKENS + 1
    return {"num_beams": beams, "early_stopping": beams > 1, "max_length": length, "min_length": length}


def work_of(config: Any, case: Case, encoder_flops: int) -> Work:
    """The least work of one batch; of the encoder its operations (it reads its weights once, which is small)."""
    size = 2 if case.precision == "bfloat16" else 4
    work = decoding_work(config, case.clips, case.beams, TOKENS, size)
    flops = work.flops + case.clips * encoder_flops
    return Work(flops, work.weight_bytes, work.cache_bytes, work.score_bytes)


def floor_seconds(work: Work, case: Case, ceilings: Ceilings) -> tuple[float, str]:
    """The time below which no implementation of this decoding can get, and what sets it."""
    rate = ceilings.bfloat16 if case.precision == "bfloat16" else ceilings.float32
    return work.floor_seconds(rate, ceilings.bandwidth)


def measure(cases: list[Case], device: str, small: bool, repeats: int) -> dict[Case, float]:
    """Median seconds of one batch of each case, all of one precision and size; they take turns."""
    model: Any = new_model(small).to(device).eval()
    if cases[0].precision == "bfloat16":
        model = model.to(torch.bfloat16)
    waves = torch.randn(cases[0].clips, SAMPLES) * 0.1
    waves = waves.pin_memory() if device == "cuda" else waves
    times: dict[Case, list[float]] = {case: [] for case in cases}
    with float32_products(allow_tf32=False), torch.inference_mode():
        for turn in range(2 + repeats):
            for case in cases:
                model.own_search = case.mode != "library"
                model.set_decoding(compiled=case.mode == "compiled")
                synchronise(device)
                start = time.perf_counter()
                inputs = waves.to(device, non_blocking=True)
                tokens = model.generate(input_values=inputs, **settings(case.beams))
                synchronise(device)
                assert tokens.shape == (case.clips, TOKENS + 1)
                if turn >= 2:  # before: compiling, choice of kernels
                    times[case].append(time.perf_counter() - start)
    return {case: statistics.median(found) for case, found in times.items()}


def row(case: Case, seconds: float, work: Work, ceilings: Ceilings) -> str:
    """A line of the Markdown table."""
    floor, limit = floor_seconds(work, case, ceilings)
    cells = [
        case.precision,
        case.mode,
        f"{case.beams}",
        f"{case.clips}",
        f"{seconds * 1e3:.0f}",
        f"{seconds / TOKENS * 1e3:.1f}",
        f"{case.clips / seconds:,.1f}",
        f"{case.clips / seconds * 10:,.0f}",
        f"{work.flops / seconds / 1e12:.1f}",
        f"{work.flops / seconds / ceilings.bfloat16:.1%}",
        f"{floor * 1e3:.1f} ({limit})",
        f"{seconds / floor:.1f}",
    ]
    return f"| {' | '.join(cells)} |"


def print_kernels(case: Case, small: bool) -> None:
    """The kernels that take most of captioning one batch, and the host's share."""
    model: Any = new_model(small).to("cuda").eval()
    if case.precision == "bfloat16":
        model = model.to(torch.bfloat16)
    waves = (torch.randn(case.clips, SAMPLES) * 0.1).to("cuda")
    for _ in range(2):
        model.generate(input_values=waves, **settings(case.beams))
    model.own_search = case.mode != "library"
    activities = [torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile, torch.inference_mode():
        model.generate(input_values=waves, **settings(case.beams))
        torch.cuda.synchronize()
    print(case)
    print(profile.key_averages().table(sort_by="self_cuda_time_total", row_limit=25, max_name_column_width=90))


def main() -> int:
    """Print ceilings, counted work and the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 32, 256])
    parser.add_argument("--beams", type=int, nargs="+", default=[1, 5])
    parser.add_argument("--precisions", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--kernels", action="store_true", help="also list the slowest kernels of the last row")
    parser.add_argument("--small", action="store_true", help="a tiny model, to try the script")
    arguments = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    ceilings = print_ceilings(device)
    model: Any = new_model(arguments.small).to(device).eval()
    waves = torch.randn(1, SAMPLES, device=device) * 0.1
    encoder_flops = counted_flops(lambda: model.model.encoder(input_values=waves))
    print(
        "| precision | decoding | beams | clips | ms/batch | ms/step | clips/s | x real time | TFLOP/s | MFU "
        "| floor, ms | times floor |\n|---|---|---|---|---|---|---|---|---|---|---|---|",
        flush=True,
    )
    for precision in arguments.precisions:
        for beams in arguments.beams:
            for clips in arguments.batches:
                cases = [Case(precision, mode, beams, clips) for mode in arguments.modes]
                for case, seconds in measure(cases, device, arguments.small, arguments.repeats).items():
                    work = work_of(model.config, case, encoder_flops)
                    print(row(case, seconds, work, ceilings), flush=True)
                torch.compiler.reset()
                if device == "cuda":
                    torch.cuda.empty_cache()
    if arguments.kernels and device == "cuda":
        print_kernels(case, arguments.small)
    return 0


if __name__ == "__main__":
    sys.exit(main())
