"""Captions and tracks in, the data set directory out: `<config>/<split>-*.parquet`, its card and its licences.

The directory is the one artefact: `load_dataset("lp-musiccaps")` opens it from its parent folder, and `publish` uploads
it as it is. Everything is written beside its place and renamed: a killed run leaves the last good build standing, and
the next one goes on with the shards that were finished.
"""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from dataset_builder import lp_musiccaps
from dataset_builder.build_plan import BuildPlan, make_plan, resume_or_clear
from dataset_builder.caption_order import is_ordered, write_ordered
from dataset_builder.captioning.captions_table import open_captions, read_pipeline
from dataset_builder.leaks import ALLOWABLE_LEAKS, KINDS, LeakReport, find_leaks
from dataset_builder.lp_musiccaps import JoinError, Survey
from dataset_builder.shards import MAX_SHARD_BYTES, ShardTask, Tally, write_shard
from dataset_builder.tracks import open_tracks
from dataset_builder.worker_processes import run_tasks
from hub_cards.croissant import CROISSANT_FILE, render_croissant
from hub_cards.facts import MAKING_FILE, PIPELINE_FILE, SHARD_NAME, ConfigFacts, Making, config_names, read_config
from hub_cards.render import DATASET_MARK, LICENCES_FILE, render_dataset_card, render_licences
from lpmc_errors import AudioError, TableError, UsageError, disk_faults_named
from lpmc_files import write_json, write_text

CARD = "README.md"
ORDERED_FILE = "captions-in-order"  # in the staging folder
AUDIO_CHOICES = ("all", "publishable", "none")
LEAK_CHOICES = ("refuse", "drop", "allow")
_CONFIG_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")  # a folder, a YAML value and a name for load_dataset at once
_TAKEN_NAMES = {name.lower() for name in (CARD, LICENCES_FILE, CROISSANT_FILE)}  # files beside the configurations

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
    doubtful_audio: list[tuple[str, str]] = field(default_factory=list)  # embedded, but worth a look
    withheld_audio: dict[str, int] = field(default_factory=dict)  # licence -> tracks whose audio may not be published
    left_out: dict[str, int] = field(default_factory=dict)  # kind of split leak -> training tracks left out
    allowed_leaks: dict[str, int] = field(default_factory=dict)  # kind of split leak -> training tracks kept

    @property
    def tracks(self) -> int:
        return sum(self.rows.values())


def build_dataset(
    captions: Path,
    tracks: Path,
    *,
    config: str,
    output: Path,
    audio_root: Path | None = None,
    audio: str | None = None,
    leaks: str = "refuse",
    num_proc: int = 1,
    shard_bytes: int = MAX_SHARD_BYTES,
    progress: Progress | None = None,
) -> BuildReport:
    """Join the captions with their tracks and write the configuration `config` of the data set directory `output`.

    One row a track, in the order of the tracks table, splits under the corpus's names. With `audio_root` the original
    bytes of each audio file are embedded: `audio` is `all` (the default), `publishable` (only where the licence of the
    row lets anybody publish it) or `none`. Every file is decoded to its end; one that is missing, broken or not what
    its name says is listed in `failed_audio` and its row keeps its captions. Other configurations in `output` stay, and
    the card is rendered anew for all of them. The same inputs give the same bytes, with any `num_proc` (processes, see
    `worker_processes.run_tasks`), and a build that was killed goes on with the shards that it had finished.

    `leaks` says what happens to training tracks that an evaluation split has too (`dataset_builder.leaks`): `refuse`
    the build, `drop` them, or `allow` shared artists and recordings; evaluation sets never become training data.

    Raises `UsageError` (a name, an option, a build of the same configuration under way), `TableError` (tables that are
    empty or do not fit together, leaks), `AudioError` (not one audio file can be used) and `DiskError`.
    """
    audio = audio or ("none" if audio_root is None else "all")
    _check_usage(config, output, audio_root, audio, leaks)
    open_tracks(tracks).close()
    open_captions(captions).close()
    staging = output / f".{config}.building"
    with disk_faults_named(output), _named_faults(tracks), _no_empty_folder(output):
        found = lp_musiccaps.survey(str(tracks), str(captions))
        left_out, allowed = _sort_out_leaks(tracks, leaks, sum(found.splits.values()))
        layout = lp_musiccaps.layout_of(list(found.sources))
        output.mkdir(parents=True, exist_ok=True)
        with _lock(output / f".{config}.lock", output / config):
            staging.mkdir(exist_ok=True)
            try:
                plan = make_plan(
                    *(staging, tracks, captions, found),
                    layout=layout,
                    audio_root=audio_root,
                    audio=audio,
                    left_out=left_out.ids,
                    shard_bytes=shard_bytes,
                    run=uuid.uuid4().hex,
                )
                tally = _write_shards(staging, plan, left_out.ids, num_proc, progress)
                if audio != "none" and not tally.embedded and tally.failed_audio:
                    first_id, reason = tally.failed_audio[0]
                    raise AudioError(
                        audio_root,
                        f"not one of {len(tally.failed_audio)} audio files can be used (first: {first_id}: {reason})",
                        "give --audio-root the folder that audio_path in the tracks table is relative to",
                    )
                pipeline = _publishable(read_pipeline(captions))
                making = _making(found, layout, tally, dict(pipeline), audio, left_out.by_kind, allowed)
                _name_shards(plan)
                for path in staging.iterdir():
                    if not SHARD_NAME.fullmatch(path.name):
                        path.unlink()
                write_json(staging / MAKING_FILE, making.as_json())
                write_json(staging / PIPELINE_FILE, pipeline)
                # Builds of other configurations look at what lies here and rewrite the card too.
                with _lock(output / ".card.lock", output / CARD, wait=True):
                    _put_in_place(staging, output / config)
                    facts = write_card(output)[config]
            except (TableError, AudioError, JoinError, pa.ArrowException):
                shutil.rmtree(staging, ignore_errors=True)  # no later run could go on from here
                raise
            finally:
                if staging.is_dir() and not any(staging.glob("*-?????.parquet")):
                    shutil.rmtree(staging, ignore_errors=True)
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
        doubtful_audio=tally.doubtful_audio,
        withheld_audio=making.withheld_audio,
        left_out=making.left_out,
        allowed_leaks=making.allowed_leaks,
    )


def write_card(directory: Path) -> dict[str, ConfigFacts]:
    """Render README.md, LICENSE.md and croissant.json of a data set directory from its files; return their facts.

    Configurations keep the order that the card had; new ones come last. The first is the default of `load_dataset`.
    """
    known = _configs_of_card(directory / CARD)
    names = sorted(config_names(directory), key=lambda name: (known.index(name) if name in known else len(known), name))
    facts = [_facts(directory, name) for name in names]
    write_text(directory / LICENCES_FILE, render_licences(facts))
    write_text(directory / CROISSANT_FILE, render_croissant(facts))
    write_text(directory / CARD, render_dataset_card(facts))
    return {config.name: config for config in facts}


def _facts(directory: Path, name: str) -> ConfigFacts:
    try:
        return read_config(directory, name)
    except (ValueError, TypeError, AttributeError, StopIteration) as error:
        raise TableError(
            directory / name / MAKING_FILE,
            f"does not say how the configuration was made ({error})",
            "build it again, or remove its folder",
        ) from error


def _check_usage(config: str, output: Path, audio_root: Path | None, audio: str, leaks: str) -> None:
    if not _CONFIG_NAME.fullmatch(config) or config.lower() in _TAKEN_NAMES:
        raise UsageError(f"--config {config}", "cannot name a configuration", "use letters, digits, `_`, `-` and `.`")
    for option, value, known in (("--audio", audio, AUDIO_CHOICES), ("--leaks", leaks, LEAK_CHOICES)):
        if value not in known:
            raise UsageError(f"{option} {value}", "is unknown", f"choose {', '.join(known)}")
    if audio_root is not None and not audio_root.is_dir():
        raise UsageError(audio_root, "no such audio folder", "give --audio-root the folder that holds the audio files")
    if audio != "none" and audio_root is None:
        raise UsageError(f"--audio {audio}", "no audio folder is given", "add --audio-root DIR")
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
def _no_empty_folder(output: Path) -> Iterator[None]:
    """Take an output folder away again that a failed build made and left empty."""
    made = not output.exists()
    try:
        yield
    finally:
        if made:
            with suppress(OSError):
                output.rmdir()  # refuses when anything lies there


@contextmanager
def _named_faults(tracks: Path) -> Iterator[None]:
    """Faults of the join, which stands alone and knows no `LpmcError`, as errors of this project."""
    try:
        yield
    except JoinError as error:
        raise TableError(error.item, error.problem, error.remedy) from error
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, pa.ArrowCapacityError) as error:
        text = " ".join(str(error).split())
        raise TableError(tracks, f"a value does not fit its column: {text}", "correct the table") from error


class _LeftOut(NamedTuple):
    ids: tuple[str, ...]
    by_kind: dict[str, int]


def _sort_out_leaks(tracks: Path, leaks: str, total: int) -> tuple[_LeftOut, dict[str, int]]:
    """The training tracks to leave out, and what is allowed by kind. Raises `TableError` for a leak that is neither."""
    report = find_leaks(tracks)
    if not report:
        return _LeftOut((), {}), {}
    if leaks == "drop":
        if len(report.training_ids) == total:
            raise TableError(tracks, "every track would be left out: " + _told(report), "mend the splits")
        return _LeftOut(tuple(sorted(report.training_ids)), dict(report.by_kind)), {}
    grave = {kind: count for kind, count in report.by_kind.items() if kind not in ALLOWABLE_LEAKS}
    if leaks == "refuse" or grave:
        allow = "" if grave else ", or with `--leaks allow` to keep them as the corpus has them"
        raise TableError(
            tracks,
            f"{len(report.training_ids)} training tracks belong to evaluation: {_told(report)}",
            f"mend the splits, build with `--leaks drop` to leave these training tracks out{allow}",
        )
    return _LeftOut((), {}), dict(report.by_kind)


def _told(report: LeakReport) -> str:
    parts = []
    for kind, count in report.by_kind.items():
        named = [leak for leak in report.leaks if leak.kind == kind]
        shown = ", ".join(
            f"{leak.item!r} ({' and '.join(name or 'no split' for name in leak.splits)}, e.g. {leak.example})"
            for leak in named[:3]
        )
        parts.append(f"{count} {KINDS[kind]}: {shown}" + (f" and {len(named) - 3} more" if len(named) > 3 else ""))
    return "; ".join(parts)


@contextmanager
def _lock(file: Path, item: object, *, wait: bool = False) -> Iterator[None]:
    """Keeps other builds away from `item`: a second one is refused, or waits until the first has ended."""
    lock = FileLock(file)
    try:
        lock.acquire(timeout=-1 if wait else 0)
    except Timeout as error:
        raise UsageError(item, "is being built by another process", "wait until it has ended") from error
    try:
        yield
    finally:
        file.unlink(missing_ok=True)
        lock.release()


def _write_shards(
    staging: Path, plan: BuildPlan, left_out: tuple[str, ...], num_proc: int, progress: Progress | None
) -> Tally:
    to_do = _ordered(staging, resume_or_clear(staging, plan, left_out))
    total = sum(task.stop - task.start for task in plan.tasks)
    finished = total - sum(task.stop - task.start for task in to_do)

    def report(rows: int) -> None:
        if progress is not None:
            progress(finished + rows, total)

    run_tasks(write_shard, to_do, num_proc, report, stopped="a smaller --num-proc")
    tally = Tally()
    for task in plan.tasks:
        tally.add(Tally.read(task.tally))
    return tally


def _ordered(staging: Path, tasks: list[ShardTask]) -> list[ShardTask]:
    """The tasks with captions in the order of the tracks, sorted into the staging folder where they are not."""
    if not tasks or is_ordered(Path(tasks[0].captions), tasks[0].spans):
        return tasks
    ids = lp_musiccaps.track_ids(tasks[0].tracks)
    ordered = staging / ORDERED_FILE
    spans = write_ordered(Path(tasks[0].captions), ids, ordered)
    return [dataclasses.replace(task, captions=str(ordered), spans=spans) for task in tasks]


def _name_shards(plan: BuildPlan) -> None:
    """Give the shards the names of the Hub, now that all are there; a shard of which every track was left out goes."""
    shards: dict[str, list[Path]] = {}
    for task in plan.tasks:
        if pq.read_metadata(task.parquet).num_rows:
            shards.setdefault(task.split, []).append(task.parquet)
        else:
            task.parquet.unlink()
    for split, paths in shards.items():
        for index, path in enumerate(paths):
            path.rename(path.with_name(f"{split}-{index:05d}-of-{len(paths):05d}.parquet"))


def _making(
    found: Survey,
    layout: str,
    tally: Tally,
    pipeline: dict[str, Any],
    audio: str,
    left_out: dict[str, int],
    allowed_leaks: dict[str, int],
) -> Making:
    ledger = pipeline.pop("ledger", {})
    return Making(
        layout=layout,
        sources=dict(sorted(tally.sources.items())),
        licences=dict(sorted(tally.licences.items())),
        outcomes={name: dict(sorted(tally.outcomes.get(name, {}).items())) for name in found.instructions},
        template_captions=dict(sorted(tally.template_captions.items())),
        models=dict(sorted(tally.models.items())),
        wordings=dict(sorted(tally.wordings.items())),
        tracks_without_captions=tally.without_captions,
        audio_embedded=None if audio == "none" else tally.embedded,
        without_audio=tuple(tally.failed_audio),
        doubtful_audio=tuple(tally.doubtful_audio),
        withheld_audio=dict(sorted(tally.withheld.items())),
        rendered=_by_kind(tally.rendered),
        left_out=left_out,
        allowed_leaks=allowed_leaks,
        pipeline=pipeline,
        quality=ledger.get("by_instruction", {}),
        alarms=tuple(ledger.get("alarms", ())),
    )


def _by_kind(counts: Mapping[str, int]) -> dict[str, dict[str, int]]:
    """`{"kind\\0value": count}` as `{"kind": {"value": count}}`, sorted."""
    kinds: dict[str, dict[str, int]] = {}
    for name, count in sorted(counts.items()):
        kind, _, value = name.partition("\0")
        kinds.setdefault(kind, {})[value] = count
    return kinds


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
    """The configurations in the order of the card; none where somebody has edited it beyond reading."""
    import yaml
    from huggingface_hub import DatasetCard

    if not card.is_file():
        return []
    try:
        configs = DatasetCard.load(card).data.get("configs")
    except (ValueError, yaml.YAMLError):  # it is rendered anew
        return []
    known = configs if isinstance(configs, list) else []
    return [str(config.get("config_name")) for config in known if isinstance(config, dict)]
