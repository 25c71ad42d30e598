"""The paper's claim, tested on a corpus of which every fact is known: one command, run by run, resumable.

    python benchmarks/claims.py --folder DIR                  # everything; about four hours on two cores
    python benchmarks/claims.py --folder DIR --status         # what is done, what is missing, how long it will take
    python benchmarks/claims.py --folder DIR --only main      # one group of runs and what it is compared with
    python benchmarks/claims.py --folder DIR --scale tiny     # the machinery in minutes; its numbers mean nothing

It renders a corpus, lets a language model and grammars write pseudo captions, trains every system with every seed,
captions clips it never heard, scores them beside blind rows, and writes claims.md, claims.json and learning_curves.png
anew after each run. Finished runs are kept; a killed one goes on where it stopped. Whatever comes out is reported.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))  # a checkout that was not installed


from benchmarks.claims_plan import (  # noqa: E402
    GROUPS,
    REFERENCE_RATES,
    SCALES,
    Rates,
    Run,
    Sizes,
    claims,
    material_seconds,
    measured,
    run_seconds,
    runs,
    systems,
)
from lpmc_console import progress_bar, say  # noqa: E402
from lpmc_errors import (  # noqa: E402
    EXIT_DONE,
    EXIT_INTERRUPTED,
    EXIT_PARTIAL,
    DiskError,
    Interrupted,
    LpmcError,
    UsageError,
)
from lpmc_files import claimed, write_json  # noqa: E402

if TYPE_CHECKING:
    from benchmarks.claims_material import Material

PLAN = "plan.json"
FACTS = "material.json"
DEVICES = ("auto", "cpu")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--folder", type=Path, required=True, help="where everything lies; run again to continue")
    parser.add_argument("--scale", choices=SCALES, default="full", help="how large the table is")
    parser.add_argument("--only", choices=GROUPS, action="append", default=[], help="these groups of runs alone")
    parser.add_argument("--k2c", metavar="MODEL", help="also the paper's keyword-to-text captions, by this model")
    parser.add_argument("--device", choices=DEVICES, default="auto", help="auto takes a GPU where there is one")
    parser.add_argument("--status", action="store_true", help="tell what is done and what is missing, and stop")
    given = parser.parse_args(arguments)
    if given.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # before torch is loaded
    try:
        if given.status:
            return show_status(given.folder, SCALES[given.scale], only=given.only, k2c=given.k2c)
        return make_table(given.folder, SCALES[given.scale], only=given.only, k2c=given.k2c)
    except LpmcError as error:
        say(f"error: {error}")
        return error.exit_code
    except KeyboardInterrupt:
        say("interrupted; run the same command again to continue")
        return EXIT_INTERRUPTED


def make_table(folder: Path, sizes: Sizes, *, only: Sequence[str] = (), k2c: str | None = None) -> int:
    """Do every run that is missing and write the report after each; returns the exit code.

    A run that fails is recorded and the others go on (exit code 3); what starts from it is left out. Raises
    `UsageError` for a folder with a table of other settings or one at work, `Interrupted`, `DiskError`, and the faults
    of making the material, without which there is no run.
    """
    with claimed(folder, ".lock", "makes a table"):
        return _make_table(folder, sizes, only, k2c)


def _make_table(folder: Path, sizes: Sizes, only: Sequence[str], k2c: str | None) -> int:
    from benchmarks.claims_material import make_material, signature
    from benchmarks.claims_report import write_report
    from benchmarks.claims_runs import Lab, do_run, finished, precision_here

    precision = precision_here()
    _same_plan(folder, {"sizes": asdict(sizes), "k2c": k2c, "precision": precision, "material": signature()})
    made = systems(sizes, k2c=k2c is not None)
    wanted = runs(made, sizes.seeds, only)
    tested = claims(made)
    _tell_plan(folder, wanted, sizes)
    material: Material = make_material(folder, sizes, k2c=k2c, say=say, bar=progress_bar)
    write_json(folder / FACTS, material.facts)
    lab = Lab(folder, material, sizes, precision, say, progress_bar)
    failures: dict[str, str] = {}
    write_report(folder, made, tested, sizes, material.facts, failures)
    for number, run in enumerate(wanted, start=1):
        if finished(folder, run):
            continue
        say(f"run {number} of {len(wanted)}: {run.name} ({run.system.title}, {run.system.updates} updates)")
        try:
            do_run(lab, run)
        except (Interrupted, DiskError):
            raise
        except LpmcError as error:
            failures[run.name] = str(error)
            say(f"    failed: {error}")
        write_report(folder, made, tested, sizes, material.facts, failures)
    missing = sum(finished(folder, run) is None for run in wanted)
    say(f"{len(wanted) - missing} of {len(wanted)} runs are done; the report is {folder / 'claims.md'}")
    return EXIT_PARTIAL if missing else EXIT_DONE


def show_status(folder: Path, sizes: Sizes, *, only: Sequence[str] = (), k2c: str | None = None) -> int:
    """Print what is done, what is missing and the hours it will take; returns the exit code."""
    from benchmarks.claims_runs import finished, run_folder

    wanted = runs(systems(sizes, k2c=k2c is not None), sizes.seeds, only)
    rates = _rates(folder, wanted)
    for run in wanted:
        note = finished(folder, run)
        if note is not None:
            took = note["training_s"] + note["captioning_s"] + note["other_s"]
            print(f"done     {run.name}  ({took / 60:.1f} min)")
        else:
            state = "begun" if run_folder(folder, run).exists() else "missing"
            print(f"{state:8} {run.name}  (about {run_seconds(run, sizes, rates) / 60:.1f} min)")
    _tell_plan(folder, wanted, sizes)
    return EXIT_DONE


def _tell_plan(folder: Path, wanted: Sequence[Run], sizes: Sizes) -> None:
    from benchmarks.claims_runs import finished

    rates = _rates(folder, wanted)
    missing = [run for run in wanted if finished(folder, run) is None]
    hours = sum(run_seconds(run, sizes, rates) for run in missing) / 3600
    first = 0.0 if (folder / FACTS).is_file() else material_seconds(sizes, rates) / 3600
    updates = sum(run.system.updates for run in missing)
    say(
        f"{len(wanted) - len(missing)} of {len(wanted)} runs are done. Missing: {len(missing)} with {updates} updates, "
        f"about {hours:.1f} h"
        + (f", and corpus and captions, about {first:.1f} h" if first else "")
        + f" (by {rates.update_s:.3f} s an update and {rates.caption_s:.3f} s a caption of {rates.seen})"
    )


def _rates(folder: Path, wanted: Sequence[Run]) -> Rates:
    from benchmarks.claims_runs import finished

    notes: list[dict[str, Any]] = [note for run in wanted if (note := finished(folder, run)) is not None]
    return measured(notes, REFERENCE_RATES)


def _same_plan(folder: Path, plan: dict[str, Any]) -> None:
    """Claim the folder for these settings. Raises `UsageError` where it holds a table of others."""
    file = folder / PLAN
    try:
        before = json.loads(file.read_text("utf-8"))
    except (FileNotFoundError, ValueError):
        write_json(file, plan)
        return
    here = json.loads(json.dumps(plan))  # tuples are lists there
    for section, values in here.items():
        if before.get(section) != values:
            raise UsageError(
                folder,
                f"holds a table with {section} {before.get(section)}, not {values}",
                "give the same options (and machine, and version) to continue it, or name another --folder",
            )


if __name__ == "__main__":
    sys.exit(main())
