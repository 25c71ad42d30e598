"""Captions that nobody listened for: what a system scores that never hears the music.

On MusicCaps one constant sentence beats trained models on BLEU and METEOR, because the references share a house style.
A score means something by its distance from these rows.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

SHUFFLE_SEED = 0
CANDIDATES = 20  # captions tried for the constant, evenly spaced
SAMPLE = 500  # captions that a candidate is compared with, evenly spaced


def shuffled(references: Sequence[Sequence[str]], seed: int = SHUFFLE_SEED) -> list[str]:
    """The first reference of each clip, dealt out to the clips at random (`random.Random(seed).shuffle`)."""
    captions = [texts[0] for texts in references]
    random.Random(seed).shuffle(captions)
    return captions


def constant(references: Sequence[Sequence[str]], training_captions: Sequence[str] | None = None) -> list[str]:
    """One caption for every clip.

    With training captions: the one of `CANDIDATES` of them that has the best BLEU-1 on these references. It is chosen
    in sight of them, which makes it the hardest row to beat. Without: every second clip gets the most central
    reference of the other clips and the other way round, so that no clip is scored by a caption of its own half.
    """
    if training_captions:
        from caption_metrics.ngram import best_by_bleu1

        candidates = _evenly(list(dict.fromkeys(training_captions)), CANDIDATES)
        return [best_by_bleu1(candidates, references)] * len(references)
    halves = [[texts[0] for texts in references[start::2]] for start in (0, 1)]
    central = [most_central(half) if half else "" for half in halves]
    return [central[1 - index % 2] for index in range(len(references))]


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
    number = max(1, round(sum(map(len, tags)) / max(1, len(tags))))
    common = [tag for tag, _ in counts.most_common(number)]
    return [f"the music is characterized by {', '.join(common)}"] * len(tags)


def _evenly(captions: Sequence[str], number: int) -> list[str]:
    step = max(1.0, len(captions) / number)
    return [captions[int(index * step)] for index in range(min(number, len(captions)))]
