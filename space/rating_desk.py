"""What a rater meets: a code to come back with, a block of comparisons, the next one, and the end of the study.

Knows the study and the store, and nothing of the page. All that it answers follows from the two: a desk that was
restarted, or a second one beside it on the same store, goes on where the other stopped.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Literal

from lpmc_errors import UsageError
from space.rating_store import RatingStore, Record
from space.rating_study import Pair, Slot, Study, number_of, order_of_block, order_seed, sides

CODE_SIGNS = "abcdefghjkmnpqrstuvwxyz23456789"  # none that is read as another
CODE_LENGTH = 10  # 31 ** 10 codes: nobody guesses another's
ANSWERS = ("left", "right", "tie")
FAMILIARITY = (0, 1, 2, 3, 4, 5)  # the scale of Song Describer
PLAYBACK = ("headphones", "loudspeakers", "built-in")
SECONDS_AN_HOUR = 3600
NEEDED = {  # what the desk reads of each record
    "ratings": frozenset({"study", "simulated", "rating_id", "rater", "slot", "kind", "block", "time"}),
    "raters": frozenset({"study", "simulated", "rater"}),
    "claims": frozenset({"rater", "block", "order", "time"}),
}


@dataclass
class ListeningClock:
    """Seconds for which a clip was really playing, by the clock of the server.

    One stretch counts for no more than the clip lasts, since a page that vanishes never says that it stopped.
    """

    clip_s: float
    heard_s: float = 0.0
    since: float | None = None

    def play(self, now: float) -> None:
        """The player started."""
        self.pause(now)
        self.since = now

    def pause(self, now: float) -> None:
        """The player stopped, for whatever reason."""
        self.heard_s = self.heard(now)
        self.since = None

    def heard(self, now: float) -> float:
        """Seconds until now."""
        return self.heard_s + (0.0 if self.since is None else min(max(0.0, now - self.since), self.clip_s))


@dataclass(frozen=True)
class Trial:
    """One comparison as it is put before a rater."""

    slot: Slot
    pair: Pair  # the systems left and right
    captions: Pair
    claims: tuple[tuple[str, ...], tuple[str, ...]]
    order_seed: int
    file: str  # in the study's folder of sounds
    clip_s: float
    needed_s: float
    number: int  # from 1, in this block
    total: int


@dataclass(frozen=True)
class Answer:
    """What a rater says to a comparison. None: skipped, which only the two questions of the paper may not be."""

    more_correct: str
    less_wrong: str
    overall: str | None = None
    wrong_left: tuple[str, ...] | None = None
    wrong_right: tuple[str, ...] | None = None


Ending = Literal["may claim", "wait", "nothing left", "complete"]


@dataclass
class RatingDesk:
    """Gives blocks to raters and writes their ratings. Safe for threads, and for several desks on one store."""

    study: Study
    store: RatingStore
    clock: Callable[[], float] = time.time
    simulated: bool = False  # mark every rating: nobody listens, the study is tried out

    def __post_init__(self) -> None:
        """Raise `UsageError` for a store with ratings of another study, or simulated ones beside real ones."""
        for kind, needed in NEEDED.items():
            for record in self.store.read(kind):
                fault = self._foreign(record, needed)
                if fault:
                    raise UsageError(self.store.folder / f"{kind}.jsonl", fault, "name another folder with --store")

    def _foreign(self, record: Record, needed: frozenset[str]) -> str:
        if not needed <= record.keys():
            return f"holds a line without {', '.join(sorted(needed - record.keys()))}"
        if record.get("study", self.study.study) != self.study.study:
            return f"belongs to the study {record['study']}, not to {self.study.study}"
        if record.get("simulated", self.simulated) is not self.simulated:
            return f"holds {'real' if self.simulated else 'simulated'} ratings, which never mix"
        return ""

    def register(self, familiarity: int, playback: str) -> str:
        """Take in a new rater and return the code with which he comes back. The code itself is not stored."""
        if familiarity not in FAMILIARITY or playback not in PLAYBACK:
            raise UsageError("rater", "has not answered both questions", "choose one answer for each")
        code = "".join(secrets.choice(CODE_SIGNS) for _ in range(CODE_LENGTH))
        self.store.append(
            "raters",
            {
                "rater": self._id(code),
                "study": self.study.study,
                "familiarity": familiarity,
                "playback": playback,
                "time": _utc(self.clock()),
                "simulated": self.simulated,
            },
        )
        return code

    def rater(self, code: str) -> str | None:
        """The anonymous id that belongs to `code`; None when nobody has it."""
        wanted = self._id("".join(str(code).lower().split()))
        return wanted if any(record.get("rater") == wanted for record in self.store.read("raters")) else None

    def complete(self) -> bool:
        """Has every comparison all its ratings?"""
        return self.study.real_slots <= self._filled().keys()

    def _id(self, code: str) -> str:
        return "r-" + hashlib.sha256(f"{self.study.study}\x1f{code}".encode()).hexdigest()[:12]

    def next(self, rater: str) -> Trial | Ending:
        """The comparison where `rater` is, or why there is none."""
        claim = self._claims_of(rater)[-1:]
        if claim:
            slots = self._remaining(rater, claim[0])
            if slots:
                return self._trial(rater, slots, claim[0])
        if self.complete():
            return "complete"
        offers = self._offers(rater)
        if offers.keys() - self._held():
            return "may claim"
        return "wait" if offers else "nothing left"

    def claim(self, rater: str) -> Trial | Ending:
        """Give `rater` a block, if he has none under way and one is free, and return `next`."""
        with self.store.locked():
            now = self.next(rater)
            if now != "may claim":
                return now
            number, comparisons = self._best_offer(rater)
            order = [
                slot.id for slot in order_of_block(self.study, rater, self._with_checks(rater, number, comparisons))
            ]
            self.store.append("claims", {"rater": rater, "block": number, "order": order, "time": _utc(self.clock())})
            return self.next(rater)

    def rate(self, rater: str, trial: Trial, answer: Answer, *, listened_s: float, seconds: float) -> Record | None:
        """Write the rating and return it; None when it is there already, or somebody else has filled the slot.

        Raises `UsageError` when an answer is missing or the clip was not listened to for long enough.
        """
        if listened_s < trial.needed_s:
            raise UsageError(
                "the clip", f"was played for {listened_s:.1f} s", f"listen to {trial.needed_s:.1f} s of it"
            )
        check_answer(answer, trial.claims)
        with self.store.locked():
            claims = self._claims_of(rater)
            if not claims or trial.slot not in self._remaining(rater, claims[-1]):
                return None
            origin = self._rating_of(rater, trial.slot.duplicate_of)
            record = rating_record(
                self.study, rater, trial.slot, answer,
                pair=trial.pair, seed=trial.order_seed, duplicate_of=origin["rating_id"] if origin else None,
                listened_s=listened_s, seconds=seconds, at=self.clock(), via="page",
                simulated=self.simulated,
            )  # fmt: skip
            self.store.append("ratings", record)
            return record

    def _rating_of(self, rater: str, slot: str | None) -> Record | None:
        mine = (record for record in self.store.read("ratings") if record["rater"] == rater)
        return next((record for record in mine if record["slot"] == slot), None)

    def _filled(self) -> dict[str, str]:
        """Real slots that have their rating -> the rater."""
        return {record["slot"]: record["rater"] for record in self.store.read("ratings") if record["kind"] == "real"}

    def _claims_of(self, rater: str) -> list[Record]:
        return [record for record in self.store.read("claims") if record["rater"] == rater]

    def _remaining(self, rater: str, claim: Record) -> list[Slot]:
        """Slots of the claimed block that `rater` has still to rate, in his order."""
        mine = {record["slot"] for record in self.store.read("ratings") if record["rater"] == rater}
        filled = self._filled()
        slots = [self.study.slots[name] for name in claim["order"] if name not in mine]
        left = [slot for slot in slots if slot.kind != "real" or slot.id not in filled]
        shown = mine | {slot.id for slot in left}
        return [slot for slot in left if slot.duplicate_of is None or slot.duplicate_of in shown]

    def _open(self, number: int, filled: Mapping[str, str]) -> list[Slot]:
        """Real slots of a block that have no rating yet."""
        return [slot for slot in self.study.blocks[number] if slot.kind == "real" and slot.id not in filled]

    def _held(self) -> dict[int, str]:
        """Blocks under way -> who is at work: until his part is done, or `claim_hours` go by without a rating."""
        last = {claim["block"]: claim for claim in self.store.read("claims")}
        active = {(record["rater"], record["block"]): record["time"] for record in self.store.read("ratings")}
        filled, now = self._filled(), self.clock()
        held = {}
        for number, claim in last.items():
            if any(name in self.study.real_slots and name not in filled for name in claim["order"]):
                latest = max(claim["time"], active.get((claim["rater"], number), ""))  # such times sort as texts
                if now - _seconds(latest) < self.study.settings.claim_hours * SECONDS_AN_HOUR:
                    held[number] = claim["rater"]
        return held

    def _offers(self, rater: str) -> dict[int, list[Slot]]:
        """Blocks -> the comparisons in them that are open and that `rater` may take, held by others or not.

        Never a clip that he has met: beside a second system he would know the human caption again.
        """
        filled, claims, known = self._filled(), self._claims_of(rater), self._known(rater)
        had = {claim["block"] for claim in claims}
        found = {}
        for number in range(len(self.study.blocks)):
            comparisons = [slot for slot in self._open(number, filled) if slot.item not in known]
            if comparisons and number not in had:
                found[number] = comparisons
        return found

    def _best_offer(self, rater: str) -> tuple[int, list[Slot]]:
        """The first block that `rater` may take whole, best without a gold item that he knows; else the largest part.

        Were parts not given, a dozen raters who rate all they may would leave a third of a study unrated for ever.
        """
        held, filled, known = self._held(), self._filled(), self._known(rater)

        def order(offer: tuple[int, list[Slot]]) -> tuple[bool, int, int]:
            number, comparisons = offer
            if len(comparisons) < len(self._open(number, filled)):
                return True, -len(comparisons), number
            return False, sum(slot.kind == "gold" and slot.item in known for slot in self.study.blocks[number]), number

        return min(((n, slots) for n, slots in self._offers(rater).items() if n not in held), key=order)

    def _with_checks(self, rater: str, number: int, comparisons: Sequence[Slot]) -> list[Slot]:
        """The comparisons of a block or a part of it, with their repeats and their share of its gold items."""
        taken, known = {slot.id for slot in comparisons}, self._known(rater)
        block = self.study.blocks[number]
        gold = sorted((slot for slot in block if slot.kind == "gold"), key=lambda slot: slot.item in known)
        gold = gold[: number_of(self.study.settings.gold_share, len(comparisons))]
        return [*comparisons, *gold, *(slot for slot in block if slot.duplicate_of in taken)]

    def _known(self, rater: str) -> set[str]:
        """The clips that `rater` was given."""
        return {self.study.slots[name].item for claim in self._claims_of(rater) for name in claim["order"]}

    def _trial(self, rater: str, slots: Sequence[Slot], claim: Record) -> Trial:
        slot = slots[0]
        mine = {record["slot"] for record in self.store.read("ratings") if record["rater"] == rater}
        done = len(mine.intersection(claim["order"]))
        seed = order_seed(self.study, rater, slot)
        left, right = sides(seed, slot)
        clip = self.study.clips[slot.item]
        captions, claims = self.study.captions, self.study.claims
        return Trial(
            slot,
            (left, right),
            (captions[left][slot.item], captions[right][slot.item]),
            (tuple(claims[left][slot.item]), tuple(claims[right][slot.item])) if claims else ((), ()),
            seed,
            clip.file,
            clip.seconds,
            self.study.needed_s(slot.item),
            done + 1,
            done + len(slots),
        )


def check_answer(answer: Answer, claims: Sequence[Sequence[str]]) -> None:
    """Raise `UsageError` when an answer is missing or was not offered; `claims` are those of captions A and B."""
    for question, given in (("Question 1", answer.more_correct), ("Question 2", answer.less_wrong)):
        if given not in ANSWERS:
            raise UsageError(question, "has no answer", "choose A, B or a tie")
    if answer.overall is not None and answer.overall not in ANSWERS:
        raise UsageError("Question 3", "has another answer than those offered", "choose A, B, a tie or nothing")
    for name, wrong, offered in zip("AB", (answer.wrong_left, answer.wrong_right), claims, strict=True):
        if wrong is not None and not set(wrong) <= set(offered):
            raise UsageError(f"the claims of caption {name}", "are others than those offered", "reload the page")


def rating_record(
    study: Study,
    rater: str,
    slot: Slot,
    answer: Answer,
    *,
    pair: Pair,
    seed: int,
    duplicate_of: str | None,
    listened_s: float | None,
    seconds: float | None,
    at: float,
    via: str,
    simulated: bool,
) -> Record:
    """One line of `ratings.jsonl`. Its id is that of study, rater and slot, so that a rating written twice is seen."""
    claims = None
    if study.settings.claims:
        left, right = (study.claims[system][slot.item] for system in pair)
        claims = {"left": list(left), "right": list(right)}
    return {
        "rating_id": rating_id(study, rater, slot.id),
        "study": study.study,
        "rater": rater,
        "item": slot.item,
        "audio": study.clips[slot.item].file,
        "pair": list(pair),
        "kind": slot.kind,
        "duplicate_of": duplicate_of,
        "answers": {
            "more_correct": answer.more_correct,
            "less_wrong": answer.less_wrong,
            "overall": answer.overall,
        },
        "claims": claims,
        "wrong_claims": {
            "left": None if answer.wrong_left is None else list(answer.wrong_left),
            "right": None if answer.wrong_right is None else list(answer.wrong_right),
        },
        "listened_s": None if listened_s is None else round(listened_s, 2),
        "seconds": None if seconds is None else round(seconds, 2),
        "order_seed": seed,
        "time": _utc(at),
        "simulated": simulated,
        "block": int(slot.id[1 : slot.id.index(slot.kind[0])]),
        "slot": slot.id,
        "via": via,
    }


def rating_id(study: Study, rater: str, slot: str) -> str:
    """The id of the rating of `slot` by `rater`."""
    return hashlib.sha256(f"{study.study}\x1f{rater}\x1f{slot}".encode()).hexdigest()[:16]


def _utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _seconds(text: str) -> float:
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc).timestamp()
