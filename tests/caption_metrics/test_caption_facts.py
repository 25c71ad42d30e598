"""The closed lexicon: what a text claims, what its tags support, and what two texts share."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from caption_metrics.facts import (
    CATEGORIES,
    Fact,
    extract_facts,
    fact_scores,
    lexicon_values,
    tag_coverage,
    unsupported_facts,
    with_kinds,
)
from caption_metrics.lexicon import LEXICON, load_lexicon


def facts(*texts: str) -> frozenset[Fact]:
    return frozenset(Fact(*text.split("/", 1)) for text in texts)


# One row a sentence: the text, then the facts written category/value, separated by "|". "metre/4/4" splits once.
SENTENCES = [
    # instruments: longest match, kinds, spelling
    ("A piano plays alone.", "instrument/piano"),
    ("Two pianists and a drummer", "instrument/piano|instrument/drums"),
    ("an electric guitar", "instrument/electric guitar"),
    ("clean e-guitar", "instrument/electric guitar"),
    ("distorted electric guitars", "instrument/electric guitar|production/distortion"),
    ("electric and acoustic guitars", "instrument/electric guitar|instrument/acoustic guitar"),
    ("an acordion solo", "instrument/accordion"),
    ("tamborine and saxaphone", "instrument/tambourine|instrument/saxophone"),
    ("a groovy bass guitar", "instrument/bass guitar|mood/groovy"),
    ("an upright bass", "instrument/double bass"),
    ("the double bass and the bass drum", "instrument/double bass|instrument/kick drum"),
    ("deep bassline", "instrument/bass"),
    ("a male bass voice", "vocals/male vocals"),
    ("drum and bass guitar", "instrument/drums|instrument/bass guitar"),
    ("a drum and bass track", "genre/drum and bass"),
    ("punchy kick and snare hits", "instrument/kick drum|instrument/snare drum"),
    ("shimmering hi-hats and a hihat", "instrument/hi hat"),
    ("a church organ", "instrument/church organ"),
    ("organic textures", ""),
    ("French horn over horns", "instrument/french horn|instrument/horn"),
    ("a horn of plenty", ""),
    ("car horns in the street", ""),
    ("harmonic richness on a harmonica", "instrument/harmonica"),
    ("a triangle wave", ""),
    ("the ringing triangle", "instrument/triangle"),
    ("a voice recorder on the table", ""),
    ("a recorder and a tin whistle", "instrument/recorder|instrument/tin whistle"),
    ("piano keys", "instrument/piano"),
    ("the changes of key", ""),
    ("keys", "instrument/keyboard"),
    # genres and their everyday words
    ("a rock song", "genre/rock"),
    ("an old rocking chair", ""),
    ("rock solid timing", ""),
    ("house music", "genre/house"),
    ("a house by the sea", ""),
    ("soul and funk", "genre/soul|genre/funk"),
    ("it touches your soul", ""),
    ("heavy metal", "genre/heavy metal"),
    ("metal strings on the guitar", "instrument/guitar"),
    ("R&B", "genre/r&b"),
    ("rhythm and blues", "genre/r&b"),
    ("lo-fi hip-hop", "genre/lo-fi hip hop"),
    ("hiphop", "genre/hip hop"),
    ("country", "genre/country"),
    ("across the country", ""),
    ("genre---trance", "genre/trance"),
    ("pop/rock", "genre/pop|genre/rock"),
    # moods
    ("joyous and merry", "mood/joyful|mood/cheerful"),
    ("full of sadness", "mood/sad"),
    ("a hauntingly eerie mood", "mood/eerie"),
    ("happy birthday", ""),
    ("melancholy", "mood/melancholic"),
    # vocals
    ("a man sings", "vocals/male vocals"),
    ("female singer", "vocals/female vocals"),
    ("male and female vocals", "vocals/male vocals|vocals/female vocals|vocals/vocals"),
    ("rap", "vocals/rapping|genre/hip hop"),
    ("a rap song", "genre/hip hop"),
    ("a gospel choir", "vocals/choir|genre/gospel"),
    ("an instrumental piece", "vocals/instrumental"),
    ("the instrumental accompaniment", ""),
    # tempo
    ("slow-paced", "tempo/slow"),
    ("uptempo", "tempo/fast"),
    ("at an upbeat tempo", "tempo/fast"),
    ("moderate tempo", "tempo/medium"),
    ("120 BPM", "tempo/120 bpm"),
    ("about 97.6 beats per minute", "tempo/98 bpm"),
    ("a tempo of 140", "tempo/140 bpm"),
    # keys and metres
    ("in A minor", "key/a minor"),
    ("a minor", "key/a minor"),
    ("played in a minor.", "key/a minor"),
    ("in a minor key", "key/minor"),
    ("a minor detail", ""),
    ("A minor detail", ""),
    ("F# major", "key/f# major"),
    ("D flat major", "key/c# major"),
    ("Bb minor and E♭ major", "key/bb minor|key/eb major"),
    ("Am", "key/a minor"),
    ("I am here", ""),
    ("the key of C", "key/c"),
    ("a major label", ""),
    ("in 3/4 time", "metre/3/4"),
    ("waltz time", "metre/3/4"),
    ("common time", "metre/4/4"),
    ("open 24/7", ""),
    # era
    ("80s", "era/1980s"),
    ("a 1990's beat", "era/1990s"),
    ("from 1967", "era/1960s"),
    ("in his 40s", ""),
    ("a 10s clip", ""),
    # production
    ("The low quality recording", "production/low quality"),
    ("drenched in reverb", "production/reverb"),
    # denials
    ("no drums", ""),
    ("without vocals", ""),
    ("not slow", ""),
    ("There are no drums, bass or vocals, just a piano.", "instrument/piano"),
    ("no drums but a guitar", "instrument/guitar"),
    ("not only a piano", "instrument/piano"),
    ("neither fast nor slow", ""),
    ("drums are absent", ""),
    ("vocals are not present in this piano piece", "instrument/piano"),
    ("a drum-free groove", ""),
    ("the guitars are lacking volume", "instrument/guitar"),
    ("strings instead of a synthesizer", "instrument/strings"),
    ("it doesn't have any percussion", ""),
    ("nothing but a cello", "instrument/cello"),
    ("no instruments other than a flute", "instrument/flute"),
    ("no doubt a happy song", "mood/happy"),
    ("the lack of percussion makes the flute shine", "instrument/flute"),
    ("non-vocal piano music", "instrument/piano"),
]


@pytest.mark.parametrize(("text", "expected"), SENTENCES, ids=[text for text, _ in SENTENCES])
def test_a_sentence_claims_exactly_its_facts(text: str, expected: str) -> None:
    assert extract_facts(text) == facts(*(expected.split("|") if expected else ()))


def test_the_lexicon_is_as_large_as_it_says() -> None:
    assert len(lexicon_values("instrument")) >= 100
    assert len(lexicon_values("genre")) >= 100
    assert len(lexicon_values("mood")) >= 80
    assert all(lexicon_values(category) for category in CATEGORIES)


def test_every_value_is_found_in_its_own_name() -> None:
    missed = [
        (category, value)
        for category in CATEGORIES
        for value in lexicon_values(category)
        if Fact(category, value) not in extract_facts(value)
    ]
    assert missed == []


def test_the_lexicon_names_only_values_that_it_has() -> None:
    lexicon = load_lexicon()
    known = set(lexicon.kinds)
    assert {fact.category for fact in known} == set(CATEGORIES)
    assert {fact for kinds in lexicon.kinds.values() for fact in kinds} <= known
    assert {fact for facts in lexicon.forms.values() for fact in facts} <= known


def test_no_entry_of_the_lexicon_stands_twice() -> None:
    """YAML would silently keep the last one."""
    entries = Counter[tuple[str, str]]()
    category = ""
    for line in LEXICON.read_text(encoding="utf-8").splitlines():
        if line.endswith(":") and not line.startswith(" "):
            category = line
        elif line.startswith("  ") and not line.lstrip().startswith("#"):
            entries[category, line.split(":")[0].split("<")[0].strip()] += 1
    assert len(entries) > 600
    assert [entry for entry, times in entries.items() if times > 1] == []


def test_a_specific_fact_implies_the_general_ones() -> None:
    assert with_kinds(facts("instrument/snare drum")) == facts(
        "instrument/snare drum", "instrument/drums", "instrument/percussion"
    )
    assert with_kinds(facts("key/c minor")) == facts("key/c minor", "key/c", "key/minor")
    assert with_kinds(facts("tempo/140 bpm")) == facts("tempo/140 bpm", "tempo/fast")
    assert with_kinds(facts("tempo/85 bpm")) == facts("tempo/85 bpm", "tempo/slow", "tempo/medium")


SUPPORT = [
    ("a guitar", ["e-guitar"], ""),
    ("an electric guitar", ["guitar"], "instrument/electric guitar"),
    ("an acoustic guitar", ["acoustic", "guitar"], ""),
    ("male vocals, singing", ["male singer"], ""),
    ("female vocals", ["male singer"], "vocals/female vocals"),
    ("drums and percussion", ["acoustic drums"], ""),
    ("a brass section", ["brass band"], ""),
    ("a trumpet", ["brass band"], "instrument/trumpet"),
    ("upbeat tempo", ["fast tempo"], ""),
    ("uptempo", ["fast tempo"], ""),
    ("slow", ["fast tempo"], "tempo/slow"),
    ("fast", ["140 bpm"], ""),
    ("140 bpm", ["fast tempo"], "tempo/140 bpm"),
    ("major", ["F# major"], ""),
    ("an organ", ["organic"], "instrument/organ"),
    ("an accordion", ["acordion"], ""),
    ("a saxophone", ["saxopone"], ""),
    ("a harmonica", ["harmonic"], "instrument/harmonica"),
    ("percussive sounds", ["percusive"], ""),
    ("instrumental music", ["no vocals"], ""),
    ("drums", ["no drums"], "instrument/drums"),
    ("soothing", ["soothe"], ""),
    ("electronic music", ["electric guitar"], "genre/electronic"),
    ("a piano without drums", ["piano"], ""),
    ("a piano", [], "instrument/piano"),
]


@pytest.mark.parametrize(("caption", "tags", "expected"), SUPPORT)
def test_only_what_no_tag_supports_is_reported(caption: str, tags: list[str], expected: str) -> None:
    assert unsupported_facts(caption, tags) == facts(*(expected.split("|") if expected else ()))


def test_a_family_is_enough_when_asked_for() -> None:
    assert unsupported_facts("a snare drum", ["percussion"], families=True) == frozenset()
    assert unsupported_facts("a trumpet", ["brass band"], families=True) == frozenset()
    assert unsupported_facts("a trumpet", ["violin"], families=True) == facts("instrument/trumpet")


def test_coverage_counts_tags_by_words_stems_and_synonyms() -> None:
    assert tag_coverage("A sad piano song", ["sad", "piano"]) == 1.0
    assert tag_coverage("A sad piano song", ["sad", "tuba"]) == 0.5
    assert tag_coverage("percussive", ["percussion"]) == 1.0
    assert tag_coverage("a soft voice", ["soft rock anthem"]) == 0.0  # one of three stems is less than half
    assert tag_coverage("an electric guitar", ["e-guitar"]) == 1.0
    assert tag_coverage("a merry tune", ["cheerful"]) == 1.0
    assert tag_coverage("trap", ["rap"]) == 0.0
    assert tag_coverage("anything", []) is None
    assert tag_coverage("anything", ["", "!"]) is None


def test_precision_forgives_the_general_and_recall_asks_for_the_specific() -> None:
    scores = fact_scores(["A guitar and a tuba"], ["An electric guitar"])
    instrument = scores.by_category["instrument"]
    assert (instrument.precision, instrument.recall, instrument.f1) == (0.5, 0.0, 0.0)
    assert scores.hallucination_rate == 0.5
    assert scores.captions_with_unsupported == 1


def test_several_references_count_together_and_an_empty_category_has_no_score() -> None:
    scores = fact_scores(["sad piano"], [["a piano", "a sad song"]])
    assert scores.micro.precision == scores.micro.recall == scores.micro.f1 == 1.0
    assert scores.by_category["key"].precision is None
    assert scores.by_category["key"].f1 is None
    with pytest.raises(ValueError):
        fact_scores(["one"], [])


def published(folder: Path, method: str, key: str) -> list[str]:
    return [row[key] for row in json.loads((folder / method / "inference.json").read_text(encoding="utf-8"))]


def test_invented_attributes_show_on_the_published_captions(published_captions: Path) -> None:
    """`writing` holds 96 % of the tags and adds little, so its text stands for the tags that were not published."""
    writing = published(published_captions, "caption_writing", "prediction")[:600]
    attribute = published(published_captions, "caption_attribute_prediction", "prediction")[:600]

    def rate(captions: list[str], against: list[str]) -> float:
        return sum(
            any(fact.category == "instrument" for fact in unsupported_facts(caption, [text], families=True))
            for caption, text in zip(captions, against, strict=True)
        ) / len(captions)

    assert rate(writing, attribute) < 0.04  # measured on all: 0.025
    assert 0.50 < rate(attribute, writing) < 0.65  # measured on all: 0.569


def test_no_shuffled_caption_keeps_its_facts(published_captions: Path) -> None:
    writing = published(published_captions, "caption_writing", "prediction")[:600]
    human = published(published_captions, "caption_writing", "ground_truth")[:600]
    own, foreign = fact_scores(writing, human).micro.f1, fact_scores(writing[1:] + writing[:1], human).micro.f1
    assert own is not None
    assert foreign is not None
    assert own > 0.65
    assert foreign < 0.20


def test_importing_facts_loads_no_heavy_package() -> None:
    program = (
        "import sys, caption_metrics, caption_metrics.facts as f; f.extract_facts('a piano in 1980');"
        "print(sorted({'nltk', 'evaluate', 'sacrebleu', 'torch', 'datasets', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
