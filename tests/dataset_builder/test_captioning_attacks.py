"""What a hostile server, an unlucky moment or an odd table may not do: lose or buy answers twice, hang, or miscount."""

from __future__ import annotations

import errno
import fcntl
import json
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from batch_double import BatchDouble
from chat_double import ChatDouble, completion, good_answer

from dataset_builder.captioning import captions_table, engine, jobs
from dataset_builder.captioning.backends.openai_chat import ChatBackend
from dataset_builder.captioning.budget import BudgetLimits
from dataset_builder.captioning.captions_table import CaptionRow, read_captions, read_pipeline
from dataset_builder.captioning.finish import merge_shards
from dataset_builder.captioning.jobs import CaptionJob
from dataset_builder.captioning.prices import Price
from dataset_builder.captioning.pseudo_caption import (
    CaptioningSummary,
    RunLimits,
    Shard,
    ask_in_batches,
    caption_tracks,
    make_plan,
    take_batch_results,
    write_batch_requests,
)
from dataset_builder.captioning.requests import Answer, CaptionRequest, Fault, Sampling
from dataset_builder.captioning.run_state import BudgetReachedError
from dataset_builder.captioning.store import AnswerStore, BatchRecord, Reservation, StoredAnswer
from dataset_builder.captioning.store_tables import SCHEMA
from dataset_builder.instructions import INSTRUCTIONS, render_prompt
from dataset_builder.tracks import TaggedTrack, write_tracks
from lpmc_errors import DiskError, LpmcError, TableError

BOOM: Any = (500, {}, {"error": {"message": "boom"}})
PRICE = Price("double", Decimal("1000"), Decimal("2000"), as_of=date(2026, 1, 1), source="the test")
HALF = "\ud83d"  # the first half of an emoji: what is left of one when an answer is cut between its two escapes


@pytest.fixture(autouse=True)
def short_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "BACKOFF_FIRST_S", 0.01)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def many(folder: Path, count: int, tags: tuple[str, ...] = ("rock",)) -> None:
    write_tracks((TaggedTrack(f"t{n}", (*tags, f"tag {n}")) for n in range(count)), folder / "tracks.parquet")


def same(folder: Path, count: int) -> None:
    write_tracks((TaggedTrack(f"t{n}", ("rock", "slow")) for n in range(count)), folder / "tracks.parquet")


def ask(
    folder: Path,
    url: str,
    instructions: tuple[str, ...] = ("writing",),
    *,
    name: str = "captions",
    limits: RunLimits | None = None,
    shard: Shard = Shard(),
    concurrency: int = 8,
    batch_size: int = 1,
    retry_refused: bool = False,
    **options: Any,
) -> tuple[CaptioningSummary, list[CaptionRow]]:
    backend = ChatBackend("double", base_url=url, api_key="k", concurrency=concurrency)
    backend.batch_size = batch_size
    plan = make_plan(backend, instructions, **options)
    places = (folder / "tracks.parquet", folder / f"{name}.parquet", folder / f"{name}.store.sqlite")
    summary = caption_tracks(*places, backend, plan, limits=limits, shard=shard, retry_refused=retry_refused)
    return summary, list(read_captions(places[1]))


def lpmc(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lpmc", "pseudo-caption", "tracks.parquet", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=folder)


def online(url: str, *more: str) -> tuple[str, ...]:
    return ("--backend", "openai", "--base-url", url, "--model", "double", "--instructions", "writing", *more)


def question(variant: str = "t0") -> CaptionRequest:
    return CaptionRequest("self-hosted", "m", render_prompt("writing", ("rock",)), Sampling(256), variant)


# --- answers that no file can hold as they are ----------------------------------------------------------------------


def test_an_answer_with_half_a_character_is_kept_and_stops_nothing(folder: Path) -> None:
    many(folder, 4)
    with ChatDouble(answer=lambda message: good_answer(message) + (HALF if "tag 2" in message else "")) as server:
        summary, rows = ask(folder, server.url)
        ask(folder, server.url)
        assert len(server.log) == 4
    assert sum(summary.outcomes.values()) == len(rows) == 4
    assert summary.outcomes["ok"] >= 3


def test_a_refusal_with_half_a_character_is_recorded_and_stops_nothing(folder: Path) -> None:
    many(folder, 4)
    refusal: Any = (400, {}, {"error": {"message": f"the filter met {HALF}"}})
    with ChatDouble(lambda number, message: refusal if "tag 2" in message else None) as server:
        summary, _ = ask(folder, server.url)
    assert summary.outcomes == {"ok": 3, "api_failed": 1}


def test_batch_results_that_hold_half_a_character_are_read_to_their_end(folder: Path) -> None:
    many(folder, 4)
    backend = ChatBackend("double", base_url="http://127.0.0.1:9/v1", api_key="k")
    places = (folder / "tracks.parquet", folder / "store.sqlite")
    (file,) = write_batch_requests(*places, make_plan(backend, ("writing",)), folder / "files")
    with file.output_path.open("w") as results:
        for number, line in enumerate(map(json.loads, file.path.read_text().splitlines())):
            said = completion(good_answer(line["body"]["messages"][-1]["content"]) + HALF * (number == 1))
            response = {"status_code": 200, "request_id": "r", "body": said}
            print(json.dumps({"custom_id": line["custom_id"], "response": response, "error": None}), file=results)
    report = take_batch_results(places[1], folder / "files", RunLimits())
    assert report.answers == 4
    with AnswerStore(places[1]) as store:
        assert store.totals().answers == 4


def test_a_token_count_beyond_all_reason_stops_nothing(folder: Path) -> None:
    many(folder, 3)

    def faults(number: int, message: str) -> object:
        if "tag 1" not in message:
            return None
        return 200, {}, completion(good_answer(message)) | {"usage": {"prompt_tokens": 10**30, "completion_tokens": 5}}

    with ChatDouble(faults) as server:
        summary, _ = ask(folder, server.url)
    assert sum(summary.outcomes.values()) == 3


@pytest.mark.parametrize("form", ["sqlite", "log"])
def test_tags_ids_and_answers_of_any_character_come_through_unchanged(
    folder: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    monkeypatch.setenv("LPMC_STORE", form)
    odd = ["a\x00b", "line\u2028end\u2029\x85\r\n", "\ufeffé̈", "'\"{}[]|\\", "𝄞" * 3]
    write_tracks((TaggedTrack(text, ("rock", f"tag {text}")) for text in odd), folder / "tracks.parquet")

    def answer(message: str) -> str:
        return next((f"Rock, a tag: {text}." for text in odd if text.strip() in message), "nothing")

    with ChatDouble(answer=answer) as server:
        summary, rows = ask(folder, server.url)
        again, more = ask(folder, server.url)
        assert len(server.log) == len(odd)
    assert [row.track_id for row in rows] == odd
    assert more == rows
    assert again.jobs_reused == sum(summary.outcomes.values()) == len(odd)


# --- runs that can't end --------------------------------------------------------------------------------------------


def test_rows_that_always_fail_do_not_keep_the_others_from_their_table(folder: Path) -> None:
    """Retries come last, so the last tries of a long run are those of the rows that always fail."""
    many(folder, 200)
    with ChatDouble(lambda number, message: BOOM if message.endswith("5") else None) as server:  # one row in ten
        summary, _ = ask(folder, server.url)
        again, _ = ask(folder, server.url)
    assert summary.outcomes == again.outcomes == {"ok": 180, "api_failed": 20}


def test_the_last_rows_of_a_run_are_finished_even_if_all_of_them_fail(folder: Path) -> None:
    # More than the engine looks back on (50), and fewer failures in a row than end a run whatever comes after them.
    many(folder, 52)
    with ChatDouble(lambda number, message: BOOM if number >= 5 else None) as server:
        summary, _ = ask(folder, server.url, concurrency=40)
    assert summary.outcomes == {"ok": 5, "api_failed": 47}


@pytest.mark.parametrize("fault", ["cut", (504, {}, {"error": {"message": "gateway time-out"}})])
def test_a_row_that_breaks_every_connection_is_no_server_that_is_down(folder: Path, fault: Any) -> None:
    """A prompt that a worker dies of, or one that takes longer than a proxy waits: the others get their table."""
    many(folder, 6)
    with ChatDouble(lambda number, message: fault if message.endswith("tag 5") else None) as server:
        summary, _ = ask(folder, server.url, concurrency=1, limits=RunLimits(patience_s=4.0))
        assert len(server.log) < 5 + 3 * engine.MAX_TRIES
    assert summary.outcomes == {"ok": 5, "api_failed": 1}


def test_rows_that_break_every_connection_do_not_hide_the_rows_behind_them(folder: Path) -> None:
    """With few requests at once, all that are alive may be such rows."""
    many(folder, 8)
    with ChatDouble(lambda number, message: "cut" if message.endswith(("tag 0", "tag 1")) else None) as server:
        summary, _ = ask(folder, server.url, concurrency=1, limits=RunLimits(patience_s=5.0))
    assert summary.outcomes == {"ok": 6, "api_failed": 2}


def test_a_429_that_asks_for_no_wait_is_not_answered_at_full_speed(folder: Path) -> None:
    many(folder, 1)
    now = (429, {"retry-after": "0"}, {"error": {"message": "slow down"}})
    with ChatDouble(lambda number, message: now) as server:
        with pytest.raises(LpmcError):
            ask(folder, server.url, limits=RunLimits(patience_s=1.0))
        assert len(server.log) < 20


def test_of_two_waits_that_a_server_asks_for_the_longer_one_counts(folder: Path) -> None:
    many(folder, 6)
    times: list[float] = []

    def faults(number: int, message: str) -> object:
        times.append(time.monotonic())
        if number == 2:
            time.sleep(0.2)  # its 429 is heard after the other one
        return (429, {"retry-after": "1.5" if number == 1 else "0.1"}, {}) if number in (1, 2) else None

    with ChatDouble(faults) as server:
        summary, _ = ask(folder, server.url, concurrency=2)
    assert summary.outcomes == {"ok": 6}
    assert times[3] - times[1] >= 1.5


def test_a_server_error_that_names_a_time_is_waited_for(folder: Path) -> None:
    many(folder, 1)
    times: list[float] = []

    def faults(number: int, message: str) -> object:
        times.append(time.monotonic())
        return (503, {"retry-after": "1"}, {}) if number == 0 else None

    with ChatDouble(faults) as server:
        ask(folder, server.url)
    assert times[1] - times[0] >= 1.0


def test_a_time_out_lowers_the_number_of_requests_under_way(folder: Path) -> None:
    many(folder, 30)
    limits: list[int] = []
    with ChatDouble(lambda number, message: 1.5 if number == 9 else 0.01) as server:
        backend = ChatBackend("double", base_url=server.url, api_key="k", concurrency=8, timeout=1.0)
        places = (folder / "tracks.parquet", folder / "c.parquet", folder / "store.sqlite")
        caption_tracks(*places, backend, make_plan(backend, ("writing",)), lambda now, _: limits.append(now.limit))
    assert max(limits) == 8
    assert limits[-1] < 8


def test_a_429_lowers_the_number_of_requests_under_way(folder: Path) -> None:
    many(folder, 40)
    fault = (429, {"retry-after": "0.1"}, {"error": {"message": "slow down"}})
    with ChatDouble(lambda number, message: fault if number == 20 else 0.01) as server:
        limits = [now.limit for now in progress(folder, server.url)]
    assert max(limits) == 8
    assert limits[-1] < 8


def progress(folder: Path, url: str, limits: RunLimits | None = None, **options: Any) -> list[engine.AskProgress]:
    """What the display was told, one copy a time."""
    seen: list[engine.AskProgress] = []
    backend = ChatBackend("double", base_url=url, api_key="k", concurrency=8)
    plan = make_plan(backend, ("writing",), **options)
    places = (folder / "tracks.parquet", folder / "c.parquet", folder / "store.sqlite")
    caption_tracks(*places, backend, plan, lambda now, total: seen.append(replace(now)), limits=limits)
    return seen


def test_pauses_between_tries_grow_to_a_ceiling_and_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # the real first pause
    for tries in range(1, 12):
        drawn = [engine.Engine._backoff(tries) for _ in range(200)]
        ceiling = min(60.0, 0.5 * 2**tries)
        assert 0.8 * ceiling < max(drawn) <= ceiling
        assert min(drawn) < 0.2 * ceiling


def interrupted(folder: Path, url: str, ready: Any, *, signals: int, pause: float = 0.3) -> tuple[float, int]:
    """(seconds from the first signal to the end, exit code)"""
    command = [sys.executable, "-m", "lpmc", "pseudo-caption", "tracks.parquet", "--output", "c.parquet", *online(url)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, cwd=folder)
    try:
        while not ready():
            time.sleep(0.01)
        time.sleep(0.1)
        started = time.monotonic()
        for _ in range(signals):
            process.send_signal(signal.SIGINT)
            time.sleep(pause)
        process.communicate(timeout=60)
        return time.monotonic() - started, process.returncode
    finally:
        process.kill()


def test_a_signal_ends_the_wait_that_a_server_asked_for(folder: Path) -> None:
    many(folder, 3)
    with ChatDouble(lambda number, message: (429, {"retry-after": "60"}, {"error": {"message": "wait"}})) as server:
        seconds, code = interrupted(folder, server.url, lambda: server.log, signals=1)
        assert len(server.log) == 1
    assert code == 75
    assert seconds < 5


def test_a_second_signal_waits_for_no_answer(folder: Path) -> None:
    many(folder, 3)
    with ChatDouble(lambda number, message: 15) as server:
        seconds, code = interrupted(folder, server.url, lambda: server.log, signals=2)
    assert code == 75
    assert seconds < 5


def test_signals_end_a_run_whose_server_does_not_answer_the_first_check(folder: Path) -> None:
    many(folder, 3)
    with ChatDouble(models=10.0) as server:
        seconds, code = interrupted(folder, server.url, lambda: server.checks, signals=2)
        assert server.log == []
    assert code == 75
    assert seconds < 5


def test_a_batch_of_a_local_model_that_outlasts_the_drain_is_kept(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread can't be stopped: the program waits for it in any case, and its answers are there."""
    import asyncio
    import os

    monkeypatch.setattr(engine, "DRAIN_S", 0.2)
    many(folder, 4)

    class Slow:
        name, provider, model, concurrency, batch_size = "local", "local", "slow", 1, 4

        async def check(self) -> None: ...

        async def close(self) -> None: ...

        async def answer(self, requests: Sequence[CaptionRequest]) -> list[Answer]:
            def work() -> list[Answer]:
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.8)
                return [Answer(f"A {request.content.rsplit(chr(10), 1)[-1]} piece.") for request in requests]

            return await asyncio.to_thread(work)

    backend: Any = Slow()
    places = (folder / "tracks.parquet", folder / "c.parquet", folder / "store.sqlite")
    with pytest.raises(LpmcError, match="interrupted"):
        caption_tracks(*places, backend, make_plan(backend, ("writing",), wording="released"))
    with AnswerStore(folder / "store.sqlite") as store:
        assert store.totals().answers == 4


# --- money ----------------------------------------------------------------------------------------------------------


def test_a_budget_that_is_no_multiple_of_the_batch_is_used_to_its_end(folder: Path) -> None:
    many(folder, 20)
    with ChatDouble() as server:
        with pytest.raises(BudgetReachedError, match="--max-requests is used up"):
            ask(folder, server.url, batch_size=8, concurrency=1, limits=RunLimits(BudgetLimits(max_requests=5)))
        assert len(server.log) == 5


def test_no_request_is_sent_on_a_budget_of_none(folder: Path) -> None:
    many(folder, 3)
    with ChatDouble() as server:
        with pytest.raises(BudgetReachedError, match="--max-requests is used up: 0 requests of 0"):
            ask(folder, server.url, limits=RunLimits(BudgetLimits(max_requests=0)))
        assert server.log == []
        ask(folder, server.url)
        summary, _ = ask(folder, server.url, limits=RunLimits(BudgetLimits(max_requests=0)))
    assert summary.outcomes == {"ok": 3}


def test_the_merged_table_says_what_all_shards_cost(folder: Path) -> None:
    many(folder, 30)
    limits = RunLimits(BudgetLimits(max_usd=Decimal(100)), PRICE)
    with ChatDouble() as server:
        for n in range(3):
            ask(folder, server.url, name=f"p{n}", shard=Shard(n, 3), limits=limits)
    merge_shards([folder / f"p{n}.parquet" for n in range(3)], folder / "tracks.parquet", folder / "all.parquet")
    made = read_pipeline(folder / "all.parquet")
    assert made["requests_sent"] == 30
    assert made.get("store_requests", 30) == 30
    assert made.get("store_tokens", 450) == 450
    assert Decimal(made.get("store_cost_usd") or "0.6") == Decimal("0.6")


def test_a_refusal_by_batch_is_sent_again_once_on_demand(folder: Path) -> None:
    many(folder, 4)
    refuse = dict.fromkeys(range(9), "no output")
    with BatchDouble(refuse) as server:

        def connect() -> ChatBackend:
            return ChatBackend("double", base_url=server.url, api_key="k")

        places = (folder / "tracks.parquet", folder / "store.sqlite")
        plan = make_plan(connect(), ("writing",))
        for retry in (False, True):
            server.submitted.clear()
            ask_in_batches(*places, connect, plan, RunLimits(), submit=True, interval=0.02, retry_refused=retry)
            assert max(server.submitted.values()) == 1


def test_a_batch_that_this_key_does_not_see_is_not_handed_in_again(folder: Path) -> None:
    many(folder, 6)
    with BatchDouble({0: "gone"}) as server:

        def connect() -> ChatBackend:
            return ChatBackend("double", base_url=server.url, api_key="k")

        places = (folder / "tracks.parquet", folder / "store.sqlite")
        plan = make_plan(connect(), ("writing",))
        for _ in range(2):
            outcomes = ask_in_batches(*places, connect, plan, RunLimits(), submit=True, interval=0.02)
            assert "missing" in {outcome.status for outcome in outcomes}
        assert max(server.submitted.values(), default=1) == 1
        assert len(server.batches) == 1


def test_what_earlier_runs_spent_is_known_from_the_first_word_of_the_display(folder: Path) -> None:
    limits = RunLimits(BudgetLimits(max_usd=Decimal(100)), PRICE)
    with ChatDouble() as server:
        for count, before in ((4, 0), (9, 4)):
            many(folder, count)
            seen = progress(folder, server.url, limits)
            assert {told.cost_before for told in seen} == {before * 20_000_000_000}
            assert seen[-1].cost == count * 20_000_000_000


def test_a_shard_keeps_to_its_part_of_the_requests_a_minute(folder: Path) -> None:
    many(folder, 60)
    times: list[float] = []

    def faults(number: int, message: str) -> None:
        times.append(time.monotonic())

    with ChatDouble(faults) as server:
        ask(folder, server.url, shard=Shard(0, 2), limits=RunLimits(requests_per_minute=1200))
    assert len(times) > 20
    assert times[-1] - times[0] >= (len(times) - 21) / 10  # two seconds' worth at once, the others at ten a second


# --- the same question ----------------------------------------------------------------------------------------------


def test_a_shared_question_that_fails_is_given_up_once_for_all_its_tracks(folder: Path) -> None:
    tags = [("rock", "slow")] + [("rock", f"tag {n}") for n in range(20)] + [("rock", "slow")] * 3
    write_tracks((TaggedTrack(f"t{n}", own) for n, own in enumerate(tags)), folder / "tracks.parquet")
    with ChatDouble(lambda number, message: BOOM if message.endswith("rock, slow") else 0.2) as server:
        summary, _ = ask(folder, server.url, share_identical=True, concurrency=1)
        sent = Counter(server.log)
    assert summary.outcomes == {"ok": 20, "api_failed": 4}
    assert max(sent.values()) == engine.MAX_TRIES


def test_a_shared_question_that_is_refused_again_on_demand_is_sent_once(folder: Path) -> None:
    tags = [("rock", "slow")] + [("rock", f"tag {n}") for n in range(10)] + [("rock", "slow")] * 3
    write_tracks((TaggedTrack(f"t{n}", own) for n, own in enumerate(tags)), folder / "tracks.parquet")
    refusal: Any = (400, {}, {"error": {"message": "no"}})
    with ChatDouble(lambda number, message: refusal if message.endswith("rock, slow") else 0.05) as server:
        for retry in (False, True):
            server.log.clear()
            summary, _ = ask(
                folder, server.url, name=str(retry), share_identical=True, concurrency=1, retry_refused=retry
            )
            assert sum(message.endswith("rock, slow") for message in server.log) == 1
    assert summary.outcomes == {"ok": 10, "api_failed": 4}


def test_many_tracks_share_many_questions(folder: Path) -> None:
    rows = (TaggedTrack(f"t{n}", ("rock", f"tag {n // 4}")) for n in range(120))
    write_tracks(rows, folder / "tracks.parquet")
    with ChatDouble() as server:
        summary, found = ask(folder, server.url, share_identical=True, concurrency=1)
        assert len(server.log) == 30
    assert summary.outcomes == {"ok": 120}
    assert [row.caption for row in found] == [f"This is a piece with rock, tag {n // 4}." for n in range(120)]


def test_tracks_that_share_a_question_are_judged_each_by_its_own_names(folder: Path) -> None:
    """The answer names an artist: his track asks again, the others that wait for the same answer keep it."""
    rows = [TaggedTrack(f"t{n}", ("rock", "slow"), artist="Quiet Zebra" if n == 3 else None) for n in range(12)]
    write_tracks(rows, folder / "tracks.parquet")
    said = iter(["A slow rock piece by Quiet Zebra.", "A slow rock piece."])
    with ChatDouble(lambda number, message: 0.05, answer=lambda message: next(said)) as server:
        summary, found = ask(folder, server.url, share_identical=True)
        again, same_again = ask(folder, server.url, share_identical=True)
        assert len(server.log) == 2
    assert summary.outcomes == again.outcomes == {"ok": 12}
    assert same_again == found
    assert [row.attempts for row in found] == [1, 1, 1, 2, *[1] * 8]


def test_progress_adds_up_to_the_jobs_where_tracks_share_a_question(folder: Path) -> None:
    same(folder, 6)
    with ChatDouble(lambda number, message: (400, {}, {"error": {"message": "no"}})) as server:
        last = progress(folder, server.url, share_identical=True)[-1]
        assert len(server.log) == 1
    assert (last.jobs, last.failed, last.reused) == (6, 6, 0)


def test_progress_of_a_resumed_run_begins_with_what_is_there(folder: Path) -> None:
    with ChatDouble() as server:
        for count, reused in ((4, 0), (9, 4)):
            many(folder, count)
            last = progress(folder, server.url)[-1]
            assert (last.jobs, last.reused, last.answers) == (count, reused, count - reused)


def test_a_word_is_said_when_four_fifths_of_the_budget_are_spent(folder: Path) -> None:
    many(folder, 19)
    with ChatDouble() as server:
        seen = progress(folder, server.url, RunLimits(BudgetLimits(max_requests=20)))
    assert "of --max-requests 20" in seen[-1].note
    assert seen[0].note == ""


def test_what_a_batch_holds_is_not_asked_for_online(folder: Path) -> None:
    """Of a batch that this key does not see any more: its requests wait until the user gives it up."""
    many(folder, 3)
    with ChatDouble() as server:
        backend = ChatBackend("double", base_url=server.url, api_key="k")
        plan = make_plan(backend, ("writing",))
        held = jobs.first_request(CaptionJob(TaggedTrack("t1", ("rock", "tag 1")), "writing"), plan)
        with AnswerStore(folder / "captions.store.sqlite") as store:
            store.add_batch(BatchRecord("batch_1", plan.provider, "gone.jsonl", "missing"), [held])
        summary, _ = ask(folder, server.url)
        assert not any("tag 1" in message for message in server.log)
    assert summary.outcomes == {"ok": 2, "api_failed": 1}


def test_jobs_that_wait_for_one_answer_are_drawn_as_they_are_needed(folder: Path) -> None:
    drawn = 0

    def corpus() -> Iterator[CaptionJob]:
        nonlocal drawn
        for n in range(50_000):
            drawn += 1
            yield CaptionJob(TaggedTrack(f"t{n}", ("rock", "slow")), "writing")

    with ChatDouble(lambda number, message: 1.0) as server, AnswerStore(folder / "store.sqlite") as store:
        backend = ChatBackend("double", base_url=server.url, api_key="k", concurrency=2)
        plan = make_plan(backend, ("writing",), share_identical=True)
        run = engine.Engine(backend, store, plan, engine.Budget(BudgetLimits(), None, store.spend()))
        counted: list[int] = []
        timer = threading.Timer(0.8, lambda: counted.append(drawn))
        timer.start()
        run.run(_until_counted(corpus(), counted))
        timer.join()
    assert counted[0] <= 2_000  # slices of 500 are looked over at once


def _until_counted(jobs: Iterator[CaptionJob], counted: list[int]) -> Iterator[CaptionJob]:
    for job in jobs:
        if counted:
            return
        yield job


# --- verdicts -------------------------------------------------------------------------------------------------------


def test_two_instructions_with_the_same_words_are_judged_each_by_its_own_rules(folder: Path) -> None:
    write_tracks([TaggedTrack("a", ("rock", "slow"))], folder / "tracks.parquet")
    texts = "".join(f"  {name}:\n    prompt: 'say: {{tags}}'\n" for name in ("writing", "attribute_prediction"))
    (folder / "mine.yaml").write_text(f"name: mine\ninstructions:\n{texts}")
    said = json.dumps({"new_attribute": ["calm"], "description": "A calm and slow rock piece."})
    with ChatDouble(answer=lambda message: said) as server:
        names = ("attribute_prediction", "writing")
        for order in (names, names[::-1]):
            _, rows = ask(folder, server.url, order, name=order[0], wording=str(folder / "mine.yaml"))
            found = {row.instruction: row for row in rows}
            assert found["attribute_prediction"].caption == "A calm and slow rock piece."
            assert found["attribute_prediction"].new_attributes == ("calm",)
            assert found["writing"].outcome != "ok"


@pytest.mark.parametrize("first", ["rock", "r'n'b", "80's, 90's"])
@pytest.mark.parametrize("wording", ["released", "grounded", "small", "k2c"])
def test_the_quick_key_of_a_job_is_that_of_its_first_request(wording: str, first: str) -> None:
    """Whatever track the quick way was learnt from."""

    class Named:
        name, provider, model = "k2c" if wording == "k2c" else "openai", "local", "m"

    plan = make_plan(Named(), INSTRUCTIONS, wording=None if wording == "k2c" else wording)  # type: ignore[arg-type]
    lists = [(first,), (first, "slow"), ("r'n'b",), ("a, b",), ("[live]", "'n'"), ("\u2028\\",), ('"', "é", "\x00")]
    for tags in lists:
        for instruction in plan.instructions:
            job = CaptionJob(TaggedTrack("t\n1", tags), instruction)
            assert jobs.first_key(job, plan) == jobs.first_request(job, plan).key


def test_tags_that_are_cut_in_another_way_are_judged_anew(folder: Path) -> None:
    coverage: list[bool] = []
    with ChatDouble(answer=lambda message: "A slow piece with a violin.") as server:
        for tags in (("slow", "violin, cello"), ("slow, violin", "cello"), ("slow", "violin", "cello")):
            write_tracks([TaggedTrack("a", tags)], folder / "tracks.parquet")
            _, (row,) = ask(folder, server.url)
            _, (fresh,) = ask(folder, server.url, name=str(len(coverage)))
            coverage.append((row.outcome, row.tag_coverage) == (fresh.outcome, fresh.tag_coverage))
    assert coverage == [True, True, True]


def test_a_title_that_is_added_later_is_looked_for_in_the_stored_answer(folder: Path) -> None:
    write_tracks([TaggedTrack("a", ("rock", "slow"))], folder / "tracks.parquet")
    said = iter(["A slow rock piece by Quiet Zebra.", "A slow rock piece."])
    with ChatDouble(answer=lambda message: next(said)) as server:
        assert ask(folder, server.url)[1][0].caption == "A slow rock piece by Quiet Zebra."
        write_tracks([TaggedTrack("a", ("rock", "slow"), artist="Quiet Zebra")], folder / "tracks.parquet")
        assert ask(folder, server.url)[1][0].caption == "A slow rock piece."
        assert len(server.log) == 2


class Said:
    """Answers in the order of their questions, as `next_step` looks them up; `asked` are the questions."""

    def __init__(self, *answers: Answer) -> None:
        self._answers = iter(answers)
        self._known: dict[str, Answer] = {}
        self.asked: list[CaptionRequest] = []

    def row(self, instruction: str, tags: tuple[str, ...], **options: Any) -> CaptionRow:
        class Named:
            name, provider, model = options.pop("backend", "openai"), "local", "m"

        plan = make_plan(Named(), (instruction,), **options)  # type: ignore[arg-type]
        job = CaptionJob(TaggedTrack("t", tags), plan.instructions[0])
        while isinstance(step := jobs.next_step(job, plan, self._find), CaptionRequest):
            self.asked.append(step)
            self._known[step.key] = next(self._answers)
        return step

    def _find(self, request: CaptionRequest) -> StoredAnswer | None:
        answer = self._known.get(request.key)
        return None if answer is None else StoredAnswer(request.key, answer)


def test_a_model_that_says_what_it_adds_is_held_to_it_and_one_that_does_not_is_not() -> None:
    added = json.dumps({"new_attribute": ["calm"], "description": "A calm and slow rock piece with a trumpet."})
    for text in (added, added.replace("calm", "soft"), added.replace("calm", "warm")):
        assert Said(*[Answer(text)] * 3).row("attribute_prediction", ("rock", "slow")).outcome == "rejected"
    prose = Said(Answer("A calm and slow rock piece with a trumpet.")).row("attribute_prediction", ("rock", "slow"))
    assert prose.outcome == "ok"
    assert any("trumpet" in claim for claim in prose.unsupported)


def test_a_keyword_sentence_that_was_cut_off_is_taken_as_it_comes() -> None:
    said = Said(Answer("a rock song with a", finish_reason="length"))
    row = said.row("k2c", ("rock", "slow"), backend="k2c")
    assert (row.outcome, row.caption, row.caption_origin) == ("ok", "a rock song with a", "baseline")
    assert len(said.asked) == 1


def test_an_answer_that_goes_round_in_circles_is_not_given_twice_the_room() -> None:
    loop = Answer("A slow rock piece " + "and a slow rock piece " * 30, finish_reason="length")
    said = Said(loop, Answer("A slow rock piece."))
    assert said.row("writing", ("rock", "slow")).outcome == "ok"
    assert [request.sampling.max_tokens for request in said.asked] == [256, 256]


def test_a_model_that_does_not_stop_is_given_twice_the_room_once() -> None:
    said = Said(*(Answer(f"A slow rock piece, number {n}", finish_reason="length") for n in range(9)))
    assert said.row("writing", ("rock", "slow")).outcome == "rejected"
    assert [request.sampling.max_tokens for request in said.asked] == [256, 512]


def test_of_answers_that_all_fail_the_one_that_could_be_read_and_came_last_is_told() -> None:
    said = Said(Answer(""), Answer("A slow rock trumpet."), Answer("A slow rock tuba."))
    row = said.row("writing", ("rock", "slow"))
    assert (row.outcome, row.seed, row.attempts) == ("rejected", 2, 3)
    assert "tuba" in (row.reason or "")


def test_of_answers_as_faithful_as_each_other_the_plainer_one_is_kept() -> None:
    texts = ("Get ready for a slow rock piece that goes on and on.", "This is a slow rock piece that goes on and on.")
    said = Said(*map(Answer, texts))
    row = said.row("writing", ("rock", "slow"), candidates=2)
    assert row.caption == texts[1]


def test_an_answer_that_was_given_under_another_limit_is_the_one_that_its_row_names(folder: Path) -> None:
    many(folder, 4)
    with ChatDouble() as server:
        _, first = ask(folder, server.url, token_limit=20)
        _, second = ask(folder, server.url, token_limit=200)
        assert len(server.log) == 4
    assert [row.request_key for row in second] == [row.request_key for row in first]
    with AnswerStore(folder / "captions.store.sqlite") as store:
        assert all(store.answer(row.request_key or "") for row in second)


def test_rows_that_were_never_asked_are_not_counted_as_taken_from_the_store(folder: Path) -> None:
    write_tracks([TaggedTrack("a", ("rock",)), TaggedTrack("b", ())], folder / "tracks.parquet")
    with ChatDouble() as server:
        assert ask(folder, server.url)[0].jobs_reused == 0


def test_the_result_of_a_run_without_one_caption_is_json(folder: Path) -> None:
    many(folder, 2)

    def no_constant(name: str) -> None:
        raise ValueError(name)

    with ChatDouble(lambda number, message: (400, {}, {"error": {"message": "no"}})) as server:
        result = lpmc(folder, "--output", "c.parquet", *online(server.url, "--json", "--no-fallback"))
    assert result.returncode == 3
    assert json.loads(result.stdout, parse_constant=no_constant)["outcomes"] == {"api_failed": 2}
    json.loads((folder / "c.pipeline.json").read_text(), parse_constant=no_constant)


# --- shards ---------------------------------------------------------------------------------------------------------


def test_shards_without_a_job_merge_like_the_others(folder: Path) -> None:
    many(folder, 2)
    with ChatDouble() as server:
        for n in range(6):
            ask(folder, server.url, name=f"p{n}", shard=Shard(n, 6))
        _, whole = ask(folder, server.url, name="whole")
    ledger = merge_shards(
        [folder / f"p{n}.parquet" for n in range(6)], folder / "tracks.parquet", folder / "all.parquet"
    )
    assert ledger.outcomes == {"ok": 2}
    assert list(read_captions(folder / "all.parquet")) == whole


def test_merged_shards_hold_what_only_the_whole_table_shows(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captions_table, "ROWS_PER_GROUP", 5)  # the tables are read and written in several parts
    tags = ("rock", "piano", "slow", "fast")
    write_tracks((TaggedTrack(f"t{n}", (*tags, f"tag {n}")) for n in range(9)), folder / "tracks.parquet")

    def answer(message: str) -> str:
        number = int(message.rsplit(" ", 1)[1])
        if "summar" in message:
            # Rejected for its trumpet: what it states besides is nobody's contradiction.
            return "A fast rock piece with a piano." if number < 6 else "A fast rock piece with a piano and a trumpet."
        return "A slow rock piece with a piano." if number else "Slow piano chords carry this rock tune from far away."

    both = ("writing", "summary")
    with ChatDouble(answer=answer) as server:
        for n in range(3):
            ask(folder, server.url, both, name=f"p{n}", shard=Shard(n, 3), fallback=False)
        _, whole = ask(folder, server.url, both, name="whole", fallback=False)
    merge_shards([folder / f"p{n}.parquet" for n in range(3)], folder / "tracks.parquet", folder / "all.parquet")
    assert list(read_captions(folder / "all.parquet")) == whole
    writing, summary = whole[::2], whole[1::2]
    assert {row.outcome for row in writing} == {"ok"}
    assert [row.outcome for row in summary] == ["ok"] * 6 + ["rejected"] * 3
    assert [row.near_duplicates for row in writing] == [0, *[7] * 8]
    assert [row.near_duplicates for row in summary] == [*[5] * 6, None, None, None]
    assert [bool(row.contradictions) for row in writing] == [True] * 6 + [False] * 3


def test_a_template_that_stands_in_carries_nothing_of_the_answer_that_was_rejected(folder: Path) -> None:
    same(folder, 3)
    with ChatDouble(answer=lambda message: "You will love this slow trumpet.") as server:
        _, rows = ask(folder, server.url)
    for row in rows:
        assert (row.outcome, row.caption_origin) == ("rejected", "template")
        assert (row.facts, row.soft, row.unsupported, row.tag_coverage) == ((), (), (), 1.0)
        assert row.near_duplicates is None
        assert "trumpet" in (row.reason or "")


def test_shards_that_were_made_in_different_ways_are_not_merged(folder: Path) -> None:
    many(folder, 8)
    refusal: Any = (400, {}, {"error": {"message": "no"}})
    with ChatDouble(lambda number, message: refusal) as server:
        for n, fallback in enumerate((True, False)):
            ask(folder, server.url, name=f"p{n}", shard=Shard(n, 2), fallback=fallback)
    with pytest.raises(TableError, match="another run"):
        merge_shards([folder / f"p{n}.parquet" for n in range(2)], folder / "tracks.parquet", folder / "all.parquet")


def foreign(folder: Path, ids: Sequence[str | None], tags: Sequence[Sequence[str]]) -> None:
    """A tracks table that another program wrote."""
    table = pa.table({"track_id": pa.array(ids, pa.string()), "tags": pa.array(tags, pa.list_(pa.string()))})
    pq.write_table(table, folder / "tracks.parquet")


def test_a_table_whose_ids_repeat_is_named_or_captioned_in_its_order(folder: Path) -> None:
    foreign(folder, ["same"] * 12, [["rock", f"tag {n}"] for n in range(12)])
    with ChatDouble() as server:
        try:
            for n in range(2):
                ask(folder, server.url, name=f"p{n}", shard=Shard(n, 2))
            merge_shards(
                [folder / f"p{n}.parquet" for n in range(2)], folder / "tracks.parquet", folder / "all.parquet"
            )
        except TableError:
            return
    captions = [row.caption for row in read_captions(folder / "all.parquet")]
    assert captions == [f"This is a piece with rock, tag {n}." for n in range(12)]


def test_a_track_without_an_id_is_named(folder: Path) -> None:
    foreign(folder, ["a", None], [["rock"], ["slow"]])
    with ChatDouble() as server, pytest.raises(TableError, match="track_id"):
        ask(folder, server.url)


def test_a_preview_of_a_shard_asks_only_what_belongs_to_it(folder: Path) -> None:
    many(folder, 20)
    with ChatDouble() as server:
        outputs = [("--output", f"p{n}.parquet", *online(server.url, "--shard", f"{n}/2")) for n in range(2)]
        assert lpmc(folder, *outputs[0], "--preview", "4").returncode == 0
        for output in outputs:
            assert lpmc(folder, *output).returncode == 0
        assert len(server.log) == 20


# --- stores ---------------------------------------------------------------------------------------------------------


def test_a_store_of_appended_files_sees_what_was_written_while_it_waited_for_the_lock(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LPMC_STORE", "log")
    path = folder / "store.sqlite"
    with AnswerStore(path) as first, first.sole_writer():
        late = AnswerStore(path)  # reads the files now; a large store takes minutes
        first.record(question(), Answer("bought"))
    with late, late.sole_writer():
        assert late.answer(question().key) == Answer("bought")


def test_a_store_of_appended_files_by_a_newer_program_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LPMC_STORE", "log")
    path = folder / "store.sqlite"
    with AnswerStore(path) as store:
        store.record(question(), Answer("bought"))
    with (folder / "store.sqlite.log" / "99999999999999999999-newer.jsonl").open("w") as newer:
        newer.write('["retract","0123"]\n')
    with pytest.raises(TableError):
        AnswerStore(path)


def test_a_store_whose_making_was_killed_is_made_anew(folder: Path) -> None:
    path = folder / "store.sqlite"
    database = sqlite3.connect(path)
    database.execute("PRAGMA journal_mode=WAL")
    database.executescript(SCHEMA)  # the process ends before it writes the version
    database.close()
    with AnswerStore(path) as store:
        store.record(question(), Answer("one"))
        assert store.answer(question().key) == Answer("one")


@pytest.mark.parametrize("version", [1, 3])
def test_a_store_of_another_version_is_named_and_left_alone(folder: Path, version: int) -> None:
    path = folder / "store.sqlite"
    with AnswerStore(path) as store:
        store.record(question(), Answer("one"))
    with sqlite3.connect(path) as database:
        database.execute(f"PRAGMA user_version={version}")
    for attempt in range(2):
        with pytest.raises(TableError, match="no answer store of this version"):
            AnswerStore(path)
    with sqlite3.connect(path) as database:
        assert database.execute("SELECT count(*) FROM answer").fetchone() == (1,)


def test_a_request_after_one_that_could_not_be_noted_is_stored_whole(folder: Path) -> None:
    def broken(request: CaptionRequest) -> Reservation:
        raise RuntimeError("a fault of the price")

    with AnswerStore(folder / "store.sqlite") as store:
        with pytest.raises(RuntimeError):
            store.begin([question()], broken)
        store.record(question(), Answer("one"))
        assert store.canonical(question().key) == question().canonical


def test_a_change_that_fails_takes_none_of_its_neighbours_with_it(folder: Path) -> None:
    """Changes of one turn share a commit."""
    with AnswerStore(folder / "store.sqlite") as store, store.grouped(lambda: None):
        store.begin([question("a"), question("b")])
        store.settle(question("a").key, Answer("paid for"))
        unfit: Any = object()
        with pytest.raises(Exception):
            store.settle(question("b").key, Answer("no text", model=unfit))
    with AnswerStore(folder / "store.sqlite") as store:
        assert store.answer(question("a").key) == Answer("paid for")


@pytest.mark.parametrize("result", [Fault("transient", "no answer", billed=True), Answer("no counts")])
def test_what_may_have_been_charged_costs_what_was_reserved(folder: Path, result: Answer | Fault) -> None:
    with AnswerStore(folder / "store.sqlite") as store:
        store.begin([question()], lambda request: Reservation(300, 1000))
        store.settle(question().key, result, 7)
    with AnswerStore(folder / "store.sqlite") as store:
        assert (store.spend().tokens, store.spend().cost) == (300, 1000)


def test_a_file_system_without_locks_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(handle: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")  # NFS without its lock daemon

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with AnswerStore(folder / "store.sqlite") as store, pytest.raises(DiskError), store.sole_writer():
        pass


def test_after_sigkill_a_store_of_appended_files_asks_only_what_is_missing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LPMC_STORE", "log")
    many(folder, 30)
    with ChatDouble(lambda number, message: 0.05) as server:
        parts = ("--output", "c.parquet", *online(server.url, "--concurrency", "2"))
        command = [sys.executable, "-m", "lpmc", "pseudo-caption", "tracks.parquet", *parts]
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, cwd=folder)
        while len(server.log) < 10:
            time.sleep(0.01)
        process.kill()
        process.wait()
        result = lpmc(folder, *parts, "--json")
        assert result.returncode == 0, result.stderr
        sent = Counter(server.log)
    assert json.loads(result.stdout)["outcomes"] == {"ok": 30}
    assert sum(sent.values()) <= 32


# --- the command line -----------------------------------------------------------------------------------------------


def test_the_same_command_without_preview_buys_the_rest_alone(folder: Path) -> None:
    many(folder, 6)
    with ChatDouble() as server:
        first = lpmc(folder, *online(server.url, "--preview", "2"))
        if first.returncode == 2:  # it may ask for --output or --store
            return
        assert len(server.log) == 2
        assert lpmc(folder, *online(server.url), "--output", "captions.parquet").returncode == 0
        assert len(server.log) == 6


def test_an_estimate_of_a_baseline_is_one_line_or_an_estimate(folder: Path) -> None:
    many(folder, 2)
    result = lpmc(folder, "--backend", "template", "--estimate")
    assert "Traceback" not in result.stderr
    result = lpmc(folder, "--backend", "template", "--estimate", "--output", "c.parquet")
    assert "Traceback" not in result.stderr
    assert not (folder / "c.parquet").exists()


def test_an_estimate_looks_at_a_store_that_a_run_is_writing_to(folder: Path) -> None:
    many(folder, 5)
    with ChatDouble() as server:
        ask(folder, server.url, name="c")
        with AnswerStore(folder / "c.store.sqlite") as run, run.sole_writer():
            found = lpmc(folder, "--output", "c.parquet", *online(server.url, "--estimate", "--json"))
        assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout)["total"]["stored"] == 5


# --- a model in this process ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def t5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small T5 with random weights."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

    words = Tokenizer(models.WordLevel(unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.WordLevelTrainer(special_tokens=["<pad>", "</s>", "<unk>"])
    words.train_from_iterator(["rock| piano| slow tempo", "a calm song with a soft piano"], trainer)
    words.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    names = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=words, **names)
    torch.manual_seed(3)
    sizes = {"d_model": 16, "d_kv": 4, "d_ff": 16, "num_layers": 1, "num_heads": 2, "initializer_factor": 4.0}
    config = transformers.T5Config(vocab_size=len(tokenizer), decoder_start_token_id=0, **sizes)
    path = tmp_path_factory.mktemp("t5")
    transformers.T5ForConditionalGeneration(config).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def test_keywords_become_a_table_by_the_command_line_and_are_answered_once(folder: Path, t5: Path) -> None:
    rows = [*(TaggedTrack(f"t{n}", ("rock", f"tag {n}")) for n in range(5)), TaggedTrack("r", ("r'n'b",))]
    write_tracks([*rows, TaggedTrack("empty", ())], folder / "tracks.parquet")
    command = ("--backend", "k2c", "--model", str(t5), "--output", "c.parquet", "--json")
    first, again = (lpmc(folder, *command) for _ in range(2))
    assert first.returncode in (0, 3), first.stderr  # random weights may say nothing
    made, kept = json.loads(first.stdout), json.loads(again.stdout)
    assert (made["rows"], made["requests_sent"], kept["requests_sent"]) == (7, 6, 0)
    assert sum(made["outcomes"].values()) == 7
    assert made["outcomes"]["skipped_no_tags"] == 1
    assert made["outcomes"] == kept["outcomes"]
    found = list(read_captions(folder / "c.parquet"))
    assert {(row.instruction, row.backend) for row in found} == {("k2c", "k2c")}
    assert all(row.caption_origin == "baseline" for row in found if row.outcome == "ok")


def test_a_row_that_the_model_fails_at_is_refused_alone(t5: Path) -> None:
    """A refusal is for good: the rows that happened to lie in the same batch would be lost with it."""
    import asyncio

    from dataset_builder.captioning.backends.k2c import K2CBackend
    from dataset_builder.instructions import k2c_prompt

    backend = K2CBackend(str(t5))
    asyncio.run(backend.check())

    def too_long(module: Any, inputs: Any, named: dict[str, Any]) -> None:
        ids = named.get("input_ids")
        if ids is not None and ids.shape[1] > 50:
            raise RuntimeError("out of memory")

    backend._model.encoder.register_forward_pre_hook(too_long, with_kwargs=True)
    lists = [("rock",), ("piano",), tuple(f"tag {n}" for n in range(100)), ("slow",)]
    asked = [CaptionRequest("local", "m", k2c_prompt(tags), Sampling(8), "t") for tags in lists]
    results = asyncio.run(backend.answer(asked))
    assert [isinstance(result, Answer) for result in results] == [True, True, False, True]
