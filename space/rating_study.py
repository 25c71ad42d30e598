"""The design of a listening study: which captions of which clip are compared, in which blocks, by how many raters.

`study.json` is frozen: everything that can be decided beforehand is decided there, and a study that was edited since
is refused. What depends on the rater (which caption stands left, the order of the comparisons) follows from the
study's seed and the rater's id alone, so it can be checked afterwards.

The protocol is that of LP-MusicCaps (section 4.3 of the paper): a human caption against a system's, two questions,
ties allowed. Added to it: several raters a comparison, since the paper's 0.4 leave no agreement to compute; gold items
(the human caption against that of another clip); repeats with sides swapped; and one constant caption as a system that
every system must beat, or the study is broken.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from lpmc_errors import TableError

FORMAT = 1
HUMAN, CONSTANT, MISMATCHED = "human", "blind-constant", "mismatched"
RESERVED = (HUMAN, CONSTANT, MISMATCHED)
STUDY_FILE, AUDIO_FOLDER, STORE_FOLDER = "study.json", "audio", "ratings"
LATENCY_S = 0.5  # seconds; a clip played to its end may reach the server's clock as this much shorter
REPEAT_GAP = 1 / 3  # of a block: the least distance of a repeat from the first showing, so that memory helps little

Pair = tuple[str, str]


@dataclass(frozen=True)
class Settings:
    """What the person who plans the study chooses."""

    raters_per_unit: int = 3  # ratings of each comparison, by different people
    block_size: int = 20  # comparisons a rater is given at once; the paper gave 20
    gold_share: float = 0.1  # of a block, at least one
    duplicate_share: float = 0.1  # of a block, at least one
    constant_share: float = 0.25  # of the clips: enough to see that people beat a constant caption
    min_listen_s: float = 5.0  # seconds of playback before the answers unlock: half of a MusicCaps clip
    claim_hours: float = 24.0  # a block without a rating for so long is given to somebody else
    overall: bool = True  # ask question 3, which caption is better overall
    claims: bool = True  # ask which claims are wrong
    seed: int = 0


@dataclass(frozen=True)
class Clip:
    """A sound file, under a name that says nothing."""

    file: str
    seconds: float
    sha256: str


@dataclass(frozen=True)
class Slot:
    """One showing: two captions of one clip. A real slot is filled once; gold and repeats are each rater's own."""

    id: str
    item: str
    pair: Pair
    kind: str  # real, gold or duplicate
    duplicate_of: str | None = None  # the real slot of the same block that is shown again


@dataclass(frozen=True)
class Study:
    """A frozen design. `captions[system][item]` and `claims[system][item]` hold the texts and the facts in them."""

    study: str
    settings: Settings
    systems: tuple[str, ...]
    pairs: tuple[Pair, ...]
    clips: dict[str, Clip]
    captions: dict[str, dict[str, str]]
    claims: dict[str, dict[str, list[str]]]
    blocks: tuple[tuple[Slot, ...], ...]

    @cached_property
    def slots(self) -> dict[str, Slot]:
        """Every slot by its id."""
        return {slot.id: slot for block in self.blocks for slot in block}

    @cached_property
    def real_slots(self) -> frozenset[str]:
        """Ids of the slots that count: their number is the size of the study."""
        return frozenset(slot.id for slot in self.slots.values() if slot.kind == "real")

    def needed_s(self, item: str) -> float:
        """Seconds of playback that a clip needs before its answers unlock; less for a clip that is shorter."""
        return max(0.0, min(self.settings.min_listen_s, self.clips[item].seconds - LATENCY_S))

    def planned(self) -> dict[str, Any]:
        """How many ratings of each kind the study asks for when each block is rated by one person."""
        kinds = Counter(slot.kind for slot in self.slots.values())
        by_pair = Counter("|".join(slot.pair) for slot in self.slots.values() if slot.kind == "real")
        return {
            "real": kinds["real"],
            "gold": kinds["gold"],
            "duplicate": kinds["duplicate"],
            "blocks": len(self.blocks),
            "real_by_pair": dict(sorted(by_pair.items())),
        }

    def to_dict(self) -> dict[str, Any]:
        """The content of `study.json`."""
        content: dict[str, Any] = {"format": FORMAT, "study": self.study}
        settings = asdict(self.settings)
        content |= settings | {"questions": {name: settings[name] for name in ("overall", "claims")}}
        content["planned"] = self.planned()
        content["systems"] = list(self.systems)
        content["pairs"] = [list(pair) for pair in self.pairs]
        content["clips"] = {item: asdict(clip) for item, clip in self.clips.items()}
        content["captions"] = self.captions
        content["caption_claims"] = self.claims
        content["blocks"] = [[asdict(slot) | {"pair": list(slot.pair)} for slot in block] for block in self.blocks]
        return content | {"fingerprint": fingerprint(content)}


def fingerprint(content: dict[str, Any]) -> str:
    """SHA-256 of the design, so that a study that was edited after it began is noticed."""
    bare = {key: value for key, value in content.items() if key != "fingerprint"}
    return hashlib.sha256(json.dumps(bare, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def load_study(folder: Path) -> Study:
    """Read the study in `folder` and check that it is whole.

    Raises `TableError` when there is none, when it was edited, or when a sound file is missing or another.
    """
    path = folder / STUDY_FILE
    remedy = "name a folder that `lpmc ratings prepare` has written"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise TableError(folder, f"holds no {STUDY_FILE}", remedy) from error
    except ValueError as error:
        raise TableError(path, "is not JSON", remedy) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise TableError(path, f"is not a study of format {FORMAT}", remedy)
    if content.get("fingerprint") != fingerprint(content):
        raise TableError(path, "was changed since it was prepared", "prepare a new study; ratings belong to one design")
    settings = Settings(**{name: content[name] for name in Settings.__dataclass_fields__})
    study = Study(
        content["study"],
        settings,
        tuple(content["systems"]),
        tuple((first, second) for first, second in content["pairs"]),
        {item: Clip(**clip) for item, clip in content["clips"].items()},
        content["captions"],
        content["caption_claims"],
        tuple(
            tuple(Slot(**(slot | {"pair": (slot["pair"][0], slot["pair"][1])})) for slot in block)
            for block in content["blocks"]
        ),
    )
    for item, clip in study.clips.items():
        file = folder / AUDIO_FOLDER / clip.file
        if not file.is_file():
            raise TableError(file, f"the sound of item {item} is missing", "copy the whole folder of the study")
        if hashlib.sha256(file.read_bytes()).hexdigest() != clip.sha256:
            raise TableError(file, f"is another sound than item {item} had", "copy the whole folder of the study")
    return study


def draw(*parts: object) -> int:
    """A 32-bit seed from names: the same for the same parts on every machine and Python."""
    return int.from_bytes(hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()[:4], "big")


def order_seed(study: Study, rater: str, slot: Slot) -> int:
    """The seed that decides which caption `rater` sees left: one for each rater, item and pair of systems."""
    return draw(study.study, study.settings.seed, rater, slot.item, *slot.pair)


def sides(seed: int, slot: Slot) -> Pair:
    """The systems (left, right) that `seed` draws; a repeat stands the other way round than its first showing."""
    swapped = random.Random(seed).random() < 0.5
    first, second = slot.pair
    return (second, first) if swapped != (slot.kind == "duplicate") else (first, second)


def order_of_block(study: Study, rater: str, slots: list[Slot]) -> list[Slot]:
    """The order in which `rater` sees `slots` of a block: random, each repeat well after its first showing."""
    rng = random.Random(draw(study.study, study.settings.seed, rater, *sorted(slot.id for slot in slots)))
    repeats = [slot for slot in slots if slot.kind == "duplicate"]
    repeated = {slot.duplicate_of for slot in repeats}
    order = [slot for slot in slots if slot.kind != "duplicate" and slot.id not in repeated]
    rng.shuffle(order)
    early = len(order) // 2
    for slot in slots:
        if slot.id in repeated:
            order.insert(rng.randint(0, early), slot)
    gap = int(len(order) * REPEAT_GAP)
    for slot in repeats:
        first = next(index for index, other in enumerate(order) if other.id == slot.duplicate_of)
        order.insert(rng.randint(min(first + 1 + gap, len(order)), len(order)), slot)
    return order


def build_blocks(
    items: list[str], pairs_of: dict[str, list[Pair]], gold: list[Pair], settings: Settings
) -> tuple[tuple[Slot, ...], ...]:
    """Cut the comparisons into blocks, each comparison into `raters_per_unit` of them.

    No block shows a clip twice (but for its repeats): who saw the human caption of a clip beside two systems would
    know which one it is. `gold` holds couples of clips whose human captions are exchanged; a block takes one of a
    couple, so that no text appears twice. Blocks of one pass over all comparisons come before those of the next one:
    at any time the numbers of ratings of two comparisons differ by one, and by blocks that are still open.
    """
    blocks: list[tuple[Slot, ...]] = []
    turn = 0
    for pass_number in range(settings.raters_per_unit):
        rng = random.Random(draw(settings.seed, "pass", pass_number))
        shuffled = {item: rng.sample(pairs_of[item], len(pairs_of[item])) for item in items}
        for layer in range(max(map(len, shuffled.values()))):
            here = [item for item in items if len(shuffled[item]) > layer]
            rng.shuffle(here)
            number = -(-len(here) // settings.block_size)
            for part in range(number):
                chosen = here[part * len(here) // number : (part + 1) * len(here) // number]
                golds = []
                for _ in range(number_of(settings.gold_share, len(chosen))):
                    golds.append(gold[turn % len(gold)][turn // len(gold) % 2])
                    turn += 1
                comparisons = [(item, shuffled[item][layer]) for item in chosen]
                blocks.append(_block(len(blocks), comparisons, golds, settings, rng))
    return tuple(blocks)


def number_of(share: float, size: int) -> int:
    """How many gold items or repeats a block of `size` comparisons gets: none for a share of 0, else at least one."""
    return max(1, round(share * size)) if share > 0 else 0


def _block(
    number: int, comparisons: list[tuple[str, Pair]], golds: list[str], settings: Settings, rng: random.Random
) -> tuple[Slot, ...]:
    slots = [Slot(f"b{number}r{index}", item, pair, "real") for index, (item, pair) in enumerate(comparisons)]
    repeated = rng.sample(slots, number_of(settings.duplicate_share, len(slots)))
    slots += [Slot(f"b{number}g{index}", item, (HUMAN, MISMATCHED), "gold") for index, item in enumerate(golds)]
    for index, slot in enumerate(repeated):
        slots.append(Slot(f"b{number}d{index}", slot.item, slot.pair, "duplicate", slot.id))
    return tuple(slots)
