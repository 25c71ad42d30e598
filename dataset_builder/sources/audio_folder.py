"""A folder of the user's audio files, with what is known of them.

Tags come from one file beside the audio, `tags.csv`, `tags.tsv` or `tags.jsonl` in the folder itself, with the columns
`file_name` (relative to the folder) and `tags`; further columns are those of the source `table`. The genres that are
embedded in a file (ID3v1, ID3v2, Vorbis comment, MP4, RIFF) are tags too; its title, artist, album and date describe
the track and are never tags. The name of the folder a file lies in is a tag only with `folder_as_tag`.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from dataset_builder.tracks import TaggedTrack, sort_out_tags
from lpmc_errors import AudioError, TableError

from .bad_rows import OnSkip, leave_out
from .embedded_tags import EmbeddedTags, read_embedded
from .table import recognised_columns, track_of
from .table_rows import read_rows, row_name

SOURCE = "audio_folder"
SIDECARS = ("tags.csv", "tags.tsv", "tags.jsonl")
# Endings that people give audio. Whether a file can be decoded shows when it is opened; one that cannot is reported.
_DECODED = (".wav", ".wave", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".aif", ".aiff", ".aifc", ".au", ".caf", ".w64")
_COMPRESSED = (".m4a", ".mp4", ".aac", ".wma", ".webm", ".ape", ".wv")
AUDIO_SUFFIXES = frozenset({*_DECODED, *_COMPRESSED})


def read_audio_folder(
    root: Path,
    *,
    folder_as_tag: bool = False,
    licence: str | None = None,
    split: str | None = None,
    on_skip: OnSkip | None = None,
) -> Iterator[TaggedTrack]:
    """A track for each audio file under `root`, sorted by path; the id is the POSIX path relative to `root`.

    `folder_as_tag` makes the name of a file's own folder its first tag; `licence` and `split` stand for the files of
    which neither the tags file nor, for the licence, they themselves say one. Hidden files and files of other kinds are
    passed over. `on_skip(path, reason)` is told of each audio file that is left out (cannot be decoded, empty, a link
    out of the folder, a name that is not text) and of each bad row of the tags file; without it, such files are passed
    over and a bad row raises. Raises `AudioError` where `root` is no folder or holds no audio that can be read,
    `TableError` for a tags file that cannot be used.
    """
    if not root.is_dir():
        raise AudioError(root, "no such folder of audio files", "give a folder with --root")
    skip: OnSkip = on_skip or (lambda path, reason: None)
    described = _sidecar(root, on_skip)
    found = 0
    for path in _audio_files(root, skip):
        track_id = path.relative_to(root).as_posix()
        row = described.pop(_same(track_id), None)
        try:
            embedded = read_embedded(path)
        except AudioError as error:
            skip(path, error.problem)
            continue
        found += 1
        folder = (path.parent.name,) if folder_as_tag and path.parent != root else ()
        track = _track(track_id, row, embedded, folder)
        yield replace(track, licence=track.licence or licence or "", split=track.split or split or "")
    for row in described.values():
        skip(root / row.track_id, "is named in the tags file but is no audio file in the folder")
    if not found:
        raise AudioError(root, "holds no audio files that can be read", "put WAV, FLAC, MP3, OGG or AIFF files there")


def _same(name: str) -> str:
    """File names as they compare: macOS stores accents decomposed, tables mostly hold them composed."""
    return unicodedata.normalize("NFC", name)


def _sidecar(root: Path, on_skip: OnSkip | None) -> dict[str, TaggedTrack]:
    """The rows of the tags file by file name; empty without one."""
    present = [root / name for name in SIDECARS if (root / name).is_file()]
    if len(present) > 1:
        names = " and ".join(path.name for path in present)
        raise TableError(root, f"has {names}, expected one tags file", "keep one of them")
    rows: dict[str, TaggedTrack] = {}
    for path in present:
        for number, row in read_rows(path, on_skip):
            columns = recognised_columns(tuple(row), "file_name", "tags")
            if not rows and not columns.keys() >= {"id", "tags"}:
                raise TableError(path, f"has the columns {', '.join(row)}", "it needs file_name and tags")
            try:
                # The file's own name says where the audio is, so that no other column is looked at for a path.
                track = track_of(row, {holds: name for holds, name in columns.items() if holds != "audio"})
                name = _same(track.track_id.replace("\\", "/").removeprefix("./"))
                if name in rows:
                    raise ValueError(f"names {name} a second time")
            except ValueError as error:
                leave_out(on_skip, row_name(path, number), str(error), "keep one good row a file")
                continue
            rows[name] = track
    return rows


def _audio_files(root: Path, skip: OnSkip) -> Iterator[Path]:
    """Audio files under `root`, sorted by path; links that lead out of it are reported instead."""
    inside = root.resolve()
    paths: list[Path] = []

    def unreadable(error: OSError) -> None:
        skip(Path(error.filename), f"cannot be read ({error.strerror})")

    for folder, subfolders, names in os.walk(root, onerror=unreadable):
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


def _track(track_id: str, row: TaggedTrack | None, embedded: EmbeddedTags, folder: tuple[str, ...]) -> TaggedTrack:
    """The row of the tags file comes first, what the file says of itself fills its gaps."""
    known = row or TaggedTrack(track_id=track_id, tags=())
    tags, dropped = sort_out_tags((*folder, *known.tags, *embedded.genres))
    return replace(
        known,
        track_id=track_id,
        tags=tags,
        source=SOURCE,
        licence=known.licence or embedded.licence,
        audio_path=track_id,
        title=known.title or embedded.title or None,
        artist=known.artist or embedded.artist or None,
        album=known.album or embedded.album or None,
        year=known.year if known.year is not None else embedded.year,
        extra={**known.extra, **embedded.facts},
        dropped_tags=(*known.dropped_tags, *dropped),
    )
