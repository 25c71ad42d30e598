"""Ratings of captions by people, as the rating page stores them: one comparison of two captions a line (JSONL).

A rating is `real` (it counts), `gold` (one caption belongs to another clip: was the rater attentive?) or `duplicate`
(an earlier comparison again, sides swapped: does the rater agree with himself?). Only real ones enter any result.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lpmc_errors import TableError

HUMAN = "human"
BLIND = "blind-constant"  # one caption for every clip, written without hearing any: raters must prefer people to it
MISMATCHED = "mismatched"  # in gold comparisons: a human caption of another clip
QUESTIONS = {
    "more_correct": "which caption has more correct attributes",
    "less_wrong": "which caption is less wrong",
    "overall": "which caption is better overall",
}
REQUIRED_QUESTIONS = ("more_correct", "less_wrong")  # the two of the paper; `overall` may be left out
ANSWERS = ("left", "tie", "right")
KINDS = ("real", "gold", "duplicate")
STORE_FOLDER = "ratings"  # in a study's folder
NAMED = 20  # problems named in an error or a table; all are in the JSON


@dataclass(frozen=True, slots=True)
class Rating:
    """One rater's answers to one comparison, with the captions' systems as they were shown: left, then right."""

    rating_id: str
    study: str
    rater: str
    item: str
    left: str
    right: str
    kind: str
    duplicate_of: str | None
    answers: Mapping[str, str]  # question -> left, tie or right; questions that were not answered are absent
    simulated: bool
    claims: Mapping[str, Sequence[str] | None] | None = None  # shown to be ticked; None where none were
    wrong_claims: Mapping[str, Sequence[str] | None] | None = None  # ticked as wrong; None for a side not judged
    listened_s: float | None = None  # seconds of playback; None where it was not measured
    seconds: float | None = None  # from display to answer

    @property
    def pair(self) -> frozenset[str]:
        """The two systems, whatever their sides."""
        return frozenset((self.left, self.right))


@dataclass(frozen=True)
class Rater:
    """What a rater said of himself once: how familiar with music (0 to 5), and how he listened."""

    rater: str
    familiarity: int | None
    playback: str | None


@dataclass(frozen=True)
class Plan:
    """What the study fixed before anyone rated; None for what its file does not say."""

    real: int | None
    raters_per_unit: int | None
    by_pair: Mapping[str, int]  # "human|ours" -> real ratings


@dataclass(frozen=True)
class RatingFile:
    """The ratings of one study, what is known of its raters and plan, and the lines that could not be used."""

    path: Path
    study: str
    ratings: tuple[Rating, ...]
    problems: tuple[tuple[str, str], ...]  # where (file and line), and what was wrong
    raters: Mapping[str, Rater]
    plan: Plan | None

    @property
    def simulated(self) -> bool:
        """Whether any rating, even one, came from a simulated rater."""
        return any(rating.simulated for rating in self.ratings)

    def of_kind(self, kind: str) -> list[Rating]:
        """The ratings of one kind, in the order of the file."""
        return [rating for rating in self.ratings if rating.kind == kind]


def read_ratings(path: Path) -> RatingFile:
    """Read ratings from a JSONL file, or from the folder of a study with its plan and what raters said of themselves.

    A line that is torn, incomplete or contradicts another is recorded in `problems` and left out; of two with one
    `rating_id` the first stays. Raises `TableError` when the file is absent, holds no usable line, or mixes studies.
    """
    path = Path(path)
    file = _store_file(path)
    ratings: list[Rating] = []
    problems: list[tuple[str, str]] = []
    seen: dict[str, Rating] = {}
    judged: set[tuple[str, str, frozenset[str]]] = set()
    for where, line in _lines(file):
        try:
            rating = parse_rating(_object(line))
            same = seen.get(rating.rating_id)
            if same is not None:
                told = "written twice" if same == rating else "another rating has it as well"
                raise ValueError(f"rating_id {rating.rating_id}: {told}; the first is kept")
            comparison = (rating.rater, rating.item, rating.pair)
            if rating.kind == "real" and comparison in judged:
                raise ValueError(f"rater {rating.rater} judged these captions of {rating.item} before")
        except ValueError as error:
            problems.append((where, str(error)))
            continue
        seen[rating.rating_id] = rating
        if rating.kind == "real":
            judged.add(comparison)
        ratings.append(rating)
    if not ratings:
        first = f" (first: {problems[0][0]}: {problems[0][1]})" if problems else ""
        raise TableError(file, f"holds no rating that can be used{first}", "check that `lpmc ratings serve` wrote it")
    studies = Counter(rating.study for rating in ratings)
    if len(studies) > 1:
        raise TableError(file, f"mixes the studies {', '.join(sorted(studies))}", "analyse each study's file by itself")
    real = [rating for rating in ratings if rating.kind == "real"]
    if not real:
        raise TableError(file, "holds gold and duplicate comparisons only", "collect real ones; only they are counted")
    ratings, orphans = _with_their_originals(ratings)
    raters = _read_raters(file.parent / "raters.jsonl", problems)
    return RatingFile(file, ratings[0].study, tuple(ratings), (*problems, *orphans), raters, _read_plan(path, file))


def parse_rating(row: Mapping[str, Any]) -> Rating:
    """A rating from one object of the file. Raises `ValueError` that names the field and what it holds."""
    texts = {name: _text(row, name) for name in ("rating_id", "study", "rater", "item", "kind")}
    if texts["kind"] not in KINDS:
        raise ValueError(f"kind {texts['kind']!r}, expected {', '.join(KINDS)}")
    pair = row.get("pair")
    if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(name, str) and name for name in pair)):
        raise ValueError(f"pair {pair!r}, expected the two systems, left and right")
    if pair[0] == pair[1]:
        raise ValueError(f"pair holds {pair[0]!r} twice")
    gold = texts["kind"] == "gold"
    if gold != (MISMATCHED in pair):
        raise ValueError(f"a {texts['kind']} comparison of {pair[0]} and {pair[1]}; gold ones hold {MISMATCHED!r}")
    if not isinstance(row.get("simulated"), bool):
        raise ValueError("simulated is neither true nor false: it must be known whether people rated")
    original = row.get("duplicate_of")
    if (texts["kind"] == "duplicate") != isinstance(original, str):
        raise ValueError(f"duplicate_of {original!r} in a {texts['kind']} comparison")
    return Rating(
        **texts,
        left=pair[0],
        right=pair[1],
        duplicate_of=original,
        answers=_answers(row.get("answers")),
        simulated=row["simulated"],
        claims=_sides(row, "claims"),
        wrong_claims=_sides(row, "wrong_claims"),
        listened_s=_seconds(row, "listened_s"),
        seconds=_seconds(row, "seconds"),
    )


def _text(row: Mapping[str, Any], name: str) -> str:
    value = row.get(name)
    if not isinstance(value, str) or not value:
        raise ValueError(f"{name} {value!r}, expected a text" if name in row else f"has no {name}")
    return value


def _answers(given: Any) -> dict[str, str]:
    if not isinstance(given, dict):
        raise ValueError("has no answers")
    answers = {}
    for question in QUESTIONS:
        answer = given.get(question)
        if answer is None and question not in REQUIRED_QUESTIONS:
            continue
        if answer not in ANSWERS:
            raise ValueError(f"answer {answer!r} to {question}, expected {', '.join(ANSWERS)}")
        answers[question] = answer
    return answers


def _sides(row: Mapping[str, Any], name: str) -> Mapping[str, Sequence[str] | None] | None:
    value = row.get(name)
    if value is None:
        return None
    if not isinstance(value, dict) or not all(
        value.get(side) is None
        or (isinstance(value[side], list) and all(isinstance(claim, str) for claim in value[side]))
        for side in ("left", "right")
    ):
        raise ValueError(f"{name} are not lists of texts under left and right")
    return value


def _seconds(row: Mapping[str, Any], name: str) -> float | None:
    value = row.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
        raise ValueError(f"{name} {value!r}, expected seconds")
    return float(value)


def _with_their_originals(ratings: list[Rating]) -> tuple[list[Rating], list[tuple[str, str]]]:
    """Without duplicates whose first rating is not there: what they would be compared with is unknown."""
    real = {rating.rating_id: rating for rating in ratings if rating.kind == "real"}
    kept, orphans = [], []
    for rating in ratings:
        original = real.get(rating.duplicate_of or "")
        fits = original is not None and (original.rater, original.item, original.pair) == (
            rating.rater,
            rating.item,
            rating.pair,
        )
        if rating.kind != "duplicate" or fits:
            kept.append(rating)
        else:
            what = "is not there" if original is None else "is of another rater, item or pair"
            orphans.append((f"rating {rating.rating_id}", f"the rating {rating.duplicate_of} that it repeats {what}"))
    return kept, orphans


def _store_file(path: Path) -> Path:
    if path.is_dir():
        found = next(
            (file for file in (path / STORE_FOLDER / "ratings.jsonl", path / "ratings.jsonl") if file.is_file()), None
        )
        if found is None:
            raise TableError(path, f"has no {STORE_FOLDER}/ratings.jsonl", "nobody has rated yet, or name the file")
        return found
    if not path.is_file():
        raise TableError(path, "no such file", "name the ratings.jsonl of a study, or the study's folder")
    return path


def _lines(file: Path) -> Iterator[tuple[str, bytes]]:
    """Each line that is not blank and where it stands; bytes, as a torn line may end inside a character."""
    try:
        with file.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip(b" \t\r\n\xef\xbb\xbf"):
                    yield f"{file.name}, line {number}", line
    except OSError as error:
        raise TableError(file, f"cannot be read: {error.strerror or error}", "check its permissions") from error


def _object(line: bytes) -> Mapping[str, Any]:
    try:
        value = json.loads(line)
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError):
        torn = not line.endswith(b"\n")
        raise ValueError("is torn: the file ends inside it" if torn else "is not JSON") from None
    if not isinstance(value, dict):
        raise ValueError(f"is a {type(value).__name__}, expected an object")
    return value


def _read_raters(file: Path, problems: list[tuple[str, str]]) -> dict[str, Rater]:
    """What raters said of themselves; a study does without it."""
    raters: dict[str, Rater] = {}
    if not file.is_file():
        return raters
    for where, line in _lines(file):
        try:
            row = _object(line)
            name, familiarity, playback = _text(row, "rater"), row.get("familiarity"), row.get("playback")
            if familiarity is not None and familiarity not in range(6):
                raise ValueError(f"familiarity {familiarity!r}, expected 0 to 5")
        except ValueError as error:
            problems.append((where, str(error)))
            continue
        raters[name] = Rater(name, familiarity, playback if isinstance(playback, str) else None)
    return raters


def _read_plan(path: Path, file: Path) -> Plan | None:
    """The plan in the study's folder: that of `path`, or the one around the store that `file` lies in."""
    folders = [path] if path.is_dir() else [file.parent.parent] if file.parent.name == STORE_FOLDER else []
    for folder in folders:
        design = folder / "study.json"
        if not design.is_file():
            continue
        try:
            study = json.loads(design.read_text(encoding="utf-8"))
            planned = study["planned"]
            return Plan(int(planned["real"]), int(study["raters_per_unit"]), dict(planned.get("real_by_pair") or {}))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise TableError(design, f"is not the plan of a study ({error})", "analyse ratings.jsonl alone") from error
    return None
