"""A small built data set for training tests: real Parquet with embedded FLAC, as `lpmc build` lays it out."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile

RATE = 16_000
KINDS = {  # sound -> caption; the sounds differ in their spectrum, the captions in their words
    "low": "A deep bass drone hums under everything.",
    "high": "Bright bells ring over a clear sky.",
    "noise": "Rain and wind hiss without any melody.",
    "beat": "A fast drum beat drives the dance floor.",
}


def sound(kind: str, seed: int, seconds: float = 10.0) -> np.ndarray:
    """Float samples (seconds * RATE,) of one of the four kinds."""
    random = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    hiss = 0.01 * random.standard_normal(len(time))
    if kind == "low":
        wave = 0.5 * np.sin(2 * np.pi * random.uniform(60, 90) * time)
    elif kind == "high":
        wave = 0.3 * np.sin(2 * np.pi * random.uniform(2500, 3500) * time) * np.exp(-3 * (time % 0.8))
    elif kind == "noise":
        wave = 0.2 * random.standard_normal(len(time))
    else:
        wave = 0.6 * random.standard_normal(len(time)) * np.exp(-30 * (time % 0.25))
    return np.clip(wave + hiss, -1, 1)


def encoded(wave: np.ndarray, container: str = "FLAC") -> bytes:
    """The bytes of an audio file that holds `wave`."""
    file = io.BytesIO()
    soundfile.write(file, wave, RATE, format=container)
    return file.getvalue()


def row(kind: str, seed: int, seconds: float = 10.0, **columns: Any) -> dict[str, Any]:
    """One row of the data set with the published columns."""
    return {
        "track_id": f"{kind}-{seed}",
        "tag": [kind],
        "caption_writing": KINDS[kind],
        "caption_ground_truth": None,
        "audio": {"bytes": encoded(sound(kind, seed, seconds)), "path": f"{kind}-{seed}.flac"},
    } | columns


def write_dataset(folder: Path, configs: dict[str, dict[str, list[dict[str, Any]]]]) -> Path:
    """Write {config: {split: rows}} as a data set directory and return it."""
    card = ["---", "configs:"]
    for config, splits in configs.items():
        card += [f"- config_name: {config}", "  data_files:"]
        (folder / config).mkdir(parents=True)
        for split, rows in splits.items():
            name = f"{config}/{split}-00000-of-00001.parquet"
            pq.write_table(pa.Table.from_pylist(rows), folder / name)
            card += [f"  - split: {split}", f"    path: {name}"]
    (folder / "README.md").write_text("\n".join([*card, "---", ""]), encoding="utf-8")
    return folder
