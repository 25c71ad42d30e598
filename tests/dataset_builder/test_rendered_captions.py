"""Reference captions of rendered clips: true of the clip, readable, and in a style of their own."""

from __future__ import annotations

import re
import string
from collections import Counter
from itertools import chain
from random import Random

import pytest

pytest.importorskip("pretty_midi", reason="the corpus is composed with the extra `render`")

from caption_metrics.facts import Fact, extract_facts, unsupported_facts, with_kinds
from dataset_builder.captioning.backends.grammar import grammar_caption
from dataset_builder.english import article, is_plural, with_article
from dataset_builder.instructions import INSTRUCTIONS
from dataset_builder.sources import rendered_captions_frames as frames
from dataset_builder.sources.rendered_captions import reference_caption, told_caption
from dataset_builder.sources.rendered_effects import EFFECT_TAGS
from dataset_builder.sources.rendered_facts import ClipFacts
from dataset_builder.sources.rendered_genres import GENRES
from dataset_builder.sources.rendered_instruments import INSTRUMENTS

CLIPS = 2_400
INSTRUMENT_TAGS = sorted({instrument.tag for instrument in INSTRUMENTS.values()})
MOODS = sorted({mood.word for genre in GENRES for mood in genre.moods})
METRES = sorted({metre for genre in GENRES for metre in genre.metres} | {"5/4", "7/8", "12/8"})
PLURAL_WITH_ARTICLE = re.compile(
    r"\b[Aa]n? (?:(?:brushed|steel|electronic|synth|hand) )?(?:drums|bongos|congas|strings|maracas|claps|bagpipes)\b"
)
KEYS = [
    f"{tonic} {mode}"
    for tonic in ("c", "c#", "d", "eb", "e", "f", "f#", "g", "ab", "a", "bb", "b")
    for mode in ("major", "minor")
]


def clip(index: int) -> ClipFacts:
    """Clip `index`: every genre, mood, instrument, metre and effect comes round, in combinations of chance."""
    rng = Random(f"clip {index}")
    first = INSTRUMENT_TAGS[index % len(INSTRUMENT_TAGS)]
    band = list(dict.fromkeys([first, *rng.sample(INSTRUMENT_TAGS, rng.choice((0, 1, 2, 3, 3, 4, 5)))]))
    rng.shuffle(band)
    effects = rng.sample(EFFECT_TAGS, rng.choice((0, 0, 1, 1, 2)))
    if index % 2:
        effects = list(dict.fromkeys([*effects, EFFECT_TAGS[index % len(EFFECT_TAGS)]]))
    return ClipFacts(
        genre=GENRES[index % len(GENRES)].name,
        mood=rng.choice(MOODS),
        instruments=tuple(band),
        melody=rng.choice(band) if rng.random() < 0.85 else None,
        bpm=rng.uniform(50, 180),
        key=rng.choice(KEYS),
        metre=rng.choice(METRES),
        texture="solo" if len(band) == 1 else rng.choice((None, "sparse texture", "dense texture")),
        effects=tuple(effects),
    )


@pytest.fixture(scope="module")
def clips() -> list[ClipFacts]:
    return [clip(index) for index in range(CLIPS)]


@pytest.fixture(scope="module")
def captions(clips):
    return [told_caption(facts, Random(f"0:{index}:caption")) for index, facts in enumerate(clips)]


def facts_of(tags) -> frozenset[Fact]:
    return with_kinds(chain.from_iterable(map(extract_facts, tags)))


def test_a_reference_claims_nothing_that_is_not_true_of_the_clip(clips, captions):
    wrong: Counter[str] = Counter()
    for facts, caption in zip(clips, captions, strict=True):
        wrong.update(map(str, extract_facts(caption.text) - facts_of(facts.tags)))
    assert not wrong


def test_every_fact_that_a_reference_tells_is_read_back_from_it(clips, captions):
    lost: Counter[str] = Counter()
    for caption in captions:
        found = with_kinds(extract_facts(caption.text))
        for tag in caption.told:
            if tag == "instrumental":
                told = not unsupported_facts(tag, [caption.text])  # "nobody sings" supports it
            elif tag.endswith(" texture"):
                told = tag.removesuffix(" texture") in caption.text.lower()
            else:
                told = extract_facts(tag) <= found
            lost[tag] += not told
    assert not +lost


def test_most_facts_are_told_and_some_are_left_out(clips, captions):
    share = sum(len(caption.told) for caption in captions) / sum(len(facts.tags) for facts in clips)
    assert 0.7 < share < 0.9
    for facts, caption in zip(clips, captions, strict=True):
        assert set(caption.told) <= set(facts.tags)
        assert facts.melody is None or facts.melody in caption.told
    told = Counter(name for caption in captions for name in caption.told)
    assert told["instrumental"] < 0.7 * CLIPS


def test_every_genre_mood_and_instrument_is_told_in_good_english(captions):
    told = {tag for caption in captions for tag in caption.told}
    assert told >= {genre.name for genre in GENRES} | set(MOODS) | set(INSTRUMENT_TAGS) | set(EFFECT_TAGS)
    for caption in captions:
        text = caption.text
        assert not re.search(r"\b(?:a|A) [aeioAEIO]|\b[Aa]n (?![aeiouAEIOUh8])|  | [,.;]|[{}\[\]|]", text), text
        assert re.fullmatch(r"[A-Z0-9].*[a-z0-9]\.", text), text
        assert all(part[0].isupper() or part[0].isdigit() for part in text.split(". ")), text
        assert not PLURAL_WITH_ARTICLE.search(text), text


def test_each_instrument_agrees_with_its_verb():
    plural = {name for name in INSTRUMENT_TAGS if is_plural(name)}
    assert plural >= {"drums", "strings", "hand claps"} & set(INSTRUMENT_TAGS)
    assert not plural & {"brass", "synth bass", "double bass", "synth brass", "percussion"}
    for name in INSTRUMENT_TAGS:
        facts = ClipFacts("jazz", "calm", (name, "kalimba"), name, 100, "c major", "4/4")
        verbs = Counter(
            match[1]
            for draw in range(120)
            for match in re.finditer(
                rf"{name} (carry|carries|has|have|gets?|takes?|plays?)\b", _text(facts, draw), re.I
            )
        )
        singular = {verb for verb in verbs if verb in ("carries", "has", "gets", "takes", "plays")}
        assert verbs
        assert (not singular) if name in plural else singular == set(verbs), (name, verbs)


def _text(facts: ClipFacts, draw: int) -> str:
    return reference_caption(facts, Random(draw))


def test_notes_have_two_to_four_sentences_in_changing_order(captions):
    sentences = Counter(caption.text.count(". ") + 1 for caption in captions)
    assert set(sentences) == {2, 3, 4}
    assert min(sentences.values()) > CLIPS / 50
    openers = Counter(" ".join(caption.text.split()[:3]) for caption in captions)
    assert openers.most_common(1)[0][1] < 0.05 * CLIPS
    assert len({caption.text for caption in captions}) == CLIPS


def test_there_are_more_than_sixty_frames():
    tables = [value for name, value in vars(frames).items() if name.isupper()]
    texts = [text for table in tables for text in _leaves(table)]
    assert len({text for text in texts if len(text.split()) > 1 or "{" in text}) >= 120
    slots = {name for text in texts for _, name, _, _ in string.Formatter().parse(text) if name}
    assert slots <= {"n", "a_n", "M", "O", "m", "o", "key", "metre", "mood", "a_mood", "texture", "a_texture", "effect"}


def _leaves(table):
    if isinstance(table, str):
        return [table]
    return list(chain.from_iterable(map(_leaves, table.values() if isinstance(table, dict) else table)))


def test_the_references_do_not_talk_like_the_grammar_of_the_pseudo_captions(clips, captions):
    """Of the references' three-word runs and openers, few are also written by the grammar of the same clips."""
    names = set(re.findall(r"[a-z0-9#/]+", " ".join(chain.from_iterable(facts.tags for facts in clips)).lower()))

    def runs(texts):  # without what both must name: the facts themselves
        for text in texts:
            words = re.findall(r"[a-z0-9#/']+", text.lower())
            for run in zip(words, words[1:], words[2:], strict=False):
                if not names & set(run):
                    yield run

    part = range(0, CLIPS, 4)
    written = [
        grammar_caption(clips[at].tags, instruction, variant=str(at)).text
        for at in part
        for instruction in INSTRUCTIONS
    ]
    own = Counter(runs(captions[at].text for at in part))
    other = set(runs(written))
    shared = sum(count for run, count in own.items() if run in other) / own.total()
    openers = {" ".join(text.split()[:3]).lower() for text in written}
    begun = sum(" ".join(captions[at].text.split()[:3]).lower() in openers for at in part) / len(part)
    print(f"three-word runs shared: {shared:.3f}, openers shared: {begun:.3f}")
    assert shared < 0.05
    assert begun < 0.15


def test_a_reference_is_the_same_for_the_same_seed_and_another_for_another(clips):
    first = [reference_caption(facts, Random(3)) for facts in clips[:50]]
    assert first == [reference_caption(facts, Random(3)) for facts in clips[:50]]
    assert first != [reference_caption(facts, Random(4)) for facts in clips[:50]]


@pytest.mark.parametrize(
    ("noun", "said"),
    [
        ("ukulele", "a ukulele"),
        ("english horn", "an english horn"),
        ("euphonium", "a euphonium"),
        ("8-bit synth", "an 8-bit synth"),
        ("drums", "drums"),
        ("brass", "brass"),
        ("double bass", "a double bass"),
        ("timpani", "timpani"),
        ("hand clapping", "hand clapping"),
        ("two guitars", "two guitars"),
    ],
)
def test_articles_stand_where_english_wants_them(noun, said):
    assert with_article(noun) == said


def test_an_article_follows_the_sound():
    assert [article(word) for word in ("hour", "unison", "electric piano", "R&B tune")] == ["an", "a", "an", "an"]
