"""The report: sums that are the input, money that is never invented, from a store that a run may be writing."""

from __future__ import annotations

import json
import os
import sqlite3
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from dataset_builder.captioning.budget import worst_case
from dataset_builder.captioning.jobs import AskPlan, CaptionJob, first_request, next_step, verdict_key, verdict_of
from dataset_builder.captioning.ledger import Ledger
from dataset_builder.captioning.prices import Price, load_prices
from dataset_builder.captioning.report import report_lines, store_report
from dataset_builder.captioning.requests import Answer, Fault
from dataset_builder.captioning.store import AnswerStore, BatchRecord
from dataset_builder.instructions import find_wording
from dataset_builder.tracks import TaggedTrack
from lpmc_errors import TableError

MINI = load_prices().of("gpt-4o-mini")
INSTRUCTIONS = ("writing", "summary")
PLAN = AskPlan("openai", "api.openai.com", "gpt-4o-mini", find_wording("released"), None, INSTRUCTIONS)
GOOD = "A slow piano ballad that stays calm from its first note to the last one."
FACTS = {"instructions": list(INSTRUCTIONS), "tracks": 0}


def track(number: int) -> TaggedTrack:
    return TaggedTrack(f"t{number}", ("piano", "slow", "calm", "ballad"), source="mc")


def answer(store: AnswerStore, number: int, instruction: str, text: str = GOOD, price: Price | None = MINI) -> None:
    """Buy answers for a job until it is settled, as a run does."""
    job = CaptionJob(track(number), instruction)
    while True:
        step = next_step(job, PLAN, store.find)
        if not hasattr(step, "sampling"):
            break
        store.begin([step], lambda request: worst_case(request, price))
        store.settle(step.key, Answer(text, "mini-0718", "stop", 90, 20), None if price is None else price.cost(90, 20))
    key = verdict_key(job, PLAN, first_request(job, PLAN))
    store.keep_verdict(key, PLAN.signature, step.track_id, instruction, verdict_of(step))


def finished_store(path: Path, tracks: range, text: str = GOOD) -> None:
    with AnswerStore(path) as store:
        started = store.start_run(PLAN.signature, PLAN.facts, 2 * len(tracks), FACTS | {"tracks": len(tracks)})
        ledger = Ledger()
        for instruction in INSTRUCTIONS:
            for number in tracks:
                answer(store, number, instruction, text)
                job = CaptionJob(track(number), instruction)
                ledger.add(replace(next_step(job, PLAN, store.find), near_duplicates=1))
        store.end_run(started, ledger.to_dict())


def text_of(*stores: Path) -> str:
    return "\n".join(report_lines(store_report(stores)))


def test_a_finished_run_adds_up_to_its_input(tmp_path: Path) -> None:
    finished_store(tmp_path / "s.sqlite", range(5))
    found = store_report([tmp_path / "s.sqlite"])
    (plan,) = found["plans"]
    assert plan["finished"]
    assert plan["outcomes"] == {"ok": 10, "pending": 0}
    assert sum(plan["outcomes"].values()) == plan["jobs"] == 10
    assert plan["outcomes_by_instruction"] == {
        "writing": {"ok": 5, "pending": 0},
        "summary": {"ok": 5, "pending": 0},
    }
    assert plan["signature"] == PLAN.signature
    assert plan["facts"]["model"] == "gpt-4o-mini"
    assert plan["models_answered"] == {"mini-0718": 10}
    assert found["tokens"] == {"prompt": 900, "completion": 200}
    assert found["requests"] == {"sent": 10, "answered": 10, "failed": {}, "lost": 0, "open": 0}
    assert json.loads(json.dumps(found)) == found


def test_a_run_that_is_not_finished_adds_up_to_its_input_with_what_is_pending(tmp_path: Path) -> None:
    with AnswerStore(tmp_path / "s.sqlite") as store:
        store.start_run(PLAN.signature, PLAN.facts, 14, FACTS | {"tracks": 7})
        for number in range(4):
            answer(store, number, "writing")
        answer(store, 0, "summary", "Ich kann das nicht: {broken")
        found = store_report([tmp_path / "s.sqlite"])  # while the store is open
    (plan,) = found["plans"]
    assert not plan["finished"]
    assert plan["outcomes"]["ok"] == 4
    assert plan["outcomes"]["pending"] == 9
    assert sum(plan["outcomes"].values()) == 14
    for name, outcomes in plan["outcomes_by_instruction"].items():
        assert sum(outcomes.values()) == 7, name
    assert plan["outcomes_by_instruction"]["writing"] == {"ok": 4, "pending": 3}
    writing = plan["ledger"]["by_instruction"]["writing"]
    assert writing["words"]["mean"] == len(GOOD.split())
    assert writing["openers"][0]["opener"] == "a slow piano"
    assert writing["tag_coverage"]["mean"] == 1.0
    assert writing["near_duplicates"] is None
    assert "near-duplicates and contradictions are counted when the run ends" in text_of(tmp_path / "s.sqlite")


def test_the_last_run_counts_when_there_were_several(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    finished_store(path, range(3))
    finished_store(path, range(5))
    (plan,) = store_report([path])["plans"]
    assert (plan["runs"], plan["jobs"], plan["outcomes"]) == (2, 10, {"ok": 10, "pending": 0})
    with AnswerStore(path) as store:  # killed after it began, with other instructions
        facts = {"instructions": ["summary"], "tracks": 6}
        store.start_run(PLAN.signature, PLAN.facts, 6, facts)
    (plan,) = store_report([path])["plans"]
    assert plan["outcomes"] == {"ok": 5, "pending": 1}
    assert list(plan["outcomes_by_instruction"]) == ["summary"]


def test_a_preview_and_a_hand_in_of_batches_do_not_stand_for_the_run(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    finished_store(path, range(3))
    with AnswerStore(path) as store:
        store.start_run(PLAN.signature, PLAN.facts, 2, {"preview": 2})
        store.start_run(PLAN.signature, PLAN.facts, 0, {"batches": True})
    (plan,) = store_report([path])["plans"]
    assert plan["finished"]
    assert plan["jobs"] == 6


def test_settled_captions_of_tracks_that_are_gone_do_not_hide_what_is_pending(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    finished_store(path, range(5))
    with AnswerStore(path) as store:
        store.start_run(PLAN.signature, PLAN.facts, 4, FACTS | {"tracks": 2})
    (plan,) = store_report([path])["plans"]
    assert plan["no_longer_asked"] == 6
    assert "6 of these are settled captions that the last run did not ask for" in text_of(path)


def test_a_caption_that_was_judged_twice_counts_once(tmp_path: Path) -> None:
    with AnswerStore(tmp_path / "s.sqlite") as store:
        store.start_run(PLAN.signature, PLAN.facts, 2, FACTS | {"tracks": 1})
        answer(store, 0, "writing")
        job = CaptionJob(replace(track(0), title="A title that came later"), "writing")
        step = next_step(job, PLAN, store.find)
        key = verdict_key(job, PLAN, first_request(job, PLAN))
        store.keep_verdict(key, PLAN.signature, step.track_id, "writing", verdict_of(step))
    (plan,) = store_report([tmp_path / "s.sqlite"])["plans"]
    assert plan["outcomes"] == {"ok": 1, "pending": 1}


def test_every_request_is_counted_once_by_how_it_ended(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    requests = [first_request(CaptionJob(track(number), "writing"), PLAN) for number in range(7)]
    with AnswerStore(path) as store:
        for request, kind in zip(requests, ("transient", "transient", "refused", "lost", "rate_limited"), strict=False):
            store.begin([request], lambda one: worst_case(one, MINI))
            store.settle(request.key, Fault(kind, "no"), 7 if kind == "lost" else 0)
        store.record(requests[5], Answer("a", "m", "stop", 10, 10))
        store.add_batch(
            BatchRecord("b1", "api.openai.com", "f1", "in_progress"), requests[6:], lambda one: worst_case(one, MINI)
        )
        found = store_report([path])
        total = store.totals().sent
    assert found["requests"] == {
        "sent": 7,
        "answered": 1,
        "failed": {"rate_limited": 1, "refused": 1, "transient": 2},
        "lost": 1,
        "open": 1,
    }
    assert total == 7
    assert found["batches"] == {"in_progress": 1}
    assert "1 under way; failed: 1 rate_limited, 1 refused, 2 transient" in text_of(path)


def test_dollars_are_exact_and_those_under_way_stand_apart(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    with AnswerStore(path) as store:
        for number in range(3):
            answer(store, number, "writing")
        waiting = first_request(CaptionJob(track(9), "writing"), PLAN)
        store.begin([waiting], lambda one: worst_case(one, MINI))
        spent = store.spend()
    found = store_report([path])["spent"]
    assert Fraction(found["usd"]) == Fraction(3 * MINI.cost(90, 20), 10**12)
    assert Fraction(found["usd_reserved"]) == Fraction(worst_case(waiting, MINI).cost, 10**12)
    assert Fraction(found["usd"]) + Fraction(found["usd_reserved"]) == Fraction(spent.cost, 10**12)
    assert found["usd"] == "0.0000765"
    assert "spent: <$0.0001, at most $0.0002 more under way" in text_of(path)


def test_a_cost_that_is_not_known_is_said_to_be_unknown(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    with AnswerStore(path) as store:
        answer(store, 0, "writing", price=None)
    found = store_report([path])["spent"]
    assert found == {"usd": None, "usd_reserved": None, "usd_of_priced": None, "unpriced_requests": 1}
    assert "spent: unknown (1 requests went out without a known price)" in text_of(path)
    with AnswerStore(path) as store:
        answer(store, 1, "writing")
    assert store_report([path])["spent"]["usd"] is None
    assert store_report([path])["spent"]["usd_of_priced"] == "0.0000255"
    assert "1 requests went out without a known price; <$0.0001 for the others" in text_of(path)


def test_the_stores_of_two_shards_add_up(tmp_path: Path) -> None:
    finished_store(tmp_path / "all.sqlite", range(7))
    finished_store(tmp_path / "a.sqlite", range(3))
    finished_store(tmp_path / "b.sqlite", range(3, 7))
    whole = store_report([tmp_path / "all.sqlite"])
    parts = store_report([tmp_path / "a.sqlite", tmp_path / "b.sqlite"])
    for name in ("requests", "tokens"):
        assert parts[name] == whole[name]
    assert Fraction(parts["spent"]["usd"]) == Fraction(whole["spent"]["usd"])
    assert parts["plans"][0]["ledger"] == whole["plans"][0]["ledger"]
    assert parts["plans"][0]["outcomes"] == whole["plans"][0]["outcomes"]
    assert len(parts["plans"]) == 1


def test_one_shard_that_is_not_finished_leaves_the_whole_unfinished(tmp_path: Path) -> None:
    finished_store(tmp_path / "a.sqlite", range(3))
    with AnswerStore(tmp_path / "b.sqlite") as store:
        facts = FACTS | {"tracks": 7, "shard": {"index": 1, "of": 2}}
        store.start_run(PLAN.signature, PLAN.facts, 8, facts)
        answer(store, 5, "writing")
    (plan,) = store_report([tmp_path / "a.sqlite", tmp_path / "b.sqlite"])["plans"]
    assert not plan["finished"]
    assert plan["outcomes"] == {"ok": 7, "pending": 7}
    assert plan["jobs"] == 14


def test_two_plans_stand_apart(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    finished_store(path, range(2))
    other = replace(PLAN, model="gpt-4.1")
    with AnswerStore(path) as store:
        store.start_run(other.signature, other.facts, 4, FACTS | {"tracks": 2})
    plans = store_report([path])["plans"]
    assert [plan["facts"]["model"] for plan in plans] == ["gpt-4o-mini", "gpt-4.1"]
    assert [plan["outcomes"] for plan in plans] == [{"ok": 4, "pending": 0}, {"pending": 4}]


# --- alarms -----------------------------------------------------------------------------------------------------------


def test_an_opener_of_every_tenth_caption_raises_an_alarm(tmp_path: Path) -> None:
    with AnswerStore(tmp_path / "s.sqlite") as store:
        store.start_run(PLAN.signature, PLAN.facts, 400, FACTS | {"tracks": 200})
        for number in range(200):
            first = "Get ready to hear" if number % 10 == 0 else f"{chr(97 + number % 26)}x{number} is"
            answer(store, number, "writing", f"{first} a slow piano ballad with a calm mood and nothing else in it.")
    (plan,) = store_report([tmp_path / "s.sqlite"])["plans"]
    assert plan["outcomes"]["ok"] == 200
    assert plan["ledger"]["alarms"] == ["writing: 10.0% of the captions begin with 'get ready to'"]
    assert "ALARM writing: 10.0%" in text_of(tmp_path / "s.sqlite")


# --- how it reads -----------------------------------------------------------------------------------------------------


def test_a_person_reads_who_answered_what_and_how_well(tmp_path: Path) -> None:
    finished_store(tmp_path / "s.sqlite", range(5))
    text = text_of(tmp_path / "s.sqlite")
    assert "gpt-4o-mini at api.openai.com, wording released" in text
    assert "answered: mini-0718 (10)" in text
    assert "finished; 10 captions asked for" in text
    assert "requests: 10 sent, 10 answered, 0 lost, 0 under way; failed: none" in text
    assert "writing" in text
    assert f"{len(GOOD.split()):.1f} (15-15)" in text
    assert "'a slow piano' 100.0%" in text


def test_reasons_of_rejected_captions_are_told(tmp_path: Path) -> None:
    with AnswerStore(tmp_path / "s.sqlite") as store:
        store.start_run(PLAN.signature, PLAN.facts, 2, FACTS | {"tracks": 1})
        answer(store, 0, "writing", GOOD.replace("piano", "trumpet"))
    assert "why not: 1 x rejected: claims something that no tag supports" in text_of(tmp_path / "s.sqlite")


# --- stores -----------------------------------------------------------------------------------------------------------


def test_a_store_without_runs_has_a_report(tmp_path: Path) -> None:
    AnswerStore(tmp_path / "s.sqlite").__exit__(None, None, None)
    assert "no run was started from this store" in text_of(tmp_path / "s.sqlite")
    assert "spent: $0" in text_of(tmp_path / "s.sqlite")


def test_a_store_of_append_only_files_is_read_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finished_store(tmp_path / "a.sqlite", range(3))
    monkeypatch.setenv("LPMC_STORE", "log")
    finished_store(tmp_path / "b.sqlite", range(3))
    assert not (tmp_path / "b.sqlite").exists()
    a, b = (store_report([tmp_path / name]) for name in ("a.sqlite", "b.sqlite"))
    for name in ("requests", "tokens", "spent"):
        assert a[name] == b[name]
    assert a["plans"][0]["ledger"] == b["plans"][0]["ledger"]


def test_the_report_does_not_wait_for_a_run_nor_stop_it(tmp_path: Path) -> None:
    with AnswerStore(tmp_path / "s.sqlite") as store, store.sole_writer():
        store.start_run(PLAN.signature, PLAN.facts, 4, FACTS | {"tracks": 2})
        store._db.execute("BEGIN IMMEDIATE")  # a commit under way
        assert store_report([tmp_path / "s.sqlite"])["plans"][0]["outcomes"] == {"pending": 4}
        store._db.execute("COMMIT")
        answer(store, 0, "writing")
        assert store_report([tmp_path / "s.sqlite"])["plans"][0]["outcomes"] == {"ok": 1, "pending": 3}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_store_in_a_folder_that_cannot_be_written_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    finished_store(folder / "s.sqlite", range(2))
    folder.chmod(0o500)
    try:
        assert store_report([folder / "s.sqlite"])["plans"][0]["outcomes"]["ok"] == 4
    finally:
        folder.chmod(0o700)


def test_reading_changes_no_byte_of_the_store(tmp_path: Path) -> None:
    finished_store(tmp_path / "s.sqlite", range(2))
    before = (tmp_path / "s.sqlite").read_bytes()
    store_report([tmp_path / "s.sqlite"])
    assert (tmp_path / "s.sqlite").read_bytes() == before


def test_what_is_no_store_is_named(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="no such answer store"):
        store_report([tmp_path / "none.sqlite"])
    (tmp_path / "text.sqlite").write_text("not a database, but long enough to be looked at by SQLite" * 10)
    with pytest.raises(TableError, match=r"text\.sqlite: cannot be read as an answer store"):
        store_report([tmp_path / "text.sqlite"])
    with sqlite3.connect(tmp_path / "other.sqlite") as other:
        other.execute("CREATE TABLE t (x)")
    with pytest.raises(TableError, match="no answer store of this version"):
        store_report([tmp_path / "other.sqlite"])
