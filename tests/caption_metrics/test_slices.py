"""Labels, and statistics of slices held against simulations with a known truth (all data here is simulated)."""

from __future__ import annotations

import json
import tracemalloc

import numpy as np
import pytest

from caption_metrics.measures import CaptionTable, Measure, ratio
from caption_metrics.pairs import Pair
from caption_metrics.significance import bootstrap, interval
from caption_metrics.slice_labels import SliceLabels, slice_labels
from caption_metrics.slices import SliceReport, slice_report
from lpmc_errors import TableError

RIGHT = Measure("right", ("correct", "claims"), ratio, "simulated")
WRONG = Measure("wrong", ("incorrect", "claims"), ratio, "simulated", better="lower")
LENGTH = Measure("length", ("claims", "captions"), ratio, "simulated", better="neither")


def table(correct: np.ndarray, claims: int = 4) -> CaptionTable:
    """Captions with `claims` claims each, of which `correct` (n,) are right."""
    rows = CaptionTable(("correct", "incorrect", "claims"))
    rows.append({"correct": correct, "incorrect": claims - correct, "claims": np.full(len(correct), claims)})
    return rows


def by_genre(*groups: tuple[str, int]) -> SliceLabels:
    """`count` captions of each genre in turn."""
    labels = tuple(frozenset({name}) for name, count in groups for _ in range(count))
    return SliceLabels({"genre": labels}, {"genre": "column genre"})


def report(rates: dict[str, tuple[int, float]], *, seed: int = 0, samples: int = 300) -> SliceReport:
    """Captions of each genre with the given number and true share of right claims."""
    random = np.random.default_rng(seed)
    correct = np.concatenate([random.binomial(4, rate, n) for n, rate in rates.values()]).astype(float)
    labels = by_genre(*((name, n) for name, (n, _) in rates.items()))
    return slice_report(table(correct), [RIGHT], labels, samples=samples, seed=seed)


def pair(reference: str = "A song.", tags: tuple[str, ...] = (), **extra: str) -> Pair:
    return Pair("Something.", (reference,), tags, extra=extra)


# --- labels ---------------------------------------------------------------------------------------------------------


def test_labels_come_from_a_column_before_tags_and_from_tags_before_references() -> None:
    tagged = pair("A rock song.", ("jazz",), genre="Bossa Nova; Jazz")
    assert slice_labels([tagged]).labels["genre"] == (frozenset({"bossa nova", "jazz"}),)
    assert slice_labels([tagged]).origins["genre"] == "column genre"
    assert slice_labels([pair("A rock song.", ("jazz",))]).labels["genre"] == (frozenset({"jazz"}),)
    found = slice_labels([pair("A rock song.")])
    assert (found.labels["genre"], found.origins["genre"]) == ((frozenset({"rock"}),), "references")


def test_a_clip_without_tags_among_tagged_ones_is_labelled_by_its_references() -> None:
    found = slice_labels([pair("A rock song.", ("jazz",)), pair("A rock song.")])
    assert found.labels["genre"] == (frozenset({"jazz"}), frozenset({"rock"}))
    assert found.origins["genre"] == "tags, else references"


def test_a_clip_belongs_to_every_general_genre_it_is_of() -> None:
    assert slice_labels([pair("A punk rock tune.")]).labels["genre"] == (frozenset({"punk", "rock"}),)


def test_tempo_in_bpm_is_labelled_in_words_and_may_lie_between_two() -> None:
    labels = slice_labels([pair(bpm="70"), pair(bpm="120.4"), pair(bpm="170 bpm"), pair(bpm="")]).labels["tempo"]
    assert labels == (frozenset({"slow"}), frozenset({"medium", "fast"}), frozenset({"fast"}), frozenset())


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("A woman sings a ballad.", "female vocals"),
        ("A choir sings.", "vocals, sex not stated"),
        ("An instrumental piece for flute.", "instrumental"),
        ("A beat with no vocals.", "instrumental"),
    ],
)
def test_vocals_are_labelled_by_sex_as_sung_or_as_instrumental(text: str, label: str) -> None:
    assert slice_labels([pair(text)], ["vocals"]).labels["vocals"] == (frozenset({label}),)


def test_a_column_of_truth_values_says_whether_anyone_sings() -> None:
    labels = slice_labels([pair(vocals="true"), pair(vocals="False"), pair(vocals="female")]).labels["vocals"]
    assert labels == (
        frozenset({"vocals, sex not stated"}),
        frozenset({"instrumental"}),
        frozenset({"female vocals"}),
    )


def test_a_missing_value_is_no_slice_however_a_table_writes_it() -> None:
    values = ("nan", "None", "n/a", "unknown", "<NA>", float("nan"), ["nan", None])
    pairs = [Pair("A tune.", ("A song.",), extra={"genre": value}) for value in (*values, "rock")]
    assert slice_labels(pairs, ["genre"]).labels["genre"] == (*[frozenset()] * len(values), frozenset({"rock"}))
    no_beat = slice_labels([pair(bpm="0"), pair(bpm="-1.0"), pair(bpm="60")]).labels["tempo"]
    assert no_beat == (frozenset(), frozenset(), frozenset({"slow"}))
    sung = slice_labels([pair(vocals="1"), pair(vocals="0"), pair(vocals="no")]).labels["vocals"]
    assert sung == (frozenset({"vocals, sex not stated"}), *[frozenset({"instrumental"})] * 2)


def test_the_source_is_a_column_or_unknown_and_predictions_label_nothing() -> None:
    assert "source" not in slice_labels([pair("A rock song.")]).labels
    assert slice_labels([pair(source="MusicCaps")]).labels["source"] == (frozenset({"musiccaps"}),)
    assert "genre" not in slice_labels([Pair("A jazz tune.", ("A recording.",))]).labels


# --- scores ---------------------------------------------------------------------------------------------------------


def test_values_are_those_of_the_captions_of_the_slice_alone() -> None:
    correct = np.array([4.0] * 40 + [1.0] * 60)
    found = slice_report(table(correct), [RIGHT, WRONG, LENGTH], by_genre(("jazz", 40), ("rap", 60)), samples=50)
    values = {(score.label, score.measure): score.value for score in found.scores}
    assert values == {("jazz", "right"): 1.0, ("rap", "right"): 0.25, ("jazz", "wrong"): 0.0, ("rap", "wrong"): 0.75}
    assert found.overall["right"][0] == pytest.approx(0.55)
    whole = interval(bootstrap(table(correct), [RIGHT], samples=50, seed=0)["right"])
    assert found.overall["right"][1:] == pytest.approx(whole), "the interval that the card prints"
    assert {worst.measure: worst.label for worst in found.worst} == {"right": "rap", "wrong": "rap"}
    assert found.worst[0].ratio == pytest.approx(0.25 / 0.55)


def test_a_slice_that_is_too_small_is_named_and_not_scored() -> None:
    found = slice_report(table(np.zeros(50)), [RIGHT], by_genre(("jazz", 29), ("rap", 21)), smallest=25, samples=20)
    assert {score.label for score in found.scores} == {"jazz"}
    assert found.too_small == {"genre": {"rap": 21}}
    assert "rap (21)" in found.markdown()


def test_captions_may_be_in_several_slices_or_in_none() -> None:
    labels = [frozenset({"jazz", "latin"})] * 40 + [frozenset({"jazz"})] * 40 + [frozenset[str]()] * 20
    slices = SliceLabels({"genre": tuple(labels)}, {"genre": "tags"})
    correct = np.array([4.0] * 40 + [0.0] * 60)
    found = slice_report(table(correct), [RIGHT], slices, samples=50)
    assert {score.label: (score.n, score.value) for score in found.scores} == {"jazz": (80, 0.5), "latin": (40, 1.0)}
    assert found.unlabelled == {"genre": 20}


def test_labels_for_another_number_of_captions_are_refused() -> None:
    with pytest.raises(TableError, match="slices by genre: have 3 labels beside 4 captions"):
        slice_report(table(np.zeros(4)), [RIGHT], by_genre(("jazz", 3)))


def test_the_seed_decides_the_intervals_and_nothing_else() -> None:
    rates = {"jazz": (60, 0.4), "rap": (60, 0.6)}
    one, same = report(rates, seed=3), report(rates, seed=3)
    assert one == same
    random = np.random.default_rng(3)
    correct = np.concatenate([random.binomial(4, rate, n) for n, rate in rates.values()]).astype(float)
    other = slice_report(table(correct), [RIGHT], by_genre(("jazz", 60), ("rap", 60)), samples=300, seed=4)
    assert [score.value for score in other.scores] == [score.value for score in one.scores]
    assert [score.low for score in other.scores] != [score.low for score in one.scores]


def test_the_blocks_of_the_table_change_nothing() -> None:
    correct = np.random.default_rng(0).binomial(4, 0.5, 3_000).astype(float)
    split = CaptionTable(("correct", "incorrect", "claims"))
    for part in np.array_split(correct, 7):
        split.append({"correct": part, "incorrect": 4 - part, "claims": np.full(len(part), 4)})
    labels = by_genre(("jazz", 1_000), ("rap", 2_000))
    one, other = (slice_report(rows, [RIGHT], labels, samples=20).to_dict() for rows in (table(correct), split))
    assert json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def test_the_difference_is_paired_a_slice_of_nearly_all_captions_hardly_differs() -> None:
    """19 of 20 captions: slice and whole are drawn together, so their difference is far surer than either value."""
    found = report({"rap": (50, 0.5), "jazz": (950, 0.5)})
    jazz = next(score for score in found.scores if score.label == "jazz")
    assert jazz.high is not None
    assert jazz.low is not None
    assert jazz.difference_high is not None
    assert jazz.difference_low is not None
    assert jazz.difference_high - jazz.difference_low < 0.5 * (jazz.high - jazz.low)


def test_memory_does_not_grow_with_samples_times_captions() -> None:
    """30,000 captions and 200 samples: all weights at once would be 48 MB, twice."""
    rows = table(np.ones(30_000))
    labels = by_genre(("jazz", 10_000), ("rap", 20_000))
    tracemalloc.start()
    slice_report(rows, [RIGHT], labels, samples=200)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 30e6


def test_a_measure_that_a_slice_does_not_define_is_left_open_and_is_never_the_worst() -> None:
    rows = CaptionTable(("correct", "incorrect", "claims"))
    rows.append({"correct": np.ones(80), "incorrect": np.zeros(80), "claims": np.repeat([0.0, 2.0], 40)})
    found = slice_report(rows, [RIGHT], by_genre(("empty", 40), ("jazz", 40)), samples=30)
    values = {score.label: (score.value, score.low, score.p) for score in found.scores}
    assert values["empty"] == (None, None, None)
    assert found.worst[0].label == "jazz"


# --- truth ----------------------------------------------------------------------------------------------------------


def test_intervals_hold_the_true_value_as_often_as_they_say() -> None:
    """40 simulated test sets, two slices: 80 intervals of 95 %; 69 would be the 1 in 1,000 of a binomial(80, 0.95)."""
    truth = {"jazz": (80, 0.35), "rap": (120, 0.6)}
    held = 0
    for seed in range(40):
        for score in report(truth, seed=seed, samples=200).scores:
            assert score.low is not None
            assert score.high is not None
            held += score.low <= truth[score.label][1] <= score.high
    assert held >= 69


def test_of_equal_slices_the_worst_is_seldom_called_worse() -> None:
    """60 simulated sets of 12 equal slices: about 3 may differ (5 % of families); one by one about half of them do."""
    families = alone = 0
    for seed in range(60):
        found = report({f"genre {k}": (40, 0.5) for k in range(12)}, seed=seed, samples=200)
        (worst,) = found.worst
        assert worst.p is not None
        assert worst.difference_high is not None
        families += worst.difference_high < 0
        score = next(score for score in found.scores if score.label == worst.label)
        assert score.high is not None
        alone += score.high < 0.5
        assert worst.value < 0.5
    assert families <= 8  # 1 in 1,000 of a binomial(60, 0.05)
    assert alone >= 15  # what looking at each interval by itself would have said


def test_a_slice_that_is_truly_worse_is_found_and_its_gap_is_right() -> None:
    found = report({"raga": (150, 0.3), **{f"genre {k}": (150, 0.6) for k in range(5)}})
    (worst,) = found.worst
    assert worst.label == "raga"
    assert worst.p is not None
    assert worst.p < 0.01
    truth = 0.3 - (0.3 + 5 * 0.6) / 6
    assert worst.difference_low is not None
    assert worst.difference_high is not None
    assert worst.difference_low < truth < worst.difference_high < 0
    assert worst.ratio_low is not None
    assert worst.ratio_high is not None
    assert worst.ratio_low < 0.3 / 0.55 < worst.ratio_high < 1


def test_the_unselected_value_undoes_the_choice_of_the_worst() -> None:
    """12 equal slices at 0.5: the worst one seen lies below; on captions that did not choose it, it reaches 0.5."""
    worst = [report({f"genre {k}": (40, 0.5) for k in range(12)}, seed=seed, samples=20).worst[0] for seed in range(40)]
    unselected = [one.unselected for one in worst if one.unselected is not None]
    assert np.mean([one.value for one in worst]) < 0.45
    assert np.mean(unselected) == pytest.approx(0.5, abs=0.015)


def test_a_report_is_json_and_markdown_with_how_it_was_made() -> None:
    found = report({"jazz": (60, 0.2), "rap|trap": (200, 0.6)})
    record = json.loads(json.dumps(found.to_dict()))
    assert record["worst"][0]["label"] == "jazz"
    assert "samples:300|seed:0" in record["signature"]
    assert found.rows()[0]["dimension"] == "genre"
    text = found.markdown()
    assert "| rap/trap | 200 |" in text  # a bar in a label would break the table
    assert f"| {100 * found.worst[0].value:.2f} |" in text
    assert "]* |" in text
