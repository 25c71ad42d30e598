"""The files of a rendered corpus: clips as FLAC, and their rows in parts of fifty that are whole or absent.

    ROOT/audio/rendered-0-00000.flac    a clip; its comment says which one and what was measured of it
    ROOT/parts/00000.jsonl              the rows of clips 0 to 49, each with size and checksum of its file
    ROOT/corpus.json                    the parameters and what the corpus holds; written last

A clip stands when its file has the size and, in its header, the checksum of the decoded sound that its row has: a
hundred thousand are looked over in seconds. `verify_clip` decodes and compares instead.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from dataset_builder.tracks import TaggedTrack
from lpmc_files import atomic_path, write_text

CLIPS_PER_PART = 50
CORPUS_FILE = "corpus.json"
LOCK = ".rendering.lock"
_MD5 = slice(26, 42)  # of the decoded sound, in the header of a FLAC file (RFC 9639, section 8.2)


def part_path(root: Path, number: int) -> Path:
    """Where the rows of part `number` lie."""
    return root / "parts" / f"{number:05d}.jsonl"


def clear_unfinished(root: Path) -> None:
    """Remove the temporary files that a killed run left behind. Only while the folder is claimed."""
    for left in (*root.glob("audio/.rendered-*.flac"), *root.glob("parts/.[0-9]*.jsonl")):
        left.unlink(missing_ok=True)


def write_clip(path: Path, wave: NDArray[np.int16], sampling_rate: int, comment: str) -> None:
    """Write a 16-bit mono FLAC file atomically. Raises `DiskError`."""
    encoded = io.BytesIO()  # libsndfile tells of a full disk only as "System error"
    with soundfile.SoundFile(encoded, "w", sampling_rate, 1, "PCM_16", format="FLAC") as file:
        file.comment = comment
        file.write(wave)
    with atomic_path(path) as temporary:
        temporary.write_bytes(encoded.getbuffer())


def comment_of_whole_clip(path: Path, sampling_rate: int, samples: int) -> str | None:
    """The comment of a FLAC file that decodes to its end and has this rate and length; None for any other file."""
    if not path.is_file():
        return None
    try:
        with soundfile.SoundFile(path) as file:
            comment = str(file.comment)
            if file.samplerate != sampling_rate or len(file.read(dtype="int16")) != samples:
                return None
            return comment
    except soundfile.LibsndfileError:
        return None


def checksum_of_sound(path: Path) -> str:
    """The checksum (MD5, hexadecimal) of the decoded sound that a FLAC file states; empty where it is none."""
    try:
        with path.open("rb") as file:
            header = file.read(_MD5.stop)
    except OSError:
        return ""
    return header[_MD5].hex() if header[:4] == b"fLaC" else ""


def verify_clip(path: Path, checksum: str) -> bool:
    """Whether a FLAC file decodes to sound of this checksum."""
    try:
        samples, _ = soundfile.read(path, dtype="int16")
    except (soundfile.LibsndfileError, OSError):
        return False
    return hashlib.md5(samples.astype("<i2").tobytes(), usedforsecurity=False).hexdigest() == checksum


def write_part(root: Path, number: int, signature: str, tracks: list[TaggedTrack]) -> None:
    """Write the rows of a part, whose clips are all there. Raises `DiskError`."""
    lines = [json.dumps({"corpus": signature, "tracks": len(tracks)})]
    for track in tracks:
        path = root / str(track.audio_path)
        row = {name: value for name, value in asdict(track).items() if value not in (None, (), "", False)}
        lines.append(
            json.dumps({"bytes": path.stat().st_size, "md5": checksum_of_sound(path), "track": row}, ensure_ascii=False)
        )
    write_text(part_path(root, number), "\n".join(lines) + "\n")


def standing_part(root: Path, number: int, signature: str, track_ids: list[str], *, verify: bool = False) -> bool:
    """Whether the rows of a part are there, are of this corpus and its very tracks, and their clips stand."""
    try:
        lines = part_path(root, number).read_text("utf-8").splitlines()
        if json.loads(lines[0]) != {"corpus": signature, "tracks": len(track_ids)} or len(lines) != len(track_ids) + 1:
            return False
        for line, track_id in zip(lines[1:], track_ids, strict=True):
            row = json.loads(line)
            path = root / row["track"]["audio_path"]
            if row["track"]["track_id"] != track_id or path.stat().st_size != row["bytes"]:
                return False
            if not row["md5"] or checksum_of_sound(path) != row["md5"]:
                return False
            if verify and not verify_clip(path, row["md5"]):
                path.unlink()  # it would pass for whole: the damage may decode
                return False
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError):
        return False  # absent or damaged: it is written anew, and clips that are whole are kept
    return True


def read_part(root: Path, number: int) -> Iterator[TaggedTrack]:
    """The tracks of a part that stands."""
    with part_path(root, number).open(encoding="utf-8") as file:
        next(file)
        for line in file:
            yield _track(json.loads(line)["track"])


def read_corpus_file(root: Path) -> dict[str, Any]:
    """What `corpus.json` says; empty where there is none or it is damaged."""
    try:
        value = json.loads((root / CORPUS_FILE).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _track(row: dict[str, Any]) -> TaggedTrack:
    lists: dict[str, Any] = {name: tuple(row[name]) for name in ("tags", "reference_captions") if name in row}
    return TaggedTrack(**(row | lists))
