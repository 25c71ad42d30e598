"""The audio-dependence test on files: a table of recordings with references, a model directory, results in a folder.

    captions.jsonl              what the model said, a line a clip and condition, written as it is said
    audio_dependence.json/.md   the report

Run again with the same settings it captions only what is missing in `captions.jsonl`.

The model is asked directly: `lpmc caption` answers "[silence]" for a window without sound and asks no model, which is
right for users and would hide what the model itself does with silence.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from caption_metrics.pairs import REFERENCE_COLUMNS, choose_column, choose_id, open_rows, references_of, tags_of
from lpmc_errors import AudioError, LpmcError, TableError, UsageError, disk_faults_named
from lpmc_files import write_json, write_text
from modeling_lpmc.audio import check_has_sound, open_track, track_windows, without_offset
from modeling_lpmc.audio_dependence import BATCH, AudioDependence, CaptionFunction, audio_dependence
from modeling_lpmc.audio_substitutes import Samples
from modeling_lpmc.captioner import Captioner, CaptionSegment, track_caption

AUDIO_COLUMNS = ("audio_path", "path", "audio", "file_name", "filename", "file")
MOST_SECONDS = 30.0  # of a recording that are captioned, its beginning: three windows
CAPTIONS_FILE, REPORT_JSON, REPORT_TEXT = "captions.jsonl", "audio_dependence.json", "audio_dependence.md"


@dataclass(frozen=True)
class Recording:
    """A file to listen to and what people wrote about it; `id` names it in results."""

    id: str
    path: Path
    references: tuple[str, ...]


@dataclass(frozen=True)
class Skipped:
    """A row that was left out, and why, in one line."""

    id: str
    reason: str


@dataclass(frozen=True)
class ListeningTest:
    """The report, and the rows that could not be used."""

    report: AudioDependence
    skipped: tuple[Skipped, ...]
    reused: int  # captions that an earlier run had made

    def to_dict(self) -> dict[str, Any]:
        """The result as JSON data."""
        return self.report.to_dict() | {"skipped": [asdict(row) for row in self.skipped], "reused": self.reused}


def read_recordings(
    source: str | Path,
    *,
    audio_root: Path | None = None,
    audio_column: str | None = None,
    reference_column: str | None = None,
    split: str | None = None,
    limit: int | None = None,
) -> tuple[list[Recording], list[Skipped]]:
    """Rows of a table (JSON, JSONL, CSV, TSV, Parquet, a tracks table) with a path to audio and references.

    Paths are relative to `audio_root`, by default the table's folder. A row without a reference caption takes its tags
    as one. `split` keeps the rows whose column `split` says so, `limit` the first of them. A row without a path, or
    with neither references nor tags, is skipped. Raises `TableError` when the columns are missing or no row is left.
    """
    table = open_rows(source)
    root = audio_root if audio_root is not None else Path(source).parent
    audio = choose_column(table, "audio", audio_column, AUDIO_COLUMNS)
    has_references = reference_column is not None or any(name in table.columns for name in REFERENCE_COLUMNS)
    wanted = choose_column(table, "reference", reference_column, REFERENCE_COLUMNS) if has_references else None
    name = choose_id(table, None)
    if split is not None and "split" not in table.columns:
        raise TableError(table.name, f"has no column split; it has {', '.join(table.columns)}", "leave --split out")
    found: list[Recording] = []
    skipped: list[Skipped] = []
    for number, row in table.rows:
        if split is not None and row.get("split") != split:
            continue
        if limit is not None and len(found) == limit:
            break
        identity = str(row.get(name) or table.place(number)) if name else table.place(number)
        value = row.get(audio)
        path = value.get("path") if isinstance(value, Mapping) else value
        if not isinstance(path, str) or not path.strip():
            skipped.append(Skipped(identity, f"column {audio} holds no path"))
            continue
        try:
            texts = references_of(table, number, row, wanted) if wanted else ()
        except TableError:
            texts = ()
        texts = texts or tuple(filter(None, (", ".join(tags_of(row)),)))
        if texts:
            found.append(Recording(identity, root / path, texts))
        else:
            skipped.append(Skipped(identity, "has neither a reference caption nor tags"))
    if not found:
        first = f" (the first: {skipped[0].id}: {skipped[0].reason})" if skipped else ""
        raise TableError(table.name, f"has no row to listen to{first}", "give rows with a path and a reference caption")
    return found, skipped


class _Sounds(Sequence[Samples]):
    """The beginnings of recordings, each decoded when it is asked for; the last few are kept."""

    def __init__(self, recordings: Sequence[Recording], rate: int) -> None:
        self._recordings, self._rate = recordings, rate
        self._kept: dict[int, Samples] = {}

    def __len__(self) -> int:
        return len(self._recordings)

    def __getitem__(self, number: Any) -> Any:
        if number not in self._kept:
            if len(self._kept) > 2 * BATCH:
                self._kept.pop(next(iter(self._kept)))
            self._kept[number] = beginning(self._recordings[number].path, self._rate)
        return self._kept[number]


def beginning(path: Path, rate: int) -> Samples:
    """The first `MOST_SECONDS` of a recording: float32 mono (n,). Raises `AudioError`, also for silence."""
    track = open_track(path, rate)
    check_has_sound(track, path)
    return next(track_windows(track, [(0, min(track.num_samples, round(MOST_SECONDS * rate)))]))


def captions_without_gate(
    captioner: Captioner, *, batch_size: int = BATCH, num_beams: int | None = None
) -> CaptionFunction:
    """A function from sounds to one caption each that asks the model about silence too (see the head of this file).

    Sounds are float32 (n,) at the captioner's rate; longer ones are captioned window by window, as a track is.
    """
    extractor = captioner.processor.feature_extractor
    rate = captioner.sampling_rate
    options: dict[str, Any] = {} if num_beams is None else {"num_beams": num_beams}
    if num_beams == 1:
        options["early_stopping"] = False  # a rule for beams; the library warns about it otherwise

    def texts_of(windows: Sequence[Samples]) -> list[str]:
        inputs = extractor(
            [without_offset(window, rate) for window in windows],
            sampling_rate=rate,
            return_tensors="pt",
            device=captioner.device,
        )
        with torch.inference_mode():
            ids = captioner.model.generate(input_features=inputs["input_features"], **options)
        return [" ".join(text.split()) for text in captioner.processor.batch_decode(ids)]

    def caption(sounds: Sequence[Samples]) -> list[str]:
        bounds = [extractor.chunk_bounds(len(sound)) for sound in sounds]
        windows = [sound[start:end] for sound, parts in zip(sounds, bounds, strict=True) for start, end in parts]
        texts = iter(
            [text for at in range(0, len(windows), batch_size) for text in texts_of(windows[at : at + batch_size])]
        )
        return [
            track_caption([CaptionSegment(start / rate, end / rate, next(texts)) for start, end in parts])
            for parts in bounds
        ]

    return caption


def run_listening_test(
    recordings: Sequence[Recording],
    captioner: Captioner,
    output: Path,
    *,
    model: str,
    skipped: Sequence[Skipped] = (),
    batch_size: int = BATCH,
    num_beams: int | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> ListeningTest:
    """Run `audio_dependence` with `captioner` on files and write captions and report into the folder `output`.

    A file that cannot be read, or holds no sound, is skipped and recorded. `options` are those of `audio_dependence`.
    Raises `UsageError` when `output` holds the captions of other settings, `AudioError` when fewer than two files can
    be read, `DiskError`.
    """
    usable: list[Recording] = []
    left_out = list(skipped)
    for recording in recordings:
        try:
            beginning(recording.path, captioner.sampling_rate)
            usable.append(recording)
        except AudioError as error:
            left_out.append(Skipped(recording.id, str(error)))
    if len(usable) < 2:
        first = f"; the first fault: {left_out[0].reason}" if left_out else ""
        raise AudioError("recordings", f"{len(usable)} can be read, at least 2 are needed{first}", "check --audio-root")
    settings = {
        "model": model,
        "weights": weights_digest(captioner.model),
        "seed": seed,
        "beams": num_beams,
        "seconds": MOST_SECONDS,
        "clips": [[recording.id, str(recording.path), recording.path.stat().st_size] for recording in usable],
    }
    log = _CaptionLog(output / CAPTIONS_FILE, settings)
    with log:
        report = audio_dependence(
            captions_without_gate(captioner, batch_size=batch_size, num_beams=num_beams),
            _Sounds(usable, captioner.sampling_rate),
            [recording.references for recording in usable],
            sampling_rate=captioner.sampling_rate,
            seed=seed,
            batch=batch_size,
            known=log.known,
            said=log.add,
            progress=progress,
            **options,
        )
    result = ListeningTest(report, tuple(left_out), log.reused)
    write_json(output / REPORT_JSON, {"model": model, **result.to_dict()})
    text = f"# Audio dependence of {model}\n\n{report.markdown()}"
    text += "".join(f"- left out {row.id}: {row.reason}\n" for row in left_out)
    write_text(output / REPORT_TEXT, text)
    return result


DIGEST_VALUES = 64  # of each tensor; training moves them all, and reading every weight of a large model takes seconds


def weights_digest(model: torch.nn.Module) -> str:
    """16 hex digits that tell these weights from others, as a model trained further under the same name has."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().flatten()[:DIGEST_VALUES].to("cpu", torch.float64).numpy().tobytes())
    return digest.hexdigest()[:16]


class _CaptionLog:
    """Captions as JSON lines, the settings first; an unfinished last line, as an interruption leaves it, is dropped.

    One run at a time: a second one would take the file away from under the first.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        self._path, self._settings = path, json.loads(json.dumps(settings))
        self.known: MutableMapping[tuple[str, int], str] = {}
        self._file: Any = None
        self._lock = FileLock(path.with_name(f".{path.name}.lock"))

    def __enter__(self) -> _CaptionLog:
        with disk_faults_named(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._lock.acquire(timeout=0)
            except Timeout as error:
                raise UsageError(
                    self._path, "is being written by another run", "wait until it has ended or choose another --output"
                ) from error
        try:
            self._open()
        except BaseException:
            self._lock.release()
            raise
        return self

    def _open(self) -> None:
        whole: list[str] = []
        with disk_faults_named(self._path):
            if self._path.exists():
                whole = self._path.read_text("utf-8").split("\n")[:-1]
        records = [self._record(number, line) for number, line in enumerate(whole, start=1)]
        if records and records[0].get("settings") != self._settings:
            raise UsageError(
                self._path,
                "holds captions of another model, weights, seed or set of clips",
                "choose another --output",
            )
        self.known.update({(row["condition"], row["clip"]): row["caption"] for row in records[1:]})
        self.reused = len(self.known)
        head = json.dumps({"settings": self._settings}, ensure_ascii=False)
        write_text(self._path, "\n".join(whole or [head]) + "\n")
        self._file = self._path.open("a", encoding="utf-8")

    def __exit__(self, *fault: object) -> None:
        self._file.close()
        self._lock.release()

    def add(self, condition: str, clip: int, caption: str) -> None:
        row = {"condition": condition, "clip": clip, "caption": caption}
        with disk_faults_named(self._path):
            self._file.write(json.dumps(row, ensure_ascii=False) + "\n")
            self._file.flush()

    def _record(self, number: int, line: str) -> dict[str, Any]:
        try:
            record = json.loads(line)
            if number == 1 and isinstance(record["settings"], dict):
                return record
            return {
                "condition": str(record["condition"]),
                "clip": int(record["clip"]),
                "caption": str(record["caption"]),
            }
        except (ValueError, KeyError, TypeError) as error:
            raise LpmcError(
                f"{self._path}, line {number}", "was not written by this command", "choose another --output"
            ) from error
