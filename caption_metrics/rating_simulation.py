"""Simulated ratings with a known truth: to try the analysis on, never a result.

Every record says `"simulated": true`, its study's name begins with "simulated", and its times lie in the year 1970.
Careful raters answer by Davidson's model, with likings of their own and clips on which a system does better or worse;
careless ones answer at random and fast, and some prefer one side whatever is on it.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta, timezone
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caption_metrics.preference import fit_davidson
from caption_metrics.rating_power import ITEM_SD, NODES, RATER_SD
from caption_metrics.ratings import ANSWERS, BLIND, HUMAN, MISMATCHED, QUESTIONS
from lpmc_errors import UsageError
from lpmc_files import write_json, write_text

Numbers = NDArray[np.float64]

# Log-odds of being preferred, above people's captions. Invented, so that a try has a system near people, one behind
# them and the blind caption far behind.
STRENGTHS = {HUMAN: 0.0, "simulated-good": -0.3, "simulated-weak": -1.0, BLIND: -2.0}
GOLD_SHARE = 0.1  # of real comparisons, as the rating page deals them
DUPLICATE_SHARE = 0.1
GOLD_RIGHT = 0.95  # of a careful rater's gold answers
SIDED = 0.95  # how often a rater with a side takes it
MEDIAN_SECONDS = {"careful": 35.0, "sided": 35.0, "careless": 4.0}  # a clip of 10 s and 90 words to read: 33 s
SECONDS_SPREAD = 0.3  # of the logarithm
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


@dataclass(frozen=True)
class Truth:
    """What a simulated study holds: the design, the systems' strengths and how the raters are."""

    strengths: Mapping[str, float] = field(default_factory=lambda: dict(STRENGTHS))  # log-odds
    raters: int = 24
    clips: int = 60
    raters_per_unit: int = 3
    every_pair: bool = False  # every two systems, not each with the first alone
    ties: float = 0.2  # share of ties between systems of equal strength, on a clip of no preference
    left: float = 0.0  # log-odds that the left side gains
    rater_sd: float = RATER_SD
    item_sd: float = ITEM_SD
    careless: int = 0  # raters among `raters` who answer at random
    sided: int = 0  # raters who nearly always take the left side
    seed: int = 0

    def __post_init__(self) -> None:
        if len(self.strengths) < 2 or MISMATCHED in self.strengths:
            raise UsageError("systems", ", ".join(self.strengths) or "none", f"name two or more, none {MISMATCHED!r}")
        if not all(math.isfinite(strength) for strength in self.strengths.values()):
            raise UsageError("strengths", "not all are finite", "give log-odds such as -0.5")
        if not 1 <= self.raters_per_unit <= self.raters or self.clips < 1:
            raise UsageError(
                "design",
                f"{self.raters_per_unit} of {self.raters} raters on each of {self.clips} clips",
                "give at least one clip, and no more raters a clip than there are",
            )
        if not 0 <= self.ties < 1 or min(self.rater_sd, self.item_sd) < 0:
            raise UsageError("ties or spreads", "out of range", "ties are 0 or more and below 1, spreads 0 or more")
        if self.careless < 0 or self.sided < 0 or self.careless + self.sided > self.raters:
            raise UsageError("careless and sided raters", f"more than the {self.raters} raters", "lower them")

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """The systems compared: each with the first, or every two."""
        names = list(self.strengths)
        return list(combinations(names, 2)) if self.every_pair else [(names[0], name) for name in names[1:]]

    @property
    def manner(self) -> list[str]:
        """How each rater is: the first ones careless, then those with a side, then careful ones."""
        careful = self.raters - self.careless - self.sided
        return ["careless"] * self.careless + ["sided"] * self.sided + ["careful"] * careful

    @property
    def study(self) -> str:
        """A name that says what this is."""
        return f"simulated-{hashlib.sha256(json.dumps(asdict(self)).encode()).hexdigest()[:12]}"

    def to_dict(self) -> dict[str, Any]:
        """For JSON: the truth, and what an analysis of careful raters should find."""
        return {
            "simulated": True,
            "study": self.study,
            **asdict(self),
            "expected_strengths": expected_strengths(self),
            "manners": dict(zip(_rater_names(self), self.manner, strict=True)),
        }


def simulate_ratings(truth: Truth) -> list[dict[str, Any]]:
    """Records as the rating page stores them, in order of time, drawn by the truth's seed."""
    draw = np.random.default_rng(truth.seed)
    systems = list(truth.strengths)
    code = {name: number for number, name in enumerate(systems)}
    units = [(clip, first, second) for clip in range(truth.clips) for first, second in truth.pairs]
    draw.shuffle(units)
    # Each unit's raters are neighbours on a ring, so that everyone judges as many units as everyone, or one more.
    rater = np.arange(len(units) * truth.raters_per_unit) % truth.raters
    unit = np.repeat(np.arange(len(units)), truth.raters_per_unit)
    swapped = draw.random(len(unit)) < 0.5
    clip = np.array([units[number][0] for number in unit])
    pair = np.array([[code[units[number][1]], code[units[number][2]]] for number in unit])
    shown = np.where(swapped[:, None], pair[:, ::-1], pair)
    # A difference of two systems deviates by `rater_sd` between raters and by `item_sd` between clips.
    liking = draw.standard_normal((truth.raters, len(systems))) * truth.rater_sd / math.sqrt(2)
    fit = draw.standard_normal((truth.clips, len(systems))) * truth.item_sd / math.sqrt(2)
    worth = np.array(list(truth.strengths.values())) + liking[rater] + fit[clip]
    rows = np.arange(len(unit))
    apart = worth[rows, shown[:, 0]] - worth[rows, shown[:, 1]]
    page = _Page(truth, draw)
    made: list[list[dict[str, Any]]] = [[] for _ in range(truth.raters)]
    answers = page.answers(rater, apart)
    for row, (who, what) in enumerate(zip(rater.tolist(), clip.tolist(), strict=True)):
        sides = [systems[shown[row, 0]], systems[shown[row, 1]]]
        made[who].append(page.record(who, what, sides, "real", answers[row]))
    for who, own in enumerate(made):
        real = list(own)
        repeated = draw.permutation(len(real))[: round(DUPLICATE_SHARE * len(real))]
        again = page.answers(np.full(len(repeated), who), -apart[rater == who][repeated])
        for place, given in zip(repeated, again, strict=True):
            first = real[place]
            clip_of = int(first["item"].rsplit("-", 1)[1])
            sides = first["pair"][::-1]
            own.append(page.record(who, clip_of, sides, "duplicate", given, first["rating_id"]))
        for _ in range(round(GOLD_SHARE * len(real))):
            sides = [HUMAN, MISMATCHED] if draw.random() < 0.5 else [MISMATCHED, HUMAN]
            own.append(page.record(who, int(draw.integers(truth.clips)), sides, "gold", page.gold_answers(who, sides)))
    return _in_time([_shuffled(own, draw) for own in made])


def expected_strengths(truth: Truth) -> dict[str, float]:
    """What an analysis of careful raters tends to, above people's captions, or the first system where there are none.

    Not the strengths themselves: averaged over raters and clips that differ, preferences are less marked.
    """
    systems = list(truth.strengths)
    code = {name: number for number, name in enumerate(systems)}
    reference = code.get(HUMAN, 0)
    nodes, weights = np.polynomial.hermite_e.hermegauss(NODES)
    sides, counts = [], []
    for first, second in truth.pairs:
        for left, right in ((first, second), (second, first)):
            apart = truth.strengths[left] - truth.strengths[right] + truth.left
            shares = _shares(apart + math.hypot(truth.rater_sd, truth.item_sd) * nodes, _tie_weight(truth))
            sides.append([code[left], code[right]])
            counts.append(weights @ shares / weights.sum())
    found = fit_davidson(np.array(counts) * 1e6, sides, len(systems)).strengths  # so many that the prior is nothing
    return {name: float(found[number] - found[reference]) for number, name in enumerate(systems)}


def parse_strengths(given: Sequence[str]) -> dict[str, float]:
    """Strengths from texts such as `ours=-0.5`. Raises `UsageError`."""
    strengths: dict[str, float] = {}
    for text in given:
        name, sign, value = text.rpartition("=")
        try:
            strength = float(value)
        except ValueError:
            sign = ""
        if not sign or not name or name in strengths:
            raise UsageError(f"--strength {text}", "expected NAME=LOG-ODDS, each name once", "such as ours=-0.5")
        strengths[name] = strength
    return strengths


def write_ratings(path: Path, records: Sequence[Mapping[str, Any]], truth: Truth) -> Path:
    """Write simulated records (JSONL) and, beside them, the truth (`.truth.json`), whose path is returned.

    Raises `UsageError` when the file exists: simulated ratings never replace or join real ones.
    """
    if path.exists():
        raise UsageError(path, "exists", "simulated ratings go to a file of their own; name a new one")
    beside = path.with_suffix(".truth.json")
    write_json(beside, truth.to_dict())
    write_text(path, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))
    return beside


class _Page:
    """What the rating page would store: answers by the raters' manners, numbered records with times."""

    def __init__(self, truth: Truth, draw: np.random.Generator) -> None:
        self.truth, self.draw = truth, draw
        self.names, self.manner, self.study = _rater_names(truth), truth.manner, truth.study
        self.slots: Counter[int] = Counter()

    def answers(self, rater: NDArray[np.int64], apart: Numbers) -> list[dict[str, str | None]]:
        """Answers to each question where the left caption is better by `apart` in log-odds."""
        manner = np.array([self.manner[who] for who in rater])
        shares = _shares(apart + self.truth.left, _tie_weight(self.truth))
        shares[manner == "careless"] = 1 / 3
        shares[manner == "sided"] = (SIDED, (1 - SIDED) / 2, (1 - SIDED) / 2)
        luck = self.draw.random((len(QUESTIONS), len(shares)))
        chosen = (luck[:, :, None] > shares.cumsum(axis=1)[None, :, :2]).sum(axis=2)
        return [
            {question: ANSWERS[chosen[place, row]] for place, question in enumerate(QUESTIONS)}
            for row in range(len(shares))
        ]

    def gold_answers(self, who: int, sides: Sequence[str]) -> dict[str, str | None]:
        """Answers to a gold comparison; the third question is not asked of one."""
        right = "left" if sides[0] == HUMAN else "right"
        given: dict[str, str | None] = {}
        for question in QUESTIONS:
            if self.manner[who] == "careless":
                given[question] = ANSWERS[int(self.draw.integers(3))]
            elif self.manner[who] == "sided":
                given[question] = "left"
            else:
                given[question] = right if self.draw.random() < GOLD_RIGHT else "tie"
        return given

    def record(
        self,
        who: int,
        clip: int,
        sides: Sequence[str],
        kind: str,
        answers: Mapping[str, str | None],
        original: str | None = None,
    ) -> dict[str, Any]:
        """One line of the store, its time still to come."""
        slot = self.slots[who]
        self.slots[who] += 1
        seconds = MEDIAN_SECONDS[self.manner[who]] * math.exp(SECONDS_SPREAD * self.draw.standard_normal())
        return {
            "rating_id": hashlib.sha256(f"{self.study}|{who}|{slot}".encode()).hexdigest()[:16],
            "study": self.study,
            "rater": self.names[who],
            "item": f"simulated-clip-{clip}",
            "audio": None,
            "pair": list(sides),
            "kind": kind,
            "duplicate_of": original,
            "answers": dict(answers),
            "claims": None,
            "wrong_claims": None,
            "listened_s": None,
            "seconds": round(seconds, 1),
            "order_seed": self.truth.seed,
            "time": None,
            "simulated": True,
            "via": "simulation",
        }


def _rater_names(truth: Truth) -> list[str]:
    return [f"simulated-rater-{number:03d}" for number in range(truth.raters)]


def _tie_weight(truth: Truth) -> float:
    return 2 * truth.ties / (1 - truth.ties)


def _shares(log_odds: Numbers, tie: float) -> Numbers:
    """Chances of left, tie, right, shape (..., 3)."""
    weights = np.stack([np.exp(log_odds / 2), np.full(np.shape(log_odds), tie), np.exp(-log_odds / 2)], axis=-1)
    return weights / weights.sum(axis=-1, keepdims=True)


def _shuffled(own: list[dict[str, Any]], draw: np.random.Generator) -> list[dict[str, Any]]:
    """A rater's comparisons in random order, duplicates after everything, so that each follows its original."""
    first = [record for record in own if record["kind"] != "duplicate"]
    again = [record for record in own if record["kind"] == "duplicate"]
    return [first[place] for place in draw.permutation(len(first))] + again


def _in_time(by_rater: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """All records in order of time: raters work side by side, from the first second of 1970."""
    timed = []
    for number, own in enumerate(by_rater):
        passed = 0.0
        for record in own:
            passed += record["seconds"]
            when = EPOCH + timedelta(seconds=round(passed))
            timed.append((passed, number, {**record, "time": when.strftime("%Y-%m-%dT%H:%M:%SZ")}))
    return [record for _, _, record in sorted(timed, key=lambda entry: entry[:2])]
