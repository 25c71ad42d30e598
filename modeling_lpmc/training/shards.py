"""A folder that `lpmc train prepare` made: its manifest, its shards by memory map, and whether they are what they were.

DIR/manifest.json                  written last; without it the folder is no data set
DIR/SPLIT/shard-00000.int16        clips end to end, mono, little-endian int16
DIR/SPLIT/shard-00000.arrow        one row a clip: where it lies, id, captions, tags
DIR/SPLIT/shard-00000.json         counts, rows left out, checksums (`sha256sum` agrees)
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from lpmc_errors import TableError
from lpmc_files import write_json
from modeling_lpmc.training.caption_texts import digest_of

MANIFEST = "manifest.json"
BEGUN = "preparation.json"  # what is being prepared, until the manifest says so
FORMAT = "lpmc-prepared-audio"
FORMAT_VERSION = 1
SAMPLE_BYTES = 2  # int16
HASH_BLOCK = 8 * 2**20  # bytes read at a time
CHECKED = "checked-shards.json"  # in the cache: shards whose files were copied since, and whose checksums held

CLIP_SCHEMA = pa.schema(
    [
        ("row", pa.int64()),  # of the split as it was read
        ("track_id", pa.string()),
        ("start", pa.int64()),  # samples from the beginning of the shard
        ("samples", pa.int64()),
        ("captions", pa.list_(pa.string())),
        ("columns", pa.list_(pa.int8())),  # which of the manifest's caption columns each caption is from
        ("tags", pa.list_(pa.string())),
    ]
)

Report = Callable[[str, int, int], None]  # what is being done, done, of


@dataclass(frozen=True)
class Shard:
    """What is known of one shard: rows `start` to `stop` of the split, of which `clips` are in it."""

    name: str
    start: int
    stop: int
    clips: int
    bytes: int
    sha256: str
    text_sha256: str
    modified_ns: int  # of the sound when it was written; another one has it read against its checksum


@dataclass(frozen=True)
class Manifest:
    """`manifest.json` of a prepared folder; `splits` is split -> {rows, sources, shards}."""

    folder: Path
    sampling_rate: int
    config: str | None
    captions: tuple[str, ...]
    tags: str | None
    splits: dict[str, Any]

    def shards(self, split: str) -> list[Shard]:
        """The shards of a split, in order."""
        return [Shard(**shard) for shard in self.splits[split]["shards"]]

    def left_out(self, split: str) -> list[tuple[int, str, str]]:
        """Rows that are in no shard: (row, track id, reason)."""
        rows = []
        for shard in self.shards(split):
            rows += read_left_out(self.folder / split / f"{shard.name}.json", shard)
        return rows


def read_left_out(path: Path, shard: Shard) -> list[tuple[int, str, str]]:
    """The rows that the tally of `shard` says are in no shard. Raises `TableError` where it is gone or damaged."""
    try:
        tally = json.loads(path.read_text(encoding="utf-8"))
        rows = [(int(row), str(track_id), str(reason)) for row, track_id, reason in tally["left_out"]]
    except FileNotFoundError:
        raise TableError(path, "the shard's counts are missing", _REPAIR) from None
    except (ValueError, KeyError, TypeError):
        rows = None
    if rows is None or len(rows) != shard.stop - shard.start - shard.clips:
        raise TableError(path, "the shard's counts are damaged", _REPAIR)
    return rows


def is_prepared(folder: Path) -> bool:
    """Was this folder made, or begun, by `lpmc train prepare`?"""
    return (folder / MANIFEST).is_file() or (folder / BEGUN).is_file()


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a prepared folder. Raises `TableError` for an unfinished, damaged or newer one."""
    remedy = "run `lpmc train prepare` again"
    try:
        values = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if values["format"] != FORMAT or values["version"] != FORMAT_VERSION:
            raise TableError(
                folder, f"is in format {values['format']} {values['version']}, not {FORMAT_VERSION}", remedy
            )
        names = ("sampling_rate", "config", "captions", "tags", "splits")
        given = {name: values[name] for name in names} | {"captions": tuple(values["captions"])}
        manifest = Manifest(folder, **given)
        for split in manifest.splits:
            manifest.shards(split)
        return manifest
    except FileNotFoundError:
        raise TableError(folder, "its preparation was not finished", f"{remedy} to finish it") from None
    except (ValueError, KeyError, TypeError) as error:
        raise TableError(folder / MANIFEST, "is damaged", remedy) from error


@dataclass(frozen=True)
class PreparedAudio:
    """The clips of a split in their shards; see `ClipAudio`. `shard_of` and `starts` say where each clip lies."""

    folder: Path
    sampling_rate: int
    lengths: np.ndarray
    starts: np.ndarray
    shard_of: np.ndarray
    files: tuple[np.ndarray, ...]

    def piece(self, clip: int, start: int, end: int) -> np.ndarray:
        """Samples `start` to `end` of a clip, int16, not to be written to."""
        first = int(self.starts[clip])
        return self.files[self.shard_of[clip]][first + start : first + end]

    @cached_property
    def hours(self) -> float:
        """Length of all clips together."""
        return float(self.lengths.sum()) / self.sampling_rate / 3600


def open_split(manifest: Manifest, split: str, cache: Path, report: Report) -> tuple[PreparedAudio, pa.Table]:
    """Map the shards of a split into memory: its audio, and a table of `CLIP_SCHEMA` in the same order.

    A shard that is not as long as it was is refused; one whose file was touched since is read against its checksum,
    once. Raises `TableError` naming the shard.
    """
    shards = manifest.shards(split)
    identity = digest_of([[shard.sha256, shard.text_sha256] for shard in shards])
    folder = cache / f"prepared-{identity}"
    _check(manifest, split, shards, folder / CHECKED, report)
    tables = [_clips(manifest.folder / split / f"{shard.name}.arrow") for shard in shards]
    table = pa.concat_tables(tables)
    files = [
        np.memmap(manifest.folder / split / f"{shard.name}.int16", "<i2", "r") if shard.bytes else np.zeros(0, "<i2")
        for shard in shards
    ]
    numbers = np.repeat(np.arange(len(shards), dtype=np.int32), [len(own) for own in tables])
    audio = PreparedAudio(
        folder, manifest.sampling_rate, table["samples"].to_numpy(), table["start"].to_numpy(), numbers, tuple(files)
    )
    return audio, table


def _clips(path: Path) -> pa.Table:
    with pa.memory_map(str(path)) as source:
        return pa.ipc.open_file(source).read_all()


def _check(manifest: Manifest, split: str, shards: list[Shard], notes: Path, report: Report) -> None:
    try:
        held = json.loads(notes.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        held = {}
    touched = {}
    for shard in shards:
        path = manifest.folder / split / f"{shard.name}.int16"
        _check_size(path, shard)
        _check_hash(path.with_suffix(".arrow"), shard.text_sha256)
        modified = path.stat().st_mtime_ns
        if modified not in (shard.modified_ns, held.get(shard.name)):
            touched[path] = shard
    for number, (path, shard) in enumerate(touched.items()):
        report("checking shards that were copied or changed", number, len(touched))
        _check_hash(path, shard.sha256)
        held[shard.name] = path.stat().st_mtime_ns
    if touched:
        write_json(notes, held)


def verify(folder: Path, report: Report) -> tuple[int, list[str]]:
    """Read every shard of a prepared folder against its checksums: how many were read, and what is wrong with which.

    Raises `TableError` when the folder has no manifest.
    """
    manifest = read_manifest(folder)
    shards = [(split, shard) for split in manifest.splits for shard in manifest.shards(split)]
    faults = []
    for number, (split, shard) in enumerate(shards):
        report("reading shards", number, len(shards))
        path = folder / split / f"{shard.name}.int16"
        for check in (
            lambda path=path, shard=shard: _check_size(path, shard),
            lambda path=path, shard=shard: _check_hash(path, shard.sha256),
            lambda path=path, shard=shard: _check_hash(path.with_suffix(".arrow"), shard.text_sha256),
            lambda path=path, shard=shard: read_left_out(path.with_suffix(".json"), shard),
        ):
            try:
                check()
            except TableError as error:
                faults.append(str(error))
                break
    report("reading shards", len(shards), len(shards))
    return len(shards), faults


def _check_size(path: Path, shard: Shard) -> None:
    size = path.stat().st_size if path.is_file() else None
    if size != shard.bytes:
        said = "is missing" if size is None else f"has {size} bytes instead of {shard.bytes}"
        raise TableError(path, f"the shard {said}", _REPAIR)


def _check_hash(path: Path, expected: str) -> None:
    if not path.is_file():
        raise TableError(path, "the shard is missing", _REPAIR)
    if sha256_of(path) != expected:
        raise TableError(path, "the shard is not what was written: its checksum differs", _REPAIR)


_REPAIR = "restore it, or delete it and run the same `lpmc train prepare` again, which makes it anew"


def sha256_of(path: Path) -> str:
    """The checksum of a file, as `sha256sum` prints it."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(HASH_BLOCK):
            digest.update(block)
    return digest.hexdigest()


__all__ = [
    "BEGUN",
    "CLIP_SCHEMA",
    "FORMAT",
    "FORMAT_VERSION",
    "MANIFEST",
    "Manifest",
    "PreparedAudio",
    "Shard",
    "is_prepared",
    "open_split",
    "read_left_out",
    "read_manifest",
    "sha256_of",
    "verify",
]
