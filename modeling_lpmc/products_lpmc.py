# Copyright 2026 The LP-MusicCaps port authors. Licensed under the Apache License, Version 2.0.
"""A few rows times a large matrix, as decoding needs it at every step: weights laid out for a CPU, or in int8.

This file travels to the Hub as remote code: it imports torch and its neighbour, nothing else.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from .memory_lpmc import FastMemory

Product = Callable[[torch.Tensor], torch.Tensor]  # rows (n, in) to rows (n, out)

BLOCK = 48  # outputs; of 16 to 1536 the fastest for 40 rows by 5 % (Intel MKL, AVX-512)
INT8_MAX = 127.0


def packs(weight: torch.Tensor) -> bool:
    """Whether `weight` is worth a layout of its own: float32 on a CPU."""
    return weight.device.type == "cpu" and weight.dtype == torch.float32


def product_with(weight: torch.Tensor, bias: torch.Tensor | None, precision: str, memory: FastMemory) -> Product:
    """rows -> rows @ weight.T + bias, for `weight` (out, in)."""
    if precision == "int8":
        return _int8_product(weight, bias)
    if bias is None or not packs(weight):
        return lambda rows: nn.functional.linear(rows, weight, bias)
    outputs, width = weight.shape[0], min(BLOCK, weight.shape[0])
    missing = -outputs % width
    blocks = in_blocks(nn.functional.pad(weight, (0, 0, 0, missing)), width, memory)
    if blocks.shape[0] == 1:
        only = blocks[0]
        return lambda rows: torch.addmm(bias, rows, only)
    number = blocks.shape[0]
    added = nn.functional.pad(bias, (0, missing)).view(number, width)

    def product(rows: torch.Tensor) -> torch.Tensor:
        found = torch.bmm(rows.expand(number, -1, -1), blocks).transpose(0, 1)
        if torch.compiler.is_compiling():  # the compiler makes one pass of these anyhow, and stumbles over `out`
            result = found + added
        else:
            result = torch.add(found, added, out=rows.new_empty(rows.shape[0], number, width))
        return result.flatten(1)[:, :outputs]

    return product


def in_blocks(weight: torch.Tensor, width: int, memory: FastMemory) -> torch.Tensor:
    """`weight` (out, in) transposed in blocks of `width` outputs: (blocks, in, width)."""
    return memory.copy(weight.view(-1, width, weight.shape[1]).transpose(1, 2))


def _int8_product(weight: torch.Tensor, bias: torch.Tensor | None) -> Product:
    scale = weight.abs().amax(1).clamp_(min=torch.finfo(torch.float32).tiny) / INT8_MAX
    rounded = (weight / scale[:, None]).round_().to(torch.int8)
    packed = torch.ops.onednn.qlinear_prepack(rounded, None)
    zeros = torch.zeros(weight.shape[0], dtype=torch.int32)
    multiply = torch.ops.onednn.qlinear_pointwise

    def product(rows: torch.Tensor) -> torch.Tensor:
        row_scale = rows.abs().amax(1, keepdim=True).clamp_(min=torch.finfo(torch.float32).tiny) / INT8_MAX
        levels = (rows / row_scale).round_().to(torch.int8)
        sums = multiply(levels, 1.0, 0, packed, scale, zeros, None, 1.0, 0, torch.float32, "none", [], "")
        sums.mul_(row_scale)
        return sums if bias is None else sums.add_(bias)

    return product


def check_int8(weight: torch.Tensor) -> None:
    """Raise `RuntimeError` where products with `weight` can't be computed in int8."""
    if not packs(weight):
        raise RuntimeError(
            f"int8 decoding needs a float32 model on a CPU, not {weight.dtype} on {weight.device.type}; "
            "load it with dtype=torch.float32 on the CPU, or use the native precision"
        )
    if not (torch.backends.mkldnn.is_available() and hasattr(torch.ops.onednn, "qlinear_pointwise")):
        raise RuntimeError("int8 decoding needs a PyTorch built with oneDNN; use the native precision")


__all__ = ["BLOCK", "Product", "check_int8", "in_blocks", "packs", "product_with"]
