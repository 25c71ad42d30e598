"""Decoded audio and its spectrograms on disk, so that an epoch reads windows instead of decoding files again.

One window costs 0.25 ms from a memory-mapped int16 file, 9 ms from MP3, and 4 to 8 ms more for its spectrogram.
An entry is named by what is in it (the bytes of every clip, the rate, the format below), so a changed data set makes
a new entry and an unchanged one is found again wherever it lies. Entries are whole or absent. Nothing is ever deleted
but half-written files: remove the folder to get the space back.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from lpmc_errors import AudioError
from lpmc_files import atomic_path, write_json
from modeling_lpmc.audio import RESAMPLER_QUALITY, has_sound, load_audio

FORMAT = 1  # raise it when the same input gives other numbers
FULL_SCALE = 32767  # int16; -96 dB of rounding noise, below that of any 16-bit recording
DECODERS = min(8, os.cpu_count() or 1)  # threads; libsndfile and soxr release the interpreter
BATCH = 32  # clips decoded or transformed at a time; bounds the memory
LARGEST_SPECTROGRAMS = 16 * 2**30  # bytes; beyond it the model computes them as it goes
ORPHANED_AFTER = 3600  # seconds; a half-written file that old has no writer any more

Report = Callable[[str, int, int], None]  # what is being done, done, of


@dataclass(frozen=True)
class EncodedAudio:
    """Audio as a data set holds it: the bytes of a file, or a path, or neither when the row has none."""

    data: bytes | None
    path: str | None

    def read(self) -> bytes | None:
        """The bytes of the file; None when there are none or the path does not exist."""
        if self.data is not None:
            return self.data
        if self.path and Path(self.path).is_file():
            return Path(self.path).read_bytes()
        return None


class ClipAudio(Protocol):
    """The sound of a split's clips, by number: `AudioCache`, or `PreparedAudio` of a prepared folder.

    `folder` is where things computed from the clips may be kept, named by what the clips hold.
    """

    @property
    def folder(self) -> Path: ...
    @property
    def sampling_rate(self) -> int: ...
    @property
    def lengths(self) -> np.ndarray:
        """Samples of each clip: int64 (clips,)."""

    def piece(self, clip: int, start: int, end: int) -> np.ndarray:
        """Samples `start` to `end` of a clip, int16, not to be written to."""


def int16_window(audio: ClipAudio, clip: int, length: int, crop: float) -> np.ndarray:
    """`length` samples of a clip as they are stored, int16 (length,), not to be written to.

    `crop` in [0, 1) goes from the first possible window to the last; a shorter clip is filled up with silence. A whole
    window is a view of the file: it is read when it is copied, once.
    """
    whole = int(audio.lengths[clip])
    if whole >= length:
        offset = int(crop * (whole - length + 1))
        return audio.piece(clip, offset, offset + length)
    window = np.zeros(length, np.int16)
    window[:whole] = audio.piece(clip, 0, whole)
    return window


def float_window(audio: ClipAudio, clip: int, length: int, crop: float) -> np.ndarray:
    """The same samples as float32 (length,) in [-1, 1]."""
    window = int16_window(audio, clip, length, crop).astype(np.float32)
    window /= FULL_SCALE
    return window


@dataclass(frozen=True)
class AudioCache:
    """Mono int16 clips end to end in one memory-mapped file.

    `bounds[i]` is the (start, end) of clip i in samples; a clip that could not be read has start == end, and
    `faults[i]` says why.
    """

    folder: Path
    samples: np.ndarray
    bounds: np.ndarray
    faults: dict[int, str]
    sampling_rate: int

    @cached_property
    def lengths(self) -> np.ndarray:
        """Samples of each clip: int64 (clips,)."""
        return self.bounds[:, 1] - self.bounds[:, 0]

    def piece(self, clip: int, start: int, end: int) -> np.ndarray:
        """Samples `start` to `end` of a clip, int16, not to be written to."""
        first = int(self.bounds[clip, 0])
        return self.samples[first + start : first + end]

    def window(self, clip: int, length: int, crop: float) -> np.ndarray:
        """See `float_window`."""
        return float_window(self, clip, length, crop)


def cached_audio(
    clips: Sequence[Any], encoded: Callable[[Any], EncodedAudio], cache: Path, sampling_rate: int, report: Report
) -> AudioCache:
    """Decode `clips` (whatever `encoded` turns into audio) once, and memory-map the result.

    A clip without audio, unreadable, too short or silent is recorded in `faults` and takes no space.
    Raises `DiskError` when the cache cannot be written.
    """
    digest = hashlib.blake2b(f"{FORMAT} {sampling_rate} {RESAMPLER_QUALITY}".encode(), digest_size=16)
    for number, clip in enumerate(clips):
        data = encoded(clip).read()
        digest.update(b"-" if data is None else hashlib.blake2b(data, digest_size=16).digest())
        if number % 1000 == 0:
            report("looking for decoded audio", number, len(clips))
    folder = cache / digest.hexdigest()
    index = folder / "index.json"
    if not index.is_file():
        _decode_all((encoded(clip) for clip in clips), len(clips), folder, sampling_rate, report)
    entry = json.loads(index.read_text(encoding="utf-8"))
    file = folder / "samples.int16"
    samples = np.memmap(file, np.int16, "r") if file.stat().st_size else np.zeros(0, np.int16)
    faults = {int(number): reason for number, reason in entry["faults"].items()}
    return AudioCache(folder, samples, np.asarray(entry["bounds"]).reshape(-1, 2), faults, sampling_rate)


def _decode_all(clips: Iterable[EncodedAudio], total: int, folder: Path, sampling_rate: int, report: Report) -> None:
    _remove_orphans(folder)
    bounds: list[tuple[int, int]] = []
    faults: dict[int, str] = {}
    position = 0
    remaining = iter(clips)
    with (
        atomic_path(folder / "samples.int16") as temporary,
        temporary.open("wb") as file,
        ThreadPoolExecutor(DECODERS) as pool,
    ):
        while batch := list(islice(remaining, BATCH)):
            for samples in pool.map(lambda clip: decoded(clip, sampling_rate), batch):
                if isinstance(samples, str):
                    faults[len(bounds)] = samples
                    samples = np.zeros(0, np.int16)
                file.write(samples.tobytes())
                bounds.append((position, position + len(samples)))
                position += len(samples)
            report("decoding audio", len(bounds), total)
    # Written last: an entry without its index does not exist.
    write_json(folder / "index.json", {"bounds": bounds, "faults": faults, "sampling_rate": sampling_rate})


def decoded(clip: EncodedAudio, sampling_rate: int) -> np.ndarray | str:
    """The clip as int16 (samples,), or the reason why it is of no use."""
    data = clip.read()
    if data is None:
        return f"no audio: {Path(clip.path).name} does not exist" if clip.path else "no audio"
    with tempfile.NamedTemporaryFile(suffix=Path(clip.path or "").suffix) as file:  # one decoder for files and bytes
        file.write(data)
        file.flush()
        try:
            samples = load_audio(file.name, sampling_rate).samples
        except AudioError as error:
            return error.problem
    if not has_sound(samples):
        return "silence"
    return np.round(samples * FULL_SCALE).astype(np.int16)


def cached_features(
    audio: ClipAudio, clips: Sequence[int] | np.ndarray, extractor: Any, report: Report
) -> np.ndarray | None:
    """Log-mel features of `clips`, memory-mapped: float32 (clips, mel, frames), or None when they cannot be stored.

    That is so when a clip is longer than the window of `extractor` (an `LpmcFeatureExtractor`), since each epoch then
    hears another part of it, or when all together would exceed `LARGEST_SPECTROGRAMS`.
    """
    length = extractor.chunk_samples
    frames = length // extractor.hop_length + 1
    shape = (len(clips), extractor.num_mel_bins, frames)
    longest = int(audio.lengths[np.asarray(clips)].max())
    if longest - length >= extractor.min_tail_seconds * audio.sampling_rate:
        return None
    if np.prod(shape, dtype=np.int64) * 4 > LARGEST_SPECTROGRAMS:
        return None
    settings = [FORMAT, extractor.num_mel_bins, extractor.n_fft, extractor.hop_length, length, extractor.spectrum]
    digest = hashlib.blake2b(json.dumps([settings, [int(clip) for clip in clips]]).encode(), digest_size=8).hexdigest()
    target = audio.folder / f"log_mel-{digest}.npy"
    if not target.is_file():
        _remove_orphans(audio.folder)
        with atomic_path(target) as temporary:
            features = np.lib.format.open_memmap(temporary, "w+", np.float32, shape)
            for start in range(0, len(clips), BATCH):
                batch = [float_window(audio, int(clip), length, 0.0) for clip in clips[start : start + BATCH]]
                features[start : start + len(batch)] = extractor(
                    batch, sampling_rate=audio.sampling_rate, return_tensors="np"
                )["input_features"]
                report("computing spectrograms", start + len(batch), len(clips))
            features.flush()
            del features
    return np.load(target, mmap_mode="r")


def _remove_orphans(folder: Path) -> None:
    """Delete what a killed run left half written (`atomic_path` names it with a leading point)."""
    for path in folder.glob(".*"):
        if path.is_file() and time.time() - path.stat().st_mtime > ORPHANED_AFTER:
            path.unlink(missing_ok=True)
