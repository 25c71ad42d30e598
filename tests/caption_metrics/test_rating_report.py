"""The analysis of a study from file to report: what it warns of, and that simulated ratings never pass for results."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from caption_metrics.rating_analysis import RatingAnalysis, analyse
from caption_metrics.rating_report import FILES, SIMULATED, markdown, print_report, report_title, to_dict, write_report
from caption_metrics.rating_simulation import Truth, expected_strengths, simulate_ratings
from caption_metrics.ratings import read_ratings
from lpmc_errors import LpmcError
from lpmc_ratings import app

ATTENTIVE = Truth(clips=80)


def saved(path: Path, records: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def analysed(path: Path, records: list[dict[str, Any]], **options: Any) -> RatingAnalysis:
    return analyse(read_ratings(saved(path, records)), samples=200, **options)


def as_if_real(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same records without the marks of simulation: to see what a report of people's ratings looks like."""
    return [
        {**record, "simulated": False, "study": "study-1", "rater": record["rater"].removeprefix("simulated-")}
        for record in records
    ]


def terminal(analysis: RatingAnalysis) -> str:
    console = Console(file=io.StringIO(), width=200)
    print_report(analysis, console)
    return console.file.getvalue()  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def attentive(tmp_path_factory: pytest.TempPathFactory) -> RatingAnalysis:
    return analysed(tmp_path_factory.mktemp("study") / "ratings.jsonl", simulate_ratings(ATTENTIVE))


def test_the_truth_of_a_simulated_study_is_found_again(attentive: RatingAnalysis) -> None:
    expected = expected_strengths(ATTENTIVE)
    assert attentive.kept is not None
    for question in attentive.kept.questions:
        for row in question.preference.strengths:
            if row.system != "human":
                assert row.low is not None
                assert row.high is not None
                assert row.low - 0.1 < expected[row.system] < row.high + 0.1
        assert question.nominal.alpha == pytest.approx(0.1, abs=0.1)
        assert question.ordinal.alpha > question.nominal.alpha  # type: ignore[operator]
    assert attentive.sanity.verdict == "passed"
    assert attentive.quality.excluded == ()


def test_simulated_stands_in_every_title_and_on_every_form_of_the_report(
    attentive: RatingAnalysis, tmp_path: Path
) -> None:
    assert report_title(attentive).endswith(SIMULATED)
    told = to_dict(attentive)
    assert told["simulated"] is True
    assert SIMULATED in told["title"]
    assert terminal(attentive).splitlines()[0].endswith(SIMULATED)
    assert terminal(attentive).rstrip().endswith(SIMULATED)
    text = markdown(attentive)
    assert text.splitlines()[0].endswith(SIMULATED)
    headings = [line for line in text.splitlines() if line.startswith("## Which caption")]
    assert headings
    assert all("SIMULATED" in heading for heading in headings)
    for detail in ("Each rater", "every two systems"):  # hundreds of rows, which only the files hold
        assert detail in text
        assert detail not in terminal(attentive)
    paths = write_report(attentive, tmp_path)
    assert tuple(path.name for path in paths) == FILES
    assert json.loads(paths[0].read_text()) == json.loads(json.dumps(told))
    assert paths[2].read_bytes().startswith(b"\x89PNG")


def test_the_plot_of_simulated_ratings_says_so_in_its_pixels(attentive: RatingAnalysis, tmp_path: Path) -> None:
    from dataclasses import replace

    from matplotlib.image import imread

    from caption_metrics.rating_report import draw_plot

    def red_pixels(analysis: RatingAnalysis) -> int:
        draw_plot(analysis, tmp_path / "plot.png")
        pixels = imread(tmp_path / "plot.png")
        title = pixels[: len(pixels) // 25]
        return int(((title[..., 0] > 0.9) & (title[..., 1] < 0.2) & (title[..., 2] < 0.2)).sum())

    assert red_pixels(attentive) > 200
    assert red_pixels(replace(attentive, simulated=False)) == 0


def test_one_simulated_rating_among_real_ones_marks_the_whole_report(tmp_path: Path) -> None:
    records = as_if_real(simulate_ratings(Truth(clips=30)))
    real = analysed(tmp_path / "real.jsonl", records)
    assert "SIMULATED" not in markdown(real) + terminal(real) + json.dumps(to_dict(real))
    records[7]["simulated"] = True
    mixed = analysed(tmp_path / "mixed.jsonl", records)
    assert SIMULATED in report_title(mixed)
    assert any(f"1 of {len(records)} ratings are simulated" in warning for warning in mixed.warnings)


def test_a_study_whose_raters_do_not_beat_the_blind_caption_is_called_broken(tmp_path: Path) -> None:
    truth = Truth({"human": 0.0, "ours": 0.1, "blind-constant": 0.0}, clips=30)
    broken = analysed(tmp_path / "ratings.jsonl", simulate_ratings(truth))
    assert broken.sanity.verdict == "broken"
    assert any(warning.startswith("THE STUDY IS BROKEN") for warning in broken.warnings)
    for text in (markdown(broken), terminal(broken)):
        assert "Sanity check FAILED: the study is broken" in text
    assert ("human", "more_correct") in broken.sanity.not_above_blind


def test_a_lead_over_the_blind_caption_that_chance_explains_is_no_pass(tmp_path: Path) -> None:
    records = simulate_ratings(Truth({"human": 0.0, "blind-constant": 0.0}, clips=20))
    for number, record in enumerate(records):  # people win 5 of 9
        human = ("left", "right")[record["pair"].index("human")]
        other = ("left", "right")[1 - record["pair"].index("human")]
        record["answers"] = dict.fromkeys(record["answers"], human if number % 9 < 5 else other)
    told = analysed(tmp_path / "ratings.jsonl", records)
    (row,) = told.everyone.questions[0].pairs
    assert row.win_rate.value < 0.5  # type: ignore[operator]  # the blind caption's
    assert told.sanity.verdict == "broken"


def test_a_study_without_the_blind_caption_says_that_nothing_was_checked(tmp_path: Path) -> None:
    told = analysed(tmp_path / "ratings.jsonl", simulate_ratings(Truth({"human": 0.0, "ours": 0.1}, clips=20)))
    assert told.sanity.verdict == "not checked"
    assert any("nothing shows that preferences need the music" in warning for warning in told.warnings)


def test_the_sanity_check_reaches_the_blind_caption_through_other_systems(tmp_path: Path) -> None:
    truth = Truth({"ours": 0.0, "human": 0.5, "blind-constant": -2.0}, clips=60)  # all compared with ours
    told = analysed(tmp_path / "ratings.jsonl", simulate_ratings(truth))
    assert told.sanity.verdict == "passed"
    assert told.sanity.not_above_blind == ()


def test_results_stand_with_and_without_the_excluded_raters(tmp_path: Path) -> None:
    truth = Truth(clips=120, careless=6)
    told = analysed(tmp_path / "ratings.jsonl", simulate_ratings(truth))
    assert len(told.quality.excluded) == 6
    assert told.kept is not None
    assert (told.kept.raters, told.everyone.raters) == (18, 24)
    weak = [
        {row.system: row.value for row in part.questions[0].preference.strengths}["blind-constant"]
        for part in (told.kept, told.everyone)
    ]
    assert weak[0] < weak[1] < 0  # answers at random bring everyone closer
    text = markdown(told)
    assert "With and without the excluded raters" in text
    assert "6 raters excluded" in text
    assert "all raters" in text
    assert "simulated-rater-000: " in terminal(told)


def test_rules_that_exclude_everyone_leave_the_result_over_all_with_a_warning(tmp_path: Path) -> None:
    told = analysed(tmp_path / "ratings.jsonl", simulate_ratings(Truth(clips=20, careless=24)))
    if told.kept is None:
        assert any("exclude every rater" in warning for warning in told.warnings)
    assert len(told.quality.excluded) == 24
    assert "Which caption" in markdown(told)


@pytest.mark.parametrize(
    ("keep", "warning"),
    [
        (lambda record: record["kind"] != "gold", "no gold comparisons"),
        (lambda record: record["kind"] != "duplicate", "no duplicates"),
        (lambda record: record["rater"] == "simulated-rater-003", "one rater"),
        (lambda record: record["item"] == "simulated-clip-3", "one clip"),
    ],
)
def test_what_a_study_lacks_is_named(tmp_path: Path, keep: Any, warning: str) -> None:
    records = [record for record in simulate_ratings(Truth(clips=40)) if keep(record)]
    kept = {record["rating_id"] for record in records}
    records = [record for record in records if record["duplicate_of"] is None or record["duplicate_of"] in kept]
    told = analysed(tmp_path / "ratings.jsonl", records)
    assert any(text.startswith(warning) for text in told.warnings), told.warnings
    assert warning in markdown(told)
    assert warning in terminal(told)


def test_all_ties_are_named_and_nothing_breaks(tmp_path: Path) -> None:
    records = simulate_ratings(Truth(clips=20))
    tied = [{**record, "answers": dict.fromkeys(record["answers"], "tie")} for record in records]
    told = analysed(tmp_path / "ratings.jsonl", tied)
    assert any("every answer is a tie" in warning for warning in told.warnings)
    assert "chance agrees as well" in markdown(told)
    assert "100.0 (94.0–100.0)" in terminal(told)


def test_a_preference_for_one_side_in_all_raters_is_reported(tmp_path: Path) -> None:
    told = analysed(tmp_path / "ratings.jsonl", simulate_ratings(Truth(clips=60, left=0.8)))
    assert any("the left side was preferred in" in warning for warning in told.warnings)


def test_a_study_that_is_not_full_says_what_a_look_at_it_costs(tmp_path: Path) -> None:
    (tmp_path / "ratings").mkdir()
    saved(tmp_path / "ratings" / "ratings.jsonl", simulate_ratings(Truth(clips=20)))
    (tmp_path / "study.json").write_text(json.dumps({"raters_per_unit": 3, "planned": {"real": 600}}))
    told = analyse(read_ratings(tmp_path), samples=100)
    assert told.planned == 600
    assert any(warning.startswith("180 of 600 planned ratings") for warning in told.warnings)
    assert "180 real ratings of 600 planned" in markdown(told)


def test_unusable_lines_are_counted_and_named_in_the_report(tmp_path: Path) -> None:
    path = saved(tmp_path / "ratings.jsonl", simulate_ratings(Truth(clips=20)))
    path.write_text(path.read_text() + '{"torn')
    told = analyse(read_ratings(path), samples=100)
    assert told.lines["unusable"] == 1
    assert "is torn: the file ends inside it" in markdown(told)


def test_claims_that_raters_ticked_give_the_human_precision(tmp_path: Path) -> None:
    records = simulate_ratings(Truth({"human": 0.0, "ours": 0.0}, clips=20))
    for number, record in enumerate(records):
        if record["kind"] == "real":
            ours = record["pair"].index("ours")
            sides = ("left", "right")
            record["claims"] = {sides[ours]: ["mood: sad", "instrument: tuba"], sides[1 - ours]: ["mood: sad"]}
            record["wrong_claims"] = {sides[ours]: ["instrument: tuba"] if number % 4 else [], sides[1 - ours]: None}
    told = analysed(tmp_path / "ratings.jsonl", records)
    rows = {(row.system, row.category): row for row in told.everyone.claims}
    assert set(rows) == {("ours", "all"), ("ours", "mood"), ("ours", "instrument")}
    assert rows["ours", "mood"].right.value == 1
    right = rows["ours", "instrument"].right
    assert right.value == pytest.approx(0.25, abs=0.1)
    assert right.low < right.value < right.high  # type: ignore[operator]
    assert rows["ours", "all"].right.of == 2 * right.of
    assert "human precision" in markdown(told)


def test_names_cannot_break_the_table_or_the_terminal(tmp_path: Path) -> None:
    records = simulate_ratings(Truth({"human": 0.0, "a|b [red]$x$\x1b[2J\n": 0.0}, clips=10))
    told = analysed(tmp_path / "ratings.jsonl", records)
    text = markdown(told)
    assert r"a\|b \[red]$x$\\x1b" in text
    assert "\x1b" not in text + terminal(told)
    tables = [line for line in text.splitlines() if line.startswith("| a")]
    assert tables
    write_report(told, tmp_path)


def test_a_seed_repeats_the_analysis(tmp_path: Path) -> None:
    records = simulate_ratings(Truth(clips=20))
    first, again = (to_dict(analysed(tmp_path / "r.jsonl", records, seed=4)) for _ in range(2))
    assert first == again
    assert first != to_dict(analysed(tmp_path / "r.jsonl", records, seed=5))
    assert "bootstrap:200|seed:4" in first["signature"]


def test_the_commands_simulate_analyse_and_plan(tmp_path: Path) -> None:
    run = CliRunner().invoke
    ratings, folder = tmp_path / "sim.jsonl", tmp_path / "report"
    made = run(app, ["simulate", str(ratings), "--clips", "30", "--strength", "human=0", "--strength", "ours=-0.5"])
    assert made.exit_code == 0
    assert "SIMULATED" in made.stdout
    told = run(app, ["analyse", str(ratings), "--samples", "100", "--json", "--output", str(folder)])
    assert told.exit_code == 0
    assert json.loads(told.stdout)["simulated"] is True
    assert "SIMULATED" in told.stderr
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    ratings.write_text(ratings.read_text() + "{")
    assert run(app, ["analyse", str(ratings), "--samples", "100"]).exit_code == 3
    unchecked = run(app, ["analyse", str(ratings), "--samples", "100", "--require-beats-blind"])
    assert isinstance(unchecked.exception, LpmcError)
    assert "sanity check not checked" in str(unchecked.exception)
    planned = run(app, ["power", "--win-rate", "0.6", "--ties", "0.2", "--simulations", "100", "--json"])
    assert json.loads(planned.stdout)["needed"]["0.6"] == 194
    assert "85 for 65 %" in run(app, ["power", "--simulations", "100"]).stdout


def test_the_command_takes_the_rules_that_were_fixed_beforehand(tmp_path: Path) -> None:
    ratings = saved(tmp_path / "sim.jsonl", simulate_ratings(Truth(clips=20, careless=3)))
    options = ["analyse", str(ratings), "--samples", "100", "--json", "--min-seconds", "0", "--min-gold", "0"]
    told = json.loads(CliRunner().invoke(app, options).stdout)
    assert told["quality"]["excluded"] == []
    assert told["quality"]["rules"]["min_median_seconds"] == 0
