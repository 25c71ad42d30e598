"""The composer of the rendered corpus: variety, and facts that are true of the notes."""

from __future__ import annotations

import cmath
import math
import os
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from random import Random
from statistics import mean

import pytest

from caption_metrics.facts import extract_facts
from dataset_builder.sources.rendered_composer import (
    DENSE_ONSETS,
    DENSE_PARTS,
    SPARSE_ONSETS,
    SPARSE_PARTS,
    Arrangement,
    Genre,
    Part,
    compose,
    texture_of,
)
from dataset_builder.sources.rendered_genres import GENRES
from dataset_builder.sources.rendered_instruments import DRUM_KEYS, INSTRUMENTS
from dataset_builder.sources.rendered_parts import METRES, Event, Note, Song, fitting_lines, walking_bass
from dataset_builder.sources.rendered_parts_form import Clock, passages
from dataset_builder.sources.rendered_parts_harmony import arpeggio, chords, drone, tremolo
from dataset_builder.sources.rendered_parts_melody import answer, canon, counterpoint, harmonised, melody, riff
from dataset_builder.sources.rendered_theory import Key, chord, melody_classes, progression, voicing

PROJECT = Path(__file__).resolve().parents[2]
CLIPS = 2400
CLIP_S = 10.0
BY_NAME = {genre.name: genre for genre in GENRES}


def _clip(index: int, seed: int = 0, duration_s: float = CLIP_S) -> Arrangement:
    return compose(GENRES[index % len(GENRES)], Random(f"{seed}:{index}"), duration_s)


@pytest.fixture(scope="module")
def clips() -> list[Arrangement]:
    return [_clip(index) for index in range(CLIPS)]


def _step_s(arrangement: Arrangement) -> float:
    return 60 / arrangement.bpm / METRES[arrangement.metre].steps_per_beat


def _bar_s(arrangement: Arrangement) -> float:
    return _step_s(arrangement) * METRES[arrangement.metre].steps_per_bar


def _pitched(arrangement: Arrangement) -> Iterator[tuple[Part, Note]]:
    for part in arrangement.parts:
        if not part.instrument.drum:
            for note in part.notes:
                yield part, note


# --- variety --------------------------------------------------------------------------------------------------------


def test_no_two_clips_have_the_same_tune_in_any_key_or_tempo(clips):
    tunes = Counter(
        tuple(
            (
                part.instrument.tag,
                tuple((round(n.start / _step_s(clip)), n.pitch - clip.key.tonic) for n in part.notes),
            )
            for part in clip.parts
            if not part.instrument.drum
        )
        for clip in clips
    )
    assert max(tunes.values()) == 1


def test_there_are_many_genres_instruments_moods_metres_keys_and_textures_and_all_occur(clips):
    assert len(BY_NAME) == len(GENRES) >= 24
    tags = Counter(tag for clip in clips for tag in clip.instruments)
    assert set(tags) == {instrument.tag for instrument in INSTRUMENTS.values()}
    assert len(tags) >= 60
    assert min(tags.values()) >= 5, tags.most_common()[-5:]
    assert {(clip.genre, clip.mood) for clip in clips} == {(g.name, mood.word) for g in GENRES for mood in g.moods}
    assert len({clip.mood for clip in clips}) >= 15
    assert {(clip.genre, clip.metre) for clip in clips} == {(g.name, metre) for g in GENRES for metre in g.metres}
    assert {clip.metre for clip in clips} == set(METRES)
    assert len({clip.key.name for clip in clips}) == 24
    textures = Counter(clip.texture for clip in clips)
    assert set(textures) == {None, "solo", "sparse texture", "dense texture"}
    assert all(textures[name] > 0.03 * CLIPS for name in textures)
    assert 0.15 < mean(len(clip.sections) > 1 for clip in clips) < 0.45


def test_every_genre_mood_and_instrument_is_a_fact_of_the_lexicon(clips):
    for genre in GENRES:
        assert {(fact.category, fact.value) for fact in extract_facts(genre.name)} >= {("genre", genre.name)}
        for mood in genre.moods:
            assert {fact.category for fact in extract_facts(mood.word)} == {"mood"}, mood.word
    facts = {}
    for tag in {instrument.tag for instrument in INSTRUMENTS.values()}:
        named = {fact.value for fact in extract_facts(tag) if fact.category == "instrument"}
        assert len(named) == 1, tag
        assert not any(fact.category == "vocals" for fact in extract_facts(tag))
        facts[tag] = named.pop()
    assert len(set(facts.values())) >= 60
    # Only these are called otherwise than the lexicon's own word for them.
    assert {tag: fact for tag, fact in facts.items() if tag != fact} == {
        "arpeggiated synth": "arpeggiator",
        "bass drum": "kick drum",
        "distorted electric guitar": "electric guitar",
        "shaker": "shakers",
        "synth": "synthesizer",
    }


def test_nothing_in_the_band_sings_whistles_or_shoots():
    voices = {52, 53, 54, 85, 91}
    whistle_and_effects = {78, *range(120, 128)}
    assert not (voices | whistle_and_effects) & {i.program for i in INSTRUMENTS.values() if not i.drum}
    assert 71 not in DRUM_KEYS.values()
    assert 72 not in DRUM_KEYS.values()


def test_a_clip_is_composed_alike_in_every_process():
    script = (
        "import hashlib; from random import Random;"
        "from dataset_builder.sources.rendered_composer import compose;"
        "from dataset_builder.sources.rendered_genres import GENRES;"
        "text = repr([compose(g, Random(f'7:{i}'), s) for i, g in enumerate(GENRES) for s in (10.0, 45.0)]);"
        "print(hashlib.sha256(text.encode()).hexdigest())"
    )
    sums = {
        subprocess.run(
            [sys.executable, "-c", script],
            check=True,
            cwd=PROJECT,
            env=os.environ | {"PYTHONHASHSEED": salt},
            capture_output=True,
        ).stdout
        for salt in ("1", "2")
    }
    assert len(sums) == 1


# --- facts ----------------------------------------------------------------------------------------------------------


def test_the_named_key_is_the_key_of_the_notes(clips):
    by_genre = defaultdict(list)
    for clip in clips:
        inside = [note.pitch % 12 in clip.key.scale for _, note in _pitched(clip)]
        assert mean(inside) > 0.55, (clip.genre, clip.key.name)
        by_genre[clip.genre].append(mean(inside))
    assert min(mean(shares) for shares in by_genre.values()) > 0.8
    # Tonic and fifth sound longest among all keys that share the scale, on the whole.
    longest = 0
    for clip in clips:
        sounding = Counter()
        for _, note in _pitched(clip):
            sounding[note.pitch % 12] += min(note.seconds, 2.0)
        strength = {
            tonic: sounding[tonic] + 0.7 * sounding[(tonic + 7) % 12] + 0.5 * sounding[(tonic + 4 - minor) % 12]
            for minor in [clip.key.mode == "minor"]
            for tonic in clip.key.scale
        }
        longest += max(strength, key=strength.__getitem__) == clip.key.tonic
    assert longest / CLIPS > 0.5  # one in seven by chance


def test_onsets_lie_on_the_grid_of_the_named_tempo(clips):
    """How well onsets agree on a phase of the sixteenth grid: 1 where all do, near 0 for a grid of another tempo."""

    def agreement(clip: Arrangement, step_s: float) -> float:
        onsets = [note.start for part in clip.parts for note in part.notes]
        return abs(sum(cmath.exp(2j * math.pi * onset / step_s) for onset in onsets)) / len(onsets)

    straight = [clip for clip in clips if not BY_NAME[clip.genre].swing]
    right = [agreement(clip, _step_s(clip)) for clip in straight]
    wrong = [agreement(clip, _step_s(clip) * 1.05) for clip in straight]
    assert mean(right) > 0.8
    assert mean(r > w for r, w in zip(right, wrong, strict=True)) > 0.98
    compound = [agreement(clip, _step_s(clip)) for clip in clips if clip.metre == "12/8"]
    assert mean(compound) > 0.5  # the genres of these swing in 4/4, and must not here: that would give 0.22


def test_beats_are_quarters_and_in_compound_metres_dotted_quarters():
    assert [Clock(60, metre).seconds(METRES[metre].steps_per_bar) for metre in ("4/4", "7/8", "6/8", "12/8")] == [
        4.0,
        3.5,
        2.0,
        4.0,
    ]
    assert Clock(60, "4/4", swing=1 / 6).seconds(2) == pytest.approx(2 / 3)


def test_bars_are_as_long_as_the_named_metre_says(clips):
    """The rhythm of the basses and drums comes back after a bar, and less so after a bar that is a beat longer."""
    agree = defaultdict(list)
    for clip in clips:
        metre = METRES[clip.metre]
        if clip.metre == "2/4" or (BY_NAME[clip.genre].swing and metre.steps_per_beat == 4):
            continue  # the rhythms in 2/4 come back after half a bar too
        steps = {
            (part.role, note.pitch if part.instrument.drum else 0, round(note.start / _step_s(clip)))
            for part in clip.parts
            if part.role in ("bass", "drums", "percussion")
            for note in part.notes
        }
        if steps:

            def again(lag: int, steps: set = steps) -> float:
                return mean((role, pitch, step + lag) in steps for role, pitch, step in steps)

            longer = metre.steps_per_bar + metre.steps_per_beat
            agree[clip.metre].append(again(metre.steps_per_bar) > again(longer))
    for name, won in agree.items():
        assert mean(won) > 0.8, name
    assert set(agree) == set(METRES) - {"2/4"}


def test_named_instruments_all_play_in_time_and_in_their_register(clips):
    for clip in clips:
        assert clip.parts
        assert clip.instruments == tuple(dict.fromkeys(clip.instruments))
        assert set(clip.instruments) == {part.instrument.tag for part in clip.parts}
        assert clip.melody is None or clip.melody in clip.instruments
        assert min(note.start for part in clip.parts for note in part.notes) == 0.0, clip.genre
        for part in clip.parts:
            assert min(note.start for note in part.notes) < 0.9 * CLIP_S
            assert all(0 <= note.start < CLIP_S and note.seconds >= 0.05 for note in part.notes)
            assert all(1 <= note.velocity <= 127 for note in part.notes)
            if part.instrument.drum:
                assert {note.pitch for note in part.notes} <= set(DRUM_KEYS.values())
        for part, note in _pitched(clip):
            assert part.instrument.low <= note.pitch <= part.instrument.high, (clip.genre, part.instrument.tag)


def test_sections_cover_the_clip_and_name_who_plays_in_them(clips):
    for clip in [*clips[:600], *(_clip(index, 1, 100.0) for index in range(len(GENRES)))]:
        length = clip.sections[-1].end_s
        assert clip.sections[0].start_s == 0.0
        assert length in (CLIP_S, 100.0)
        for before, after in pairwise(clip.sections):
            assert before.end_s == after.start_s
            bars = after.start_s / _bar_s(clip)
            assert abs(bars - round(bars)) < 1e-6  # changes fall on bar lines
        assert {tag for section in clip.sections for tag in section.instruments} == set(clip.instruments)
        for section in clip.sections:
            assert section.instruments, (clip.genre, section)
            # A note at a bar line may come a little early or late: 0.1 s is more than anybody's looseness.
            for margin, holds in ((0.1, set.issubset), (-0.1, set.issuperset)):
                between = (section.start_s + margin, section.end_s - margin)
                playing = {
                    part.instrument.tag
                    for part in clip.parts
                    if any(between[0] <= note.start < between[1] for note in part.notes)
                }
                assert holds(playing, section.instruments), (clip.genre, section)


def test_a_long_clip_has_a_form_whose_sections_differ_and_return():
    for index, genre in enumerate(GENRES):
        clip = compose(genre, Random(index), 180.0)
        assert len(clip.sections) >= 5
        assert len({section.name for section in clip.sections}) >= 3
        if len(clip.instruments) > 2:
            assert len({section.instruments for section in clip.sections}) >= 2, genre.name
    rock = replace(BY_NAME["rock"], solos=())
    clip = compose(rock, Random(4), 180.0)
    names = [section.name for section in clip.sections]
    assert names[0] == "intro"
    assert names[-1] == "outro"
    assert {"verse", "chorus", "bridge"} <= set(names)

    def tune(number: int, name: str, role: str) -> list[tuple[int, int]]:
        section = [section for section in clip.sections if section.name == name][number]
        part = next(part for part in clip.parts if part.role == role)
        return [
            (round((note.start - section.start_s) / _step_s(clip)), note.pitch)
            for note in part.notes
            if section.start_s - 0.05 <= note.start < section.end_s - 0.05
        ]

    assert tune(0, "verse", "bass") == tune(1, "verse", "bass")  # a verse returns ...
    assert tune(0, "verse", "bass") != tune(0, "chorus", "bass")  # ... and is no chorus


def test_ten_minutes_and_one_second_are_composed_too():
    for index in range(len(GENRES)):
        assert _clip(index, 2, 1.0).parts
    longest = _clip(4, 2, 600.0)
    assert max(note.start for part in longest.parts for note in part.notes) > 590


def _part(tag: str, starts: list[float], program: int = 0) -> Part:
    instrument = replace(INSTRUMENTS["piano"], tag=tag, program=program)
    return Part("chords", instrument, 0.0, tuple(Note(start, 0.2, 60, 90) for start in starts))


def test_the_texture_is_counted_in_strokes_and_players():
    def band(players: int, strokes: float) -> list[Part]:
        starts = [place / strokes for place in range(round(10 * strokes))]
        return [_part(f"instrument {player}", starts) for player in range(players)]

    assert texture_of(band(1, 9.0), 10.0) == "solo"
    assert texture_of([_part("piano", [0.0]), _part("piano", [1.0])], 10.0) == "solo"
    assert texture_of(band(SPARSE_PARTS, SPARSE_ONSETS), 10.0) == "sparse texture"
    assert texture_of(band(SPARSE_PARTS + 1, SPARSE_ONSETS), 10.0) is None
    assert texture_of(band(SPARSE_PARTS, SPARSE_ONSETS + 0.5), 10.0) is None
    assert texture_of(band(DENSE_PARTS, DENSE_ONSETS), 10.0) == "dense texture"
    assert texture_of(band(DENSE_PARTS - 1, DENSE_ONSETS), 10.0) is None
    assert texture_of(band(DENSE_PARTS, DENSE_ONSETS - 0.5), 10.0) is None
    together = [_part(f"instrument {player}", [0.01 * player, 1 + 0.01 * player]) for player in range(3)]
    assert texture_of(together, 1.0) == "sparse texture"  # a strum is one stroke, not three


def test_a_mood_can_be_heard_in_length_loudness_and_register():
    """The same genre, tempo and seed under two mood words."""

    def played(word: str) -> tuple[float, float, float]:
        genre = BY_NAME["chiptune"]
        mood = replace(genre.moods[1], word=word, slowest=120, fastest=120)
        notes = [n for i in range(40) for _, n in _pitched(compose(replace(genre, moods=(mood,)), Random(i), 8.0))]
        return mean(n.seconds for n in notes), mean(n.velocity for n in notes), mean(n.pitch for n in notes)

    plain, playful, calm, dark = (played(word) for word in ("unknown", "playful", "calm", "dark"))
    assert playful[0] < 0.8 * plain[0]
    assert calm[1] < plain[1] - 8
    assert dark[2] < plain[2] - 1.5
    assert playful[2] > plain[2] + 1


def test_people_play_a_little_off_the_grid_and_machines_do_not():
    def spread(name: str) -> float:
        off = []
        for index in range(10):
            genre = BY_NAME[name]
            clip = compose(genre, Random(index), CLIP_S)
            grid = _step_s(clip) / 4
            for part in clip.parts:
                if part.instrument.drum:
                    off += [abs(note.start / grid - round(note.start / grid)) * grid for note in part.notes]
        return mean(off)

    assert spread("techno") < 1e-6
    assert 0.002 < spread("samba") < 0.02


# --- players --------------------------------------------------------------------------------------------------------

C_MAJOR = Key(0, "major")


def _song(metre: str = "4/4", numerals: str = "I vi IV V7 I vi IV V7", **changes) -> Song:
    return Song(C_MAJOR, metre, progression(numerals, C_MAJOR), 0.5, **changes)


def _is_one_voice(events: list[Event]) -> bool:
    return all(a.step + a.steps <= b.step + 1e-6 for a, b in pairwise(events))


@pytest.mark.parametrize("genre", GENRES, ids=lambda genre: genre.name)
def test_every_chair_of_a_genre_can_play_in_each_of_its_metres_and_modes(genre: Genre):
    for metre in genre.metres:
        for mode, lines in genre.harmony.items():
            assert any(mood.mode == mode for mood in genre.moods)
            key = Key(2, mode)
            for line in lines:
                bars = tuple(place for _, place in zip(range(4), progression(line, key) * 4, strict=False))
                for chair in (*genre.band, *(chair for solo in genre.solos for chair in solo)):
                    for name in chair.instruments:
                        lead = (Event(0, 4, 72, 90),)
                        song = Song(key, metre, bars, 0.5, register=-4, lead=lead)
                        for event in chair.play(song, INSTRUMENTS[name], Random(1)):
                            assert event.step < 4 * song.steps_per_bar
                            assert event.steps > 0


def test_lines_fit_the_metre_of_their_length_or_of_their_mark():
    lines = ("x-----------", "6/8 x--x--x--x--", "x---------------")
    assert fitting_lines("3/4", lines) == ["x-----------"]
    assert fitting_lines("6/8", lines) == ["x--x--x--x--"]
    assert fitting_lines("4/4", lines) == ["x---------------"]
    with pytest.raises(ValueError, match="no line for 7/8"):
        chords(*lines)(_song("7/8"), INSTRUMENTS["piano"], Random(0))


def test_a_melody_keeps_to_the_scale_and_meets_the_chord_on_strong_beats():
    tune = melody("x-x-x-x-x-x-x-x-", low=60, high=84)(_song(), INSTRUMENTS["flute"], Random(3))
    song = _song()
    for event in tune:
        bar, step = divmod(int(event.step), 16)
        harmony = song.chord_at(bar, step)
        assert event.pitch % 12 in melody_classes(song.key, harmony, "")
        if song.strong(step) and bar % 4 != 3:
            assert event.pitch % 12 in harmony.pitch_classes
    assert _is_one_voice(tune)
    decorated = melody("x---x---x---x---", low=60, high=84, ornament=1.0)(_song(), INSTRUMENTS["flute"], Random(3))
    assert len(decorated) > len([e for e in decorated if e.steps > 1])
    assert _is_one_voice(decorated)


def test_second_voices_go_with_the_melody():
    lead = tuple(melody("x---x-x-x---x---", low=66, high=84)(_song(), INSTRUMENTS["violin"], Random(5)))
    song = _song(lead=lead)
    thirds = harmonised(-2)(song, INSTRUMENTS["violin"], Random(1))
    assert [e.step for e in thirds] == [e.step for e in lead]
    assert {a.pitch - b.pitch for a, b in zip(lead, thirds, strict=True)} <= {2, 3, 4, 5}
    later = canon(1)(song, INSTRUMENTS["cello"], Random(1))
    assert [e.step for e in later] == [e.step + 16 for e in lead if e.step + 16 < 128]
    assert all(INSTRUMENTS["cello"].low <= e.pitch <= INSTRUMENTS["cello"].high for e in later)
    busy = {int(e.step) + step for e in lead for step in range(max(1, round(e.steps)))}
    replies = answer("x-x-x-x-x-x-x-x-", low=60, high=80, chance=1.0)(song, INSTRUMENTS["piano"], Random(1))
    assert not {int(e.step) for e in replies} & busy
    under = counterpoint("x-------x-------", low=48, high=66)(song, INSTRUMENTS["cello"], Random(1))
    assert all(e.pitch % 12 in song.chord_at(int(e.step) // 16, e.step % 16).pitch_classes for e in under)
    for player in (harmonised(-2), canon(1)):
        assert player(_song(), INSTRUMENTS["violin"], Random(1)) == []


def test_arpeggios_drones_tremolos_and_riffs_are_what_they_say():
    song = _song()
    broken = arpeggio(2, low=60, octaves=2)(song, INSTRUMENTS["harp"], Random(2))
    assert [e.step for e in broken] == list(range(0, 128, 2))
    assert all(e.pitch % 12 in song.chord_at(int(e.step) // 16, e.step % 16).pitch_classes for e in broken)
    assert {e.pitch % 12 for e in drone("x---------------", low=48)(song, INSTRUMENTS["organ"], Random(0))} == {0, 7}
    plain = chords("x-------x-------", voices=3)
    beaten = tremolo(plain, every=2)(song, INSTRUMENTS["strings"], Random(0))
    once = plain(song, INSTRUMENTS["strings"], Random(0))
    assert len(beaten) == 4 * len(once)
    assert sum(e.steps for e in beaten) == pytest.approx(sum(e.steps for e in once))
    figure = riff("1...5...8.......", low=48, follow=False)(song, INSTRUMENTS["piano"], Random(0))
    assert {e.pitch % 12 for e in figure} == {0, 7}
    steps = walking_bass(_song("3/4"), INSTRUMENTS["double bass"], Random(1))
    assert {e.step for e in steps if e.steps > 2} == set(range(0, 96, 4))


def test_numerals_reach_other_keys_and_richer_chords():
    assert chord("V7/ii", C_MAJOR).pitch_classes == (9, 1, 4, 7)
    assert chord("#ivdim7", C_MAJOR).pitch_classes == (6, 9, 0, 3)
    assert chord("I13", C_MAJOR).pitch_classes == (0, 4, 10, 2, 9)
    assert chord("bVI", C_MAJOR).pitch_classes == (8, 0, 3)
    assert [len(place) for place in progression("I ii7_V7 I", C_MAJOR)] == [1, 2, 1]
    assert _song(numerals="ii7_V7").chord_at(0, 7).root == 2
    assert _song(numerals="ii7_V7").chord_at(0, 8).root == 7
    with pytest.raises(ValueError, match="no Roman numeral"):
        chord("H7", C_MAJOR)
    low, high = voicing(chord("I", C_MAJOR), 52, 4, ()), voicing(chord("V", C_MAJOR), 52, 4, (55, 60, 64, 67))
    assert all(abs(a - b) <= 3 for a, b in zip(low, high, strict=True))  # voices lead to the nearest inversion


def test_short_clips_are_excerpts_and_long_ones_whole_forms():
    for bars in (4, 5, 9):
        short = [passages("song", bars, 10.0, Random(i)) for i in range(200)]
        assert {len(plan) for plan in short} == {1, 2}
        assert all(sum(p.bars for p in plan) == bars and plan[-1].bars >= 2 for plan in short)
    for form in ("song", "dance", "jazz", "classical", "drift"):
        for bars in (12, 13, 31, 90, 400):
            plan = passages(form, bars, 60.0, Random(0))
            assert sum(p.bars for p in plan) == bars
            assert all(p.bars >= 2 for p in plan)
            assert [p.first for p in plan] == [sum(q.bars for q in plan[:i]) for i in range(len(plan))]
