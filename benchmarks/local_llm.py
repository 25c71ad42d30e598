"""Captions a second of the local language model, with the shared examples cached and without, interleaved.

    python benchmarks/local_llm.py [--rounds 5] [--threads 1]

Without the cache every prompt carries its system message and examples through the model again. The limit is reading the
weights once a token: the script prints what that alone would take at the bandwidth it measures.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import time
from dataclasses import replace

import torch

from dataset_builder.captioning.backends.local import LocalBackend
from dataset_builder.captioning.requests import Answer, CaptionRequest, Sampling
from dataset_builder.instructions import render_prompt

GENRES = ["rock", "jazz", "techno", "reggae", "folk", "metal", "soul", "disco"]
INSTRUMENTS = ["piano", "violin", "electric guitar", "flute"]
TOKENS = 32


def requests(shared: bool) -> list[CaptionRequest]:
    """A batch of 16 prompts; `shared=False` hides that they begin alike."""
    made = []
    for number in range(16):
        tags = [GENRES[number % 8], INSTRUMENTS[number % 4], "energetic", "fast tempo", "instrumental"]
        prompt = render_prompt("writing", tags, "small")
        prompt = prompt if shared else replace(prompt, shared=0)
        made.append(CaptionRequest("local", "m", prompt, Sampling(TOKENS, 0.0), str(number)))
    return made


def main() -> int:
    """Print medians, their ratio and the distance from the memory limit."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    backend = LocalBackend()
    asyncio.run(backend.check())
    seconds: dict[str, list[float]] = {"cached examples": [], "whole prompts": []}
    written = 0
    for round_number in range(arguments.rounds + 1):
        for name, values in seconds.items():
            start = time.perf_counter()
            answers = asyncio.run(backend.answer(requests(name == "cached examples")))
            if round_number:  # the first round warms up
                values.append(time.perf_counter() - start)
            written = max(a.completion_tokens or 0 for a in answers if isinstance(a, Answer))
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    for name, value in medians.items():
        print(
            f"{name:16} {16 / value:6.2f} captions/s (median of {arguments.rounds} rounds, {value:.2f} s a batch of 16)"
        )
    print(f"ratio of medians {medians['whole prompts'] / medians['cached examples']:.2f}")
    weights = sum(item.numel() * item.element_size() for item in backend._model.parameters())
    source = torch.ones(weights // 4)
    start = time.perf_counter()
    for _ in range(5):
        source.sum()
    bandwidth = 5 * weights / (time.perf_counter() - start)
    floor = written * weights / bandwidth
    print(
        f"limit: {written} steps x {weights / 1e6:.0f} MB at {bandwidth / 1e9:.1f} GB/s = {floor:.2f} s a batch; "
        f"measured {medians['cached examples'] / floor:.1f} times that ({backend._precision})"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
