"""What writing captions costs at least: operations and bytes, counted from the sizes of the model.

    python benchmarks/captioning_work.py

Imported by `captioning.py` (CPU) and `gpu_captioning.py`, which set measured times beside it. On its own it prints the
arithmetic for an H100 from its data sheet.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

from modeling_lpmc import LpmcConfig

KNOWN_TOKENS = 2  # `</s> <s>`: read in one pass, written by nobody
H100 = {"bfloat16": 989e12, "float32": 67e12}  # FLOP/s, dense (NVIDIA H100 SXM data sheet)
H100_BANDWIDTH = 3.35e12  # bytes/s (the same)


@dataclass(frozen=True)
class Work:
    """Operations, and bytes that must at least be moved, to write captions for a batch."""

    flops: float
    weight_bytes: float
    cache_bytes: float
    score_bytes: float

    @property
    def bytes(self) -> float:
        """Of everything."""
        return self.weight_bytes + self.cache_bytes + self.score_bytes

    def floor_seconds(self, flops_a_second: float, bytes_a_second: float) -> tuple[float, str]:
        """The time below which no implementation of this decoding can get, and what sets it."""
        arithmetic, movement = self.flops / flops_a_second, self.bytes / bytes_a_second
        return max((arithmetic, "arithmetic"), (movement, "memory"))


def product_weights(config: LpmcConfig) -> int:
    """Numbers in the matrices that a new token meets: decoder layers, less those for the encoder's keys, and head."""
    width = config.d_model
    layer = 6 * width * width + 2 * width * config.decoder_ffn_dim
    return config.decoder_layers * layer + config.vocab_size * width


def decoding_work(config: LpmcConfig, clips: int, beams: int, tokens: int, size: int = 4) -> Work:
    """The least work of writing `tokens` tokens a clip in `beams` beams, numbers of `size` bytes; encoder left out.

    The forced first and last tokens cost nothing, the first step has one beam. A step reads every weight once, the
    encoder's keys and values once a clip, those of each beam's own tokens once, and writes and reads all scores once.
    """
    steps = tokens - 3  # after the pass over the two known tokens; the forced end needs none
    rows = clips * (KNOWN_TOKENS + beams * steps)
    scored = clips * (1 + beams * steps)
    width, layers = config.d_model, config.decoder_layers
    head = config.vocab_size * width
    attended = config.max_source_frames + tokens / 2
    flops = 2.0 * (rows * (product_weights(config) - head) + scored * head + rows * layers * 2 * width * attended)
    flops += 2.0 * clips * config.max_source_frames * layers * 2 * width * width  # the encoder's keys and values
    own = layers * 2 * width * tokens / 2 * clips * beams
    heard = layers * 2 * width * config.max_source_frames * clips
    return Work(
        flops,
        float(size) * (steps + 1) * product_weights(config),
        float(size) * (steps + 1) * (own + heard),
        2.0 * size * scored * config.vocab_size,
    )


def main() -> int:
    """Print the table for an H100."""
    config = LpmcConfig()
    print("H100 SXM, from its data sheet (bfloat16 989 TFLOP/s, 3.35 TB/s); 60 tokens a clip, arithmetic only\n")
    print("| beams | clips | GFLOP a clip | GB moved | floor, ms | set by | clips/s at the floor |")
    print("|---|---|---|---|---|---|---|")
    for beams in (1, 5):
        for clips in (1, 32, 256):
            work = decoding_work(config, clips, beams, 60, size=2)
            seconds, limit = work.floor_seconds(H100["bfloat16"], H100_BANDWIDTH)
            print(
                f"| {beams} | {clips} | {work.flops / clips / 1e9:.1f} | {work.bytes / 1e9:.1f} | {seconds * 1e3:.1f} "
                f"| {limit} | {clips / seconds:,.0f} |"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
