"""What an audio file says of itself: its length, rate, channels, and the title, artist, album, year and genres in it.

soundfile decides whether a file can be decoded and how long it is; tinytag reads the texts, since libsndfile knows
neither numbered genres (ID3 `(17)`), nor several genres in one frame, nor a Vorbis comment that is there twice. M4A and
its like are read where PyAV is installed (the extra `m4a`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import soundfile
import tinytag

from lpmc_errors import AudioError

LONGEST_TEXT = 500  # characters; a longer title or genre is no title or genre
# Separators that people and programs put between genres: `/` is that of ID3v2.3.
_BETWEEN_GENRES = re.compile(r"[;,|/\0]")
_REFINED = re.compile(r"(?:\(\d+\))+(?P<refinement>[^(].*)")  # `(4)Eurodisco`: number 4, and more precisely
_YEAR = re.compile(r"\d{4}")


@dataclass(frozen=True)
class EmbeddedTags:
    """`facts` has `duration_s`, `sampling_rate` and `channels`; a text that is absent is empty, and so is the year."""

    facts: dict[str, Any]
    genres: tuple[str, ...]
    title: str
    artist: str
    album: str
    licence: str
    year: int | None


def read_embedded(path: Path) -> EmbeddedTags:
    """Read the header of an audio file. Raises `AudioError` where it cannot be decoded or holds no sound."""
    if not path.is_file():
        raise AudioError(path, "is no regular file")  # reading a pipe would wait for ever
    try:
        with path.open("rb") as opened:
            if not opened.read(1):
                raise AudioError(path, "is empty")
    except OSError as error:
        raise AudioError(path, f"cannot be read ({error.strerror})") from error
    try:
        with soundfile.SoundFile(path) as file:
            sounds = len(file.read(1, dtype="float32")) > 0
            facts = _facts(file.frames / file.samplerate, file.samplerate, file.channels)
            texts = {name: text for name, text in file.copy_metadata().items() if text}
    except (soundfile.SoundFileError, OSError) as error:
        compressed = _decode_with_pyav(path)
        if compressed is None:
            reason = getattr(error, "error_string", None) or str(error)
            if reason.startswith("File does not exist"):  # what libsndfile says of any file that mpg123 gives up
                reason = "Format not recognised"
            problem = f"cannot be decoded ({reason.rstrip('.')}); convert it to FLAC or WAV"
            raise AudioError(path, problem) from error
        sounds, facts, texts = True, compressed, {}
    if not sounds:
        raise AudioError(path, "holds no sound")
    own = _tinytag(path)
    raw = texts.get("genre", "").strip()
    genres = [*own.get("genre", [])] or [raw]
    refined = _REFINED.fullmatch(raw)
    if refined:
        genres.append(refined["refinement"])
    date = _YEAR.match(_first(own.get("year"), texts.get("date")))
    return EmbeddedTags(
        facts=facts,
        genres=tuple(_genre_names(genres)),
        title=_first(own.get("title"), texts.get("title")),
        artist=_first(own.get("artist"), texts.get("artist")),
        album=_first(own.get("album"), texts.get("album")),
        licence=_first(own.get("license"), texts.get("license")),
        year=int(date[0]) if date else None,
    )


def _facts(duration_s: float, sampling_rate: int, channels: int) -> dict[str, Any]:
    return {"duration_s": round(duration_s, 3), "sampling_rate": sampling_rate, "channels": channels}


def _decode_with_pyav(path: Path) -> dict[str, Any] | None:
    """The facts of a file that PyAV can decode; None where it cannot, or is not installed."""
    if find_spec("av") is None:
        return None
    import av

    try:
        with av.open(str(path)) as container:
            stream = container.streams.audio[0]
            frame = next(container.decode(stream))
            duration_s = float(stream.duration * stream.time_base) if stream.duration and stream.time_base else None
            if duration_s is None and container.duration:
                duration_s = container.duration / av.time_base
            return _facts(duration_s or 0.0, frame.sample_rate, len(frame.layout.channels))
    except (av.FFmpegError, OSError, IndexError, StopIteration, ValueError):
        return None


def _tinytag(path: Path) -> dict[str, list[str]]:
    """The texts of a file by name; none where tinytag does not know the format or the header is damaged."""
    try:
        found = tinytag.TinyTag.get(path, duration=False)
    except (tinytag.TinyTagException, OSError):
        return {}
    first = {name: getattr(found, name) for name in ("title", "artist", "album", "genre", "year")}
    texts = {name: [value] for name, value in first.items() if isinstance(value, str)}
    for name, values in found.other.items():
        texts.setdefault(name, []).extend(values)
    return texts


def _first(values: list[str] | None, other: str | None) -> str:
    for text in (*(values or ()), other or ""):
        plain = text.replace("\0", " ").strip()
        if plain and len(plain) <= LONGEST_TEXT:
            return plain
    return ""


def _genre_names(genres: list[str]) -> list[str]:
    """Each genre by itself; `[Rock]`, as some programs write it, is `Rock`."""
    names = (name.strip().strip("[]'\"").strip() for text in genres for name in _BETWEEN_GENRES.split(text))
    return [name for name in names if name and len(name) <= LONGEST_TEXT]
