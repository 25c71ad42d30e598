"""What this GPU reaches on plain matrix products and copies, and the timing that the other GPU benchmarks share.

    python benchmarks/gpu_ceilings.py

Every speed of `gpu_captioning.py` and `gpu_training.py` stands beside these measured ceilings, not beside a data sheet.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from torch.utils.flop_counter import FlopCounterMode

from modeling_lpmc import LpmcConfig, LpmcForConditionalGeneration

SAMPLES = 160_000  # of one 10 s window at 16 kHz
MATRIX = {"cuda": 8192, "cpu": 512}  # side of the square matrices
COPY = {"cuda": 2 * 2**30, "cpu": 2**26}  # bytes; far more than any cache
SMALL = {  # for trying the scripts without a GPU
    "vocab_size": 500,
    "d_model": 64,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_ffn_dim": 128,
    "decoder_ffn_dim": 128,
}


@dataclass(frozen=True)
class Ceilings:
    """Measured rates: FLOP/s of matrix products by precision, bytes/s of a copy (read plus written)."""

    bfloat16: float
    tf32: float
    float32: float
    bandwidth: float


def synchronise(device: str) -> None:
    """Wait until the device has done what it was told."""
    if device == "cuda":
        torch.cuda.synchronize()


def median_seconds(work: Callable[[], Any], device: str, *, repeats: int, warmup: int = 3, block: int = 1) -> float:
    """Median seconds of one call of `work` over `repeats` blocks of `block` calls, the device idle around each block.

    Within a block the host runs ahead of the device as it does in real use.
    """
    for _ in range(warmup):
        work()
    times = []
    for _ in range(repeats):
        synchronise(device)
        start = time.perf_counter()
        for _ in range(block):
            work()
        synchronise(device)
        times.append((time.perf_counter() - start) / block)
    return statistics.median(times)


@contextmanager
def float32_products(allow_tf32: bool) -> Iterator[None]:
    """Inside, float32 matrix products and convolutions are rounded to TF32, or exact."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allow_tf32
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def measure_ceilings(device: str) -> Ceilings:
    """Multiply large random matrices (zeros would run faster than real data) and copy a large buffer."""

    def product(dtype: torch.dtype, allow_tf32: bool) -> float:
        side = MATRIX[device]
        one, other = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
        with float32_products(allow_tf32):
            return 2 * side**3 / median_seconds(lambda: one @ other, device, repeats=5, block=5)

    source = torch.randn(COPY[device] // 4, device=device)
    target = torch.empty_like(source)
    copied = 2 * COPY[device] / median_seconds(lambda: target.copy_(source), device, repeats=5, block=5)
    return Ceilings(product(torch.bfloat16, False), product(torch.float32, True), product(torch.float32, False), copied)


def new_model(small: bool = False) -> LpmcForConditionalGeneration:
    """The full-size model (148.6 M parameters) with random weights, or a tiny one."""
    torch.manual_seed(0)
    return LpmcForConditionalGeneration(LpmcConfig(**(SMALL if small else {})))


def counted_flops(work: Callable[[], Any]) -> int:
    """Floating-point operations of the matrix products, convolutions and attentions in one call of `work`."""
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def describe(device: str) -> str:
    """The machine and the versions, in one line."""
    name = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    return f"{name}, torch {torch.__version__}, transformers {transformers.__version__}"


def print_ceilings(device: str) -> Ceilings:
    """Measure and print the ceilings."""
    ceilings = measure_ceilings(device)
    print(f"{describe(device)}\n")
    print(
        f"Measured ceilings: {ceilings.bfloat16 / 1e12:.0f} TFLOP/s bfloat16, {ceilings.tf32 / 1e12:.0f} TF32, "
        f"{ceilings.float32 / 1e12:.0f} float32; copy {ceilings.bandwidth / 1e12:.2f} TB/s read plus written\n"
    )
    return ceilings


if __name__ == "__main__":
    print_ceilings("cuda" if torch.cuda.is_available() else "cpu")
    sys.exit(0)
