"""JamendoMaxCaps (Roy et al. 2025, arXiv 2502.07461): 362,000 instrumental tracks of Jamendo, captioned by a machine.

Read are the text files of the data set amaai-lab/JamendoMaxCaps on the Hub, in one folder or one below it:

    YYYY-MM-DD.jsonl              a track a line, as Jamendo's API answers: names, licence, `musicinfo` with the tags
    final_caption30sec.jsonl      a caption a line: {"start_time", "end_time", "caption", "id"}; of windows of 30 s
    caption30sec.jsonl            its older form, read where the other is not there

Tags are those that the artists gave: `musicinfo.tags.genres`, `.instruments`, `.vartags`, in this order, where an
empty object may be written `[]`. The other fields of `musicinfo` (speed, language, ...) are in `facts` and are no tags.
The same track stands in several of the dated files; its first line counts. Either kind of file is enough: a track
without a line there has no tags, one without captions no references.

**The captions are a language model's, and claim keys and tempos that nobody measured** ("F# minor", "84 BPM"). They
never become tags; they are `reference_captions` in the order of the file, with their windows in
`facts.caption_windows` (seconds) and `facts.captions_by_machine`.

Ids are kept as published. The authors say that the corpus has nothing to do with MTG-Jamendo; the ids look like
Jamendo's own numbers, which MTG-Jamendo and Song Describer use too, so that a track may well be in both.

The audio is in Parquet shards (`data/`), where its name is `ID.mp3`; the script of the data card writes it to
`mp3_files/ID.mp3`. Neither is read. The only split is `train`.

Licences: `license_ccurl` of each track, empty where it has none; the card of the data set says CC BY-SA 3.0 (once
CC BY-NC 3.0), which the tracks' own licences contradict.

Not established, for want of the files themselves: whether every track has its `license_ccurl` and `musicinfo`, whether
lines of one track lie together (they need not), and how many captions there are.
"""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from dataset_builder.tracks import TaggedTrack, sort_out_tags
from lpmc_errors import TableError

from .bad_rows import OnSkip, leave_out
from .table_rows import row_name

SOURCE = "jamendo_max_caps"
SPLIT = "train"
CAPTION_FILES = ("final_caption30sec.jsonl", "caption30sec.jsonl")
TAG_KINDS = ("genres", "instruments", "vartags")
ATTRIBUTES = ("vocalinstrumental", "lang", "gender", "acousticelectric", "speed")  # of `musicinfo`, beside the tags
EXTRACTED = "mp3_files"  # where the data card's script writes the audio
ADDRESS = "https://huggingface.co/datasets/amaai-lab/JamendoMaxCaps"
MAX_LINE = 1 << 20  # bytes; a track has about 1,500, a caption about 500
MAX_SECONDS = 1e7  # of a duration; JSON has numbers that no float can hold

_METADATA_NAME = re.compile(r"\d{4}-\d{2}-\d{2}\.jsonl", re.ASCII)
_ID = re.compile(r"\w{1,40}", re.ASCII)  # it becomes the name of a file
_YEAR = re.compile(r"(1[5-9]\d\d|20\d\d)-", re.ASCII)
_ESCAPE = b"\\u"  # may stand for NUL or half a character, which no Parquet file can hold


class _Caption(NamedTuple):  # made by the million, which a frozen dataclass is slow at
    track_id: str
    start: float  # seconds
    end: float
    text: str


def read_jamendo_max_caps(root: Path, *, on_skip: OnSkip | None = None) -> Iterator[TaggedTrack]:
    """The tracks of JamendoMaxCaps in the order of the dated files, then those that only have captions.

    `root` is the folder of the JSON Lines files, one that holds it, or a single one of them. `audio_path` is relative
    to `root` where the audio lies in `mp3_files` there, else the bare name of the file. `on_skip(item, reason)` is
    told of every line that is left out; without it such a line raises. Raises `TableError` where no file is found or
    one is cut off, not UTF-8, or no JSON Lines.
    """
    metadata, captions_file = _files(root)
    extracted = root if root.is_dir() else root.parent
    folder = f"{EXTRACTED}/" if (extracted / EXTRACTED).is_dir() else ""
    seen: set[str] = set()
    left_out: set[str] = set()
    with _Captions(captions_file, on_skip) as captions:
        for path in metadata:
            for _, number, row in _objects(path, on_skip):
                track_id = ""
                try:
                    track_id = _id(row)
                    if track_id in seen:
                        continue
                    track = _track(track_id, row, captions.of(track_id), folder)
                except ValueError as error:
                    left_out.add(track_id)
                    leave_out(on_skip, row_name(path, number), str(error), "download the file again")
                    continue
                seen.add(track_id)
                yield track
        for track_id in captions.track_ids():
            if track_id not in seen and track_id not in left_out:
                seen.add(track_id)
                yield _track(track_id, {}, captions.of(track_id), folder)
    if not seen:
        raise TableError(root, "has no track that can be used", f"download the files again from {ADDRESS}")


def _files(root: Path) -> tuple[list[Path], Path | None]:
    """The dated files, by date, and the file of captions."""
    if root.is_file():
        is_captions = root.name in CAPTION_FILES
        return ([], root) if is_captions else ([root], None)
    if not root.is_dir():
        raise TableError(root, "no such file or folder", f"give the folder of the files of {ADDRESS} with --root")
    below = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    metadata: list[Path] = []
    captions: Path | None = None
    for folder in (root, *below):
        metadata = metadata or sorted(path for path in folder.glob("*.jsonl") if _METADATA_NAME.fullmatch(path.name))
        present = [folder / name for name in CAPTION_FILES if (folder / name).is_file()]
        captions = captions or (present[0] if present else None)
    if not metadata and captions is None:
        problem = f"has neither YYYY-MM-DD.jsonl files nor {' or '.join(CAPTION_FILES)}"
        raise TableError(root, problem, f"download them from {ADDRESS}")
    return metadata, captions


def _objects(path: Path, on_skip: OnSkip | None) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """The objects of a JSON Lines file with the byte each begins at and its line; what is no object is left out.

    Raises `TableError` where the file is empty, not UTF-8, or ends in the middle of a line: then lines are missing.
    """
    with path.open("rb") as file:
        start, number = 0, 0
        while raw := file.readline(MAX_LINE + 1):
            number += 1
            if len(raw) > MAX_LINE:
                raise TableError(row_name(path, number), f"is longer than {MAX_LINE} bytes", "download the file again")
            try:
                yield start, number, _object(raw)
            except UnicodeDecodeError as error:
                problem = f"is not UTF-8 (byte 0x{error.object[error.start]:02x})"
                raise TableError(row_name(path, number), problem, "download the file again") from error
            except ValueError as error:
                if not raw.endswith(b"\n"):
                    raise TableError(path, f"ends in the middle of line {number}", "download the file again") from error
                if raw.strip():
                    leave_out(on_skip, row_name(path, number), str(error), "download the file again")
            start += len(raw)
    if number == 0:
        raise TableError(path, "is empty", "download the file again")


def _object(raw: bytes) -> dict[str, Any]:
    """One line as an object. Raises `ValueError` for anything else, `UnicodeDecodeError` among them."""
    text = raw.decode("utf-8-sig" if raw.startswith(b"\xef\xbb\xbf") else "utf-8")
    try:
        value = _DECODER.decode(text)
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"is no valid JSON ({error})") from error
    if not isinstance(value, dict):
        raise ValueError(f"holds {type(value).__name__}, expected an object")
    if _ESCAPE in raw and not _is_plain(value):
        raise ValueError("holds a NUL or half a character")
    return value


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")


_DECODER = json.JSONDecoder(parse_constant=_no_constant)  # `json.loads` would make one for every line


def _is_plain(value: dict[str, Any]) -> bool:
    text = json.dumps(value, ensure_ascii=False).replace("\\\\", "")  # a backslash in the text is written as two
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\\u0000" not in text


def _id(row: dict[str, Any]) -> str:
    value = row.get("id")
    track_id = str(value) if isinstance(value, (str, int)) and not isinstance(value, bool) else ""
    if not _ID.fullmatch(track_id):
        raise ValueError(f"has the id {str(value)[:60]!r}, expected a number")
    return track_id


def _track(track_id: str, row: dict[str, Any], captions: list[_Caption], folder: str) -> TaggedTrack:
    """The track of a line of metadata, empty for a track that has none. Raises `ValueError` for wrong types."""
    musicinfo = _mapping(row, "musicinfo")
    published = _mapping(musicinfo, "tags")
    by_kind = {kind: _words(published, kind) for kind in TAG_KINDS}
    kept, dropped = sort_out_tags(tag for tags in by_kind.values() for tag in tags)
    facts: dict[str, Any] = {kind: tags for kind, tags in by_kind.items() if tags}
    facts |= {name: value for name in ATTRIBUTES if (value := _text(musicinfo, name))}
    if captions:
        facts["captions_by_machine"] = True
        facts["caption_windows"] = [[each.start, each.end] for each in captions]
    extra: dict[str, Any] = {name: value for name in ("artist_id", "album_id") if (value := _text(row, name))}
    duration = _seconds(row, "duration")
    if duration is not None:
        extra["duration"] = duration
    if facts:
        extra["facts"] = facts
    year = _YEAR.match(_text(row, "releasedate"))
    return TaggedTrack(
        track_id=track_id,
        tags=kept,
        dropped_tags=dropped,
        split=SPLIT,
        source=SOURCE,
        licence=_text(row, "license_ccurl"),
        audio_path=f"{folder}{track_id}.mp3",
        reference_captions=tuple(each.text for each in captions),
        title=_text(row, "name") or None,
        artist=_text(row, "artist_name") or None,
        album=_text(row, "album_name") or None,
        year=int(year[1]) if year else None,
        extra=extra,
    )


def _mapping(row: dict[str, Any], name: str) -> dict[str, Any]:
    """An object in a row, empty where it is missing or an empty list (which is how the API writes an empty one)."""
    value = row.get(name)
    if not value:
        return {}
    if not isinstance(value, dict):
        raise ValueError(f"has {name} {str(value)[:60]!r}, expected an object")
    return value


def _words(row: dict[str, Any], name: str) -> list[str]:
    value = row.get(name) or []
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        raise ValueError(f"has {name} {str(value)[:60]!r}, expected a list of words")
    return value


def _seconds(row: dict[str, Any], name: str) -> float | None:
    value = row.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < MAX_SECONDS:
        return None
    return float(value)


def _text(row: dict[str, Any], name: str) -> str:
    """A text or number as text, empty where there is none."""
    value = row.get(name)
    if value is None or value == []:
        return ""
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise ValueError(f"has {name} {str(value)[:60]!r}, expected a text")
    return str(value).strip()


class _Captions:
    """The captions of a file by track, wherever its lines stand: where each begins is remembered, 12 bytes a line."""

    def __init__(self, path: Path | None, on_skip: OnSkip | None) -> None:
        self._path = path
        self._on_skip = on_skip
        self._number: dict[str, int] = {}  # of a track, in the order of the file
        self._lines = np.empty(0, np.int64)  # where lines begin, ordered by track
        self._first = np.zeros(1, np.int64)  # of a track's lines
        self._file: BinaryIO | None = None

    def __enter__(self) -> _Captions:
        if self._path is None:
            return self
        tracks, starts = array("i"), array("q")
        for start, number, row in _objects(self._path, self._on_skip):
            try:
                caption = _caption(row)
            except ValueError as error:
                leave_out(self._on_skip, row_name(self._path, number), str(error), "download the file again")
                continue
            tracks.append(self._number.setdefault(caption.track_id, len(self._number)))
            starts.append(start)
        if starts:
            by_track = np.asarray(tracks)
            self._lines = np.asarray(starts)[np.argsort(by_track, kind="stable")]
            self._first = np.concatenate([[0], np.cumsum(np.bincount(by_track))])
        self._file = self._path.open("rb")
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def track_ids(self) -> Iterator[str]:
        """The tracks that have captions, in the order of the file."""
        return iter(self._number)

    def of(self, track_id: str) -> list[_Caption]:
        """The captions of a track in the order of the file, each window once."""
        place = self._number.get(track_id)
        if place is None or self._file is None:
            return []
        found: dict[tuple[float, float], _Caption] = {}
        for start in self._lines[self._first[place] : self._first[place + 1]].tolist():
            self._file.seek(start)
            caption = _caption(_object(self._file.readline()))
            if (caption.start, caption.end) in found:
                problem = f"repeats the caption of {track_id} at {caption.start:g} s"
                leave_out(self._on_skip, self._path, problem, "keep one of them")
                continue
            found[caption.start, caption.end] = caption
        return list(found.values())


def _caption(row: dict[str, Any]) -> _Caption:
    track_id = _id(row)
    start, end, text = _seconds(row, "start_time"), _seconds(row, "end_time"), row.get("caption")
    if start is None or end is None or start >= end:
        window = f"{row.get('start_time')!r} to {row.get('end_time')!r}"
        raise ValueError(f"has the window {window[:60]}, expected seconds")
    if not isinstance(text, str) or not text.strip():
        raise ValueError("has no caption")
    return _Caption(track_id, start, end, text.strip())
