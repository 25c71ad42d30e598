"""Clips a second of the full-size captioner on a GPU, from waveforms in host memory to 60 tokens a clip.

    python benchmarks/gpu_captioning.py [--batches 1 32 256] [--beams 1 5] [--modes eager compiled]

Each row stands beside its floor: the time that the counted operations, or the bytes that must be moved, would take at
the rates which the same GPU reaches on plain matrix products and copies.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from gpu_ceilings import SAMPLES, Ceilings, counted_flops, float32_products, median_seconds, new_model, print_ceilings

TOKENS = 60  # written for every clip; captions of the released model have about as many


@dataclass(frozen=True)
class Case:
    """One row of the table."""

    precision: str  # float32 or bfloat16
    compiled: bool
    beams: int
    clips: int


def settings(beams: int, compiled: bool = False) -> dict[str, Any]:
    """Generation settings of the released model that write exactly `TOKENS` tokens after the start token."""
    length = TOKENS + 1
    chosen = {"num_beams": beams, "early_stopping": beams > 1, "max_length": length, "min_length": length}
    return chosen | ({"cache_implementation": "static"} if compiled else {})


def bytes_of_a_batch(config: Any, case: Case) -> int:
    """The least that decoding moves through memory: per step the weights once, every cache once, the logits in and out.

    Beams have caches of their own, as the library's cache keeps them; the encoder's share is left out as small.
    """
    size = 2 if case.precision == "bfloat16" else 4
    width, layers = config.d_model, config.decoder_layers
    layer = 8 * width * width + 2 * width * config.decoder_ffn_dim  # two attentions of four matrices, and the FFN
    weights = layers * layer + config.vocab_size * width
    cached_positions = config.max_source_frames + (TOKENS + 1) / 2  # cross, and self on average
    caches = layers * 2 * width * cached_positions
    sequences = case.clips * case.beams
    return round(TOKENS * size * (weights + sequences * (caches + 2 * config.vocab_size)))


def floor_seconds(config: Any, case: Case, flops: int, ceilings: Ceilings) -> tuple[float, str]:
    """The time below which no implementation of this decoding can get, and what sets it."""
    rate = ceilings.bfloat16 if case.precision == "bfloat16" else ceilings.float32
    arithmetic = case.clips * flops / rate
    movement = bytes_of_a_batch(config, case) / ceilings.bandwidth
    return max((arithmetic, "arithmetic"), (movement, "memory"))


def measure(case: Case, device: str, small: bool, repeats: int) -> float:
    """Median seconds of one batch."""
    model: Any = new_model(small).to(device).eval()
    if case.precision == "bfloat16":
        model = model.to(torch.bfloat16)
    if case.compiled:
        model.forward = torch.compile(model.forward, dynamic=False)
    waves = torch.randn(case.clips, SAMPLES) * 0.1
    waves = waves.pin_memory() if device == "cuda" else waves

    def caption() -> None:
        with torch.inference_mode():
            tokens = model.generate(
                input_values=waves.to(device, non_blocking=True), **settings(case.beams, case.compiled)
            )
        assert tokens.shape == (case.clips, TOKENS + 1)

    with float32_products(allow_tf32=False):
        return median_seconds(caption, device, repeats=repeats, warmup=3 if case.compiled else 2)


def row(case: Case, seconds: float, floor: tuple[float, str], flops: int) -> str:
    """A line of the Markdown table."""
    cells = [
        case.precision,
        "yes" if case.compiled else "no",
        f"{case.beams}",
        f"{case.clips}",
        f"{seconds * 1e3:.0f}",
        f"{seconds / TOKENS * 1e3:.1f}",
        f"{case.clips / seconds:,.1f}",
        f"{case.clips / seconds * 10:,.0f}",
        f"{case.clips * flops / seconds / 1e12:.1f}",
        f"{floor[0] * 1e3:.1f} ({floor[1]})",
        f"{seconds / floor[0]:.1f}",
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
    parser.add_argument("--modes", nargs="+", choices=["eager", "compiled"], default=["eager", "compiled"])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--kernels", action="store_true", help="also list the slowest kernels of the last row")
    parser.add_argument("--small", action="store_true", help="a tiny model, to try the script")
    arguments = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    ceilings = print_ceilings(device)
    model: Any = new_model(arguments.small).to(device).eval()
    waves = torch.randn(1, SAMPLES, device=device) * 0.1
    flops = {}
    for beams in arguments.beams:
        flops[beams] = counted_flops(partial(model.generate, input_values=waves, **settings(beams)))
    for beams, count in flops.items():
        print(f"One clip, {beams} beams, {TOKENS} tokens: {count / 1e9:.1f} GFLOP")
    print(
        "\n| precision | compiled | beams | clips | ms/batch | ms/step | clips/s | x real time | TFLOP/s "
        "| floor, ms | times floor |\n|---|---|---|---|---|---|---|---|---|---|---|",
        flush=True,
    )
    for precision in arguments.precisions:
        for mode in arguments.modes:
            for beams in arguments.beams:
                for clips in arguments.batches:
                    case = Case(precision, mode == "compiled", beams, clips)
                    floor = floor_seconds(model.config, case, flops[beams], ceilings)
                    seconds = measure(case, device, arguments.small, arguments.repeats)
                    print(row(case, seconds, floor, flops[beams]), flush=True)
                    torch.compiler.reset()
                    if device == "cuda":
                        torch.cuda.empty_cache()
    if arguments.kernels and device == "cuda":
        print_kernels(case, arguments.small)
    return 0


if __name__ == "__main__":
    sys.exit(main())
