"""A folder of the user's audio files, with what is known of them.

Tags come from one file beside the audio, `tags.csv`, `tags.tsv` or `tags.jsonl` in the folder itself, with the columns
`file_name` (relative to the folder) and `tags`; further columns are those of the source `table`. The genre that is
embedded in a file (ID3, Vorbis comment) is a tag too; its title, artist, album and date describe the track and are
never tags. The name of the folder a file lies in is a tag only with `folder_as_tag`.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import soundfile

from dataset_builder.tracks import TaggedTrack, clean_tags
from lpmc_errors import AudioError, TableError

from .table import parse_tags, recognised_columns, track_of
from .table_rows import read_rows, row_name

SOURCE = "audio_folder"
SIDECARS = ("tags.csv", "tags.tsv", "tags.jsonl")
# Endings that people give audio. Whether a file can be decoded is up to soundfile; one that cannot is reported.
_DECODED = (".wav", ".wave", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".aif", ".aiff", ".aifc", ".au", ".caf", ".w64")
_COMPRESSED = (".m4a", ".mp4", ".aac", ".wma", ".webm", ".ape", ".wv")
AUDIO_SUFFIXES = frozenset({*_DECODED, *_COMPRESSED})

OnSkip = Callable[[Path, str], None]


@dataclass(frozen=True)
class _Embedded:
    """What a file says of itself: its length, and the texts in its header that are not empty."""

    facts: dict[str, Any]
    texts: dict[str, str]


def read_audio_folder(
    root: Path, *, folder_as_tag: bool = False, on_skip: OnSkip | None = None
) -> Iterator[TaggedTrack]:
    """A track for each audio file under `root`, sorted by path; the id is the POSIX path relative to `root`.

    `folder_as_tag` makes the name of a file's own folder its first tag. Hidden files and files of other kinds are
    passed over. `on_skip(path, reason)` is told of each audio file that is left out (cannot be decoded, empty, a link
    out of the folder, a name that is not text) and of each row of the tags file without a file. Raises `AudioError`
    where `root` is no folder or holds no audio that can be read, `TableError` for a tags file that cannot be used.
    """
    if not root.is_dir():
        raise AudioError(root, "no such folder of audio files", "give a folder with --root")
    skip = on_skip or (lambda path, reason: None)
    described = _sidecar(root)
    found = 0
    for path in _audio_files(root, skip):
        track_id = path.relative_to(root).as_posix()
        row = described.pop(_same(track_id), None)
        embedded = _embedded(path, skip)
        if embedded is None:
            continue
        found += 1
        track = _track(track_id, row, embedded)
        if folder_as_tag and path.parent != root:
            track = replace(track, tags=clean_tags((path.parent.name, *track.tags)))
        yield track
    for row in described.values():
        skip(root / row.track_id, "is named in the tags file but is no audio file in the folder")
    if not found:
        raise AudioError(root, "holds no audio files that can be read", "put WAV, FLAC, MP3, OGG or AIFF files there")


def _same(name: str) -> str:
    """File names as they compare: macOS stores accents decomposed, tables mostly hold them composed."""
    return unicodedata.normalize("NFC", name)


def _sidecar(root: Path) -> dict[str, TaggedTrack]:
    """The rows of the tags file by file name; empty without one."""
    present = [root / name for name in SIDECARS if (root / name).is_file()]
    if len(present) > 1:
        names = " and ".join(path.name for path in present)
        raise TableError(root, f"has {names}, expected one tags file", "keep one of them")
    rows: dict[str, TaggedTrack] = {}
    for path in present:
        for number, row in read_rows(path):
            columns = recognised_columns(tuple(row), "file_name", "tags")
            if not rows and not columns.keys() >= {"id", "tags"}:
                raise TableError(path, f"has the columns {', '.join(row)}", "it needs file_name and tags")
            track = track_of(path, number, row, columns, None)
            name = _same(track.track_id.replace("\\", "/").removeprefix("./"))
            if name in rows:
                raise TableError(row_name(path, number), f"names {name} a second time", "keep one row a file")
            rows[name] = track
    return rows


def _audio_files(root: Path, skip: OnSkip) -> Iterator[Path]:
    """Audio files under `root`, sorted by path; links that lead out of it are reported instead."""
    inside = root.resolve()
    paths: list[Path] = []
    for folder, subfolders, names in os.walk(root):
        for name in [name for name in subfolders if Path(folder, name).is_symlink()]:
            skip(Path(folder, name), "is a link to a folder, which is not followed")
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        paths += [
            Path(folder, name)
            for name in names
            if not name.startswith(".") and Path(name).suffix.lower() in AUDIO_SUFFIXES
        ]
    for path in sorted(paths, key=lambda path: path.relative_to(root).as_posix()):
        if not path.resolve().is_relative_to(inside):
            skip(path, "is a link that leads out of the folder")
        elif not _is_text(path.relative_to(root).as_posix()):
            skip(path, "has a name that is not UTF-8")
        else:
            yield path


def _is_text(name: str) -> bool:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:  # bytes of another encoding, which Python smuggles in as surrogates
        return False
    return True


def _embedded(path: Path, skip: OnSkip) -> _Embedded | None:
    """What the file's header says, None (and `skip` told why) where it cannot be decoded or holds no sound."""
    try:
        with soundfile.SoundFile(path) as file:
            first = file.read(1, dtype="float32")
            facts = {
                "duration_s": round(file.frames / file.samplerate, 3),
                "sampling_rate": file.samplerate,
                "channels": file.channels,
            }
            texts = {name: text.strip() for name, text in file.copy_metadata().items() if text and text.strip()}
    except (soundfile.LibsndfileError, OSError) as error:
        reason = getattr(error, "error_string", None) or str(error)
        skip(path, f"cannot be decoded ({reason.rstrip('.')}); convert it to FLAC or WAV")
        return None
    if len(first) == 0:
        skip(path, "holds no sound")
        return None
    return _Embedded(facts, texts)


def _track(track_id: str, row: TaggedTrack | None, embedded: _Embedded) -> TaggedTrack:
    """The row of the tags file comes first, what the file says of itself fills its gaps."""
    known = row or TaggedTrack(track_id=track_id, tags=())
    texts = embedded.texts
    genres = parse_tags(texts.get("genre", "").replace("/", ";").replace("[", "").replace("]", ""))
    date = texts.get("date", "")[:4]
    return replace(
        known,
        track_id=track_id,
        tags=clean_tags((*known.tags, *genres)),
        source=SOURCE,
        licence=known.licence or texts.get("license", ""),
        audio_path=track_id,
        title=known.title or texts.get("title"),
        artist=known.artist or texts.get("artist"),
        album=known.album or texts.get("album"),
        year=known.year if known.year is not None else int(date) if date.isascii() and date.isdigit() else None,
        extra=embedded.facts,
    )
