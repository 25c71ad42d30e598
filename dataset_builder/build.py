"""Captions and tracks in, the data set directory out: `<config>/<split>-*.parquet`, its card and its licences.

The directory is the one artefact: `load_dataset("lp-musiccaps")` opens it from its parent folder, and `publish` uploads
it as it is. Everything is written beside its place and renamed, so a killed run leaves the last good build standing.
"""

from __future__ import annotations

import io
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import soundfile

from dataset_builder import lp_musiccaps
from dataset_builder.captioning.captions_table import open_captions, read_pipeline
from dataset_builder.lp_musiccaps import JoinError, Survey
from dataset_builder.shards import SplitWriter
from dataset_builder.tracks import open_tracks
from hub_cards.facts import MAKING_FILE, PIPELINE_FILE, ConfigFacts, Making, config_names, read_config
from hub_cards.render import DATASET_MARK, LICENCES_FILE, render_dataset_card, render_licences
from lpmc_errors import AudioError, TableError, UsageError, disk_faults_named
from lpmc_files import write_json, write_text

CARD = "README.md"
_CONFIG_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")  # a folder, a YAML value and a name for load_dataset at once

Progress = Callable[[int, int], None]  # tracks written, tracks in all


@dataclass(frozen=True)
class BuildReport:
    """What a build wrote. `rows` and `files` are by split; `outcomes` is instruction -> outcome -> captions."""

    directory: Path
    config: str
    rows: dict[str, int]
    files: dict[str, int]
    outcomes: dict[str, dict[str, int]]
    template_captions: dict[str, int]
    tracks_without_captions: int
    audio_embedded: int | None  # None for a text-only configuration
    download_size: int  # bytes of Parquet
    failed_audio: list[tuple[str, str]] = field(default_factory=list)  # (track id, reason)

    @property
    def tracks(self) -> int:
        return sum(self.rows.values())


@dataclass
class _Tally:
    """Counts of what went into the rows, gathered while they are written."""

    licences: Counter[str] = field(default_factory=Counter)
    outcomes: dict[str, Counter[str]] = field(default_factory=dict)
    template_captions: Counter[str] = field(default_factory=Counter)
    models: Counter[str] = field(default_factory=Counter)
    wordings: Counter[str] = field(default_factory=Counter)
    embedded: int = 0
    failed_audio: list[tuple[str, str]] = field(default_factory=list)

    def add(self, row: dict[str, Any]) -> None:
        self.licences[row["provenance"]["licence"] or ""] += 1
        for caption in row["provenance"]["captions"]:
            self.outcomes.setdefault(caption["instruction"], Counter())[caption["outcome"]] += 1
            if caption["caption_origin"] == lp_musiccaps.TEMPLATE_ORIGIN:
                self.template_captions[caption["instruction"]] += 1
            if caption["model_answered"]:
                self.models[caption["model_answered"]] += 1
            if caption["wording"]:
                self.wordings[f"{caption['wording']} ({caption['wording_version'] or 'no version'})"] += 1


def build_dataset(
    captions: Path,
    tracks: Path,
    *,
    config: str,
    output: Path,
    audio_root: Path | None = None,
    embed_audio: bool | None = None,
    progress: Progress | None = None,
) -> BuildReport:
    """Join the captions with their tracks and write the configuration `config` of the data set directory `output`.

    One row a track, in the order of the tracks table, splits under the corpus's names. With `audio_root` the original
    bytes of each audio file are embedded (`embed_audio=False` leaves them out); a file that is missing or unreadable
    is reported in `failed_audio` and its row keeps its captions. Other configurations in `output` stay, and the card
    is rendered anew for all of them. The same inputs give the same bytes.

    Raises `UsageError` (configuration name, `output` that is something else, audio asked for without a folder),
    `TableError` (tables that are empty or do not fit together), `AudioError` (not one audio file can be read) and
    `DiskError`.
    """
    embed = audio_root is not None if embed_audio is None else embed_audio
    _check_usage(config, output, audio_root, embed)
    open_tracks(tracks).close()
    open_captions(captions).close()
    root = str(audio_root) if audio_root is not None else None
    with disk_faults_named(output), _named_faults(tracks):
        found = lp_musiccaps.survey(str(tracks), str(captions))
        layout = lp_musiccaps.layout_of(list(found.sources))
        output.mkdir(parents=True, exist_ok=True)
        staging = output / f".{config}.building"
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir()
        try:
            tally = _write_splits(staging, captions, tracks, found, layout, root, embed, progress)
            if embed and not tally.embedded:
                first_id, reason = tally.failed_audio[0]
                raise AudioError(
                    root or tracks,
                    f"not one of the {len(tally.failed_audio)} audio files can be used (first: {first_id}: {reason})",
                    "give --audio-root the folder that audio_path in the tracks table is relative to",
                )
            pipeline = _publishable(read_pipeline(captions))
            making = _making(found, layout, tally, dict(pipeline), embed)
            write_json(staging / MAKING_FILE, making.as_json())
            write_json(staging / PIPELINE_FILE, pipeline)
            _put_in_place(staging, output / config)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        facts = write_card(output)[config]
    return BuildReport(
        directory=output,
        config=config,
        rows={split.name: split.num_examples for split in facts.splits},
        files={split.name: split.files for split in facts.splits},
        outcomes=making.outcomes,
        template_captions=making.template_captions,
        tracks_without_captions=making.tracks_without_captions,
        audio_embedded=making.audio_embedded,
        download_size=facts.download_size,
        failed_audio=tally.failed_audio,
    )


def write_card(directory: Path) -> dict[str, ConfigFacts]:
    """Render README.md and LICENSE.md of a data set directory from its Parquet files; return the facts of each config.

    Configurations keep the order that the card had; new ones come last. The first is the default of `load_dataset`.
    """
    known = _configs_of_card(directory / CARD)
    names = sorted(config_names(directory), key=lambda name: (known.index(name) if name in known else len(known), name))
    facts = [read_config(directory, name) for name in names]
    write_text(directory / LICENCES_FILE, render_licences(facts))
    write_text(directory / CARD, render_dataset_card(facts))
    return {config.name: config for config in facts}


def _check_usage(config: str, output: Path, audio_root: Path | None, embed: bool) -> None:
    if not _CONFIG_NAME.fullmatch(config):
        raise UsageError(f"--config {config}", "cannot name a configuration", "use letters, digits, `_`, `-` and `.`")
    if audio_root is not None and not audio_root.is_dir():
        raise UsageError(audio_root, "no such audio folder", "give --audio-root the folder that holds the audio files")
    if embed and audio_root is None:
        raise UsageError("--embed-audio", "no audio folder is given", "add --audio-root DIR")
    if output.exists() and not output.is_dir():
        raise UsageError(output, "is a file", "give --output a folder")
    card = output / CARD
    if card.exists() and DATASET_MARK not in card.read_text(encoding="utf-8", errors="replace"):
        raise UsageError(
            card, "is not a card that `lpmc build` wrote", "choose another --output, or move that file away"
        )
    if (output / config).exists() and not (output / config / MAKING_FILE).exists():
        raise UsageError(output / config, "exists and is no configuration of a data set", "choose another --config")


@contextmanager
def _named_faults(tracks: Path) -> Iterator[None]:
    """Faults of the join, which stands alone and knows no `LpmcError`, as errors of this project."""
    try:
        yield
    except JoinError as error:
        raise TableError(error.item, error.problem, error.remedy) from error
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        text = " ".join(str(error).split())
        raise TableError(tracks, f"a value does not fit its column: {text}", "correct the table") from error


def _write_splits(
    staging: Path,
    captions: Path,
    tracks: Path,
    found: Survey,
    layout: str,
    root: str | None,
    embed: bool,
    progress: Progress | None,
) -> _Tally:
    features = lp_musiccaps.features_of(layout, found.instructions, audio=embed)
    total = sum(found.splits.values())
    tally = _Tally()
    done = 0
    for split in found.splits:
        writer = SplitWriter(staging, split, features)
        for track, texts in lp_musiccaps.joined(str(tracks), str(captions), split):
            row = lp_musiccaps.published_row(layout, found.instructions, track, texts)
            if embed:
                row["audio"] = _audio(track["track_id"], row["path"], root, tally)
            row["path"] = lp_musiccaps.published_path(row["path"], root)
            tally.add(row)
            writer.write(row)
            done += 1
            if progress is not None:
                progress(done, total)
        writer.close()
    return tally


def _audio(track_id: str, audio_path: str | None, root: str | None, tally: _Tally) -> dict[str, Any] | None:
    """The original bytes of a track's audio file under its base name; None, and a line in the tally, when unusable."""
    if not audio_path:
        tally.failed_audio.append((track_id, "the tracks table names no audio file"))
        return None
    path = Path(root or "", audio_path)
    try:
        content = path.read_bytes()
        frames = soundfile.info(io.BytesIO(content)).frames
        problem = "" if frames > 0 else "it holds no sound"
    except FileNotFoundError:
        problem = "no such file"
    except soundfile.LibsndfileError:
        problem = "soundfile cannot read it; convert it to FLAC or MP3, for example with ffmpeg"
    except (OSError, ValueError) as error:
        problem = f"it cannot be opened ({getattr(error, 'strerror', None) or error})"
    if problem:
        shown = lp_musiccaps.published_path(audio_path, root)
        tally.failed_audio.append((track_id, f"{shown}: {problem}"))
        return None
    tally.embedded += 1
    return {"bytes": content, "path": path.name}


def _making(found: Survey, layout: str, tally: _Tally, pipeline: dict[str, Any], embed: bool) -> Making:
    ledger = pipeline.pop("ledger", {})
    return Making(
        layout=layout,
        sources=dict(sorted(found.sources.items())),
        licences=dict(sorted(tally.licences.items())),
        outcomes={name: dict(sorted(tally.outcomes[name].items())) for name in found.instructions},
        template_captions=dict(sorted(tally.template_captions.items())),
        models=dict(sorted(tally.models.items())),
        wordings=dict(sorted(tally.wordings.items())),
        tracks_without_captions=found.tracks_without_captions,
        audio_embedded=tally.embedded if embed else None,
        without_audio=tuple(tally.failed_audio),
        pipeline=pipeline,
        quality=ledger.get("by_instruction", {}),
        alarms=tuple(ledger.get("alarms", ())),
    )


def _publishable(value: Any) -> Any:
    """What the captions table tells about its making, without the folders of the machine it was made on."""
    if isinstance(value, dict):
        return {str(name): _publishable(part) for name, part in sorted(value.items())}
    if isinstance(value, list):
        return [_publishable(part) for part in value]
    return lp_musiccaps.without_folders(value) if isinstance(value, str) else value


def _put_in_place(staging: Path, target: Path) -> None:
    """Replace `target` by `staging`; a kill between the two renames leaves a run that the next one repeats."""
    replaced = target.with_name(f".{target.name}.replaced")
    shutil.rmtree(replaced, ignore_errors=True)
    if target.exists():
        target.rename(replaced)
    os.replace(staging, target)
    shutil.rmtree(replaced, ignore_errors=True)


def _configs_of_card(card: Path) -> list[str]:
    from huggingface_hub import DatasetCard

    if not card.is_file():
        return []
    configs = DatasetCard.load(card).data.get("configs") or []
    return [str(config.get("config_name")) for config in configs]
