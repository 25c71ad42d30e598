"""Captions that nobody listened for: what a system scores that never hears the music.

On MusicCaps one constant sentence beats trained models on BLEU and METEOR, because the references share a house style.
A score means something by its distance from these rows:

- `constant`: one training caption for every clip, chosen on training captions alone; without any, the most central
  reference of the other half of the clips.
- `constant_best`: of a few training captions the one with the best BLEU-1 on these very references. Chosen in
  hindsight, which no honest system could do; the margin over it is that of hearing anything at all.
- `shuffled`: references dealt out to other clips.
- `majority_template`: the paper's template, filled with the tags that are most frequent.
- `own_shuffled`: the system's own captions, dealt out to other clips. What is left is style; a system that gives every
  clip one sentence, however well chosen, scores the same here.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice

SHUFFLE_SEED = 0
CANDIDATES = 20  # captions tried for a constant, evenly spaced
SAMPLE = 500  # captions that a candidate is compared with, evenly spaced
POOL = 2**16  # references kept of a stream; up to so many clips, "shuffled" is one permutation of all
HINDSIGHT = 4_096  # clips whose references decide `constant_best`, evenly spaced; MusicCaps has 2,839

OWN_SHUFFLED = "own_shuffled"
TRIES = 200  # exchanges tried for a clip that was dealt its own caption

References = Sequence[Sequence[str]]
BlindRow = Callable[[int, References], list[str]]  # the number of the first clip, the clips' references -> captions


def blind_signature(rows: Iterable[str]) -> str:
    """How the blind rows of these names were made."""
    rows, training = list(rows), "constant_best" in rows
    central = f"most-central-of-{CANDIDATES}-references-of-the-other-half"
    made = {
        "constant": f"best-bleu1-of-{CANDIDATES}-on-other-training-captions" if training else central,
        "constant_best": f"best-bleu1-of-{CANDIDATES}-training-captions-on-these-references",
        "shuffled": f"references-dealt-out,seed:{SHUFFLE_SEED}",
        "majority_template": "most-frequent-tags",
        OWN_SHUFFLED: f"own-captions-passed-on,seed:{SHUFFLE_SEED}",
    }
    return "|".join(f"{row}:{made[row]}" for row in rows)


class BlindMaterial:
    """What the blind rows of a stream of clips need to know of it, in bounded memory.

    Random: which references are kept beyond `POOL` (a uniform sample) and how they are dealt, by `seed`.
    """

    def __init__(self, seed: int = SHUFFLE_SEED, pool: int = POOL) -> None:
        self._seed, self._size = seed, pool
        self._pool: list[tuple[int, Sequence[str]]] = []  # a clip's number and references
        self._chance = random.Random(f"pool:{seed}")
        self._tags: Counter[str] = Counter()
        self._tag_rows = 0
        self.clips = 0
        self.own_dealt = 0  # clips that were dealt a caption equal to one of their own references

    def add(self, references: References, tags: Iterable[Sequence[str]] = ()) -> None:
        """Note more clips, in order."""
        for texts in references:
            if len(self._pool) < self._size:
                self._pool.append((self.clips, texts))
            else:
                place = self._chance.randrange(self.clips + 1)
                if place < self._size:
                    self._pool[place] = (self.clips, texts)
            self.clips += 1
        for row in tags:
            self._tags.update(dict.fromkeys(row, 1))
            self._tag_rows += bool(row)

    def rows(self, training_captions: Sequence[str] | None = None) -> dict[str, BlindRow]:
        """The blind rows of all clips noted, by name; `majority_template` where any clip had tags."""
        texts = [references for _, references in self._pool]
        rows: dict[str, BlindRow] = {}
        if training_captions and _distinct(training_captions):
            chosen, best = constant(texts, training_captions)[0], constant_best(texts, training_captions)[0]
            rows["constant"] = lambda first, references: [chosen] * len(references)
            rows["constant_best"] = lambda first, references: [best] * len(references)
        else:
            of_half = [_central_first(texts for clip, texts in self._pool if clip % 2 == half) for half in (0, 1)]
            rows["constant"] = lambda first, references: [
                of_half[1 - (first + place) % 2] for place in range(len(references))
            ]
        rows["shuffled"] = self._dealer(texts)
        if self._tag_rows:
            usual = _template(self._tags, self._tag_rows)
            rows["majority_template"] = lambda first, references: [usual] * len(references)
        return rows

    def passed_on(self) -> BlindRow:
        """The first text of every clip noted, passed on to another clip; nobody looks whether the two are equal."""
        texts = [references[0] for _, references in self._pool]
        if self.clips == len(texts):
            order = passed_on(texts, self._seed)
            return lambda first, references: order[first : first + len(references)]

        def draw(first: int, references: References) -> list[str]:
            return random.Random(f"own:{self._seed}:{first}").choices(texts, k=len(references))

        return draw

    def _dealer(self, texts: References) -> BlindRow:
        if self.clips == len(texts):
            order = shuffled(texts, self._seed)

            def deal(first: int, references: References) -> list[str]:
                return self._noted(order[first : first + len(references)], references)
        else:

            def deal(first: int, references: References) -> list[str]:
                chance = random.Random(f"deal:{self._seed}:{first}")
                captions = []
                for own in references:
                    drawn = (chance.choice(texts)[0] for _ in range(TRIES))
                    captions.append(next((text for text in drawn if text not in own), chance.choice(texts)[0]))
                return self._noted(captions, references)

        return deal

    def _noted(self, captions: list[str], references: References) -> list[str]:
        self.own_dealt += sum(text in own for text, own in zip(captions, references, strict=True))
        return captions


def shuffled(references: References, seed: int = SHUFFLE_SEED) -> list[str]:
    """The first reference of each clip, dealt to another clip at random.

    `random.Random(seed).shuffle`, after which a clip that got one of its own references exchanges it with another,
    where one of up to `TRIES` can take it. Where many clips share a reference, some may keep their own.
    """
    captions = [texts[0] for texts in references]
    own = [frozenset(texts) for texts in references]
    chance = random.Random(seed)
    chance.shuffle(captions)
    for place, texts in enumerate(own):
        if captions[place] in texts:
            for other in chance.sample(range(len(own)), min(len(own), TRIES)):
                if captions[other] not in texts and captions[place] not in own[other]:
                    captions[place], captions[other] = captions[other], captions[place]
                    break
    return captions


def passed_on(captions: Sequence[str], seed: int = SHUFFLE_SEED) -> list[str]:
    """Every caption at the place of another: all are passed on along one random circle, by `seed`."""
    circle = list(range(len(captions)))
    random.Random(f"own:{seed}").shuffle(circle)
    dealt = [""] * len(captions)
    for place, source in zip(circle, circle[1:] + circle[:1], strict=True):
        dealt[place] = captions[source]
    return dealt


def constant(references: References, training_captions: Sequence[str] | None = None) -> list[str]:
    """One caption for every clip, chosen without sight of the clip's own half.

    With training captions: of `CANDIDATES` of them (from every second row) the one with the best BLEU-1 on others of
    them (from the rows between); `references` are not looked at. Without: every second clip gets the most central
    reference of the other clips and the other way round, so that no clip is scored by a caption of its own half.
    """
    if training_captions and _distinct(training_captions):
        from caption_metrics.ngram import best_by_bleu1

        distinct = _distinct(training_captions)
        candidates, held = _evenly(distinct[0::2], CANDIDATES), _evenly(distinct[1::2], SAMPLE)
        chosen = best_by_bleu1(candidates, [[text] for text in held]) if held else candidates[0]
        return [chosen] * len(references)
    central = [_central_first(references[half::2]) for half in (0, 1)]
    return [central[1 - index % 2] for index in range(len(references))]


def constant_best(references: References, training_captions: Sequence[str]) -> list[str]:
    """Of `CANDIDATES` training captions the one that has the best BLEU-1 on these references, for every clip.

    Chosen in sight of the references (of `HINDSIGHT` clips at most), which makes it the hardest row to beat.
    """
    from caption_metrics.ngram import best_by_bleu1

    candidates = _evenly(_distinct(training_captions), CANDIDATES)
    return [best_by_bleu1(candidates, _evenly(references, HINDSIGHT))] * len(references)


def most_central(captions: Sequence[str]) -> str:
    """The caption that shares most words with the others: best mean unigram F-measure, of an even sample."""
    words = {caption: Counter(caption.lower().split()) for caption in captions}
    sample = [words[caption] for caption in _evenly(captions, SAMPLE)]

    def centrality(caption: str) -> float:
        own = words[caption]
        shares = (2 * (own & other).total() / ((own.total() + other.total()) or 1) for other in sample)
        return sum(shares)

    return max(_evenly(list(words), CANDIDATES), key=centrality)


def majority_template(tags: Sequence[Sequence[str]]) -> list[str]:
    """The paper's template, filled for every clip with the tags that are most frequent over all, as many as is usual.

    What a tag-to-caption system scores that ignores the clip's own tags.
    """
    counts = Counter(tag for row in tags for tag in dict.fromkeys(row))
    return [_template(counts, len(tags))] * len(tags)


def _template(counts: Mapping[str, int], rows: int) -> str:
    number = max(1, round(sum(counts.values()) / max(1, rows)))
    common = [tag for tag, _ in Counter(counts).most_common(number)]
    return f"the music is characterized by {', '.join(common)}"


def _central_first(references: Iterable[Sequence[str]]) -> str:
    first = [texts[0] for texts in references]
    return most_central(first) if first else ""


def _distinct(captions: Sequence[str]) -> list[str]:
    return [caption for caption in dict.fromkeys(captions) if caption.strip()]


def _evenly(values: Sequence, number: int) -> list:
    step = max(1.0, len(values) / number)
    return [values[int(index * step)] for index in islice(range(number), len(values))]
