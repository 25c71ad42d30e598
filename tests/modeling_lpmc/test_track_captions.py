"""One caption for a track: what its windows agree on, without what they contradict, in sentences that they wrote."""

from __future__ import annotations

import pytest

from caption_metrics.facts import Fact, extract_facts
from modeling_lpmc.audio_track_lpmc import SILENCE_TEXT
from modeling_lpmc.track_captions import RAW, Hypothesis, TrackTag, Window, describe_windows

HOUSE_TRACK = "A groovy instrumental house track with a drum machine and a synth bass, played at a fast tempo."
PIANO_TRACK = "A calm instrumental new age piece with a piano, played at a slow tempo."


def windows(*texts: str | tuple[tuple[str, float], ...], end: float | None = None) -> list[Window]:
    made = []
    for number, text in enumerate(texts):
        heard = ((text, 1.0),) if isinstance(text, str) else text
        start, stop = 10.0 * number, 10.0 * number + 10
        if end is not None and number == len(texts) - 1:
            start, stop = end - 10, end
        made.append(Window(start, stop, tuple(Hypothesis(*one) for one in heard)))
    return made


def tag(found: tuple[TrackTag, ...], name: str) -> float | None:
    return next((each.confidence for each in found if each.name == name), None)


def test_what_most_seconds_say_is_said_and_the_odd_window_is_not() -> None:
    found = describe_windows(windows(HOUSE_TRACK, PIANO_TRACK, HOUSE_TRACK, HOUSE_TRACK))
    assert found.caption == HOUSE_TRACK
    assert tag(found.tags, "house") == pytest.approx(0.75)
    assert tag(found.tags, "drum machine") == pytest.approx(0.75)
    assert tag(found.tags, "piano") == pytest.approx(0.25)
    assert [each.confidence for each in found.tags] == sorted((each.confidence for each in found.tags), reverse=True)


def test_a_contradiction_is_decided_by_seconds_and_told() -> None:
    found = describe_windows(windows(HOUSE_TRACK, PIANO_TRACK, HOUSE_TRACK))
    assert (tag(found.tags, "fast"), tag(found.tags, "slow")) == (pytest.approx(2 / 3), None)
    assert found.notes == (
        "tempo: fast in 67% of the track, slow in 33%",
        "genre: house in 67% of the track, new age in 33%",
    )
    assert "slow" not in found.caption


def test_the_singer_does_not_change_sex_in_the_caption() -> None:
    man, woman = "A rock song with male vocals and drums.", "A rock song with female vocals and drums."
    found = describe_windows(windows(man, woman, woman))
    assert {fact.value for fact in extract_facts(found.caption) if fact.category == "vocals"} == {"female vocals"}
    assert "singer: female vocals in 67% of the track, male vocals in 33%" in found.notes
    assert tag(found.tags, "male vocals") is None


def test_the_last_window_weighs_only_the_seconds_that_it_adds() -> None:
    overlapped = describe_windows(windows(HOUSE_TRACK, PIANO_TRACK, end=11.0))
    assert tag(overlapped.tags, "house") == pytest.approx(10 / 11)
    assert overlapped.caption.startswith(HOUSE_TRACK)


def test_the_model_s_doubts_count() -> None:
    doubtful = ((PIANO_TRACK, 0.55), (HOUSE_TRACK, 0.45))
    found = describe_windows(windows(doubtful, doubtful, HOUSE_TRACK))
    assert found.caption.startswith(HOUSE_TRACK)  # though two of three best captions say the other
    assert tag(found.tags, "house") == pytest.approx((0.45 + 0.45 + 1) / 3)


def test_an_instrument_of_much_of_the_track_is_added() -> None:
    flute, cello = (
        "A folk piece with an acoustic guitar and a flute.",
        "A folk piece with an acoustic guitar and a cello.",
    )
    found = describe_windows(windows(flute, cello, flute, cello, flute))
    assert found.caption == f"{flute} Also heard: cello."
    assert "Also heard" not in describe_windows(windows(flute, flute, flute, flute, cello)).caption


def test_no_claim_of_a_caption_comes_from_nowhere() -> None:
    found = describe_windows(windows(HOUSE_TRACK, PIANO_TRACK, "A rock song with drums and an organ.", HOUSE_TRACK))
    said = (
        extract_facts(HOUSE_TRACK) | extract_facts(PIANO_TRACK) | extract_facts("A rock song with drums and an organ.")
    )
    assert extract_facts(found.caption) <= said


def test_silence_has_no_vote_and_a_track_of_it_is_silence() -> None:
    assert describe_windows(windows(SILENCE_TEXT, HOUSE_TRACK, SILENCE_TEXT)).caption == HOUSE_TRACK
    silent = describe_windows(windows(SILENCE_TEXT, SILENCE_TEXT))
    assert (silent.caption, silent.tags, silent.notes) == (SILENCE_TEXT, (), ())
    assert describe_windows([]).caption == SILENCE_TEXT


@pytest.mark.parametrize(
    "tick",
    [
        "The recording is of low quality.",
        "This is an amateur recording.",
        "It could be used as the soundtrack of a film.",
        "This song can be played in a lounge.",
        "It would be suitable for a commercial.",
        "The song has a tempo of 120 BPM.",
        "You would hear this in a church.",
    ],
)
def test_ticks_of_the_house_are_left_out_unless_asked_for(tick: str) -> None:
    text = f"{HOUSE_TRACK} {tick}"
    assert describe_windows(windows(text, text)).caption == HOUSE_TRACK
    assert describe_windows(windows(text, text), style=RAW).caption == text
    assert Fact("production", "low quality").value not in {each.name for each in describe_windows(windows(text)).tags}


@pytest.mark.parametrize(
    "sentence",
    [
        "An 808 and a 12-string guitar play 80s pop.",
        "The bass could not be deeper.",
        "A piano is used as the lead.",
        "It may remind of a lullaby.",
    ],
)
def test_sentences_that_only_look_like_ticks_stay(sentence: str) -> None:
    assert describe_windows(windows(sentence, sentence)).caption == sentence


def test_a_track_of_ticks_alone_still_has_a_caption() -> None:
    tick = "The low quality recording features a piano."
    assert describe_windows(windows(tick)).caption == tick


def test_a_track_of_one_window_has_its_best_caption() -> None:
    found = describe_windows(windows(((PIANO_TRACK, 0.3), (HOUSE_TRACK, 0.25), (f"{HOUSE_TRACK} And bass.", 0.45))))
    assert found.caption == PIANO_TRACK


def test_words_that_are_no_facts_are_still_chosen_among() -> None:
    near = "Something quite lovely goes on here"
    odd = "Completely different words altogether now"
    assert describe_windows(windows(odd, near, f"{near} again")).caption in (near, f"{near} again")


def test_the_same_windows_give_the_same_description() -> None:
    texts = (HOUSE_TRACK, PIANO_TRACK, "A rock song with drums and an organ.")
    assert describe_windows(windows(*texts)) == describe_windows(windows(*texts))
