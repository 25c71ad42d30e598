"""How fast the paper's scores are, beside the libraries' own functions called one after another, and in what memory.

    OMP_NUM_THREADS=1 python benchmarks/caption_scores.py [FOLDER] [--pairs 2839] [--rounds 5]
    OMP_NUM_THREADS=1 python benchmarks/caption_scores.py --memory 10000 100000 1000000

FOLDER holds `caption_writing/inference.json` and the like (published captions); without it captions are drawn at random
from the words of WordNet (seed 0).

The libraries' side does what the released evaluation asks of them: BLEU four times, once an order (13a tokens, the
formula of Hugging Face's `bleu`), NLTK's METEOR on words split for each row, all four of rouge_score's defaults with
its bootstrap of 1,000 samples, lengths, vocabulary, novelty of words and of captions. It is given what makes it
faster: NLTK's tokenizer with the standard library's regular expressions (as in 3.8.1, the release that gives the
published values; 3.10 runs them in another engine at twice the time), tokens of BLEU kept over the four orders, and
none of the Arrow files that `evaluate` writes between. A second row leaves the bootstrap and the three unused kinds of
ROUGE out. Both sides must give the same values, or the script stops.

Rounds are interleaved in one process and one thread; both sides have WordNet loaded before the first, and ours begins
each with empty caches. The median of the processor's seconds counts, as others may use the machine; wall seconds are
beside it. "Cold" is one process each: loading WordNet and Punkt included, the imports of the libraries not.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import resource
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, chain
from pathlib import Path

import nltk
import numpy as np
from nltk.tokenize.punkt import PunktSentenceTokenizer
from nltk.translate.meteor_score import single_meteor_score
from rouge_score import rouge_scorer, scoring
from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

from caption_metrics import diversity, ngram
from caption_metrics.language_data import load_punkt_parameters, load_synonyms, load_wordnet
from caption_metrics.measures import CaptionTable
from caption_metrics.meteor import Meteor
from caption_metrics.meteor_words import _Language381, _Tokenizer381
from caption_metrics.paper_block import PaperBlock
from caption_metrics.pieces import Pieces

Texts = Sequence[str]
BLOCK = 1_000  # captions scored at a time
ROUGE_TOLERANCE = 2e-4  # the bootstrap of rouge_score has no seed
ROUGE_DEFAULT = ("rouge1", "rouge2", "rougeL", "rougeLsum")  # what `evaluate`'s rouge computes unless told otherwise


def library_bleu(predictions: Texts, references: Texts, tokens: Callable[[str], str]) -> dict[str, float]:
    """BLEU-1 to 4, each from the start, by the public formula (Papineni et al., 2002) of Hugging Face's `bleu`."""
    scores = {}
    for order in ngram.BLEU_ORDERS:
        matches, possible = [0] * order, [0] * order
        said_length = written_length = 0
        for prediction, reference in zip(predictions, references, strict=True):
            said, written = tokens(prediction).split(), tokens(reference).split()
            said_length += len(said)
            written_length += len(written)
            counts, known = _all_ngrams(said, order), _all_ngrams(written, order)
            for gram, count in (counts & known).items():
                matches[len(gram) - 1] += count
            for size in range(1, order + 1):
                possible[size - 1] += max(0, len(said) - size + 1)
        precisions = [match / all_ for match, all_ in zip(matches, possible, strict=True)]
        mean = math.exp(sum(1.0 / order * math.log(value) for value in precisions)) if min(precisions) else 0.0
        longer = said_length / written_length
        scores[f"bleu{order}"] = mean * (1.0 if longer > 1 else math.exp(1 - 1.0 / longer))
    return scores


def _all_ngrams(tokens: Texts, order: int) -> Counter[tuple[str, ...]]:
    counts: Counter[tuple[str, ...]] = Counter()
    for size in range(1, order + 1):
        for start in range(len(tokens) - size + 1):
            counts[tuple(tokens[start : start + size])] += 1
    return counts


def library_meteor(predictions: Texts, references: Texts) -> dict[str, float]:
    """NLTK's METEOR, with the words of the release that the published values come from."""
    splitter = PunktSentenceTokenizer(load_punkt_parameters(), lang_vars=_Language381())
    tokenizer, wordnet = _Tokenizer381(), load_wordnet()

    def words(text: str) -> list[str]:
        return [word for sentence in splitter.tokenize(text) for word in tokenizer.tokenize(sentence)]

    scores = [
        single_meteor_score(words(reference), words(prediction), wordnet=wordnet)
        for prediction, reference in zip(predictions, references, strict=True)
    ]
    return {"meteor": float(np.mean(scores))}


def library_rouge(predictions: Texts, references: Texts, kinds: Texts, bootstrap: bool) -> dict[str, float]:
    """rouge_score's values, aggregated by its bootstrap or by the mean."""
    scorer = rouge_scorer.RougeScorer(list(kinds))
    aggregator = scoring.BootstrapAggregator()
    scores = [scorer.score(reference, said) for said, reference in zip(predictions, references, strict=True)]
    if not bootstrap:
        return {"rougeL": float(np.mean([score["rougeL"].fmeasure for score in scores]))}
    for score in scores:
        aggregator.add_scores(score)
    return {"rougeL": aggregator.aggregate()["rougeL"].mid.fmeasure}


def library_words(predictions: Texts, training: Texts) -> dict[str, float]:
    """Lengths, vocabulary and novelty as the released code counts them, over all rows."""

    def split(caption: str) -> list[str]:
        return caption.lower().replace(",", "").replace(".", "").split()

    own = {word for caption in predictions for word in split(caption)}
    known = {word for caption in training for word in split(caption)}
    captions = set(predictions)
    return {
        "length_avg": float(np.mean([len(caption.split()) for caption in predictions])),
        "length_std": float(np.std([len(caption.split()) for caption in predictions])),
        "vocab_size": len(own),
        "vocab_novelty": len(own - known) / len(own),
        "caption_novelty": len(captions - set(training)) / len(captions),
    }


def libraries(predictions: Texts, references: Texts, training: Texts, *, bootstrap: bool) -> dict[str, float]:
    """Everything, one function after another."""
    return {
        **library_bleu(predictions, references, Tokenizer13a()),
        **library_meteor(predictions, references),
        **library_rouge(predictions, references, ROUGE_DEFAULT if bootstrap else ("rougeL",), bootstrap),
        **library_words(predictions, training),
    }


def paper_block(pairs: Iterator[tuple[str, str]], training: Texts) -> dict[str, float]:
    """Everything in one pass, block by block, with new caches."""
    block = PaperBlock(training_captions=training)
    table = CaptionTable(block.columns)
    waiting: list[tuple[str, str]] = []

    def score() -> None:
        table.append(block.add([said for said, _ in waiting], [[text] for _, text in waiting]))
        waiting.clear()

    for pair in pairs:
        waiting.append(pair)
        if len(waiting) == BLOCK:
            score()
    if waiting:
        score()
    sums = table.sums()
    scores = {measure.name: float(measure.value(sums)) for measure in block.measures}
    return scores | {name: float(value) for name, value in block.totals().items() if value is not None}


def random_pairs(number: int, seed: int = 0) -> Iterator[tuple[str, str]]:
    """Pairs of about 45 words, drawn by Zipf's law from 60,000 entries of WordNet; both of a pair share some words."""
    draw = random.Random(seed)
    words = [name for name in load_wordnet().all_lemma_names() if name.isalpha() and name.islower()]
    draw.shuffle(words)
    words = ["a", "the", "and", "of", "with", "is", "in", "this", "song", "music", "guitar", *words][:60_000]
    weights = list(accumulate(1 / (rank + 3) for rank in range(len(words))))

    def caption(theme: Sequence[str]) -> str:
        sentences = []
        for length in (draw.randint(8, 14), draw.randint(10, 20), draw.randint(8, 14)):
            chosen = draw.choices(words, cum_weights=weights, k=length) + draw.choices(theme, k=3)
            draw.shuffle(chosen)
            chosen[len(chosen) // 2] += ","
            sentences.append(" ".join(chosen).capitalize() + ".")
        return " ".join(sentences)

    for _ in range(number):
        theme = draw.choices(words, cum_weights=weights, k=8)
        yield caption(theme), caption(theme)


def parts(predictions: Texts, references: Texts, training: Texts) -> dict[str, tuple[Callable[[], object], ...]]:
    """Each score apart, the libraries' way and ours; ours does not share its tokens here, as it does in the block."""
    lists = [[text] for text in references]

    def ours_bleu() -> None:
        ngram.bleu_scores(predictions, lists)

    def ours_meteor() -> None:
        meteor = Meteor()
        for said, texts in zip(predictions, lists, strict=True):
            meteor.best(said, texts)

    def ours_words() -> None:
        diversity.lengths(predictions)
        diversity.vocabulary_novelty(predictions, training)
        diversity.caption_novelty(predictions, training)

    return {
        "BLEU-1 to 4": (lambda: library_bleu(predictions, references, Tokenizer13a()), ours_bleu),
        "METEOR": (lambda: library_meteor(predictions, references), ours_meteor),
        "ROUGE-L, as released": (
            lambda: library_rouge(predictions, references, ROUGE_DEFAULT, True),
            lambda: ngram.rouge_l(predictions, lists),
        ),
        "ROUGE-L alone": (
            lambda: library_rouge(predictions, references, ("rougeL",), False),
            lambda: ngram.rouge_l(predictions, lists),
        ),
        "lengths, words, novelty": (lambda: library_words(predictions, training), ours_words),
    }


def where_time_goes(predictions: Texts, references: Texts) -> dict[str, float]:
    """Seconds of the processor for each step of the block, with empty caches and run apart."""
    texts = [*predictions, *references]
    pieces, meteor = Pieces(), Meteor()
    steps: dict[str, float] = {}

    def timed(name: str, step: Callable[[], list]) -> list:
        start = time.process_time()
        result = step()
        steps[name] = time.process_time() - start
        return result

    split = timed("split for BLEU, ROUGE-L and the vocabulary", lambda: [pieces.split(text) for text in texts])
    words = timed("split for METEOR", lambda: [meteor.words(text) for text in texts])
    both = range(len(predictions))
    other = len(predictions)
    timed("n-grams", lambda: [ngram.bleu_row(split[row].bleu, [split[row + other].bleu]) for row in both])
    timed(
        "common subsequences",
        lambda: [ngram.best_rouge_l(split[row].rouge, [split[row + other].rouge]) for row in both],
    )
    timed(
        "METEOR's alignment, stems and synonyms", lambda: [meteor.score(words[row], words[row + other]) for row in both]
    )
    timed(
        "the same with stems and synonyms known", lambda: [meteor.score(words[row], words[row + other]) for row in both]
    )
    return steps


class Clock:
    """Seconds of the processor and of the wall for each contender, round by round."""

    def __init__(self) -> None:
        self.processor: dict[str, list[float]] = {}
        self.wall: dict[str, list[float]] = {}

    def run(self, name: str, step: Callable[[], object]) -> object:
        wall, processor = time.perf_counter(), time.process_time()
        result = step()
        self.processor.setdefault(name, []).append(time.process_time() - processor)
        self.wall.setdefault(name, []).append(time.perf_counter() - wall)
        return result

    def median(self, name: str) -> float:
        return statistics.median(self.processor[name])

    def row(self, name: str) -> str:
        low, high = min(self.processor[name]), max(self.processor[name])
        return f"{self.median(name):7.3f} s ({low:.3f} to {high:.3f}), wall {statistics.median(self.wall[name]):7.3f} s"


def same_values(ours: dict[str, float], theirs: dict[str, float]) -> None:
    """Stop unless the values agree: to the last bit, and ROUGE-L within its bootstrap where that was used."""
    for name, value in theirs.items():
        tolerance = ROUGE_TOLERANCE if name == "rougeL" else 0.0
        if abs(ours[name] - value) > tolerance:
            sys.exit(f"{name}: {ours[name]!r} here, {value!r} by the libraries")


def compare(name: str, pairs: list[tuple[str, str]], rounds: int) -> None:
    """Print medians and ratios for one set of pairs."""
    predictions, references = [said for said, _ in pairs], [text for _, text in pairs]
    training = references[: diversity.RELEASED_ROWS]  # any texts do: they are read, not judged
    load_wordnet()
    load_synonyms()
    released, lean, block = "libraries, as released", "libraries, no bootstrap, ROUGE-L alone", "PaperBlock"
    clock = Clock()
    for _ in range(rounds):
        with_bootstrap = clock.run(released, lambda: libraries(predictions, references, training, bootstrap=True))
        without = clock.run(lean, lambda: libraries(predictions, references, training, bootstrap=False))
        ours = clock.run(block, lambda: paper_block(iter(pairs), training))
        same_values(ours, with_bootstrap)  # type: ignore[arg-type]
        same_values(ours, without)  # type: ignore[arg-type]
    print(f"\n{name}: {len(pairs)} pairs, {rounds} rounds; seconds of the processor, median (lowest to highest)")
    for contender in (released, lean, block):
        print(f"  {contender:40} {clock.row(contender)}   {clock.median(contender) / clock.median(block):5.1f} x")
    apart = Clock()
    for _ in range(rounds):
        for part, (theirs, own) in parts(predictions, references, training).items():
            apart.run(f"{part} theirs", theirs)
            apart.run(f"{part} ours", own)
    for part in parts(predictions, references, training):
        theirs, own = apart.median(f"{part} theirs"), apart.median(f"{part} ours")
        print(f"  {part:40} {theirs:7.3f} s | {own:7.3f} s   {theirs / own:5.1f} x")
    for step, seconds in where_time_goes(predictions, references).items():
        print(f"  of the block: {step:45} {seconds:6.3f} s")


def child(arguments: Sequence[str]) -> str:
    """What this script prints with other arguments, in a process of its own."""
    command = [sys.executable, __file__, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def cold(side: str, pairs: list[tuple[str, str]]) -> None:
    """Print the processor's seconds of one side in a process that has loaded nothing yet but the libraries."""
    start = time.process_time()
    predictions, references = [said for said, _ in pairs], [text for _, text in pairs]
    training = references[: diversity.RELEASED_ROWS]
    if side == "ours":
        paper_block(iter(pairs), training)
    else:
        libraries(predictions, references, training, bootstrap=True)
    print(f"{time.process_time() - start:.2f}")


def memory(number: int) -> None:
    """Print seconds and the most memory that this process ever held after scoring `number` random pairs."""
    generator = random_pairs(number)
    first = next(generator)  # WordNet as NLTK reads it, which the words are drawn from, is in memory from here on
    PaperBlock()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    start = time.process_time()
    scores = paper_block(chain([first], generator), [])
    seconds = time.process_time() - start
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{number:9,} pairs: {after:6.0f} MB at most, {after - before:5.0f} MB above an idle PaperBlock,"
        f" {seconds:7.1f} s of the processor with the making of the captions, vocabulary {scores['vocab_size']:,.0f}"
    )


def read(folder: Path | None, number: int) -> dict[str, list[tuple[str, str]]]:
    """The pairs to score, by the name of their method."""
    found = {}
    for path in sorted(folder.glob("*/inference.json")) if folder else ():
        rows = json.loads(path.read_text(encoding="utf-8"))[:number]
        found[path.parent.name] = [(row["prediction"], row["ground_truth"]) for row in rows]
    return found or {"random captions": list(random_pairs(number))}


def main() -> None:
    """Run what the arguments ask for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--pairs", type=int, default=2_839, help="captions of each method")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory", type=int, nargs="+", metavar="PAIRS", help="measure memory instead")
    parser.add_argument("--cold", choices=("ours", "libraries"), help=argparse.SUPPRESS)
    parser.add_argument("--memory-of", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.memory_of is not None:
        memory(given.memory_of)
    elif given.memory:
        for number in given.memory:
            print(child(["--memory-of", str(number)]), flush=True)
    elif given.cold:
        cold(given.cold, next(iter(read(given.folder, given.pairs).values())))
    else:
        sets = read(given.folder, given.pairs)
        print(f"nltk {nltk.__version__}, Python {sys.version.split()[0]}, one thread")
        for name, pairs in sets.items():
            compare(name, pairs, given.rounds)
        options = [*([str(given.folder)] if given.folder else []), "--pairs", str(given.pairs), "--cold"]
        times = {side: [float(child([*options, side])) for _ in range(3)] for side in ("ours", "libraries")}
        ours, theirs = statistics.median(times["ours"]), statistics.median(times["libraries"])
        print(f"\ncold, {next(iter(sets))}: libraries {theirs:.2f} s | PaperBlock {ours:.2f} s   {theirs / ours:.1f} x")


if __name__ == "__main__":
    main()
