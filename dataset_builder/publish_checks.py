"""What must not leave this machine: audio without permission, folders, access keys, and text outside the layouts.

Everything is read from the files that will be sent, column by column in Arrow: 514,000 rows with four captions take
some seconds. `build.json` is checked and never believed.
"""

from __future__ import annotations

import base64
import json
import os
import re
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dataset_builder.lp_musiccaps import LAYOUTS, PUBLISHED_INSTRUCTIONS, features_of
from hub_cards.facts import shard_files
from hub_cards.licences import audio_publishable, source_licence
from lpmc_errors import LpmcError

ROWS_PER_BATCH = 5_000  # rows looked at together, about 10 MB of captions and provenance
SHOWN = 5  # kinds of audio that a refusal lists before it says how many more there are

_ID_COLUMNS = ("track_id", "fname")  # the layouts' names of the track's id
_PATH_COLUMNS = ("path", "audio")  # hold nothing but a path that starts in the audio root
_OWN_COLUMNS = ("provenance", "scores")  # written by this project: an absolute path there is never part of a text
_KNOWN_METADATA = ("ARROW:schema", "content_defined_chunking", "huggingface", "pandas")
_OWN_METADATA = "lpmc."

# The patterns run in RE2 over whole columns and in Python's `re` over single texts, so they use what both know.
_START = r"(?:^|[^\w/.~])"
# In a title or a caption a slash is common (`r/b`, `4/4`, ` /90s/00s`): there only the folders of real machines count.
_MACHINE_FOLDER = (
    _START + r"/(?:home|Users|root|tmp|mnt|media|var|opt|srv|data|usr|etc|private|Volumes|scratch|work|workspace)/[\w.]"
    r"|" + _START + r"[A-Za-z]:[\\/]\w[\w .-]*[\\/]|\bfile://"
)
_ANY_ABSOLUTE = r"(?:^|[^\w/.:~])/(?:[\w.@-]+/)+[\w.@-]|" + _START + r"[A-Za-z]:\\\w|\bfile:/"
_LEADS_OUT = r"^(?:[/\\]|~/|[A-Za-z]:[\\/]|file:)|(?:^|[/\\])\.\.(?:[/\\]|$)"
_ACCESS_KEY = (
    r"\b(?:hf_[A-Za-z0-9]{20}|(?:sk|pk|rk)-[A-Za-z0-9_-]{16}|api_org_[A-Za-z0-9]{20}|AKIA[A-Z0-9]{16}"
    r"|gh[pousr]_[A-Za-z0-9]{30}|AIza[A-Za-z0-9_-]{30})"
)
_SECRET_NAME = re.compile(r"TOKEN|SECRET|PASSW|CREDENTIAL|API_?KEY|ACCESS_?KEY|_KEY$|_PAT$", re.IGNORECASE)


class PrivateContentError(LpmcError):
    """The data set holds something that must not be published."""


@dataclass(frozen=True)
class _Patterns:
    """What is looked for, by kind of text. `secrets` maps a value that is a key here to where it was found."""

    free: str
    own: str
    path: str
    secrets: Mapping[str, str]

    def of(self, column: str) -> str:
        if column in _PATH_COLUMNS:
            return self.path
        return self.own if column in _OWN_COLUMNS else self.free

    def find(self, pattern: str, text: str) -> str | None:
        """What is wrong with a text, in words that do not repeat a key; None when nothing is."""
        for value, origin in self.secrets.items():
            if value in text:
                return f"holds the value of {origin}"
        key = re.search(_ACCESS_KEY, text, re.ASCII)
        if key:
            return f"holds what looks like an access key ({key.group()[:5]}...)"
        found = re.search(pattern, text, re.ASCII)
        if found is None:
            return None
        shown = text[found.start() :].strip()[:60]
        return f"holds a path of a machine: {shown!r}"


def check_audio_licences(directory: Path, configs: list[str]) -> None:
    """Refuse a public push of audio that nobody may redistribute, from what the Parquet rows themselves say.

    Reads the columns `provenance.source` and `provenance.licence` and whether the row has audio, never audio bytes.
    Raises `PrivateContentError` that names sources, licences and rows.
    """
    for config in configs:
        bound = {
            kind: rows
            for kind, rows in sorted(audio_by_licence(directory / config).items())
            if not audio_publishable(*kind)
        }
        if bound:
            shown = [
                f"{rows} of {source_licence(source).title} ({licence or 'no licence stated'})"
                for (source, licence), rows in list(bound.items())[:SHOWN]
            ]
            more = f" and {len(bound) - SHOWN} more kinds" if len(bound) > SHOWN else ""
            raise PrivateContentError(
                directory / config,
                f"carries the audio of {sum(bound.values())} track(s) that may not be redistributed: "
                f"{', '.join(shown)}{more}",
                "state your own audio's licence with `lpmc tracks ... --set licence=...` and build again, leave such "
                "audio out with `lpmc build ... --audio publishable`, or push with --private",
            )


def audio_by_licence(directory: Path) -> Counter[tuple[str, str]]:
    """(source, licence) -> rows of one configuration that carry audio."""
    counts: Counter[tuple[str, str]] = Counter()
    for path in _parquet(directory):
        with pq.ParquetFile(path) as table:
            if "audio" not in table.schema_arrow.names:
                continue
            columns = ["provenance.source", "provenance.licence", "audio.path"]
            for batch in _batches(table, columns):
                if "provenance" not in batch.schema.names:  # nothing says that it may be passed on
                    counts["", ""] += batch.num_rows - batch.column("audio").null_count
                    continue
                made = batch.column("provenance")
                rows = pa.table({name: made.field(name) for name in ("source", "licence")})
                rows = rows.filter(pc.is_valid(batch.column("audio")))
                for row in rows.group_by(["source", "licence"]).aggregate([([], "count_all")]).to_pylist():
                    counts[row["source"] or "", row["licence"] or ""] += row["count_all"]
    return counts


def check_private_content(directory: Path, files: list[str]) -> None:
    """Refuse to publish paths of this machine, access keys, and columns or metadata that no build writes.

    `files` are relative to `directory`. Looks at every text column, at the metadata of the Parquet files, and at the
    card, the licences and the JSON beside them. Raises `PrivateContentError` with file, track and column.
    """
    patterns = _patterns(directory)
    for name in files:
        path = directory / name
        if path.suffix == ".parquet":
            with pq.ParquetFile(path) as table:
                _check_columns(path, table.schema_arrow, _instructions(table))
                _check_metadata(path, table, patterns)
                _check_texts(path, table, patterns)
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        if path.suffix == ".json":
            for part in _strings(json.loads(text)):
                _refuse(path, "", patterns.find(patterns.own, part))
        else:
            _refuse(path, "", patterns.find(patterns.free, text))


def _refuse(path: Path, where: str, problem: str | None) -> None:
    if problem:
        raise PrivateContentError(path, f"{where}{problem}", "correct the table it comes from and build again")


def _patterns(directory: Path) -> _Patterns:
    secrets = dict(_secret_values())
    home = os.path.expanduser("~")
    folders = {home, os.getcwd(), str(directory.resolve()), str(directory.resolve().parent), tempfile.gettempdir()}
    folders = {folder.rstrip("/\\") for folder in folders if len(folder.strip("/\\.")) > 1}
    parts = [_ACCESS_KEY, *(re.escape(value) for value in secrets)]
    parts += [f"{_START}{re.escape(folder)}(?:[/\\\\]|$)" for folder in sorted(folders)]
    return _Patterns(
        free="|".join([*parts, _MACHINE_FOLDER]),
        own="|".join([*parts, _ANY_ABSOLUTE, _MACHINE_FOLDER]),
        path="|".join([*parts, _LEADS_OUT]),
        secrets=secrets,
    )


def _secret_values() -> Iterator[tuple[str, str]]:
    """Values that open something, and where this process has them from."""
    from huggingface_hub import get_token

    stored = get_token()
    if stored:
        yield stored, "your Hugging Face token"
    for name, value in os.environ.items():
        value = value.strip()
        # `none`, `EMPTY` and the like stand where a local server wants no key, and are words of captions.
        long_enough = len(value) >= 16 or (len(value) >= 8 and re.search(r"\d", value)) or value.startswith("hf_")
        if _SECRET_NAME.search(name) and long_enough:
            yield value, f"the environment variable {name}"


def _parquet(directory: Path) -> list[Path]:
    return [path for files in shard_files(directory).values() for path in files]


def _instructions(table: pq.ParquetFile) -> list[str]:
    """The instructions that the provenance names: only they, and the published four, may have a caption column."""
    found: set[str] = set()
    if "provenance" in table.schema_arrow.names:
        for batch in _batches(table, ["provenance.captions.list.element.instruction"]):
            for leaf in _leaves(batch.column(0)):
                found.update(name for name in pc.unique(leaf).to_pylist() if name)
    return sorted(found)


def _check_columns(path: Path, schema: pa.Schema, instructions: list[str]) -> None:
    """Every column must be one of a layout's, with its type: anything else is text that nobody has thought about."""
    known: dict[str, list[pa.DataType]] = {}
    for layout in LAYOUTS:
        names = [name for name in instructions if re.fullmatch(r"[a-z][a-z0-9_]*", name)]
        for field in features_of(layout, [*PUBLISHED_INSTRUCTIONS, *names], audio=True).arrow_schema:
            known.setdefault(field.name, []).append(field.type)
    for field in schema:
        if field.name not in known:
            raise PrivateContentError(path, f"has the column {field.name!r}, which no layout has", "build it again")
        if field.type not in known[field.name]:
            raise PrivateContentError(
                path, f"column {field.name!r} holds {field.type}, expected {known[field.name][0]}", "build it again"
            )


def _check_metadata(path: Path, table: pq.ParquetFile, patterns: _Patterns) -> None:
    for raw_name, raw in (table.metadata.metadata or {}).items():
        name = raw_name.decode(errors="replace")
        if name not in _KNOWN_METADATA and not name.startswith(_OWN_METADATA):
            raise PrivateContentError(path, f"its metadata has {name!r}, which no build writes", "build it again")
        # The Arrow schema repeats the metadata of the table and of each field, where a glance at the footer ends.
        content = base64.b64decode(raw) if name == "ARROW:schema" else raw
        text = content.decode("utf-8", errors="replace")
        _refuse(path, f"its metadata {name!r} ", patterns.find(patterns.free, text))


def _check_texts(path: Path, table: pq.ParquetFile, patterns: _Patterns) -> None:
    names = [name for name in table.schema_arrow.names if name != "audio"]
    if "audio" in table.schema_arrow.names:
        names.append("audio.path")
    first_row = 0
    for batch in _batches(table, names):
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            pattern = patterns.of(name)
            if any(pc.any(pc.match_substring_regex(leaf, pattern)).as_py() for leaf in _leaves(column)):
                _refuse_row(path, batch, name, first_row, patterns)
        first_row += batch.num_rows


def _refuse_row(path: Path, batch: pa.RecordBatch, name: str, first_row: int, patterns: _Patterns) -> None:
    for number, value in enumerate(batch.column(name).to_pylist()):
        for text in _strings(value):
            problem = patterns.find(patterns.of(name), text)
            if problem:
                ids = [batch.column(key)[number].as_py() for key in _ID_COLUMNS if key in batch.schema.names]
                who = f"track {ids[0]!r}" if ids else f"row {first_row + number}"
                _refuse(path, f"{who}, column {name!r}: ", problem)
    _refuse(path, f"column {name!r}: ", "holds what looks like a path of a machine or an access key")


def _batches(table: pq.ParquetFile, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """The rows, some row groups at a time: asked for all at once, pyarrow keeps 400 MB of a 400 MB file in memory."""
    groups: list[int] = []
    rows = 0
    for group in range(table.num_row_groups):
        groups.append(group)
        rows += table.metadata.row_group(group).num_rows
        if rows >= ROWS_PER_BATCH or group == table.num_row_groups - 1:
            yield from table.iter_batches(batch_size=ROWS_PER_BATCH, row_groups=groups, columns=columns)
            groups, rows = [], 0


def _leaves(array: pa.Array) -> Iterator[pa.Array]:
    """The arrays of text inside a column, however deep."""
    if pa.types.is_struct(array.type):
        for part in array.flatten():
            yield from _leaves(part)
    elif pa.types.is_list(array.type) or pa.types.is_large_list(array.type):
        yield from _leaves(array.flatten())
    elif pa.types.is_string(array.type) or pa.types.is_large_string(array.type):
        yield array


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name, part in value.items():
            yield str(name)
            yield from _strings(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _strings(part)
