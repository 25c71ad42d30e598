"""Regions, rare genres, the fall-back to Western claims, and captions of segments that contradict each other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from caption_metrics.lexicon import load_lexicon
from caption_metrics.out_of_distribution import MEASURES, OutOfDistribution, out_of_distribution, training_genres
from caption_metrics.pairs import Pair
from caption_metrics.regions import load_regions, regions_of, regions_of_source, sampler_coverage
from caption_metrics.segment_consistency import consistency_report, track_consistency

RAGA = ("sitar", "tabla", "meditative")


def protocol(*pairs: Pair, smallest: int = 1, **options: object) -> OutOfDistribution:
    return out_of_distribution(pairs, smallest=smallest, samples=20, **options)  # type: ignore[arg-type]


def values(report: OutOfDistribution, label: str) -> dict[str, float | None]:
    return {score.measure: score.value for score in report.slices.scores if score.label == label}


# --- regions --------------------------------------------------------------------------------------------------------


def test_every_fact_of_the_list_is_a_fact_of_the_lexicon() -> None:
    regions = load_regions()
    assert {*regions.facts, *regions.western} <= load_lexicon().kinds.keys()


def test_no_region_is_itself_a_western_default() -> None:
    assert not load_regions().western & load_regions().facts.keys()


@pytest.mark.parametrize(
    ("text", "region"),
    [
        ("A sitar plays over tabla.", "south asia"),
        ("genre---bossanova", "latin america"),  # MTG-Jamendo writes without spaces
        ("genre---middleeastern", "middle east and north africa"),
        ("Brazilian", "latin america"),
        ("N. Indian Traditional", "south asia"),  # FMA
        ("Reggae - Dub", "caribbean"),
        ("Middle East", "middle east and north africa"),
        ("Romany (Gypsy)", "european traditions"),
        ("a salsa tune", "latin america"),  # a kind of latin
    ],
)
def test_regions_are_read_from_captions_and_from_the_tags_of_corpora(text: str, region: str) -> None:
    assert regions_of([text]) == {region}


@pytest.mark.parametrize("text", ["A pop song with bongos and congas.", "world", "a French horn", "spanish guitar"])
def test_instruments_that_travel_and_vague_words_name_no_region(text: str) -> None:
    assert regions_of([text]) == frozenset()


def test_corpora_of_one_tradition_are_known_by_name() -> None:
    assert regions_of_source("saraga_carnatic") == {"south asia"}
    assert regions_of_source("musiccaps") == frozenset()


def test_a_tag_balanced_sampler_shows_which_regions_it_never_starts_from() -> None:
    coverage = {each.region: each for each in sampler_coverage({"rock": 80, "pop": 100, "indian": 15, "celtic": 5})}
    assert coverage["south asia"].share_of_draws == 0.25
    assert coverage["south asia"].share_of_assignments == 15 / 200
    assert coverage["no listed region"].tags == 2
    assert coverage["east asia"].tags == 0


# --- the protocol ---------------------------------------------------------------------------------------------------


def test_a_guitar_and_drums_in_place_of_sitar_and_tabla_is_a_default_to_western() -> None:
    report = protocol(
        Pair("A pop song with guitar and drums.", ("A calm piece.",), RAGA),
        Pair("A sitar over tabla, with electric guitar.", ("A calm piece.",), RAGA),
        Pair("A meditative recording.", ("A calm piece.",), RAGA),
        Pair("A pop song with guitar and drums.", ("A pop song with guitar.",), ("pop", "guitar")),
    )
    raga = values(report, "south asia")
    assert raga["defaults_to_western"] == pytest.approx(1 / 3)
    assert raga["claims_western"] == pytest.approx(2 / 3)
    assert raga["names_its_region"] == pytest.approx(1 / 3)
    assert values(report, "no listed region")["defaults_to_western"] is None


def test_what_tags_or_references_support_is_no_western_default() -> None:
    report = protocol(
        Pair("A pop song with guitar.", ("A Bollywood pop song.",), ("sitar", "guitar")),
        Pair("A beat of hand drums and drums.", ("A tabla solo.",)),  # a tabla is a kind of drum
        Pair("A latin pop tune.", ("A cumbia.",)),
    )
    assert [report.slices.overall[name][0] for name in ("claims_western", "defaults_to_western")] == [0.0, 0.0]


def test_hallucinated_instruments_are_counted_by_region() -> None:
    report = protocol(
        Pair("Sitar, trumpet and tuba.", ("A sitar.",)),
        Pair("A piano.", ("A piano and a flute.",)),
    )
    assert values(report, "south asia")["hallucinated_instruments"] == pytest.approx(2 / 3)
    assert values(report, "no listed region")["hallucinated_instruments"] == 0.0
    worst = {one.measure: one for one in report.slices.worst if one.dimension == "any region"}
    assert worst["hallucinated_instruments"].label == "any listed region"
    assert worst["hallucinated_instruments"].ratio == pytest.approx((2 / 3) / (2 / 4))


def test_a_column_of_the_file_or_a_known_corpus_gives_the_region() -> None:
    report = protocol(Pair("A flute.", ("A flute.",), extra={"region": "West Africa"}))
    assert values(report, "west africa")["facts_f1"] == 1.0
    by_source = protocol(Pair("A flute.", ("A flute.",), extra={"source": "four_way_tabla"}))
    assert values(by_source, "south asia")["facts_f1"] == 1.0


def test_a_genre_is_rare_when_training_hardly_names_it() -> None:
    texts: list[str | list[str]] = ["A punk rock song."] * 190 + [["jazz", "piano"]] * 7
    texts += ["A samba."] * 2 + ["A bossa nova tune."]
    genres = training_genres(texts, rare_below=0.01)
    assert [genres.is_rare(name) for name in ("rock", "samba", "bossa nova", "polka")] == [False, False, True, True]
    report = protocol(
        Pair("A rock song.", ("A rock song.",)),
        Pair("A rock song.", ("A polka.",)),
        Pair("A rock song.", ("A recording.",)),
        training_texts=texts,
    )
    rarity = [score for score in report.slices.scores if (score.dimension, score.measure) == ("rarity", "facts_f1")]
    assert {score.label: (score.n, score.value) for score in rarity} == {
        "a rare genre": (1, 0.0),
        "frequent genres only": (1, 1.0),
    }
    assert report.slices.unlabelled["rarity"] == 1
    assert "fewer than 1.0% of 200 training texts" in report.markdown()


def test_a_caption_that_claims_nothing_scores_zero_and_not_nothing() -> None:
    assert protocol(Pair("[silence]", ("A sitar.",))).slices.overall["facts_f1"][0] == 0.0


def test_the_report_is_json_with_every_measure() -> None:
    report = protocol(Pair("A flute.", ("A flute.",), RAGA), sampler_tags={"rock": 3, "indian": 1})
    record = json.loads(json.dumps(report.to_dict()))
    assert set(record["slices"]["overall"]) == {measure.name for measure in MEASURES}
    assert record["sampler_coverage"][0] == {
        "region": "south asia",
        "tags": 1,
        "share_of_draws": 0.5,
        "share_of_assignments": 0.25,
    }


def test_published_captions_fall_back_to_the_west_far_less_than_captions_of_other_clips(
    published_captions: Path,
) -> None:
    rows = json.loads((published_captions / "caption_writing" / "inference.json").read_text("utf-8"))[::2]
    others = rows[7:] + rows[:7]
    own = [Pair(row["prediction"], (row["ground_truth"],)) for row in rows]
    shifted = [Pair(row["prediction"], (other["ground_truth"],)) for row, other in zip(rows, others, strict=True)]
    rates = []
    for pairs in (own, shifted):
        report = out_of_distribution(pairs, samples=20)
        assert {"south asia", "latin america"} <= {score.label for score in report.slices.scores}
        rates.append(report.slices.overall["defaults_to_western"][0])
    assert rates[0] == pytest.approx(0.03, abs=0.02)  # 0.031 of all 2,839
    assert rates[1] is not None
    assert rates[1] > 0.6


# --- segments of one track ------------------------------------------------------------------------------------------


def track(*texts: str, path: str = "song.wav") -> dict[str, object]:
    segments = [{"start": 10.0 * k, "end": 10.0 * k + 10, "text": text} for k, text in enumerate(texts)]
    return {"path": path, "duration": 10.0 * len(texts), "segments": segments, "caption": texts[0]}


def test_a_voice_that_changes_its_sex_between_segments_is_a_flip() -> None:
    found = track_consistency(track("A man sings.", "A woman sings.", "A male and a female singer.", "A guitar solo."))
    assert (found.flips, found.pairs) == (1, 6)
    assert found.examples == ("sex of the singer: 0-10 s male vocals / 10-20 s female vocals",)


@pytest.mark.parametrize(
    ("one", "other", "topic"),
    [
        ("A slow song.", "A fast song.", "tempo"),
        ("A song at 70 bpm.", "A song at 150 bpm.", "tempo"),
        ("A piece in C major.", "A piece in A minor.", "mode"),
        ("A waltz time in 3/4.", "A beat in 4/4.", "metre"),
        ("An instrumental track.", "A choir sings.", "singing"),
        ("A low quality recording.", "A high quality recording.", "recording quality"),
    ],
)
def test_contradictions_are_named_by_topic(one: str, other: str, topic: str) -> None:
    assert dict(track_consistency(track(one, other)).contradictions) == {topic: 1}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("A slow song.", "A medium tempo song."),
        ("A slow, then fast song.", "A fast song."),
        ("A piano.", "A guitar."),
        ("70 bpm", "A song at 85 bpm."),
        ("A song at 85 bpm.", "A fast song."),
    ],
)
def test_different_words_are_no_contradiction(one: str, other: str) -> None:
    assert not track_consistency(track(one, other)).contradictions


def test_silent_windows_say_nothing_and_identical_sentences_are_counted() -> None:
    found = track_consistency(track("A man sings.", "[silence]", "a man sings", "A man sings."))
    assert (found.segments, found.identical) == (3, 2)


def test_rates_are_over_tracks_with_several_segments_and_name_the_worst() -> None:
    tracks = [
        track("A man sings.", "A woman sings.", path="flip.wav"),
        track("A slow song.", "A fast song.", "A slow song.", path="tempo.wav"),
        track("A flute.", "A flute.", path="same.wav"),
        track("A flute.", path="short.wav"),
    ]
    report = consistency_report(tracks)
    assert (report.tracks, report.skipped) == (3, 1)
    assert report.tracks_with_flip == pytest.approx(1 / 3)
    assert report.tracks_with_contradiction == pytest.approx(2 / 3)
    assert report.contradicting_pairs == pytest.approx(3 / 5)
    assert report.identical_segments == pytest.approx(2 / 4)
    assert [worst.path for worst in report.worst] == ["flip.wav", "tempo.wav"]
    assert json.loads(json.dumps(report.to_dict()))["by_topic"]["tempo"] == pytest.approx(1 / 3)


def test_a_day_of_music_is_compared_in_bounded_time() -> None:
    long = track(*(["A man sings."] * 4_000 + ["A woman sings."] * 4_640))
    assert track_consistency(long).pairs <= 360 * 359 // 2
    assert track_consistency(long).flips > 0
