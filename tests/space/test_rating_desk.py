"""The desk: who gets what, what is written, when the study is full, under several raters and several servers."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from rating_material import write_inputs

from lpmc_errors import AudioError, UsageError
from space.rating import TRIAL_RUN, build_app
from space.rating_desk import Answer, ListeningClock, RatingDesk, Trial
from space.rating_page import RatingPage, Session, told
from space.rating_prepare import prepare_study
from space.rating_store import RatingStore
from space.rating_study import Settings, load_study

PROJECT = Path(__file__).resolve().parents[2]
TIE = Answer("tie", "tie")


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("desk")
    write_inputs(folder / "given", 14, systems=("ours",))
    settings = Settings(block_size=4, raters_per_unit=2, constant_share=0.25, min_listen_s=0.5)
    prepare_study(
        folder / "given" / "items.jsonl", [str(folder / "given/ours.jsonl")], folder / "study", settings=settings
    )
    return folder / "study"


@pytest.fixture
def desk(folder, tmp_path):
    return RatingDesk(load_study(folder), RatingStore(tmp_path / "ratings"), Clock())


def newcomer(desk: RatingDesk) -> str:
    return desk.rater(desk.register(3, "headphones"))


def rate(desk: RatingDesk, rater: str, answer: Answer = TIE) -> dict | None:
    trial = desk.claim(rater)
    assert isinstance(trial, Trial), trial
    return desk.rate(rater, trial, answer, listened_s=1.0, seconds=9.0)


def finish_block(desk: RatingDesk, rater: str) -> list[dict]:
    trial = desk.claim(rater)
    return [rate(desk, rater) for _ in range(trial.number, trial.total + 1)]


def test_a_rating_is_written_in_the_documented_form(desk):
    code = desk.register(4, "loudspeakers")
    rater = desk.rater(code)
    trial = desk.claim(rater)
    while trial.slot.kind != "real" or not trial.claims[0]:
        rate(desk, rater)
        trial = desk.next(rater)
    answer = Answer("left", "tie", None, (trial.claims[0][0],), ())

    record = desk.rate(rater, trial, answer, listened_s=1.234, seconds=20.0)

    assert desk.store.read("ratings")[-1] == record
    assert record == {
        "rating_id": record["rating_id"],
        "study": desk.study.study,
        "rater": rater,
        "item": trial.slot.item,
        "audio": desk.study.clips[trial.slot.item].file,
        "pair": list(trial.pair),
        "kind": "real",
        "duplicate_of": None,
        "answers": {"more_correct": "left", "less_wrong": "tie", "overall": None},
        "claims": {"left": list(trial.claims[0]), "right": list(trial.claims[1])},
        "wrong_claims": {"left": [trial.claims[0][0]], "right": []},
        "listened_s": 1.23,
        "seconds": 20.0,
        "order_seed": trial.order_seed,
        "time": "2027-01-15T08:00:00Z",
        "simulated": False,
        "block": 0,
        "slot": trial.slot.id,
        "via": "page",
    }
    assert desk.store.read("raters") == [
        {
            "rater": rater,
            "study": desk.study.study,
            "familiarity": 4,
            "playback": "loudspeakers",
            "time": "2027-01-15T08:00:00Z",
            "simulated": False,
        }
    ]
    stored = "".join(path.read_text() for path in desk.store.folder.glob("*.jsonl"))
    assert code not in stored
    assert re.fullmatch(r"r-[0-9a-f]{12}", rater)


def test_raters_who_come_until_it_is_full_fill_every_slot_once_and_no_more(desk):
    endings = []
    for _ in range(100):
        rater = newcomer(desk)
        ending = desk.claim(rater)
        if not isinstance(ending, Trial):
            endings.append(ending)
            break
        finish_block(desk, rater)
        assert desk.next(rater) in ("may claim", "complete", "nothing left")

    assert endings == ["complete"]
    assert desk.complete()
    kinds = Counter(record["kind"] for record in desk.store.read("ratings"))
    planned = desk.study.planned()
    assert kinds == {kind: planned[kind] for kind in ("real", "gold", "duplicate")}
    real = [record for record in desk.store.read("ratings") if record["kind"] == "real"]
    assert {record["slot"] for record in real} == desk.study.real_slots
    raters = Counter((r["item"], frozenset(r["pair"]), r["rater"]) for r in real)
    assert set(raters.values()) == {1}
    assert len({record["rating_id"] for record in desk.store.read("ratings")}) == sum(kinds.values())


def test_a_repeat_names_the_rating_that_it_repeats_and_swaps_its_sides(desk):
    records = finish_block(desk, newcomer(desk))

    by_id = {record["rating_id"]: record for record in records}
    (repeat,) = [record for record in records if record["kind"] == "duplicate"]
    first = by_id[repeat["duplicate_of"]]
    assert first["kind"] == "real"
    assert first["item"] == repeat["item"]
    assert first["pair"] == repeat["pair"][::-1]


def test_one_rater_meets_no_clip_beside_two_systems_however_long_he_goes_on(desk):
    rater = newcomer(desk)
    while isinstance(desk.claim(rater), Trial):
        finish_block(desk, rater)

    assert desk.next(rater) == "nothing left"
    real = [record for record in desk.store.read("ratings") if record["kind"] == "real"]
    items = [record["item"] for record in real]
    assert len(set(items)) == len(items) == 12  # each clip of the comparisons once


def test_raters_at_the_same_time_get_different_blocks_and_comparisons_stay_balanced(desk):
    raters = [newcomer(desk) for _ in range(4)]
    first = [desk.claim(rater) for rater in raters]

    assert len({trial.slot.id[: trial.slot.id.index(trial.slot.kind[0])] for trial in first}) == 4
    for _ in range(3):  # they take turns
        for rater in raters:
            rate(desk, rater)
    counts = Counter(
        (record["item"], frozenset(record["pair"])) for record in desk.store.read("ratings") if record["kind"] == "real"
    )
    assert set(counts.values()) == {1}


def test_a_few_raters_who_rate_all_they_may_fill_a_study_in_which_whole_blocks_run_out(desk):
    few = 4  # a clip is shown four times: to two raters beside the system, to two beside the constant caption
    at_work = {newcomer(desk): None for _ in range(few)}
    while not desk.complete():
        before = len(desk.store.read("ratings"))
        for rater in at_work:  # side by side, so that everyone meets clips of every block
            if isinstance(desk.claim(rater), Trial):
                rate(desk, rater)
        assert len(desk.store.read("ratings")) > before, {rater: desk.next(rater) for rater in at_work}

    records = desk.store.read("ratings")
    real = [record for record in records if record["kind"] == "real"]
    assert len(real) == len(desk.study.real_slots)
    assert set(Counter((record["item"], record["rater"]) for record in real).values()) == {1}
    claims = desk.store.read("claims")
    parts = [
        claim
        for claim in claims
        if len(desk.study.real_slots.intersection(claim["order"]))
        < sum(slot.kind == "real" for slot in desk.study.blocks[claim["block"]])
    ]
    assert parts  # blocks were cut up
    for claim in claims:  # and each part has its gold item
        assert any(desk.study.slots[name].kind == "gold" for name in claim["order"])
    originals = {record["rating_id"] for record in real}
    assert {record["duplicate_of"] for record in records if record["kind"] == "duplicate"} <= originals


def test_a_store_of_another_study_or_with_real_ratings_beside_simulated_ones_is_refused(desk, folder):
    rate(desk, newcomer(desk))
    study, store = desk.study, desk.store

    with pytest.raises(UsageError, match="holds real ratings, which never mix"):
        RatingDesk(study, store, simulated=True)
    with pytest.raises(UsageError, match=f"belongs to the study {study.study}, not to s-other"):
        RatingDesk(replace(study, study="s-other"), store)
    store.append("claims", {"rater": "r-1"})
    with pytest.raises(UsageError, match=r"claims\.jsonl: holds a line without block, order, time"):
        RatingDesk(study, store)


def test_a_trial_run_marks_raters_and_ratings_as_simulated(folder, tmp_path):
    desk = RatingDesk(load_study(folder), RatingStore(tmp_path / "trial"), Clock(), simulated=True)
    real = RatingDesk(desk.study, RatingStore(tmp_path / "real"))
    rate(desk, newcomer(desk))

    assert [record["simulated"] for kind in ("raters", "ratings") for record in desk.store.read(kind)] == [True, True]
    banners = [TRIAL_RUN in str(build_app(RatingPage(each, tmp_path)).config) for each in (desk, real)]
    assert banners == [True, False]
    with pytest.raises(UsageError, match="holds simulated ratings, which never mix"):
        RatingDesk(desk.study, desk.store)


def test_a_sound_that_went_missing_is_told_to_the_rater_without_its_path(desk, tmp_path, capsys):
    page, session = RatingPage(desk, tmp_path / "sounds"), Session()

    with pytest.raises(AudioError) as fault:
        page.start(3, "headphones", session)

    assert session.trial is None
    assert str(tmp_path) not in told(fault.value)
    assert "is missing since the server began" in capsys.readouterr().err


def test_a_rater_goes_on_where_he_was_at_another_server(desk):
    code = desk.register(2, "built-in")
    rater = desk.rater(code)
    rate(desk, rater)
    rate(desk, rater)
    where = desk.next(rater)

    other = RatingDesk(desk.study, RatingStore(desk.store.folder), desk.clock)

    assert other.rater(f" {code[:5].upper()} {code[5:]}\n") == rater
    assert other.next(rater) == where
    assert where.number == 3
    assert other.rater("zzzzzzzzzz") is None


def test_the_same_comparison_sent_from_two_pages_is_stored_once(desk):
    rater = newcomer(desk)
    trial = desk.claim(rater)

    assert desk.rate(rater, trial, TIE, listened_s=1.0, seconds=5.0) is not None
    assert desk.rate(rater, trial, TIE, listened_s=1.0, seconds=6.0) is None
    assert len(desk.store.read("ratings")) == 1


def test_a_block_left_for_a_day_goes_to_somebody_else_and_nothing_is_rated_twice(desk):
    gone, heir = newcomer(desk), newcomer(desk)
    while desk.claim(gone).number < 4:
        rate(desk, gone)
    blocks = len(desk.study.blocks)
    for _ in range(blocks - 1):  # the others are under way
        desk.claim(newcomer(desk))
    assert desk.claim(heir) == "wait"
    desk.clock.now += 23.9 * 3600
    assert desk.claim(heir) == "wait"

    desk.clock.now += 0.2 * 3600
    taken = [desk.claim(heir)]
    assert isinstance(taken[0], Trial)

    assert desk.store.read("claims")[-1]["block"] == 0
    given = desk.store.read("claims")[-1]["order"]
    rated = {record["slot"] for record in desk.store.read("ratings") if record["kind"] == "real"}
    assert not rated & set(given)
    for name in given:  # a repeat only of what the heir rates himself
        origin = desk.study.slots[name].duplicate_of
        assert origin is None or given.index(origin) < given.index(name)
    finish_block(desk, heir)
    while isinstance(desk.next(gone), Trial):  # who comes back finds what is left: gold and repeats of his own
        record = rate(desk, gone)
        assert record["kind"] != "real"
    slots = [record["slot"] for record in desk.store.read("ratings") if record["kind"] == "real"]
    assert len(set(slots)) == len(slots)


def test_a_rater_who_works_slowly_keeps_his_block(desk):
    rater = newcomer(desk)
    for _ in range(3):
        rate(desk, rater)
        desk.clock.now += 20 * 3600

    other = desk.claim(newcomer(desk))

    assert not other.slot.id.startswith("b0")


@pytest.mark.parametrize(
    ("answer", "listened", "message"),
    [
        (TIE, 0.4, "was played for 0.4 s; listen to 0.5 s"),
        (Answer("", "tie"), 1.0, "Question 1: has no answer"),
        (Answer("left", "both"), 1.0, "Question 2: has no answer"),
        (Answer("left", "tie", "neither"), 1.0, "Question 3"),
        (Answer("left", "tie", None, ("instrument: kazoo",)), 1.0, "the claims of caption A"),
        (Answer("left", "tie", None, None, ("instrument: kazoo",)), 1.0, "the claims of caption B"),
    ],
)
def test_an_answer_that_is_not_whole_is_refused_by_the_server(desk, answer, listened, message):
    rater = newcomer(desk)
    trial = desk.claim(rater)

    with pytest.raises(UsageError, match=message):
        desk.rate(rater, trial, answer, listened_s=listened, seconds=3.0)
    assert desk.store.read("ratings") == []


@pytest.mark.parametrize(("familiarity", "playback"), [(6, "headphones"), (3, "radio")])
def test_a_rater_answers_with_what_is_offered(desk, familiarity, playback):
    with pytest.raises(UsageError):
        desk.register(familiarity, playback)
    assert desk.store.read("raters") == []


def test_the_clock_counts_what_was_played_and_no_stretch_longer_than_the_clip():
    clock = ListeningClock(clip_s=10.0)
    assert clock.heard(5.0) == 0.0
    clock.pause(5.0)
    clock.play(10.0)
    assert clock.heard(12.5) == 2.5
    clock.pause(13.0)
    assert clock.heard(100.0) == 3.0
    clock.play(200.0)
    clock.play(201.0)  # the page says it twice
    clock.pause(202.0)
    assert clock.heard(300.0) == 5.0
    clock.play(300.0)  # and then the page vanishes
    assert clock.heard(10_000.0) == 15.0


RATER = """
import json, sys
from pathlib import Path
from space.rating_desk import Answer, RatingDesk, Trial
from space.rating_store import RatingStore
from space.rating_study import load_study
desk = RatingDesk(load_study(Path(sys.argv[1])), RatingStore(Path(sys.argv[2])))
print("ready", flush=True)
sys.stdin.readline()
while True:
    rater = desk.rater(desk.register(3, "headphones"))
    found = desk.claim(rater)
    if not isinstance(found, Trial):
        break
    while isinstance(found, Trial):
        desk.rate(rater, found, Answer("left", "right"), listened_s=1.0, seconds=1.0)
        found = desk.next(rater)
"""


def test_four_servers_with_raters_at_once_fill_the_study_exactly(folder, tmp_path):
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", RATER, str(folder), str(tmp_path / "ratings")],
            cwd=PROJECT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:  # all at once
        process.stdin.write("\n")
        process.stdin.flush()
    for process in processes:
        process.communicate(timeout=60)
        assert process.returncode == 0

    study = load_study(folder)
    records = [json.loads(line) for line in (tmp_path / "ratings/ratings.jsonl").read_text().splitlines()]
    real = [record["slot"] for record in records if record["kind"] == "real"]
    assert sorted(real) == sorted(study.real_slots)
    claimed = [json.loads(line)["block"] for line in (tmp_path / "ratings/claims.jsonl").read_text().splitlines()]
    assert sorted(claimed) == list(range(len(study.blocks)))  # no block was given away twice
    by_item = Counter((r["item"], frozenset(r["pair"]), r["rater"]) for r in records if r["kind"] == "real")
    assert set(by_item.values()) == {1}
