"""The claims table: its plan compares like with like, its statistics decide as they should, its command resumes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks.claims import make_table, show_status
from benchmarks.claims_material import CORPUS_SEED, HeldOutClip
from benchmarks.claims_plan import FRACTIONS, SCALES, Claim, Rates, claims, measured, run_seconds, runs, systems
from benchmarks.claims_scores import EXACT_F1, exact_references, load_rows, save_rows
from benchmarks.claims_statistics import draw, estimates, judged_claims
from caption_metrics.facts import extract_facts
from dataset_builder.captioning.captions_table import CaptionRow, write_captions
from dataset_builder.instructions import INSTRUCTIONS
from dataset_builder.tracks import read_tracks
from lpmc_errors import EXIT_DONE, EXIT_PARTIAL, UsageError

FULL = SCALES["full"]
SMALL = replace(
    SCALES["tiny"], clips=60, reference_clips=12, written_clips=6, test_clips=4, ood_clips=2, listening_clips=2, seeds=1
)
TAGS = (("jazz", "piano", "slow tempo"), ("rock", "electric guitar", "fast tempo"), ("folk", "violin", "a minor"))


# --- the plan -------------------------------------------------------------------------------------------------------


def test_a_group_alone_brings_what_its_runs_start_from_and_are_compared_with() -> None:
    made = systems(FULL, k2c=True)
    for only in ((), ("instructions",), ("main",), ("written",)):
        before: set[str] = set()
        for run in runs(made, 3, only):
            assert run.starts_from is None or run.starts_from in before
            before.add(run.name)
        asked = {system.name for system in systems(FULL, k2c=True) if not only or system.group in only}
        compared = [claim for claim in claims(systems(FULL, k2c=True)) if claim.worse in asked]
        assert compared
        assert {f"{claim.better}-seed0" for claim in compared} <= before


def test_claims_compare_equal_updates_or_say_what_differs() -> None:
    made = {system.name: system for system in systems(FULL, k2c=True)}

    def in_all(name: str) -> int:
        base = made[name].starts_from
        return made[name].updates + (in_all(base) if base else 0)

    for claim in claims(tuple(made.values())):
        one, other = made[claim.better], made[claim.worse]
        if "equal updates in all" in claim.says or claim.better.startswith("written") or "alone" in claim.says:
            assert in_all(one.name) == in_all(other.name), claim
        elif "same updates on them" in claim.says:
            assert (one.updates, one.split) == (other.updates, other.split), claim
        else:
            assert "zero-shot" in claim.says


def test_every_claim_of_the_paper_is_among_the_claims_and_k2c_only_with_its_model() -> None:
    with_k2c, without = claims(systems(FULL, k2c=True)), claims(systems(FULL))
    assert {claim.worse for claim in with_k2c} - {claim.worse for claim in without} == {
        "written-k2c",
        "written-k2c-transfer-100",
    }
    assert sum(claim.paper is not None for claim in with_k2c) == 3 + 6


def test_hours_are_counted_from_what_finished_runs_took() -> None:
    note = {"updates": 100, "training_s": 50.0, "captions": 10, "captioning_s": 5.0, "other_s": 7.0}
    rates = measured([note, note], Rates(9, 9, 9, 1, 1, "a guess"))
    assert (rates.update_s, rates.caption_s, rates.run_s) == (0.5, 0.5, 7.0)
    run = runs(systems(FULL), 1)[0]
    captions = FULL.test_clips + FULL.ood_clips + 3 * FULL.listening_clips
    assert run_seconds(run, FULL, rates) == pytest.approx(0.5 * run.system.updates + 0.5 * captions + 7)
    assert measured([], rates) is rates


# --- the statistics -------------------------------------------------------------------------------------------------


def clip(number: int) -> HeldOutClip:
    tags = TAGS[number % 3]
    return HeldOutClip(str(number), Path("unheard.flac"), (f"A {tags[0]} piece with {tags[1]}, {tags[2]}.",), tags)


def rows_of(folder: Path, right: float) -> object:
    """The numbers of a system that names the clip's own tags for this share of 60 clips, else those of another."""
    clips = [clip(number) for number in range(60)]
    said = [f"A piece: {', '.join(TAGS[(number if number < 60 * right else number + 1) % 3])}." for number in range(60)]
    save_rows(folder / "rows.npz", said, clips)
    return load_rows(folder / "rows.npz")


def verdicts(rows: dict[str, dict[int, object]], seeds: int = 3) -> dict[str, str]:
    drawn = draw(rows, 2_000)  # type: ignore[arg-type]
    found = judged_claims(drawn, [Claim("better", "worse", "better > worse")], seeds)
    return {one.measure: one.verdict for one in found}


def test_a_claim_holds_fails_or_stays_open_by_its_numbers(tmp_path: Path) -> None:
    good, bad = rows_of(tmp_path, 0.9), rows_of(tmp_path, 0.3)
    of_good, of_bad = dict.fromkeys(range(3), good), dict.fromkeys(range(3), bad)
    assert verdicts({"better": of_good, "worse": of_bad})[EXACT_F1] == "holds"
    assert verdicts({"better": of_bad, "worse": of_good})[EXACT_F1] == "does not hold"
    assert verdicts({"better": of_good, "worse": of_good})[EXACT_F1] == "undecided"
    assert verdicts({"better": of_good, "worse": {0: bad}})[EXACT_F1] == "not complete"
    assert verdicts({"better": of_good}) == {}


def test_claims_that_cannot_be_tested_yet_belong_to_the_family(tmp_path: Path) -> None:
    good, fair = rows_of(tmp_path, 0.9), rows_of(tmp_path, 0.6)
    drawn = draw({"a": dict.fromkeys(range(3), good), "b": dict.fromkeys(range(3), fair)}, 2_000)  # type: ignore[dict-item]
    alone = judged_claims(drawn, [Claim("a", "b", "a > b")], 3)
    among = judged_claims(drawn, [Claim("a", "b", "a > b"), Claim("c", "b", "c > b")], 3)
    assert [one.p for one in among] == [one.p for one in alone]
    assert all(
        more.p_holm == pytest.approx(min(1.0, one.p_holm + 2 * one.p)) for more, one in zip(among, alone, strict=True)
    )


def test_seeds_that_disagree_widen_the_interval_and_leave_a_claim_open(tmp_path: Path) -> None:
    good, fair, bad = (rows_of(tmp_path, share) for share in (0.9, 0.6, 0.1))
    agree, differ = dict.fromkeys(range(3), fair), {0: good, 1: bad, 2: good}
    found = estimates(draw({"agree": agree, "differ": differ}, 500))  # type: ignore[dict-item]
    narrow, wide = found["agree"][EXACT_F1], found["differ"][EXACT_F1]
    assert wide.high - wide.low > 1.5 * (narrow.high - narrow.low)
    assert wide.value == pytest.approx(sum(wide.by_seed.values()) / 3)
    assert (
        verdicts({"better": differ, "worse": dict.fromkeys(range(3), rows_of(tmp_path, 0.5))})[EXACT_F1] == "undecided"
    )


def test_a_system_that_claims_nothing_scores_zero_facts(tmp_path: Path) -> None:
    save_rows(tmp_path / "rows.npz", ["It is there."] * 60, [clip(number) for number in range(60)])
    silent = {0: load_rows(tmp_path / "rows.npz")}
    assert estimates(draw({"silent": silent}, 200))["silent"][EXACT_F1].value == 0.0


# --- the command ----------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _one_thread() -> object:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def written_by_a_model(folder: Path) -> None:
    """Captions as the language model leaves them, for any clip: its own step is tested where the model is."""
    rows = [
        CaptionRow(f"rendered-{CORPUS_SEED}-{number:05d}", name, f"A piece of music, {name}.", "ok", None, "model")
        for number in range(SMALL.clips)
        for name in INSTRUCTIONS[:3]
    ]
    write_captions(
        (replace(row, backend="local", model_asked="a-model") for row in rows), folder / "written.parquet", {}
    )


def test_the_table_is_made_run_by_run_resumes_and_keeps_what_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("benchmarks.claims_material.TRAINING_FONTS", ("default",))
    monkeypatch.setattr("benchmarks.claims_material.WORKERS", 1)
    written_by_a_model(tmp_path)
    blocked = tmp_path / "runs" / "written-template-seed0"
    blocked.mkdir(parents=True)
    (blocked / "model").write_text("not a folder", encoding="utf-8")

    assert make_table(tmp_path, SMALL, only=["written"]) == EXIT_PARTIAL
    report = json.loads((tmp_path / "claims.json").read_text("utf-8"))
    assert set(report["failures"]) == {"written-template-seed0", "written-template-transfer-100-seed0"}
    assert report["runs_done"] == 4
    assert not report["complete"]
    text = (tmp_path / "claims.md").read_text("utf-8")
    assert "**Partial: 4 of 23 runs are done.**" in text
    assert "failed: written-template-seed0" in text
    assert report["material"]["clips"]["reference_100"] == SMALL.reference_clips
    assert report["material"]["clips"]["written"] == SMALL.written_clips
    assert set(report["material"]["pretrain_clips_by_writer"]) == {"a-model"} | {"grammar"}
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*") if path.is_file()}

    (blocked / "model").unlink()
    assert show_status(tmp_path, SMALL, only=["written"]) == EXIT_DONE
    shown = capsys.readouterr()
    assert shown.out.count("done ") == 4
    assert "Missing: 2 with" in shown.err
    assert make_table(tmp_path, SMALL, only=["written"]) == EXIT_DONE
    report = json.loads((tmp_path / "claims.json").read_text("utf-8"))
    assert (report["runs_done"], report["failures"]) == (6, {})
    untouched = [path for path in kept if path.exists() and blocked not in path.parents]
    assert untouched
    assert all(path.stat().st_mtime_ns == kept[path] for path in untouched)
    on_test = report["sets"]["test"]
    assert on_test["n"] == SMALL.test_clips
    said = [claim["sentence"] for claim in on_test["claims"]]
    assert len(said) == 2 * 4
    assert all("[the paper's: Table 4]" in sentence for sentence in said)
    assert report["systems"]["written-lm-transfer-100"]["starts_from"] == "written-lm"
    assert report["listening"]["written-lm"]["n"] == SMALL.listening_clips
    assert "constant" in on_test["blind"]
    assert (tmp_path / "learning_curves.png").stat().st_size > 0

    with pytest.raises(UsageError, match="holds a table with sizes"):
        make_table(tmp_path, replace(SMALL, batch_size=8), only=["written"])
    check_material(tmp_path)


def check_material(folder: Path) -> None:
    """What the runs learnt from: nested references, none of them pre-trained on, and facts that tags state."""
    import pyarrow.parquet as pq

    def ids(split: str) -> set[str]:
        return set(pq.read_table(folder / f"data/claims/{split}-00000-of-00001.parquet")["track_id"].to_pylist())

    parts = [ids(f"reference_{name}") for name in FRACTIONS]
    assert parts[0] <= parts[1] <= parts[2]
    assert not parts[2] & ids("pretrain")
    assert ids("written") <= ids("pretrain")
    for track in read_tracks(folder / "tracks.parquet"):
        assert (track.split == "train") == (track.track_id in parts[2] | ids("pretrain"))
        together = HeldOutClip(track.track_id, folder, (), track.tags)
        assert extract_facts(*exact_references(together)) == frozenset().union(*map(extract_facts, track.tags))
