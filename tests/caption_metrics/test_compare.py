"""Systems on the same clips: brought together, compared with one of them, tested as one family."""

from __future__ import annotations

import io
import json
import math
import random
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from small_captions import deaf, facts_of, listening, pairs_of

from caption_metrics.compare import Comparison, aligned_systems, compare_systems
from caption_metrics.pairs import Pair
from caption_metrics.plot import check_plot, plot_categories
from caption_metrics.report import to_markdown, to_terminal
from caption_metrics.score import evaluate_captions
from caption_metrics.significance import approximate_randomisation, holm, paired_bootstrap
from lpmc_errors import TableError, UsageError

FACTS = facts_of(150)
SYSTEMS = {
    "good": pairs_of(listening(FACTS, 0.9), FACTS),
    "same": pairs_of(listening(FACTS, 0.9, seed=11), FACTS),
    "less": pairs_of(listening(FACTS, 0.83), FACTS),
    "worse": pairs_of(listening(FACTS, 0.4), FACTS),
    "deaf": pairs_of(deaf(FACTS), FACTS),
}


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    return compare_systems(SYSTEMS, samples=400, trials=2_000)


def test_each_system_is_found_where_it_stands(comparison: Comparison) -> None:
    f1 = {name: found["facts_f1"].better for name, found in comparison.differences.items()}
    assert f1["worse"] is False
    assert f1["deaf"] is False
    assert f1["same"] is None  # as good, other captions
    assert comparison.differences["deaf"]["bleu4"].better is True  # the house style wins what it can
    assert f1["blind: shuffled"] is False
    assert comparison.differences["worse"]["facts_hallucination_rate"].better is False
    assert comparison.differences["worse"]["facts_hallucination_rate"].low > 0


def test_the_cards_are_those_of_each_system_alone(comparison: Comparison) -> None:
    for name, pairs in SYSTEMS.items():
        alone = evaluate_captions(pairs, samples=400)
        assert comparison.cards[name].scores == alone.scores
        assert comparison.cards[name].intervals == alone.intervals
        assert comparison.cards[name].beats_blind == alone.beats_blind


def test_differences_and_p_are_those_of_the_two_tests(comparison: Comparison) -> None:
    good, worse = comparison.cards["good"], comparison.cards["worse"]
    assert good.table is not None
    assert worse.table is not None
    measures = [measure for measure in good.measures if measure.better != "neither"]
    apart = paired_bootstrap(worse.table, good.table, measures, samples=400)
    p = approximate_randomisation(worse.table, good.table, measures, trials=2_000)
    for name, found in comparison.differences["worse"].items():
        assert (found.low, found.high) == pytest.approx((apart[name].low, apart[name].high), abs=1e-12)
        assert found.value == pytest.approx(apart[name].value, abs=1e-12)
        assert found.p == p[name]


def test_the_family_is_every_test_of_the_table(comparison: Comparison) -> None:
    found = [each for scores in comparison.differences.values() for each in scores.values()]
    tested = [each for each in found if not math.isnan(each.p)]
    assert comparison.tests == len(tested) > 40
    assert [each.p_holm for each in tested] == pytest.approx(holm([each.p for each in tested]))
    assert all((each.better is None) == (each.p_holm > 0.05) for each in tested)
    assert any(each.p <= 0.05 < each.p_holm for each in tested)  # what the correction takes back
    assert f"family-of-{len(tested)}-tests" in comparison.signature
    assert "samples:400|seed:0|n:150" in comparison.signature
    assert "trials:2000" in comparison.signature


def test_another_baseline_turns_the_sign() -> None:
    two = {name: SYSTEMS[name] for name in ("good", "worse")}
    one = compare_systems(two, samples=100, trials=100, blind=False)
    other = compare_systems(two, baseline="worse", samples=100, trials=100, blind=False)
    assert list(one.differences) == ["worse"]
    assert list(other.differences) == ["good"]
    assert one.differences["worse"]["facts_f1"].value == -other.differences["good"]["facts_f1"].value
    with pytest.raises(UsageError, match="best: is not among the systems; they are good, worse"):
        compare_systems(two, baseline="best")
    with pytest.raises(UsageError, match="has 1 system, expected at least 2"):
        compare_systems({"good": SYSTEMS["good"]})


def test_every_system_meets_its_own_captions_on_other_clips(comparison: Comparison) -> None:
    own = {name: card.blind["own_shuffled"]["facts_f1"] for name, card in comparison.cards.items()}
    assert len(set(own.values())) == len(own)
    assert not any("own" in name for name in (*comparison.blind, *comparison.differences))
    heads = to_markdown(comparison).splitlines()[2]
    assert "own" not in heads  # one column could not be every system's


def test_clips_in_another_order_are_joined_by_id(comparison: Comparison) -> None:
    mixed = random.Random(0).sample(SYSTEMS["worse"], len(SYSTEMS["worse"]))
    assert aligned_systems({"good": SYSTEMS["good"], "worse": mixed})["worse"] == SYSTEMS["worse"]


def test_what_does_not_belong_together_is_named_with_its_first_difference() -> None:
    good = SYSTEMS["good"]
    changed = [*good[:3], replace(good[3], references=("A fast harp.",)), *good[4:]]
    with pytest.raises(TableError) as caught:
        aligned_systems({"good": good, "other": changed})
    assert str(caught.value).startswith(
        "other, clip clip3: has another reference than good: 'A fast harp.' instead of "
    )
    with pytest.raises(TableError, match="other: lacks 2 of the clips of good, first clip148"):
        aligned_systems({"good": good, "other": good[:-2]})
    with pytest.raises(TableError, match="other: has 1 clips that good lacks, first clip149"):
        aligned_systems({"good": good[:-1], "other": good})
    with pytest.raises(TableError, match="other, clip clip0: is there more than once"):
        aligned_systems({"good": good, "other": [*good[:-1], good[0]]})
    bare = [replace(pair, id=None) for pair in good]
    with pytest.raises(TableError, match="other: has 149 rows where good has 150"):
        aligned_systems({"good": bare, "other": bare[1:]})
    with pytest.raises(TableError, match=r"other, row 1: has another reference .* or with a column of ids"):
        aligned_systems({"good": bare, "other": bare[::-1]})


def test_several_references_may_stand_in_another_order() -> None:
    one, other = Pair("x", ("a", "b"), id="1"), Pair("y", ("b", "a"), id="1")
    assert aligned_systems({"one": [one], "other": [other]})["other"] == [Pair("y", ("a", "b"), id="1")]


def test_table_markdown_and_json_say_the_same(comparison: Comparison) -> None:
    console = Console(width=220, record=True, file=io.StringIO())
    console.print(to_terminal(comparison))
    terminal, markdown = console.export_text(), to_markdown(comparison)
    result = json.loads(json.dumps(comparison.to_dict(), allow_nan=False))
    found = result["differences"]["worse"]["facts_f1"]
    assert found["better"] is False
    shown = f"{100 * found['difference']:+.2f}"
    assert any(shown in line and "worse -" in line for line in terminal.splitlines())
    assert any(shown in line and "worse -" in line for line in markdown.splitlines())
    assert "worse less good" in terminal
    score = f"{100 * result['systems']['good']['facts_f1']:.2f} ["
    assert score in markdown
    for text in (terminal, markdown):
        assert f"differences: {comparison.signature}" in text.replace("\n", "") or comparison.signature in text
        assert "does not beat every blind row" in text
        assert "Holm's correction" in text
    assert result["signature"] == comparison.signature
    assert result["baseline"] == "good"
    good = result["systems"]["good"]
    assert good["beats_all_blind"]["facts_f1"] is True
    assert result["systems"]["deaf"]["beats_all_blind"]["facts_f1"] is False


def test_the_plot_shows_every_system_and_stated_category(comparison: Comparison, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    tables = {name: card.table for name, card in comparison.cards.items() if card.table is not None}
    for name in ("facts.svg", "again.svg", "facts.png"):
        plot_categories(tables, tmp_path / name, samples=100)
    drawing = (tmp_path / "facts.svg").read_text(encoding="utf-8")
    for word in (*tables, "instrument", "mood", "tempo", "95 % intervals (150 captions)"):
        assert f">{word}" in drawing or word in drawing
    assert "(150 stated)" in drawing
    assert "era" not in {line.strip() for line in drawing.splitlines()}  # no reference states one
    assert drawing == (tmp_path / "again.svg").read_text(encoding="utf-8")
    assert (tmp_path / "facts.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(UsageError, match=r"pictures of type .gif are not written; use .png, .svg, .pdf"):
        check_plot(tmp_path / "facts.gif")
    with pytest.raises(UsageError, match="is a folder"):
        check_plot(tmp_path)
