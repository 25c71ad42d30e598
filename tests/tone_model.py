"""A very small captioner that tells four sounds apart, trained here in seconds, and tracks made of those sounds.

The sounds are synthesised, so a test knows what is heard from when to when.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import soundfile
import torch

from modeling_lpmc.configuration_lpmc import LpmcConfig
from modeling_lpmc.export import save_for_hub
from modeling_lpmc.feature_extraction_lpmc import LpmcFeatureExtractor
from modeling_lpmc.modeling_lpmc import LpmcForConditionalGeneration
from modeling_lpmc.processing_lpmc import LpmcProcessor
from modeling_lpmc.tokenizer import train_tokenizer

CAPTIONS = {
    "low": "A deep bass drone hums slowly.",
    "high": "A shrill flute whistles high notes.",
    "noise": "Harsh static noise fills the room.",
    "pulse": "An electronic beat pulses with fast drums.",
}
MOST_STEPS = 600  # about 150 are needed
LEARNT = 0.03  # nats a token; guessing among the four captions costs 0.14


def sound(name: str, seconds: float, rate: int = 16000, seed: int = 0) -> np.ndarray:
    """`seconds` of one of the sounds of `CAPTIONS`, or of "silence": float32 (n,) at `rate` Hz."""
    time = np.arange(round(seconds * rate)) / rate
    random = np.random.default_rng(seed)
    if name == "silence":
        return np.zeros(len(time), np.float32)
    if name in ("low", "high"):
        hertz = random.uniform(*{"low": (60, 300), "high": (2500, 6000)}[name], 8)
        phase = random.uniform(0, 2 * np.pi, 8)
        wave = 0.08 * np.sin(2 * np.pi * hertz[:, None] * time + phase[:, None]).sum(axis=0)
    else:
        wave = random.normal(0, 0.15, len(time))
        if name == "pulse":
            wave *= time % 0.5 < 0.25
    return (wave + random.normal(0, 1e-3, len(time))).astype(np.float32)


def write_track(path: Path, parts: list[tuple[str, float]], rate: int = 16000) -> Path:
    """Write the sounds `parts` (name, seconds) one after the other to `path`."""
    wave = [sound(name, seconds, rate, seed) for seed, (name, seconds) in enumerate(parts, start=100)]
    soundfile.write(path, np.concatenate(wave), rate)
    return path


@cache
def tone_captioner() -> tuple[LpmcForConditionalGeneration, LpmcProcessor]:
    """The trained model and its processor; trained once a process."""
    torch.set_num_threads(1)  # at this size two threads wait for each other more than they help
    torch.manual_seed(0)
    tokenizer = train_tokenizer(CAPTIONS.values(), vocab_size=400)
    processor = LpmcProcessor(LpmcFeatureExtractor(), tokenizer)
    sizes = {"layers": 1, "attention_heads": 2, "ffn_dim": 64}
    config = LpmcConfig(
        vocab_size=len(tokenizer),
        d_model=48,
        max_position_embeddings=64,
        dropout=0.0,
        activation_dropout=0.0,
        attention_dropout=0.0,
        label_smoothing=0.0,
        **{f"{side}_{name}": size for side in ("encoder", "decoder") for name, size in sizes.items()},
    )
    model = LpmcForConditionalGeneration(config)
    model.generation_config.max_length = 32
    batches = [
        processor(
            audio=[_lesson(name, seed) for name in CAPTIONS],
            text=list(CAPTIONS.values()),
            sampling_rate=16000,
            return_tensors="pt",
        )
        for seed in range(6)
    ]
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.0)
    model.train()
    running = 1.0
    for step in range(MOST_STEPS):
        loss = model(**batches[step % len(batches)]).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        running = 0.9 * running + 0.1 * float(loss.detach())
        if running < LEARNT:
            return model.eval(), processor
    raise AssertionError(f"the test model did not learn its four sounds in {MOST_STEPS} steps (loss {running:.3f})")


def _lesson(name: str, seed: int) -> np.ndarray:
    """Ten seconds of a sound that begin, as a window may, with up to a second of another."""
    random = np.random.default_rng(seed)
    before = random.uniform(0, 1) * (seed % 2)
    other = str(random.choice([other for other in CAPTIONS if other != name]))
    return np.concatenate([sound(other, before, seed=seed), sound(name, 10.0, seed=seed)])[:160_000]


def save_tone_model(folder: Path, **config: object) -> Path:
    """Save the trained model as a model directory, with further values in its config."""
    model, processor = tone_captioner()
    for name, value in config.items():
        setattr(model.config, name, value)
    try:
        save_for_hub(model, processor, folder)
    finally:
        for name in config:
            delattr(model.config, name)
    return folder
