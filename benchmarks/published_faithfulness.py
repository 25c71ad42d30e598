"""How faithful the published captions are, by our checks, beside the figures measured on them before.

    python benchmarks/published_faithfulness.py FOLDER [--scale 2170000]

FOLDER holds `caption_writing/`, `caption_attribute_prediction/` and `baseline_k2c/` with the authors' `inference.json`
(2,839 MusicCaps evaluation items each, `prediction` and `ground_truth`), and `musiccaps_annotation_sample.json` (20
MusicCaps entries with their aspect lists). Printed as Markdown. The earlier figures, in brackets, are those of a first
study with all tags and all four instructions, by other word lists.

What cannot be computed from FOLDER: the rows `summary` and `paraphrase` (their captions are not in it), and every
tag-based figure for all items, because the captions were published without their tags. Three stand-ins are used:

- the entries of the sample whose caption is one of the references (10), with their real tags;
- for all items another text from the same tags. `writing` carries 96 % of them, so what `attribute_prediction` says
  beyond `writing` is close to what it added; the other way round, and for `human`, it is an upper bound;
- for the false alarms, a caption's own facts: rules on the text alone need no tags.

Where the figures differ: our lexicon has 190 instruments, the earlier study 23 families, so a lenient rate here asks
for a relative of the same family among more families; "hype" and "lyrics, listener, you" are word lists, ours longer.

--scale: captions joined from halves of published ones, four instructions; time and peak memory of each class of
`caption_collection`, each in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from caption_metrics.facts import STEM_LETTERS, extract_facts, tag_coverage, unsupported_facts
from dataset_builder.caption_collection import (
    DistinctN,
    NearDuplicates,
    Openers,
    contradictions,
    normal_words,
)
from dataset_builder.captioning.parsing import Parsed, parse_answer
from dataset_builder.faithfulness import CHECKS_VERSION, check_caption
from dataset_builder.tracks import TaggedTrack

METHODS = {
    "writing": "caption_writing",
    "attribute_prediction": "caption_attribute_prediction",
    "K2C": "baseline_k2c",
}
# Of the earlier study, in percent (words: a number). "-": not measured there.
EARLIER = {
    "words": {"writing": 44.4, "attribute_prediction": 66.2, "K2C": 14.7, "human": 50.9},
    "starts with 'get ready to'": {"writing": 7.6},
    "hype": {"writing": 20.5, "attribute_prediction": 20.8},
    "lyrics, listener, you": {"writing": 23.5, "attribute_prediction": 44.0},
    "exact tag recall": {"writing": 84.5, "attribute_prediction": 84.3, "K2C": 34.6, "human": 53.5},
    "5-letter stem recall": {"writing": 95.3, "attribute_prediction": 94.3, "K2C": 43.1, "human": 72.9},
    "coverage": {"writing": 96.0, "attribute_prediction": 95.1, "human": 76.9},
    "all tags covered": {"writing": 67.1, "attribute_prediction": 60.3},
    "instrument added, lenient": {"writing": 0.4, "attribute_prediction": 48.3, "human": 6.7},
    "instrument added, strict": {"writing": 4.1, "attribute_prediction": 60.2, "human": 18.6},
    "tempo added": {"writing": 0.3, "attribute_prediction": 2.7, "human": 8.7},
}
Table = dict[str, dict[str, float]]


def read(folder: Path) -> dict[str, list[str]]:
    """The captions of each method and the human references, in the same order; answers are parsed as a run does."""
    captions: dict[str, list[str]] = {}
    for name, directory in METHODS.items():
        rows = json.loads((folder / directory / "inference.json").read_text(encoding="utf-8"))
        captions[name] = [_parsed(name, row["prediction"]) for row in rows]
        captions["human"] = [row["ground_truth"] for row in rows]
    return captions


def _parsed(name: str, answer: str) -> str:
    parsed = parse_answer(name, answer) if name != "K2C" else Parsed(answer)
    return parsed.caption if isinstance(parsed, Parsed) else ""


def own_facts(caption: str) -> TaggedTrack:
    """A track that has everything that the caption claims: what is left are the rules on the text."""
    return TaggedTrack("", tuple(fact.value for fact in sorted(extract_facts(caption))))


def share(hits: Sequence[bool]) -> float:
    return 100 * sum(hits) / len(hits)


def text_figures(captions: Sequence[str]) -> dict[str, float]:
    soft = [set(check_caption(caption, own_facts(caption)).soft) for caption in captions]
    return {
        "words": statistics.mean(len(caption.split()) for caption in captions),
        "starts with 'get ready to'": share([normal_words(text)[:3] == ["get", "ready", "to"] for text in captions]),
        "stock opener": share(["stock_opener" in found for found in soft]),
        "hype": share(["hype" in found for found in soft]),
        "lyrics, listener, you": share([bool(found & {"lyrics", "listener"}) for found in soft]),
        "short": share(["short" in found for found in soft]),
    }


def tag_figures(captions: Sequence[str], tags: Sequence[Sequence[str]]) -> dict[str, float]:
    pairs = list(zip(captions, tags, strict=True))
    exact: list[bool] = []
    stems: list[bool] = []
    for caption, its_tags in pairs:
        plain = " ".join(normal_words(caption))
        known = {word[:STEM_LETTERS] for word in plain.split()}
        for tag in its_tags:
            exact.append(" ".join(normal_words(tag)) in plain)
            stems.extend(word[:STEM_LETTERS] in known for word in normal_words(tag))
    coverage = [tag_coverage(caption, its_tags) or 0.0 for caption, its_tags in pairs]
    return {
        "exact tag recall": share(exact),
        "5-letter stem recall": share(stems),
        "coverage": 100 * statistics.mean(coverage),
        "all tags covered": share([value == 1.0 for value in coverage]),
        **added_figures(captions, tags),
    }


def added_figures(captions: Sequence[str], tags: Sequence[Sequence[str]]) -> dict[str, float]:
    def added(category: str, families: bool) -> float:
        return share(
            [
                any(fact.category == category for fact in unsupported_facts(caption, its_tags, families=families))
                for caption, its_tags in zip(captions, tags, strict=True)
            ]
        )

    checks = [check_caption(text, TaggedTrack("", tuple(its))) for text, its in zip(captions, tags, strict=True)]
    return {
        "rejected for a claim": share([any(text.startswith("claims") for text in found.problems) for found in checks]),
        "instrument added, lenient": added("instrument", True),
        "instrument added, strict": added("instrument", False),
        "tempo added": added("tempo", False),
    }


def false_alarms(captions: Sequence[str]) -> Counter[str]:
    """How many captions each hard rule on the text rejects."""
    found: Counter[str] = Counter()
    for caption in captions:
        for problem in check_caption(caption, own_facts(caption)).problems:
            if not problem.startswith(("claims", "covers")):
                found["has too many words" if "at most" in problem else problem] += 1
    return found


def print_table(title: str, table: Table, digits: int = 1) -> None:
    """Columns are the table's keys; a figure of the earlier study follows in brackets."""
    print(f"\n### {title}\n")
    print("| | " + " | ".join(table) + " |")
    print("|---" * (len(table) + 1) + "|")
    for row in dict.fromkeys(row for column in table.values() for row in column):
        cells = []
        for name, column in table.items():
            earlier = EARLIER.get(row, {}).get(name)
            cells.append(f"{column.get(row, 0):.{digits}f}" + (f" ({earlier})" if earlier is not None else ""))
        print(f"| {row} | " + " | ".join(cells) + " |")


def collection_figures(captions: dict[str, list[str]]) -> Table:
    openers, near, distinct = Openers(), NearDuplicates(), DistinctN()
    for name, texts in captions.items():
        for text in texts:
            for taker in (openers, near, distinct):
                taker.add(name, text)
    counts, start, table = near.counts(), 0, {}
    for name, texts in captions.items():
        table[name] = {
            "share of the first opener": 100 * openers.top(1)[name][0].share,
            "captions with a near-duplicate": share(list(counts[start : start + len(texts)] > 0)),
            "distinct words": 100 * distinct.shares()[name].words,
            "distinct pairs of words": 100 * distinct.shares()[name].pairs,
        }
        start += len(texts)
    return table


def speed(captions: dict[str, list[str]]) -> None:
    """Processor time of `check_caption`, the captions of a track in turn, tags: the facts of the human caption."""
    tracks = [own_facts(caption) for caption in captions["human"]]
    for name in captions:
        start = time.process_time()
        for caption, track in zip(captions[name], tracks, strict=True):
            check_caption(caption, track)
        print(f"- {name}: {(time.process_time() - start) / len(tracks) * 1e6:.0f} us a caption")


def joined(folder: Path, number: int) -> Iterator[tuple[str, str]]:
    """`number` captions made of a first and a second half, in four instructions in turn."""
    captions = [text.split() for name, texts in read(folder).items() if name != "K2C" for text in texts]
    halves = [(" ".join(words[: len(words) // 2]), " ".join(words[len(words) // 2 :])) for words in captions]
    del captions
    chance = random.Random(1)
    for index in range(number):
        yield f"instruction {index % 4}", f"{chance.choice(halves)[0]} {chance.choice(halves)[1]}"


def scale_one(folder: Path, number: int, name: str) -> None:
    def peak() -> float:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # Linux counts in KiB

    openers, near, distinct = Openers(), NearDuplicates(), DistinctN()
    steps: dict[str, tuple[Callable[[str, str], None], Callable[[], object]]] = {
        "none": (lambda instruction, caption: None, lambda: None),
        "Openers": (openers.add, openers.top),
        "NearDuplicates": (near.add, near.counts),
        "DistinctN": (distinct.add, distinct.shares),
    }
    add, finish = steps[name]
    start = time.perf_counter()
    for instruction, caption in joined(folder, number):
        add(instruction, caption)
    added = time.perf_counter()
    finish()
    print(f"| {name} | {added - start:.1f} | {time.perf_counter() - added:.1f} | {peak():.0f} |", flush=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--scale", type=int, help="captions to generate; nothing else is measured")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        scale_one(options.folder, options.scale, options.only)
        return
    if options.scale:
        print("| class | add, s | result, s | peak memory, MiB |\n|---|---|---|---|", flush=True)
        for name in ("none", "Openers", "NearDuplicates", "DistinctN"):
            subprocess.run([sys.executable, __file__, *sys.argv[1:], "--only", name], check=True)
        return

    captions = read(options.folder)
    writing, human = captions["writing"], captions["human"]
    print(f"Checks {CHECKS_VERSION}; {len(human)} items a method; percent unless said otherwise.")
    print_table("Text, all items (earlier study)", {name: text_figures(texts) for name, texts in captions.items()})

    sample = json.loads((options.folder / "musiccaps_annotation_sample.json").read_text(encoding="utf-8")).values()
    places = {text.strip(): index for index, text in enumerate(human)}
    known = [
        (places[entry["caption"].strip()], entry["aspect_list"])
        for entry in sample
        if entry["caption"].strip() in places
    ]
    table = {
        name: tag_figures([texts[index] for index, _ in known], [tags for _, tags in known])
        for name, texts in captions.items()
    }
    print_table(f"Against the real tags of {len(known)} items (earlier study, all items)", table)
    others = {
        "writing": captions["attribute_prediction"],
        "attribute_prediction": writing,
        "K2C": writing,
        "human": writing,
    }
    table = {name: added_figures(texts, [[text] for text in others[name]]) for name, texts in captions.items()}
    print_table("Against another text of the same tags, all items (earlier study, against the tags)", table)

    alarms = {name: false_alarms(texts) for name, texts in captions.items()}
    print_table(
        "Rejected by a rule on the text",
        {n: {r: 100 * c / len(human) for r, c in a.items()} for n, a in alarms.items()},
        2,
    )
    print_table("As a collection", collection_figures(captions))
    pairs = zip(writing, captions["attribute_prediction"], strict=True)
    facts = [[tuple(map(str, extract_facts(text))) for text in pair] for pair in pairs]
    rate = share([bool(contradictions(both)) for both in facts])
    print(f"\nTracks whose writing and attribute_prediction contradict each other: {rate:.1f} %")
    print("\n### Speed\n")
    speed(captions)


if __name__ == "__main__":
    main()
