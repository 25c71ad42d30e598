"""From the annotation of MSD-ECALS to a loaded data set of 514,000 rows: seconds and memory of every step.

    python benchmarks/dataset_scale.py [--rows 514000] [--folder DIR] [--repeats 1]

The corpus is made by `msd_corpus.py`: the true format and sizes, invented words. Every step is a process of its own,
and runs with a tenth, three tenths and all of the rows, so that a memory that grows with them shows. Needs about 6 GB
of disk and half an hour; `--folder` keeps the corpus and the captions for a later run, and the figures as JSON.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import json
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from child_usage import Usage, run_measured

ROWS = 514_000  # the published configuration has 513,977
SHARES = (0.1, 0.3, 1.0)
SPLITS = ("train", "valid", "test")
NAME, CONFIG, COLUMN = "lp-musiccaps", "msd", "caption_writing"
CAPTIONS = 4  # a track
BUSY = 0.05  # cores that other programs may use before a figure is marked
DATASETS_ALONE = Path(__file__).resolve().parent.parent / ".venv-datasets/bin/python"  # `make test` installs it
LPMC = Path(sys.executable).with_name("lpmc")
RESULTS = "dataset_scale.json"


@dataclass(frozen=True)
class Place:
    """Where everything of one size lies."""

    folder: Path

    @property
    def release(self) -> Path:
        return self.folder / "release"

    @property
    def tracks(self) -> Path:
        return self.folder / "tracks.parquet"

    def captions(self, shuffled: bool = False) -> Path:
        return self.folder / f"captions{'-shuffled' if shuffled else ''}.parquet"

    def built(self, kind: str) -> Path:
        return self.folder / kind / NAME

    @property
    def cache(self) -> Path:
        return self.folder / "hf-home"


@dataclass(frozen=True)
class Step:
    """A command that is measured. `before` puts its place into the state it starts from."""

    name: str
    command: list[str]
    before: Callable[[], object] = lambda: None
    cwd: Path | None = None


def steps(place: Place, reader: Path) -> list[Step]:
    """Every measured step, in the order they need each other. `reader` is the Python that opens the data set."""

    def build(name: str, kind: str, processes: int, shuffled: bool = False) -> Step:
        target = place.built(kind)
        command = ["build", place.captions(shuffled), "--tracks", place.tracks, "--config", CONFIG]
        command += ["--output", target, "--num-proc", processes, "--json"]
        return Step(name, lpmc(*command), lambda: shutil.rmtree(target.parent, ignore_errors=True))

    def load(name: str, kind: str, fresh: bool = False) -> Step:
        def before() -> None:
            if fresh:
                shutil.rmtree(place.cache, ignore_errors=True)

        return Step(name, [str(reader), __file__, "--load", kind], before, place.built("one").parent)

    reading = ["tracks", "msd_ecals", "--root", place.release, "--output", place.tracks, "--json"]
    return [
        Step("`lpmc tracks msd_ecals`", lpmc(*reading), lambda: place.tracks.unlink(missing_ok=True)),
        build("`lpmc build`", "one", 1),
        build("`lpmc build --num-proc 2`", "two", 2),
        build("`lpmc build`, captions in no order", "shuffled", 1, shuffled=True),
        load(f'`load_dataset("{NAME}", "{CONFIG}")`, first time', "plain", fresh=True),
        load("the same, from the cache", "plain"),
        load("streaming, the first row", "first"),
        load("streaming, all rows", "stream"),
        load(f'streaming, `columns=["{COLUMN}"]`', "column"),
    ]


def lpmc(*words: object) -> list[str]:
    return [str(LPMC), *map(str, words)]


# --- inside the process that is measured ------------------------------------------------------------------------------


def load(kind: str) -> None:
    """Open the data set from its parent folder in one way; print the seconds after the imports and the rows."""
    from datasets import load_dataset

    begun = time.perf_counter()
    if kind == "plain":
        rows = sum(map(len, load_dataset(NAME, CONFIG).values()))
    elif kind == "first":
        stream = iter(load_dataset(NAME, CONFIG, split=SPLITS[0], streaming=True))
        rows = len([next(stream)])
        # Arrow's threads must be gone before the interpreter is, or some exits abort (huggingface/datasets#7467).
        del stream
        gc.collect()
    else:
        chosen: dict[str, Any] = {"columns": [COLUMN]} if kind == "column" else {}
        splits = load_dataset(NAME, CONFIG, streaming=True, **chosen)
        rows = sum(1 for split in splits.values() for _ in split)
    print(json.dumps({"seconds": time.perf_counter() - begun, "rows": rows}), flush=True)
    os._exit(0)  # a stream that was left half-way can abort the interpreter's end (huggingface/datasets#7566)


def compare(one: str, other: str) -> None:
    """Print the rows of each split of two builds that are equal in every column. Raises `SystemExit`."""
    import pyarrow.parquet as pq

    found = {}
    for split in SPLITS:
        tables = [pq.read_table(sorted(Path(folder).glob(f"{split}-*.parquet"))) for folder in (one, other)]
        if not tables[0].equals(tables[1]):
            raise SystemExit(f"{split} of {one} and {other} differ")
        found[split] = len(tables[0])
    print(json.dumps(found))


# --- around it --------------------------------------------------------------------------------------------------------


def measure(place: Place, reader: Path, rows: int, repeats: int) -> list[dict[str, Any]]:
    """Run every step `repeats` times and return a record a run."""
    environment = {**os.environ, "HF_HOME": str(place.cache), "HF_HUB_OFFLINE": "1"}
    environment.pop("HF_DATASETS_CACHE", None)
    make_release(place, rows)
    found = []
    for step in steps(place, reader):
        if "build" in step.name:
            make_captions(place, "order" in step.name)
        for _ in range(repeats):
            step.before()
            os.sync()
            usage = run_measured(step.command, cwd=step.cwd, environment=environment)
            found.append(record(step, rows, usage))
            print(line(found[-1]), flush=True)
    check(place, rows)
    return found


def make_release(place: Place, rows: int) -> None:
    if not (place.release / "made").exists():
        run_script("release", place.release, "--rows", rows)
        (place.release / "made").touch()


def make_captions(place: Place, shuffled: bool) -> None:
    if not place.captions(shuffled).exists():
        run_script("captions", place.tracks, place.captions(shuffled), *(["--shuffled"] if shuffled else []))


def run_script(*words: object) -> None:
    run_measured([sys.executable, str(Path(__file__).with_name("msd_corpus.py")), *map(str, words)])


def record(step: Step, rows: int, usage: Usage) -> dict[str, Any]:
    told = json.loads(usage.output) if "--load" in step.command else {}
    values = asdict(usage)
    del values["output"]
    return {"step": step.name, "rows": rows, **values, "after_imports_s": told.get("seconds"), "read": told.get("rows")}


def check(place: Place, rows: int) -> None:
    """The builds must agree and hold every row. Raises `SystemExit` or `RuntimeError` when they do not.

    One process or two: the same bytes. Captions in no order compress otherwise, so that shards may be cut elsewhere:
    there the rows are compared.
    """
    one, two, shuffled = (place.built(kind) / CONFIG for kind in ("one", "two", "shuffled"))
    files = digests(one)
    if digests(two) != files:
        raise SystemExit(f"{rows} rows: the builds with one process and with two differ")
    told = json.loads(run_measured([sys.executable, __file__, "--compare", str(one), str(shuffled)]).output)
    if sum(told.values()) != rows:
        raise SystemExit(f"{told} rows were built of {rows}")
    size = sum((one / name).stat().st_size for name in files)
    made = sum(path.stat().st_size for path in place.release.rglob("*.json"))
    captions = place.captions().stat().st_size
    print(
        f"{rows:,} rows: release {made / 1e6:.0f} MB, captions table {captions / 1e6:.0f} MB, "
        f"built {size / 1e6:.0f} MB in {len(files)} files; {told}; all builds agree",
        flush=True,
    )


def digests(folder: Path) -> dict[str, str]:
    found = {}
    for path in sorted(folder.glob("*.parquet")):
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while block := file.read(1 << 20):  # this process must stay small, see `child_usage`
                digest.update(block)
        found[path.name] = digest.hexdigest()
    return found


HEADER = (
    "| step | rows | seconds | after imports | processor seconds | peak MiB: largest process | all processes | without "
    "mapped files | rows a second |\n|---|---:|---:|---:|---:|---:|---:|---:|---:|"
)


def line(run: dict[str, Any]) -> str:
    mark = " (other programs ran)" if run["elsewhere"] > BUSY else ""
    after = "" if run["after_imports_s"] is None else f"{run['after_imports_s']:.2f}"
    seconds = run["after_imports_s"] or run["wall_s"]
    rate = f"{run['rows'] / seconds:,.0f}" if run["read"] in (None, run["rows"]) else ""
    cpu = run["user_s"] + run["system_s"]
    return (
        f"| {run['step']}{mark} | {run['rows']:,} | {run['wall_s']:.1f} | {after} | {cpu:.1f} "
        f"| {run['largest_mib']:.0f} | {run['together_mib']:.0f} | {run['private_mib']:.0f} | {rate} |"
    )


def growth(runs: list[dict[str, Any]]) -> list[str]:
    """A line through the peaks of each step over the rows: where it starts, and what 100,000 rows add."""
    lines = [
        "| step | MiB with no rows | MiB a 100,000 rows | of these without mapped files | seconds a 100,000 rows |",
        "|---|---:|---:|---:|---:|",
    ]
    for name in dict.fromkeys(run["step"] for run in runs):
        mine = [run for run in runs if run["step"] == name]
        rows = [run["rows"] / 100_000 for run in mine]
        whole = statistics.linear_regression(rows, [run["together_mib"] for run in mine])
        private = statistics.linear_regression(rows, [run["private_mib"] for run in mine])
        seconds = statistics.linear_regression(rows, [run["wall_s"] for run in mine])
        lines.append(
            f"| {name} | {whole.intercept:.0f} | {whole.slope:.1f} | {private.slope:.1f} | {seconds.slope:.1f} |"
        )
    return lines


def run(folder: Path, reader: Path, rows: int, repeats: int) -> None:
    runs: list[dict[str, Any]] = []
    print(f"the data set is opened by {reader}\n{HEADER}", flush=True)
    for share in SHARES:
        size = round(rows * share)
        runs += measure(Place(folder / str(size)), reader, size, repeats)
    print("\n".join(["", *growth(runs)]))
    machine = {"python": platform.python_version(), "cores": os.cpu_count(), "reader": str(reader)}
    machine |= {name: version(name) for name in ("datasets", "pyarrow")}
    (folder / RESULTS).write_text(json.dumps({"machine": machine, "runs": runs}, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--folder", type=Path, help="where the corpus and the figures stay; default: nowhere")
    parser.add_argument("--repeats", type=int, default=1, help="runs of every step")
    parser.add_argument(
        "--reader",
        type=Path,
        help="Python that opens the data set; default: the one with `datasets` alone, if installed",
    )
    parser.add_argument("--load", choices=("plain", "first", "stream", "column"), help=argparse.SUPPRESS)
    parser.add_argument("--compare", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    reader = given.reader or (DATASETS_ALONE if DATASETS_ALONE.exists() else Path(sys.executable))
    if given.load:
        load(given.load)
    elif given.compare:
        compare(*given.compare)
    elif given.folder:
        given.folder.mkdir(parents=True, exist_ok=True)
        run(given.folder.resolve(), reader, given.rows, given.repeats)
    else:
        with tempfile.TemporaryDirectory() as folder:
            run(Path(folder), reader, given.rows, given.repeats)


if __name__ == "__main__":
    main()
