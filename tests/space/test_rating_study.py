"""`lpmc ratings prepare`: what the design promises, and what it refuses."""

from __future__ import annotations

import json
import shutil
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from rating_material import human_caption, read_lines, write_inputs, write_lines
from typer.testing import CliRunner

from lpmc_errors import AudioError, LpmcError, TableError, UsageError
from lpmc_ratings import app
from space.rating_prepare import prepare_study
from space.rating_study import Settings, load_study, order_of_block, order_seed, sides


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("inputs") / "given"
    write_inputs(folder, 60, systems=("ours", "released"))
    return folder


def prepared(inputs: Path, output: Path, systems=("ours", "released"), **settings):
    names = [str(inputs / f"{name}.jsonl") for name in systems]
    return prepare_study(inputs / "items.jsonl", names, output, settings=Settings(**settings))


@pytest.fixture(scope="module")
def study(inputs, tmp_path_factory):
    return prepared(inputs, tmp_path_factory.mktemp("studies") / "study", block_size=10)


def real(study):
    return [slot for slot in study.slots.values() if slot.kind == "real"]


def test_every_comparison_is_rated_by_as_many_raters_as_planned(study):
    counts = Counter((slot.item, slot.pair) for slot in real(study))

    assert set(counts.values()) == {3}
    items = {item for item, _ in counts}
    assert len(items) == 54  # of 60; six are kept for gold
    for system in ("ours", "released"):
        assert {item for item, pair in counts if pair == ("human", system)} == items
    blind = {item for item, pair in counts if pair == ("human", "blind-constant")}
    assert len(blind) == 14  # a quarter of 54, rounded up
    assert study.planned()["real"] == 3 * (54 + 54 + 14) == len(study.real_slots)


def test_no_block_shows_a_clip_beside_two_systems_and_the_passes_follow_each_other(study):
    for block in study.blocks:
        items = [slot.item for slot in block if slot.kind != "duplicate"]
        assert len(set(items)) == len(items)
        assert len([slot for slot in block if slot.kind == "real"]) <= 10
    third = len(study.blocks) // 3
    for part in range(3):
        one_pass = [slot for block in study.blocks[part * third : (part + 1) * third] for slot in block]
        counts = Counter((slot.item, slot.pair) for slot in one_pass if slot.kind == "real")
        assert set(counts.values()) == {1}


def test_each_block_has_gold_items_and_repeats_and_shows_no_text_twice(study):
    for block in study.blocks:
        kinds = Counter(slot.kind for slot in block)
        assert kinds["gold"] == kinds["duplicate"] == 1
        shown = [
            study.captions[system][slot.item]
            for slot in block
            if slot.kind != "duplicate"
            for system in slot.pair
            if system != "blind-constant"
        ]
        assert len(set(shown)) == len(shown)
        by_id = {slot.id: slot for slot in block}
        for slot in block:
            if slot.kind == "duplicate":
                origin = by_id[slot.duplicate_of]
                assert (origin.item, origin.pair, origin.kind) == (slot.item, slot.pair, "real")


def test_gold_items_show_the_caption_of_another_clip_and_are_in_no_comparison(study):
    gold = {slot.item for slot in study.slots.values() if slot.kind == "gold"}

    assert len(gold) == 6
    assert not gold & {slot.item for slot in real(study)}
    assert set(study.captions["mismatched"]) == gold
    for item in gold:
        text = study.captions["mismatched"][item]
        source = next(other for other in gold if study.captions["human"][other] == text)
        assert source != item
        assert not set(study.claims["mismatched"][item]) & set(study.claims["human"][item])


def test_the_blind_system_says_the_same_of_every_clip(study):
    (text,) = set(study.captions["blind-constant"].values())

    assert text in study.captions["human"].values()


def test_the_clip_that_the_blind_caption_was_written_for_is_not_compared_with_it(inputs, study, tmp_path):
    item = real(study)[0].item  # in the comparisons with this seed
    given = [str(inputs / "ours.jsonl")]
    settings = Settings(block_size=10, constant_share=1.0)

    design = prepare_study(
        inputs / "items.jsonl", given, tmp_path / "s", constant=study.captions["human"][item], settings=settings
    )

    items = {slot.item for slot in real(design)}
    assert item in items
    assert {slot.item for slot in real(design) if "blind-constant" in slot.pair} == items - {item}


def test_sides_are_fair_differ_between_raters_and_follow_from_the_stored_seed(study):
    by_rater = {
        rater: [sides(order_seed(study, rater, slot), slot)[0] == "human" for slot in real(study)]
        for rater in ("r-1", "r-2", "r-3", "r-4")
    }
    for lefts in by_rater.values():
        # 366 slots but 122 comparisons: the standard deviation of the share is 0.045, and 0.18 is four of them.
        assert abs(sum(lefts) / len(lefts) - 0.5) < 0.18
    assert len(set(map(tuple, by_rater.values()))) == 4
    slot = real(study)[0]
    assert order_seed(study, "r-1", slot) == order_seed(study, "r-1", slot) < 2**32


def test_a_repeat_stands_the_other_way_round_and_late(study):
    for rater in ("r-1", "r-2", "r-3"):
        for block in study.blocks:
            order = order_of_block(study, rater, list(block))
            assert sorted(slot.id for slot in order) == sorted(slot.id for slot in block)
            names = [slot.id for slot in order]
            for slot in order:
                if slot.kind == "duplicate":
                    first = study.slots[slot.duplicate_of]
                    assert names.index(slot.id) - names.index(first.id) > (len(order) - 1) // 3
                    one, other = (sides(order_seed(study, rater, shown), shown) for shown in (first, slot))
                    assert one == other[::-1]


def test_raters_see_a_block_in_different_orders(study):
    block = list(study.blocks[0])

    orders = {tuple(slot.id for slot in order_of_block(study, f"r-{number}", block)) for number in range(10)}

    assert len(orders) == 10


def test_the_same_inputs_give_the_same_study_and_another_seed_another(inputs, study, tmp_path):
    again = prepared(inputs, tmp_path / "again", block_size=10)
    other = prepared(inputs, tmp_path / "other", block_size=10, seed=1)

    assert again == study
    assert other.study != study.study
    assert {clip.file for clip in other.clips.values()}.isdisjoint(clip.file for clip in study.clips.values())


def test_what_is_written_is_read_again_and_names_no_clip_in_its_file_names(inputs, tmp_path):
    study = prepared(inputs, tmp_path / "deep" / "study", block_size=10, claims=False)

    assert load_study(tmp_path / "deep" / "study") == study
    files = sorted(path.name for path in (tmp_path / "deep" / "study" / "audio").iterdir())
    assert files == sorted(clip.file for clip in study.clips.values())
    assert not any("clip" in name or "whale" in name for name in files)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["study"]


def test_five_hundred_ratings_and_more_are_planned_from_two_hundred_clips(tmp_path):
    from space.rating_study import build_blocks

    items = [f"c{number}" for number in range(180)]
    pairs = {item: [("human", "ours")] for item in items}
    blocks = build_blocks(items, pairs, [("g1", "g2"), ("g3", "g4")], Settings())

    slots = [slot for block in blocks for slot in block]
    assert Counter(slot.kind for slot in slots) == {"real": 540, "gold": 54, "duplicate": 54}
    assert len(blocks) == 27
    assert {len([slot for slot in block if slot.kind == "real"]) for block in blocks} == {20}


def test_a_study_that_was_edited_or_has_another_sound_is_refused(inputs, tmp_path):
    prepared(inputs, tmp_path / "study", block_size=10)
    shutil.copytree(tmp_path / "study", tmp_path / "edited")
    path = tmp_path / "edited" / "study.json"
    path.write_text(path.read_text().replace('"raters_per_unit": 3', '"raters_per_unit": 2'))
    sound = next((tmp_path / "study" / "audio").iterdir())

    with pytest.raises(TableError, match="was changed since it was prepared"):
        load_study(tmp_path / "edited")
    sound.write_bytes(sound.read_bytes() + b"x")
    with pytest.raises(TableError, match="is another sound than item"):
        load_study(tmp_path / "study")
    sound.unlink()
    with pytest.raises(TableError, match="is missing"):
        load_study(tmp_path / "study")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "holds no study.json"),
        ("{", "is not JSON"),
        ("[]", "is not a study"),
        ('{"format": 9}', "is not a study"),
    ],
)
def test_a_folder_that_is_no_study_is_refused(tmp_path, content, problem):
    if content is not None:
        (tmp_path / "study.json").write_text(content)

    with pytest.raises(TableError, match=problem):
        load_study(tmp_path)


def without(folder: Path, name: str, change) -> None:
    rows = read_lines(folder / name)
    write_lines(folder / name, change(rows))


@pytest.mark.parametrize(
    ("damage", "kind", "message"),
    [
        (
            lambda f: without(f, "ours.jsonl", lambda r: r[2:]),
            TableError,
            r"ours.jsonl: 2 items have \(clip-0, clip-1\) no",
        ),
        (lambda f: without(f, "ours.jsonl", lambda r: r + r[:1]), TableError, "item clip-0 comes a second time"),
        (
            lambda f: without(f, "ours.jsonl", lambda r: [{**r[0], "caption": " "}, *r[1:]]),
            TableError,
            "no text in `cap",
        ),
        (lambda f: without(f, "items.jsonl", lambda r: [{**r[0], "human": None}, *r[1:]]), TableError, "in `human`"),
        (
            lambda f: without(f, "items.jsonl", lambda r: [{**r[0], "audio": "no.wav"}, *r[1:]]),
            AudioError,
            "no sound file",
        ),
        (
            lambda f: (f / "sounds/whale-clip-3.flac").write_text("notes"),
            AudioError,
            "item clip-3: is not an audio file",
        ),
        (lambda f: without(f, "items.jsonl", lambda r: [{"audio": "x"}]), TableError, "line 1: has no `item`"),
        (lambda f: without(f, "items.jsonl", lambda r: r[:4]), UsageError, "4 are too few"),
        (lambda f: (f / "ours.jsonl").write_text("{oops"), TableError, "line 1: is not JSON"),
        (lambda f: (f / "ours.jsonl").write_text("\n"), TableError, "is empty"),
        (lambda f: (f / "ours.jsonl").unlink(), TableError, "no such file"),
    ],
)
def test_inputs_that_disagree_are_refused_before_anything_is_written(tmp_path, damage, kind, message):
    write_inputs(tmp_path / "given", 12)
    damage(tmp_path / "given")

    with pytest.raises(kind, match=message):
        prepared(tmp_path / "given", tmp_path / "study", systems=("ours",))
    assert [path.name for path in tmp_path.iterdir()] == ["given"]


@pytest.mark.parametrize(
    ("systems", "settings", "message"),
    [
        (["human=ours.jsonl"], {}, "human: is reserved"),
        (["a=ours.jsonl", "a=ours.jsonl"], {}, "a: is reserved or given twice"),
        (["a|b=ours.jsonl"], {}, "holds a |"),
        ([], {}, "names no system"),
        (["ours.jsonl"], {"raters_per_unit": 0}, "--raters-per-unit: is 0"),
        (["ours.jsonl"], {"gold_share": float("nan")}, "--gold-share: is nan"),
        (["ours.jsonl"], {"min_listen_s": -1}, "--min-listen: is -1"),
    ],
)
def test_settings_that_make_no_study_are_refused(inputs, tmp_path, systems, settings, message):
    named = [name.replace("ours.jsonl", str(inputs / "ours.jsonl")) for name in systems]

    with pytest.raises(UsageError) as refused:
        prepare_study(inputs / "items.jsonl", named, tmp_path / "study", settings=Settings(**settings))
    assert message in str(refused.value)


def test_a_clip_too_short_to_be_heard_is_refused_and_a_short_one_needs_less_listening(tmp_path):
    write_inputs(tmp_path / "short", 8, seconds=0.5)
    write_inputs(tmp_path / "longer", 8, seconds=1.5)

    with pytest.raises(AudioError, match=r"lasts 0\.50 s"):
        prepared(tmp_path / "short", tmp_path / "no", systems=("ours",), block_size=4)
    study = prepared(tmp_path / "longer", tmp_path / "study", systems=("ours",), block_size=4)
    assert study.needed_s("clip-0") == pytest.approx(1.0)


def test_the_command_says_what_is_planned_and_takes_several_systems_after_one_option(inputs, tmp_path):
    arguments = ["--items", str(inputs / "items.jsonl"), "--systems", str(inputs / "ours.jsonl")]
    arguments += [f"second={inputs / 'released.jsonl'}", "--output", str(tmp_path / "study"), "--json"]

    told = CliRunner().invoke(app, ["prepare", *arguments])

    assert told.exit_code == 0, told.output
    result = json.loads(told.stdout)
    assert result["planned"]["real_by_pair"] == {
        "human|blind-constant": 42, "human|ours": 162, "human|second": 162
    }  # fmt: skip
    assert "human and ours: 162 ratings, ±7.7 points at 50 %" in result["notes"]
    blocks = result["planned"]["blocks"]
    assert result["notes"][0].startswith(f"it takes {blocks} raters with a block each, and no fewer than 9 who")


def test_a_study_is_never_written_over(inputs, tmp_path):
    prepared(inputs, tmp_path / "study")

    with pytest.raises(LpmcError, match="exists already"):
        prepared(inputs, tmp_path / "study")


def test_a_study_does_not_take_the_place_of_the_folder_one_stands_in(inputs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    with pytest.raises(UsageError, match="name a new folder"):
        prepared(inputs, Path())


def test_a_port_that_cannot_be_is_refused_in_words(inputs, tmp_path):
    result = CliRunner().invoke(app, ["serve", str(tmp_path), "--port", "99999"])

    assert result.exit_code == 2
    assert "65535" in result.output


def test_captions_that_are_equal_are_named_to_the_planner(tmp_path):
    from caption_metrics.rating_quality import ExclusionRules
    from space.rating_prepare import GOLD_TO_JUDGE, notes

    write_inputs(tmp_path / "given", 12)
    rows = [{"item": f"clip-{number}", "caption": human_caption(number)} for number in range(12)]
    write_lines(tmp_path / "given" / "ours.jsonl", rows)

    study = prepared(tmp_path / "given", tmp_path / "study", systems=("ours",), block_size=4)

    blocks = study.planned()["blocks"]
    assert any(note.startswith(f"{blocks} of {blocks} blocks have fewer than 2 gold items") for note in notes(study))
    assert ExclusionRules().gold_answers == 2 * GOLD_TO_JUDGE
    assert "10 comparisons show the same text twice: they can only be ties" in notes(study)


def test_the_three_ratings_of_a_comparison_lie_in_different_blocks(study):
    blocks = defaultdict(set)
    for number, block in enumerate(study.blocks):
        for slot in block:
            if slot.kind == "real":
                blocks[slot.item, slot.pair].add(number)

    assert {len(numbers) for numbers in blocks.values()} == {3}
