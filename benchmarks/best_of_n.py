"""What drawing N answers and keeping the most faithful one does for the small local model, on MusicCaps entries.

    OMP_NUM_THREADS=1 python benchmarks/best_of_n.py musiccaps.json --folder DIR

The tracks go through `lpmc pseudo-caption --backend local --candidates N` for N = 1, 4, 8 into one store in DIR, so
that each N asks only for what the smaller one has not: seconds and answers of an N are those of all runs up to it. A
second call with the same DIR asks nothing and prints the same tables.

Seed 0 is greedy, every further draw has temperature 0.7. With N = 1 the engine asks again, up to three times, when an
answer can't be kept. Computed from the stored answers, without asking:

- `first answer`: the greedy answer alone;
- `no choice, 8 asks`: the draws of N = 8 up to the first usable one, which is taken: what asking again does alone;
- `template`: the caption that needs no model. It names every tag and claims nothing else, so it is the best that the
  selection could find by its own measure; a choice that drifts towards it copies the list.

The engine chooses by unsupported claims, then coverage, so the share of rows kept and the share without claims can only
rise with N. Facts and words in common with the human caption of the same clip are no part of the choice. Wilson's
intervals take rows as independent: they are too narrow where the rows of one track fare alike.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from pathlib import Path

from caption_metrics.facts import fact_scores
from caption_metrics.ngram import rouge_l
from dataset_builder.caption_collection import OPENER_WORDS, NearDuplicates, normal_words
from dataset_builder.captioning.backends.local import LocalBackend
from dataset_builder.captioning.captions_table import CaptionRow
from dataset_builder.captioning.jobs import REASK_TEMPERATURE, AskPlan, CaptionJob, _read, next_step
from dataset_builder.captioning.ledger import wilson
from dataset_builder.captioning.pseudo_caption import caption_tracks, make_plan
from dataset_builder.captioning.requests import Answer, CaptionRequest, Fault
from dataset_builder.captioning.store import AnswerStore, StoredAnswer
from dataset_builder.faithfulness import check_caption
from dataset_builder.instructions import template_caption
from dataset_builder.sources.musiccaps import read_musiccaps
from dataset_builder.tracks import TaggedTrack, write_tracks

CANDIDATES = (1, 4, 8)
GROUPS = {
    "writing, summary, paraphrase": ("writing", "summary", "paraphrase"),
    "attribute_prediction (asked to add attributes: claims are no reason to reject)": ("attribute_prediction",),
}
THREADS = 1
COPIED = 0.5  # share of a list's words in one run, as they stand in the list: from here on a caption copies it
RESAMPLES = 2_000


class TimedBackend(LocalBackend):
    """The local backend, loaded once, with the time it took to answer."""

    wall_s = 0.0
    cpu_s = 0.0
    loaded = False

    async def check(self) -> None:
        if not self.loaded:
            await super().check()
            self._torch.set_num_threads(THREADS)
            self.loaded = True

    async def answer(self, requests: Sequence[CaptionRequest]) -> list[Answer | Fault]:
        wall, cpu = time.perf_counter(), time.process_time()
        results = await super().answer(requests)
        self.wall_s += time.perf_counter() - wall
        self.cpu_s += time.process_time() - cpu
        return results


@dataclass(frozen=True)
class Draw:
    """One answer as the engine reads it, and its tokens."""

    row: CaptionRow
    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True)
class Choice:
    """One way to choose: a row for every job, and the draws each was chosen from."""

    rows: list[CaptionRow]
    draws: list[list[Draw]]


def ask(tracks: Path, folder: Path, backend: TimedBackend) -> dict[str, dict[str, list[float]]]:
    """Run every group and N; give wall and processor seconds of each, cumulative over N, from this or an earlier call.

    A run that was cut off leaves no seconds: its answers are kept, their time is lost, so it must start afresh.
    """
    spent = folder / "seconds.json"
    if spent.is_file():
        return json.loads(spent.read_text(encoding="utf-8"))
    seconds: dict[str, dict[str, list[float]]] = {}
    for group, instructions in GROUPS.items():
        backend.wall_s = backend.cpu_s = 0.0
        for number in CANDIDATES:
            plan = make_plan(backend, instructions, candidates=number)
            caption_tracks(
                tracks, folder / f"{instructions[0]}-{number}.parquet", folder / "store.sqlite", backend, plan
            )
            seconds.setdefault(group, {})[str(number)] = [backend.wall_s, backend.cpu_s]
    spent.write_text(json.dumps(seconds), encoding="utf-8")
    return seconds


def draws_of(job: CaptionJob, plan: AskPlan, store: AnswerStore) -> tuple[list[Draw], CaptionRow]:
    """Every answer that the engine looked at for `job` under `plan`, in their order, and the row it made of them."""
    seen: list[tuple[CaptionRequest, StoredAnswer]] = []

    def look_up(request: CaptionRequest) -> StoredAnswer | None:
        found = store.find(request)
        if found is not None:
            seen.append((request, found))
        return found

    row = next_step(job, plan, look_up)
    if isinstance(row, CaptionRequest):
        raise SystemExit(f"{job.track.track_id}, {job.instruction}: not answered yet; remove the folder and run again")
    draws = [
        Draw(_read(job, plan, request, found)[0], found.answer.prompt_tokens or 0, found.answer.completion_tokens or 0)
        for request, found in seen
    ]
    return draws, row


def choices(jobs: Sequence[CaptionJob], plan: AskPlan, store: AnswerStore) -> dict[str, Choice]:
    """The ways to choose, by name; the template last."""
    found: dict[str, Choice] = {}
    for number in CANDIDATES:
        drawn = [draws_of(job, replace(plan, candidates=number), store) for job in jobs]
        found[f"N = {number}"] = Choice([row for _, row in drawn], [draws for draws, _ in drawn])
    most = found[f"N = {CANDIDATES[-1]}"].draws
    first = Choice([draws[0].row for draws in most], [draws[:1] for draws in most])
    until = [up_to_the_first_kept(draws) for draws in most]
    earliest = Choice([draws[-1].row for draws in until], until)
    template = Choice([template_row(job) for job in jobs], [[] for _ in jobs])
    return {"first answer": first, **found, f"no choice, {CANDIDATES[-1]} asks": earliest, "template": template}


def up_to_the_first_kept(draws: list[Draw]) -> list[Draw]:
    """The draws that are made when the first usable answer is taken; all when none is usable."""
    last = next((place for place, draw in enumerate(draws) if draw.row.outcome == "ok"), len(draws) - 1)
    return draws[: last + 1]


def template_row(job: CaptionJob) -> CaptionRow:
    """The template caption, judged as an answer would be."""
    caption = template_caption(job.track.tags)
    check = check_caption(caption, job.track)
    return CaptionRow(
        job.track.track_id,
        job.instruction,
        caption,
        "rejected" if check.problems else "ok",
        "; ".join(check.problems) or None,
        tag_coverage=check.tag_coverage,
        unsupported=check.unsupported,
    )


# --- what is counted -------------------------------------------------------------------------------------------------


def copied(caption: str, tags: Sequence[str]) -> float:
    """The longest run of words that stands in the caption as in the list of tags ("and" apart), over the list's words.

    1.0 for the template, which is the list with four words before it.
    """
    said, listed = ([word for word in normal_words(text) if word != "and"] for text in (caption, " ".join(tags)))
    run = SequenceMatcher(None, said, listed, autojunk=False).find_longest_match()
    return run.size / len(listed) if listed else 0.0


def share(count: int, of: int) -> str:
    """`41 of 60, 68 % (56-79)`, the interval by Wilson's score."""
    low, high = wilson(count, of)
    return f"{count} of {of}, {100 * count / of:.0f} % ({100 * low:.0f}-{100 * high:.0f})" if of else "none"


def mean(values: Sequence[float]) -> str:
    return f"{100 * statistics.mean(values):.1f} %" if values else "-"


def captions_of(rows: Sequence[CaptionRow]) -> list[tuple[CaptionRow, str]]:
    """The kept rows with their captions."""
    return [(row, row.caption) for row in rows if row.outcome == "ok" and row.caption is not None]


def openers(kept: Sequence[tuple[CaptionRow, str]]) -> str:
    """How many beginnings the captions have, and how often the most frequent one stands."""
    counts = Counter(" ".join(normal_words(caption)[:OPENER_WORDS]) for _, caption in kept)
    if not counts:
        return "-"
    words, most = counts.most_common(1)[0]
    return f'{len(counts)} of {len(kept)} ({most} x "{words}")'


def near_duplicates(kept: Sequence[tuple[CaptionRow, str]]) -> int:
    """Captions that say nearly what another one of the same instruction says."""
    near = NearDuplicates()
    for row, caption in kept:
        near.add(row.instruction, caption)
    return int((near.counts() > 0).sum())


def coverages(rows: Sequence[CaptionRow]) -> list[float]:
    return [row.tag_coverage or 0.0 for row in rows]


def print_table(title: str, header: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
    print(f"\n#### {title}\n")
    for line in (header, ["---"] * len(header), *lines):
        print(f"| {' | '.join(line)} |")


def choice_table(
    found: dict[str, Choice], tags: dict[str, tuple[str, ...]], seconds: dict[str, list[float]]
) -> list[list[str]]:
    """One line a figure, one column a way to choose."""

    def kept(choice: Choice) -> list[tuple[CaptionRow, str]]:
        return captions_of(choice.rows)

    def best(choice: Choice) -> str:
        """The most that any answer covers, kept or not; nothing where no answer could be read."""
        if not any(choice.draws):
            return "-"
        return mean([max(coverages([draw.row for draw in draws]), default=0.0) for draws in choice.draws])

    def copies(choice: Choice) -> str:
        shares = [copied(caption, tags[row.track_id]) for row, caption in kept(choice)]
        return f"{sum(value >= COPIED for value in shares)} of {len(shares)}; {mean(shares)}"

    def tokens(choice: Choice) -> str:
        drawn = [draw for draws in choice.draws for draw in draws]
        return f"{sum(d.prompt_tokens for d in drawn):,} + {sum(d.completion_tokens for d in drawn):,}"

    figures: dict[str, Callable[[Choice], str]] = {
        "kept, no unsupported claim": lambda c: share(sum(not row.unsupported for row, _ in kept(c)), len(c.rows)),
        "kept (`ok`)": lambda c: share(len(kept(c)), len(c.rows)),
        "coverage of the kept": lambda c: mean(coverages([row for row, _ in kept(c)])),
        "best coverage among the answers, all rows": best,
        "words of the kept, mean": lambda c: (
            f"{statistics.mean([len(text.split()) for _, text in kept(c)] or [0]):.1f}"
        ),
        "copies of the list; longest run": copies,
        "openers of the kept": lambda c: openers(kept(c)),
        "kept with a near-duplicate": lambda c: str(near_duplicates(kept(c))),
        "answers drawn": lambda c: str(sum(map(len, c.draws))),
        "tokens read + written": tokens,
    }
    lines = [[title, *(figure(choice) for choice in found.values())] for title, figure in figures.items()]
    times = {f"N = {number}": "{:.0f} ({:.0f})".format(*values) for number, values in seconds.items()}
    return [*lines, ["seconds (of processor time)", *(times.get(name, "-") for name in found)]]


def draw_table(choice: Choice, tags: dict[str, tuple[str, ...]]) -> list[list[str]]:
    """One line a draw: what a single answer is worth, greedy and with noise, and how often it was the one kept."""
    lines = []
    for seed in range(CANDIDATES[-1]):
        rows = [draw.row for draws in choice.draws for draw in draws if draw.row.seed == seed]
        kept = captions_of(rows)
        copies = sum(copied(caption, tags[row.track_id]) >= COPIED for row, caption in kept)
        lines.append(
            [
                f"{seed} ({REASK_TEMPERATURE if seed else 'greedy'})",
                share(len(kept), len(rows)),
                str(sum(not row.unsupported for row, _ in kept)),
                mean(coverages([row for row, _ in kept])),
                str(copies),
                openers(kept),
                str(sum(row.seed == seed for row, _ in captions_of(choice.rows))),
            ]
        )
    return lines


def print_changes(found: dict[str, Choice], tags: dict[str, tuple[str, ...]]) -> None:
    """What became of the rows of N = 1, and how many answers of the most candidates differ."""
    alone, most = found["N = 1"].rows, found[f"N = {CANDIDATES[-1]}"]
    pairs = list(zip(alone, most.rows, strict=True))
    both = [(one, other) for one, other in pairs if one.outcome == "ok" == other.outcome]
    other_text = [(one, other) for one, other in both if one.caption != other.caption]
    fewer = sum(len(other.unsupported) < len(one.unsupported) for one, other in other_text)
    print(
        f"\nN = 1 to N = {CANDIDATES[-1]}: {sum(one.outcome != 'ok' == other.outcome for one, other in pairs)} rows"
        f" rescued, {sum(one.outcome == 'ok' != other.outcome for one, other in pairs)} lost, {len(both)} kept by both;"
        f" of these {len(other_text)} carry another caption: {fewer} with fewer unsupported claims,"
        f" {len(other_text) - fewer} with as many."
    )
    for when, changed in zip(("before", "after"), zip(*other_text, strict=True), strict=False):
        words = statistics.mean(len((row.caption or "").split()) for row in changed)
        runs = mean([copied(row.caption or "", tags[row.track_id]) for row in changed])
        covered = mean(coverages(changed))
        print(f"Those {len(changed)} {when}: {words:.1f} words, coverage {covered}, run copied from the list {runs}.")
    outcomes = Counter(row.outcome for row in most.rows)
    reasons = Counter(
        (draw.row.reason or "").partition(" ")[0] for draws in most.draws for draw in draws if draw.row.outcome != "ok"
    )
    print(f"Outcomes: {dict(outcomes)}; first word of why answers were not kept: {dict(reasons.most_common())}.")


def print_beside_human(
    found: dict[str, Choice], references: dict[str, tuple[str, ...]], tags: dict[str, tuple[str, ...]]
) -> None:
    """Facts and words in common with the human caption, on the rows that N = 1 keeps."""
    places = [place for place, row in enumerate(found["N = 1"].rows) if row.outcome == "ok"]
    names = ["N = 1", *(f"N = {number}" for number in CANDIDATES[1:]), "template"]
    texts = {name: [found[name].rows[place].caption or "" for place in places] for name in names}
    tracks = [found["N = 1"].rows[place].track_id for place in places]
    human = [references[track] for track in tracks]
    lines = []
    for name in names:
        facts = fact_scores(texts[name], human).micro
        lines.append(
            [
                name,
                mean(coverages([found[name].rows[place] for place in places])),
                *(mean([value or 0.0]) for value in (facts.precision, facts.recall, facts.f1)),
                mean([rouge_l(texts[name], human)]),
                mean([copied(text, tags[track]) for text, track in zip(texts[name], tracks, strict=True)]),
            ]
        )
    title = f"The {len(places)} rows that N = 1 keeps, beside the human captions"
    print_table(title, ["", "coverage", "facts: precision", "recall", "F1", "ROUGE-L", "copied run"], lines)
    chance = random.Random(1)
    by_track: dict[str, list[int]] = {}
    for index, track in enumerate(tracks):
        by_track.setdefault(track, []).append(index)

    def difference(indices: Sequence[int], score: Callable[[list[str], list[tuple[str, ...]]], float]) -> float:
        references = [human[index] for index in indices]
        last, one = ([texts[name][index] for index in indices] for name in (names[-2], names[0]))
        return 100 * (score(last, references) - score(one, references))

    scores: dict[str, Callable[[list[str], list[tuple[str, ...]]], float]] = {
        "facts F1": lambda said, stated: fact_scores(said, stated).micro.f1 or 0.0,
        "ROUGE-L": rouge_l,
    }
    for name, score in scores.items():
        drawn = sorted(
            difference([i for track in chance.choices(list(by_track), k=len(by_track)) for i in by_track[track]], score)
            for _ in range(RESAMPLES)
        )
        low, high = drawn[round(0.025 * RESAMPLES)], drawn[round(0.975 * RESAMPLES) - 1]
        whole = difference(range(len(tracks)), score)
        print(f"\n{names[-2]} less N = 1, {name}: {whole:+.1f} ({low:+.1f} to {high:+.1f}, bootstrap over tracks)")


def main() -> None:
    """Ask what is missing and print the tables as Markdown."""
    parser = argparse.ArgumentParser()
    parser.add_argument("annotations", type=Path, help="MusicCaps: its CSV, or the JSON of the released code")
    parser.add_argument("--folder", type=Path, required=True, help="where tracks, store and tables are kept")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    entries: list[TaggedTrack] = list(read_musiccaps(options.annotations))
    write_tracks(entries, options.folder / "tracks.parquet")
    backend = TimedBackend()
    seconds = ask(options.folder / "tracks.parquet", options.folder, backend)
    tags = {track.track_id: track.tags for track in entries}
    references = {track.track_id: track.reference_captions for track in entries}
    with AnswerStore(options.folder / "store.sqlite") as store:
        totals = store.totals()
        counted = 0
        for group, instructions in GROUPS.items():
            plan = make_plan(backend, instructions)
            jobs = [CaptionJob(track, name) for name in instructions for track in entries if track.tags]
            found = choices(jobs, plan, store)
            counted += sum(map(len, found[f"N = {CANDIDATES[-1]}"].draws))
            print(
                f"\n### {group}: {len(jobs)} rows of {len(entries)} tracks, {plan.model}, wording {plan.wording.name}"
            )
            print_table("By choice", ["", *found], choice_table(found, tags, seconds[group]))
            print_changes(found, tags)
            header = ["seed (temperature)", "`ok`", "of them no unsupported claim", "coverage", "copies of the list"]
            lines = draw_table(found[f"N = {CANDIDATES[-1]}"], tags)
            print_table("By draw", [*header, "openers", f"kept by N = {CANDIDATES[-1]}"], lines)
            print_beside_human(found, references, tags)
    print(f"\nAnswers in the store: {totals.answers}, in the tables: {counted}.")


if __name__ == "__main__":
    main()
