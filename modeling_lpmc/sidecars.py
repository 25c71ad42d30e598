"""The caption files that text-to-music trainers read, each by the rule of its reader.

    acestep            `<stem>.caption.txt`   (a plain `<stem>.txt` is the lyrics there, and is never written)
    audiocraft         `<stem>.json`, its `MusicInfo`; beside the audio, where its data set looks for it
    stable-audio       `<stem>.json` with the prompt, and `custom_metadata.py`, the module that its configuration names
    musicgen-trainer   `<stem>.txt`
    srt                `<stem>.srt`: the segments as subtitles
    hf                 `metadata.jsonl`, for `load_dataset("audiofolder")`; in the folder of the audio
    jsonl, csv         `captions.jsonl` (with segments), `captions.csv`: one line a track

`<stem>.txt` is the lyrics to one trainer and the caption to another, so a format is named and never guessed. What is
not known (a title, an artist, a tempo) is left out or null. A file that exists is kept unless it is to be replaced.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lpmc_errors import UsageError
from lpmc_files import write_text
from modeling_lpmc.captioner import CaptionSegment, TrackCaption

BESIDE = {  # formats with one file a track, and what takes the place of the audio's suffix
    "acestep": ".caption.txt",
    "audiocraft": ".json",
    "stable-audio": ".json",
    "musicgen-trainer": ".txt",
    "srt": ".srt",
}
TABLES = {"hf": "metadata.jsonl", "jsonl": "captions.jsonl", "csv": "captions.csv"}  # one file for all
FORMATS = (*BESIDE, *TABLES)
WITH_AUDIO = ("audiocraft", "hf")  # their readers look beside the audio and nowhere else
PROMPT_MODULE = "custom_metadata.py"
FACTS = ("bpm", "key", "loudness_lufs")  # of the columns of tables; empty where nothing was found or asked for
CSV_COLUMNS = ("path", "duration", "caption", *FACTS)

PROMPT_MODULE_TEXT = '''"""Gives stable-audio-tools the prompt of each file: its `custom_metadata_module`."""

import json
from pathlib import Path

FOLDER = Path(__file__).parent


def get_custom_metadata(info, audio):
    """The prompt that stands in the JSON file beside this module, at the audio's path in its data set."""
    sidecar = (FOLDER / info["relpath"]).with_suffix(".json")
    if not sidecar.is_file():
        return {"__reject__": True}
    return {"prompt": json.loads(sidecar.read_text(encoding="utf-8"))["prompt"]}
'''


@dataclass(frozen=True)
class Layout:
    """Where the files of one run go: `root` is the folder of the audio, `output` another folder or None for beside."""

    format: str
    root: Path
    output: Path | None = None

    @property
    def folder(self) -> Path:
        """The folder that holds what is written."""
        return self.root if self.output is None else self.output

    def sidecar(self, audio: Path) -> Path:
        """The file of one track. Below `output` it has the track's place below `root`."""
        return (self.folder / audio.relative_to(self.root)).with_suffix(BESIDE[self.format])

    @property
    def table(self) -> Path:
        """The file of all tracks."""
        return self.folder / TABLES[self.format]


def plan_layout(name: str, root: Path, output: Path | None, tracks: Sequence[Path]) -> Layout:
    """Check what can be known before anything is captioned.

    Raises `UsageError` for an unknown format, for `output` with a reader that looks beside the audio, for a folder
    where a file is, and for two tracks that would share one file (`song.mp3` and `song.wav`).
    """
    if name not in FORMATS:
        raise UsageError(f"format {name!r}", "is unknown", f"use {', '.join(FORMATS)}")
    if output is not None and name in WITH_AUDIO:
        raise UsageError(f"format {name}", "is read beside the audio only", "leave --output out")
    if output is not None and output.exists() and not output.is_dir():
        raise UsageError(output, "is a file", f"name a folder for the files of format {name}")
    layout = Layout(name, root, output)
    if name in BESIDE:
        owner: dict[Path, Path] = {}
        for track in tracks:
            sidecar = layout.sidecar(track)
            if sidecar in owner:
                both = f"{owner[sidecar]} and {track}"
                raise UsageError(sidecar, f"would hold the caption of two files, {both}", "rename or move one of them")
            owner[sidecar] = track
    return layout


def write_sidecar(layout: Layout, result: TrackCaption) -> Path:
    """Write the file of one track atomically and return its path. Raises `DiskError`."""
    target = layout.sidecar(Path(result.path))
    write_text(target, _sidecar_text(layout.format, result))
    return target


def check_prompt_module(layout: Layout) -> None:
    """Raise `UsageError` where a `custom_metadata.py` stands that is not the one written here."""
    target = layout.folder / PROMPT_MODULE
    if target.exists() and target.read_bytes() != PROMPT_MODULE_TEXT.encode():
        remedy = "name another folder with --output, or --overwrite it"
        raise UsageError(target, "is there and does not give stable-audio-tools the prompts written here", remedy)


def write_prompt_module(layout: Layout) -> None:
    """Write what stable-audio-tools needs beside the prompts, once for all. Raises `DiskError`."""
    write_text(layout.folder / PROMPT_MODULE, PROMPT_MODULE_TEXT)


def read_sidecar(name: str, path: Path) -> str:
    """The caption in a file of the format `name`, as its trainer reads it. Raises `ValueError` where there is none."""
    text: Any = path.read_text(encoding="utf-8")
    if name in ("audiocraft", "stable-audio"):
        found = json.loads(text)
        key = "description" if name == "audiocraft" else "prompt"
        text = found.get(key) if isinstance(found, dict) else None
    elif name == "srt":
        text = " ".join(line for line in text.splitlines() if line and not line.isdigit() and " --> " not in line)
    if not isinstance(text, str) or not text.strip():
        raise ValueError("holds no caption")
    return text.strip()


def table_row(layout: Layout, result: TrackCaption) -> dict[str, Any]:
    """The line of one track. Paths are those below the folder of the audio, with slashes."""
    path = Path(result.path).relative_to(layout.root).as_posix()
    whole = result.to_dict()
    measured = whole.get("facts") or {}
    facts = {name: measured.get(name) for name in FACTS}
    if layout.format == "hf":
        return {"file_name": path, "caption": result.caption, "duration": result.duration, **facts}
    row: dict[str, Any] = {"path": path, "duration": result.duration, "caption": result.caption, **facts}
    if layout.format == "jsonl":
        row["segments"] = whole["segments"]
    return row


def row_path(row: Mapping[str, Any]) -> str:
    """The path that `table_row` wrote."""
    return str(row["file_name"] if "file_name" in row else row["path"])


def rows_of_files(layout: Layout, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows whose audio file is still there: for one that is not, `load_dataset("audiofolder")` fails as a whole."""
    return [row for row in rows if (layout.root / row_path(row)).is_file()]


def read_table(layout: Layout) -> list[dict[str, Any]]:
    """The rows of a table of an earlier run; none where there is no file.

    Raises `UsageError` for a file that is no such table: replacing it would lose what is in it.
    """
    if not layout.table.exists():
        return []
    try:
        text = layout.table.read_text(encoding="utf-8")
        if layout.format == "csv":
            rows: list[dict[str, Any]] = list(csv.DictReader(io.StringIO(text, newline="")))
        else:
            rows = [json.loads(line) for line in text.split("\n") if line.strip()]
        if not all(isinstance(row.get("caption"), str) and row_path(row) for row in rows):
            raise ValueError("a line without a path or a caption")
    except (ValueError, KeyError, AttributeError, csv.Error) as error:
        remedy = "move it away, or --overwrite it"
        raise UsageError(layout.table, f"is no table of format {layout.format} ({error})", remedy) from error
    return rows


def write_table(layout: Layout, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the rows atomically, in the order of their paths. Raises `DiskError`."""
    ordered = sorted(rows, key=row_path)
    if layout.format == "csv":
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, CSV_COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(ordered)
        write_text(layout.table, text.getvalue())
    else:
        write_text(layout.table, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ordered))


def _sidecar_text(name: str, result: TrackCaption) -> str:
    if name == "srt":
        return subtitles(result.segments)
    if name == "audiocraft":  # the fields of its MusicInfo; what is not known is null
        unknown = ("artist", "key", "bpm", "genre", "moods", "keywords", "name", "instrument")
        found: dict[str, Any] = {"title": None, "description": result.caption} | dict.fromkeys(unknown)
        if result.facts is not None:
            found["key"] = result.facts.key
            found["bpm"] = None if result.facts.bpm is None else round(result.facts.bpm)  # it reads a whole number
        return json.dumps(found, ensure_ascii=False, indent=2) + "\n"
    if name == "stable-audio":
        return json.dumps({"prompt": result.caption}, ensure_ascii=False, indent=2) + "\n"
    return result.caption + "\n"


def subtitles(segments: Sequence[CaptionSegment]) -> str:
    """Segments as SubRip text. A segment that overlaps the next one ends where that begins: one line at a time."""
    blocks = []
    for number, segment in enumerate(segments):
        following = segments[number + 1].start if number + 1 < len(segments) else segment.end
        end = min(segment.end, max(following, segment.start))
        blocks.append(f"{number + 1}\n{_stamp(segment.start)} --> {_stamp(end)}\n{segment.text}\n")
    return "\n".join(blocks)


def _stamp(seconds: float) -> str:
    milliseconds = round(seconds * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{rest // 1000:02},{rest % 1000:03}"
