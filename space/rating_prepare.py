"""From clips and captions to a study folder: check that they fit, draw the design, copy the sounds.

Items are JSON lines with `item`, `audio` (relative to the file) and the human caption; each system's captions are JSON
lines with `item` and `caption`. Nothing is written before everything has been checked, and the folder appears whole.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lpmc_errors import AudioError, TableError, UsageError, disk_faults_named
from lpmc_files import write_json
from space.rating_study import (
    AUDIO_FOLDER,
    CONSTANT,
    HUMAN,
    LATENCY_S,
    MISMATCHED,
    RESERVED,
    STUDY_FILE,
    Clip,
    Pair,
    Settings,
    Study,
    build_blocks,
    draw,
    fingerprint,
    number_of,
)

PLAYABLE = (".wav", ".flac", ".mp3", ".ogg", ".opus")  # what browsers play and libsndfile can measure
SHORTEST_S = 2 * LATENCY_S  # seconds; a shorter clip cannot be seen to have been heard
NAMED = 3  # items that an error names
GOLD_TO_JUDGE = 2  # gold items, with two answers each, from which the analysis judges a rater (rating_quality)

Texts = dict[str, str]  # item -> caption


def prepare_study(
    items: Path,
    systems: Sequence[str],
    output: Path,
    *,
    human: str = "human",
    constant: str | None = None,
    settings: Settings | None = None,
) -> Study:
    """Design a study and write it to the new folder `output`: `study.json` and the sounds under opaque names.

    `systems` are files of captions, as PATH (the system is called like the file) or NAME=PATH; `human` is the column
    of `items` with the human caption; `constant` is the caption of the blind system, by default the most central human
    one. Blocks, gold items and repeats are drawn from `settings.seed`: the same inputs give the same study.
    Raises `TableError` when captions and items disagree, `AudioError` for a sound, `UsageError` for a setting.
    """
    settings = settings or Settings()
    _check_settings(settings)
    if output.resolve() == Path.cwd() or (output.exists() and (not output.is_dir() or any(output.iterdir()))):
        raise UsageError(output, "exists already", "name a new folder; a study is never changed")
    rows = _read(items)
    captions: dict[str, Texts] = {HUMAN: _texts(items, rows, human)}
    for name, path in map(_named, systems):
        if name in RESERVED or name in captions:
            raise UsageError(name, "is reserved or given twice as a name of a system", "write NAME=PATH")
        if "|" in name:
            raise UsageError(name, "holds a |, which separates systems in the results", "write NAME=PATH")
        captions[name] = _matching(path, captions[HUMAN])
    if len(captions) == 1:
        raise UsageError("--systems", "names no system", "name at least one file of captions")
    sources = _sounds(items, rows)
    clips = {item: _clip(item, source, settings.seed) for item, source in sources.items()}
    text = constant or _central(list(captions[HUMAN].values()))
    captions[CONSTANT] = dict.fromkeys(clips, text)

    gold = _gold(list(clips), captions[HUMAN], settings)
    captions[MISMATCHED] = {one: captions[HUMAN][other] for couple in gold for one, other in (couple, couple[::-1])}
    kept_for_gold = {item for couple in gold for item in couple}
    real = [item for item in clips if item not in kept_for_gold]
    named = [name for name in captions if name not in RESERVED]
    pairs_of: dict[str, list[Pair]] = {item: [(HUMAN, name) for name in named] for item in real}
    for item in _constant_items(real, captions[HUMAN], text, settings):
        pairs_of[item].append((HUMAN, CONSTANT))
    captions = {
        name: texts if name in (HUMAN, MISMATCHED) else {item: texts[item] for item in real}
        for name, texts in captions.items()
    }
    study = Study(
        "",
        settings,
        (HUMAN, *named, CONSTANT),
        tuple((HUMAN, name) for name in (*named, CONSTANT)),
        clips,
        captions,
        _claims(captions) if settings.claims else {},
        build_blocks(real, pairs_of, gold, settings),
    )
    study = replace(study, study=f"s-{fingerprint(study.to_dict())[:12]}")
    _write(study, sources, output)
    return study


def notes(study: Study) -> list[str]:
    """What the planner should know before people are asked, in sentences."""
    found = []
    texts = study.captions
    equal = {(slot.item, slot.pair) for slot in study.slots.values() if _same(texts, slot.item, slot.pair)}
    if equal:
        found.append(f"{len(equal)} comparisons show the same text twice: they can only be ties")
    planned = study.planned()
    showings = Counter(slot.item for slot in study.slots.values() if slot.kind == "real")
    found.append(
        f"it takes {planned['blocks']} raters with a block each, and no fewer than {max(showings.values())} who rate "
        "all they may: nobody is given a clip twice"
    )
    few = sum(sum(slot.kind == "gold" for slot in block) < GOLD_TO_JUDGE for block in study.blocks)
    if few:
        found.append(
            f"{few} of {planned['blocks']} blocks have fewer than {GOLD_TO_JUDGE} gold items, too few to judge a rater "
            "of one block by (a larger --gold-share or --block-size gives them)"
        )
    for pair, number in planned["real_by_pair"].items():
        # Half width of the 95 % interval of a share of one half; the paper's 96 ratings a method gave 9.8.
        found.append(f"{pair.replace('|', ' and ')}: {number} ratings, ±{98 / math.sqrt(number):.1f} points at 50 %")
    return found


def _same(texts: dict[str, Texts], item: str, pair: Pair) -> bool:
    return texts[pair[0]][item] == texts[pair[1]][item]


def _check_settings(settings: Settings) -> None:
    bounds = {
        "raters_per_unit": (1, 100),
        "block_size": (1, 1000),
        "gold_share": (0, 1),
        "duplicate_share": (0, 1),
        "constant_share": (0, 1),
        "min_listen_s": (0, 3600),
        "claim_hours": (0, 10_000),
    }
    for name, (least, most) in bounds.items():
        value = getattr(settings, name)
        if not least <= value <= most:  # also refuses NaN
            option = "--" + name.replace("_", "-").removesuffix("-s")
            raise UsageError(option, f"is {value}", f"choose a number from {least} to {most}")


def _read(path: Path) -> dict[str, dict[str, Any]]:
    """Rows of a JSON lines file by their item."""
    rows: dict[str, dict[str, Any]] = {}
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (FileNotFoundError, IsADirectoryError) as error:
        raise TableError(path, "no such file", "check the name") from error
    except UnicodeDecodeError as error:
        raise TableError(path, f"is not UTF-8 text (byte {error.start})", "save it as UTF-8") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            row = json.loads(line)
        except ValueError as error:
            raise TableError(where, "is not JSON", "write one object a line") from error
        item = row.get("item") if isinstance(row, dict) else None
        if not isinstance(item, str | int) or isinstance(item, bool) or not str(item).strip():
            raise TableError(where, "has no `item`", 'write objects such as {"item": "clip-1", ...}')
        if str(item) in rows:
            raise TableError(where, f"item {item} comes a second time", "keep one line an item")
        rows[str(item)] = row
    if not rows:
        raise TableError(path, "is empty", "write one object a line")
    return rows


def _texts(path: Path, rows: dict[str, dict[str, Any]], column: str) -> Texts:
    texts = {item: row.get(column) for item, row in rows.items()}
    bad = [item for item, text in texts.items() if not isinstance(text, str) or not text.strip()]
    if bad:
        raise TableError(path, f"{_some(bad)} no text in `{column}`", "give each item a caption, or leave the item out")
    return {item: str(text).strip() for item, text in texts.items()}


def _some(items: Sequence[str]) -> str:
    named = ", ".join(items[:NAMED]) + (", ..." if len(items) > NAMED else "")
    return f"{len(items)} item{'s have' if len(items) > 1 else ' has'} ({named})"


def _named(system: str) -> tuple[str, Path]:
    name, separator, path = system.partition("=")
    return (name, Path(path)) if separator and name else (Path(system).stem, Path(system))


def _matching(path: Path, human: Texts) -> Texts:
    """The captions of `path` for the items; captions of other clips are left out."""
    rows = _read(path)
    missing = [item for item in human if item not in rows]
    if missing:
        raise TableError(path, f"{_some(missing)} no line there", "compare the `item` of both files")
    return _texts(path, {item: rows[item] for item in human}, "caption")


def _sounds(items: Path, rows: dict[str, dict[str, Any]]) -> dict[str, Path]:
    audio = _texts(items, rows, "audio")
    found = {item: items.parent / name for item, name in audio.items()}
    missing = [item for item, path in found.items() if not path.is_file()]
    if missing:
        raise AudioError(
            items, f"{_some(missing)} no sound file where `audio` says", "give paths relative to this file"
        )
    for item, path in found.items():
        if path.suffix.lower() not in PLAYABLE:
            raise AudioError(path, f"item {item}: browsers do not play {path.suffix or 'it'}", "convert it to FLAC")
    return found


def _clip(item: str, source: Path, seed: int) -> Clip:
    import soundfile

    try:
        information = soundfile.info(str(source))
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise AudioError(source, f"item {item}: is not an audio file that can be read", "convert it to FLAC") from error
    seconds = information.frames / information.samplerate
    if seconds < SHORTEST_S:
        raise AudioError(source, f"item {item}: lasts {seconds:.2f} s", f"give clips of at least {SHORTEST_S:.0f} s")
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    opaque = hashlib.sha256(f"{seed}\x1f{item}\x1f{digest}".encode()).hexdigest()[:16]
    return Clip(opaque + source.suffix.lower(), round(seconds, 3), digest)


def _central(captions: list[str]) -> str:
    from caption_metrics.blind import most_central

    return most_central(captions)


def _gold(items: list[str], human: Texts, settings: Settings) -> list[tuple[str, str]]:
    """Couples of clips, kept out of the comparisons, whose captions have least in common: each is wrong for the other.

    A tenth of the clips (as large as the share of gold in a block), and enough for one block without a text twice.
    """
    wanted = number_of(settings.gold_share, settings.block_size)
    if not wanted:
        return []
    couples = max(wanted, round(settings.gold_share * len(items) / 2))
    if 2 * couples >= len(items):
        raise UsageError(
            "--items",
            f"{len(items)} are too few: {2 * couples} clips are kept for the gold items of a block",
            "give more clips, a smaller --block-size or --gold-share 0",
        )
    rng = random.Random(draw(settings.seed, "gold"))
    pool = rng.sample(items, 2 * couples)
    facts = {item: _facts(human[item]) for item in pool}
    drawn: list[tuple[str, str]] = []
    while pool:
        one = pool.pop()
        other = min(pool, key=lambda item: len(facts[one] & facts[item]) / (len(facts[one] | facts[item]) or 1))
        pool.remove(other)
        if human[one] == human[other]:
            raise TableError(one, f"has the same human caption as {other}, both drawn as gold", "choose another --seed")
        drawn.append((one, other))
    return drawn


def _constant_items(real: list[str], human: Texts, text: str, settings: Settings) -> list[str]:
    """Clips on which the human caption meets the constant one; never the clip that the constant was written for."""
    possible = [item for item in real if human[item] != text]
    number = min(len(possible), math.ceil(settings.constant_share * len(real)))
    return random.Random(draw(settings.seed, "constant")).sample(possible, number)


def _facts(caption: str) -> frozenset[Any]:
    from caption_metrics.facts import extract_facts

    return extract_facts(caption)


def _claims(captions: dict[str, Texts]) -> dict[str, dict[str, list[str]]]:
    """What each caption claims, as `category: value`, in a fixed order."""
    known: dict[str, list[str]] = {}
    for texts in captions.values():
        for text in texts.values():
            if text not in known:
                known[text] = sorted(str(fact) for fact in _facts(text))
    return {name: {item: known[text] for item, text in texts.items()} for name, texts in captions.items()}


def _write(study: Study, sources: dict[str, Path], output: Path) -> None:
    with disk_faults_named(output):
        output.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{output.name}.", dir=output.parent))
        try:
            (folder / AUDIO_FOLDER).mkdir()
            for item, source in sources.items():
                shutil.copyfile(source, folder / AUDIO_FOLDER / study.clips[item].file)
            write_json(folder / STUDY_FILE, study.to_dict())
            folder.chmod(0o755)  # mkdtemp makes it private
            folder.replace(output)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
