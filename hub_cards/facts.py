"""What a card is rendered from: how a configuration was made, and what its Parquet files really hold.

Rows and bytes are read from the Parquet footers every time; nobody types them in.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

MAKING_FILE = "build.json"  # beside the Parquet of each configuration: how it was made
PIPELINE_FILE = "pipeline.json"  # beside it: the run that made the captions, as `lpmc pseudo-caption` told it
SHARD_NAME = re.compile(r"(?P<split>\w+(?:\.\w+)*)-(?P<index>\d{5})-of-(?P<count>\d{5})\.parquet")
_SPLIT_ORDER = ("train", "valid", "validation", "test", "ood")


@dataclass(frozen=True)
class Making:
    """How one configuration was made. Counts are of captions unless the name says otherwise."""

    layout: str
    sources: dict[str, int] = field(default_factory=dict)  # source -> tracks
    licences: dict[str, int] = field(default_factory=dict)  # licence as the corpus names it -> tracks
    outcomes: dict[str, dict[str, int]] = field(default_factory=dict)  # instruction -> outcome -> captions
    template_captions: dict[str, int] = field(default_factory=dict)  # instruction -> captions that replaced an answer
    models: dict[str, int] = field(default_factory=dict)  # model that answered -> captions
    wordings: dict[str, int] = field(default_factory=dict)  # wording and its version -> captions
    tracks_without_captions: int = 0
    audio_embedded: int | None = None  # tracks; None for a text-only configuration
    without_audio: tuple[tuple[str, str], ...] = ()  # (track id, reason) where audio was asked for and cannot be had
    doubtful_audio: tuple[tuple[str, str], ...] = ()  # (track id, reason) of embedded files that are worth a look
    pipeline: dict[str, Any] = field(default_factory=dict)  # what the captions table says about its own making
    quality: dict[str, Any] = field(default_factory=dict)  # instruction -> what its captions are like, with intervals
    alarms: tuple[str, ...] = ()  # what a careful reader should look at first
    withheld_audio: dict[str, int] = field(default_factory=dict)  # licence -> tracks whose audio was left out for it
    rendered: dict[str, dict[str, int]] = field(default_factory=dict)  # of rendered clips: fact -> value -> tracks
    left_out: dict[str, int] = field(default_factory=dict)  # kind of split leak -> training tracks left out for it
    allowed_leaks: dict[str, int] = field(default_factory=dict)  # kind of split leak -> training tracks kept

    @property
    def outcome_names(self) -> list[str]:
        """Every outcome that occurs, `ok` first."""
        return sorted(
            {name for counts in self.outcomes.values() for name in counts}, key=lambda name: (name != "ok", name)
        )

    def as_json(self) -> dict[str, Any]:
        """A JSON object that `read_making` reads back."""
        return asdict(self)


@dataclass(frozen=True)
class SplitFacts:
    """One split as its files hold it. `num_bytes` is uncompressed, `download_size` is what lies on the disk."""

    name: str
    num_examples: int
    num_bytes: int
    download_size: int
    files: int


@dataclass(frozen=True)
class ConfigFacts:
    """One configuration: splits in the order train, valid, test; features as `Features.to_dict()`; its making."""

    name: str
    splits: tuple[SplitFacts, ...]
    features: dict[str, Any]
    making: Making

    @property
    def num_examples(self) -> int:
        return sum(split.num_examples for split in self.splits)

    @property
    def num_bytes(self) -> int:
        return sum(split.num_bytes for split in self.splits)

    @property
    def download_size(self) -> int:
        return sum(split.download_size for split in self.splits)


def config_names(directory: Path) -> list[str]:
    """The configurations of a data set directory: its visible folders that say how they were made, by name."""
    return sorted(
        made.parent.name for made in directory.glob(f"*/{MAKING_FILE}") if not made.parent.name.startswith(".")
    )


def shard_files(directory: Path) -> dict[str, list[Path]]:
    """The Parquet files of one configuration's folder by split, in the order train, valid, test, then by name."""
    files: dict[str, list[Path]] = {}
    for path in sorted(directory.glob("*.parquet")):
        match = SHARD_NAME.fullmatch(path.name)
        if match:
            files.setdefault(match["split"], []).append(path)
    order = {name: place for place, name in enumerate(_SPLIT_ORDER)}
    return dict(sorted(files.items(), key=lambda item: (order.get(item[0], len(order)), item[0])))


def split_facts(name: str, files: list[Path]) -> SplitFacts:
    """Rows and bytes of one split, from the footers of its files. Raises `pyarrow.ArrowInvalid` for a broken file."""
    footers = [pq.read_metadata(path) for path in files]
    return SplitFacts(
        name=name,
        num_examples=sum(footer.num_rows for footer in footers),
        num_bytes=sum(footer.row_group(i).total_byte_size for footer in footers for i in range(footer.num_row_groups)),
        download_size=sum(path.stat().st_size for path in files),
        files=len(files),
    )


def read_making(directory: Path) -> Making:
    """Read back how the configuration in `directory` was made."""
    value = json.loads((directory / MAKING_FILE).read_text(encoding="utf-8"))
    value["without_audio"] = tuple((track_id, reason) for track_id, reason in value.get("without_audio", ()))
    value["doubtful_audio"] = tuple((track_id, reason) for track_id, reason in value.get("doubtful_audio", ()))
    value["alarms"] = tuple(value.get("alarms", ()))
    return Making(**value)


def read_config(directory: Path, name: str) -> ConfigFacts:
    """Gather the facts of the configuration `name` of the data set in `directory`."""
    import datasets

    files = shard_files(directory / name)
    schema = pq.read_schema(next(iter(files.values()))[0])
    return ConfigFacts(
        name=name,
        splits=tuple(split_facts(split, paths) for split, paths in files.items()),
        features=datasets.Features.from_arrow_schema(schema).to_dict(),
        making=read_making(directory / name),
    )
