"""The engine over real HTTP: outages, limits, budgets, second questions, candidates, and what a later run buys."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from chat_double import ChatDouble, good_answer, tags_of

from dataset_builder.captioning import engine, jobs
from dataset_builder.captioning.backends.openai_chat import ChatBackend
from dataset_builder.captioning.budget import BudgetLimits
from dataset_builder.captioning.captions_table import CaptionRow, read_captions
from dataset_builder.captioning.prices import Price
from dataset_builder.captioning.pseudo_caption import CaptioningSummary, RunLimits, caption_tracks, make_plan
from dataset_builder.captioning.run_state import BudgetReachedError
from dataset_builder.captioning.store import AnswerStore
from dataset_builder.tracks import TaggedTrack, write_tracks
from lpmc_errors import EndpointError

BOOM = (500, {}, {"error": {"message": "boom"}})


@pytest.fixture(autouse=True)
def short_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "BACKOFF_FIRST_S", 0.01)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def many(folder: Path, count: int, tags: tuple[str, ...] = ("rock",)) -> None:
    """Tracks whose tags differ by a number."""
    write_tracks((TaggedTrack(f"t{n}", (*tags, f"tag {n}")) for n in range(count)), folder / "tracks.parquet")


def ask(
    folder: Path,
    urls: str | list[str],
    instructions: tuple[str, ...] = ("writing",),
    *,
    limits: RunLimits | None = None,
    concurrency: int = 8,
    timeout: float = 30.0,
    rungs: dict[str, str] | None = None,
    **options: Any,
) -> tuple[CaptioningSummary, list[CaptionRow]]:
    remembered = {} if rungs is None else rungs
    backend = ChatBackend(
        "double", base_url=urls, api_key="k", concurrency=concurrency, timeout=timeout, rungs=remembered
    )
    plan = make_plan(backend, instructions, **options)
    output = folder / "captions.parquet"
    summary = caption_tracks(
        folder / "tracks.parquet", output, folder / "store.sqlite", backend, plan, limits=limits, remembered=remembered
    )
    return summary, list(read_captions(output))


# --- what a later run buys ------------------------------------------------------------------------------------------


def test_a_parser_that_raises_costs_nothing_more_once_it_is_mended(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    many(folder, 6)
    with ChatDouble() as server:

        def broken(instruction: str, text: str) -> None:
            raise RuntimeError("a fault of the parser")

        with monkeypatch.context() as patched:
            patched.setattr(jobs, "parse_answer", broken)
            with pytest.raises(RuntimeError, match="a fault of the parser"):
                ask(folder, server.url, concurrency=1)
        before = len(server.log)
        assert before >= 1
        summary, _ = ask(folder, server.url)
        assert len(server.log) == 6
    assert summary.outcomes == {"ok": 6}


def test_a_new_version_of_the_parser_judges_again_and_buys_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    many(folder, 3)
    with ChatDouble() as server:
        ask(folder, server.url)
        monkeypatch.setattr(jobs, "PARSER_VERSION", "next")
        monkeypatch.setattr(jobs, "_JUDGE", "next")
        summary, rows = ask(folder, server.url)
        assert len(server.log) == 3
    assert summary.jobs_reused == 3
    assert {row.parser_version for row in rows} == {"next"}


def test_one_more_instruction_sends_only_its_own_requests(folder: Path) -> None:
    many(folder, 4)
    with ChatDouble() as server:
        ask(folder, server.url, ("writing",))
        ask(folder, server.url, ("writing", "summary"))
        new = server.log[4:]
    assert len(new) == 4
    assert all("single sentence that summarize" in message for message in new)


def wording_file(folder: Path, system: str) -> str:
    path = folder / "mine.yaml"
    text = f"name: mine\nsystem: {system}\ninstructions:\n  writing:\n    prompt: 'describe: {{tags}}'\n"
    path.write_text(text)
    return str(path)


def test_a_changed_word_of_the_system_message_buys_all_again(folder: Path) -> None:
    many(folder, 3)

    def answer(message: str) -> str:
        return f"A piece with {message.removeprefix('describe: ')}."

    with ChatDouble(answer=answer) as server:
        _, first = ask(folder, server.url, wording=wording_file(folder, "You describe music."))
        ask(folder, server.url, wording=wording_file(folder, "You describe music."))
        assert len(server.log) == 3
        _, second = ask(folder, server.url, wording=wording_file(folder, "You describe songs."))
        assert len(server.log) == 6
        assert server.bodies[-1]["messages"][0] == {"role": "system", "content": "You describe songs."}
    assert first[0].wording == "mine"
    assert first[0].wording_version != second[0].wording_version


def test_a_larger_answer_limit_asks_again_only_what_was_cut_off(folder: Path) -> None:
    many(folder, 4)

    def faults(number: int, message: str) -> object:
        if "tag 2" not in message:
            return None
        choice = {"index": 0, "finish_reason": "length", "message": {"role": "assistant", "content": "A piece with"}}
        return 200, {}, {"model": "m", "choices": [choice], "usage": {"prompt_tokens": 9, "completion_tokens": 20}}

    with ChatDouble(faults) as server:
        first, _ = ask(folder, server.url, token_limit=20)
    assert first.outcomes == {"ok": 3, "rejected": 1}
    with ChatDouble() as server:
        second, rows = ask(folder, server.url, token_limit=200)
        assert [tags_of(message) for message in server.log] == ["rock, tag 2"]
    assert second.outcomes == {"ok": 4}
    assert all(row.caption and row.request_key for row in rows)


def test_refused_requests_are_sent_again_only_on_demand(folder: Path) -> None:
    many(folder, 2)
    with ChatDouble(lambda number, message: (422, {}, {"error": {"message": "no"}})) as server:
        ask(folder, server.url)
    with ChatDouble() as server:
        backend = ChatBackend("double", base_url=server.url, api_key="k")
        plan = make_plan(backend, ("writing",))
        places = (folder / "tracks.parquet", folder / "captions.parquet", folder / "store.sqlite")
        assert caption_tracks(*places, backend, plan).outcomes == {"api_failed": 2}
        assert server.log == []
        backend = ChatBackend("double", base_url=server.url, api_key="k")
        assert caption_tracks(*places, backend, plan, retry_refused=True).outcomes == {"ok": 2}


# --- faults ---------------------------------------------------------------------------------------------------------


def test_one_refusal_in_fifty_is_sent_once_and_the_others_are_kept(folder: Path) -> None:
    many(folder, 50)
    refusal = (400, {}, {"error": {"message": "content filter"}})
    with ChatDouble(lambda number, message: refusal if message.endswith("tag 17") else None) as server:
        summary, _ = ask(folder, server.url)
        sent = Counter(server.log)
    assert summary.outcomes == {"ok": 49, "api_failed": 1}
    assert set(sent.values()) == {1}


def test_the_second_try_sends_the_same_bytes(folder: Path) -> None:
    many(folder, 1)
    with ChatDouble(lambda number, message: BOOM if number < 2 else None) as server:
        summary, _ = ask(folder, server.url, temperature=0.3, top_p=0.9)
        assert len(server.bodies) == 3
        assert server.bodies[0] == server.bodies[1] == server.bodies[2]
    assert summary.outcomes == {"ok": 1}


def test_nothing_is_lost_while_a_server_is_down_and_the_run_goes_on_when_it_is_back(folder: Path) -> None:
    many(folder, 30)
    first = ChatDouble(lambda number, message: 0.05)
    with first:
        port = first.port
        result: list[CaptioningSummary] = []
        run = threading.Thread(target=lambda: result.append(ask(folder, first.url, concurrency=3)[0]))
        run.start()
        while len(first.log) < 9:
            time.sleep(0.01)
    time.sleep(1.5)  # long enough that six tries of every request would be used up
    with ChatDouble(port=port) as second:
        run.join(60)
    assert result[0].outcomes == {"ok": 30}
    assert Counter([*first.log, *second.log]).most_common(1)[0][1] <= 2  # only what the cut connections lost


def test_a_server_that_stays_away_ends_the_run_after_the_patience_with_every_answer_kept(folder: Path) -> None:
    many(folder, 20)
    down = threading.Event()

    def faults(number: int, message: str) -> object:
        if number >= 5:
            down.set()
        return (503, {}, {"error": {"message": "no server"}}) if down.is_set() else None

    with ChatDouble(faults) as server:
        started = time.monotonic()
        with pytest.raises(EndpointError, match="no answer for"):
            ask(folder, server.url, concurrency=2, limits=RunLimits(patience_s=1.5))
        assert 1.5 <= time.monotonic() - started < 30
        assert len(server.log) < 60
    with AnswerStore(folder / "store.sqlite") as store:
        assert store.totals().answers == 5


def test_a_429_of_one_request_makes_all_of_them_wait(folder: Path) -> None:
    many(folder, 12)
    times: list[float] = []

    def faults(number: int, message: str) -> object:
        times.append(time.monotonic())
        return (429, {"retry-after": "1"}, {"error": {"message": "slow down"}}) if number == 3 else None

    with ChatDouble(faults) as server:
        summary, _ = ask(folder, server.url, concurrency=1)
    assert summary.outcomes == {"ok": 12}
    assert times[4] - times[3] >= 1.0


def test_a_server_that_says_429_and_then_nonsense_ends_the_run_early_also_when_all_rows_fit_in_memory(
    folder: Path,
) -> None:
    many(folder, 200)
    slow = (429, {"retry-after": "0.1"}, {"error": {"message": "slow down"}})
    with ChatDouble(lambda number, message: "garbage" if number else slow) as server:
        with pytest.raises(EndpointError, match="requests failed without one answer"):
            ask(folder, server.url, concurrency=512)
        assert len(server.log) < engine.HEALTH_WINDOW * engine.MAX_TRIES  # of 1,200; with the real back-off about 60


def test_requests_a_minute_are_kept_to(folder: Path) -> None:
    many(folder, 30)
    times: list[float] = []

    def faults(number: int, message: str) -> None:
        times.append(time.monotonic())

    with ChatDouble(faults) as server:
        ask(folder, server.url, limits=RunLimits(requests_per_minute=600))
    assert times[-1] - times[0] >= 0.5  # two seconds' worth at once, the other ten at ten a second


# --- money ----------------------------------------------------------------------------------------------------------


def test_the_number_of_requests_is_kept_to_over_all_runs(folder: Path) -> None:
    many(folder, 40)
    budget = RunLimits(BudgetLimits(max_requests=25))
    with ChatDouble(lambda number, message: BOOM if number == 3 else 0.01) as server:
        with pytest.raises(BudgetReachedError, match="--max-requests is used up"):
            ask(folder, server.url, limits=budget)
        assert len(server.log) == 25
        with pytest.raises(BudgetReachedError):
            ask(folder, server.url, limits=budget)
        assert len(server.log) == 25
        summary, _ = ask(folder, server.url, limits=RunLimits(BudgetLimits(max_requests=41)))
        assert len(server.log) == 41
    assert summary.outcomes == {"ok": 40}


PRICE = Price("double", Decimal("1000"), Decimal("2000"), as_of=date(2026, 1, 1), source="the test")


def test_dollars_are_never_exceeded_with_many_requests_under_way(folder: Path) -> None:
    many(folder, 400)
    # Every answer is charged 10 tokens in and 5 out: 2 cents. At most 300 of them fit.
    with ChatDouble(lambda number, message: 0.01) as server:
        limits = RunLimits(BudgetLimits(max_usd=Decimal("6")), PRICE)
        with pytest.raises(BudgetReachedError, match="--max-usd is used up"):
            ask(folder, server.url, limits=limits, concurrency=100, token_limit=64)
        sent = len(server.log)
    with AnswerStore(folder / "store.sqlite") as store:
        spend = store.spend()
    assert spend.cost == sent * 20_000_000_000
    assert spend.cost <= 6 * 10**12
    assert sent > 250  # and it is used: the worst case is set aside only while a request is under way


def test_an_answer_that_is_rejected_is_paid_for_all_the_same(folder: Path) -> None:
    many(folder, 2)
    lies = iter(f"A trumpet, a tuba and {number} flutes." for number in range(100))
    with ChatDouble(answer=lambda message: next(lies)) as server:
        summary, _ = ask(folder, server.url, limits=RunLimits(BudgetLimits(max_usd=Decimal(10)), PRICE))
        assert len(server.log) == 6
    assert summary.outcomes == {"rejected": 2}
    assert summary.cost_usd == "0.120000"


# --- answers --------------------------------------------------------------------------------------------------------


def test_of_several_candidates_the_most_faithful_is_kept_and_all_are_stored(folder: Path) -> None:
    write_tracks([TaggedTrack("a", ("rock", "flute", "slow"))], folder / "tracks.parquet")
    said = iter(
        [
            "A slow rock piece with a trumpet and a flute.",
            "Some rock music.",
            "A slow rock piece with a flute.",
            "Rock.",
        ]
    )
    with ChatDouble(answer=lambda message: next(said)) as server:
        summary, rows = ask(folder, server.url, candidates=4, temperature=0.8)
        assert [body.get("seed") for body in server.bodies] == [None, 1, 2, 3]
    assert rows[0].caption == "A slow rock piece with a flute."
    assert (rows[0].attempts, rows[0].seed, rows[0].tag_coverage) == (4, 2, 1.0)
    assert summary.outcomes == {"ok": 1}
    with AnswerStore(folder / "store.sqlite") as store:
        assert store.totals().answers == 4


def test_more_candidates_later_buy_only_the_difference(folder: Path) -> None:
    many(folder, 3)
    numbers = iter(range(1000))
    with ChatDouble(answer=lambda message: f"{good_answer(message)} Take {next(numbers)}.") as server:
        ask(folder, server.url, candidates=2, temperature=0.8)
        ask(folder, server.url, candidates=4, temperature=0.8)
        assert len(server.log) == 12


def test_tracks_with_equal_tags_get_answers_of_their_own_or_share_one(folder: Path) -> None:
    write_tracks((TaggedTrack(f"t{n}", ("rock", "slow")) for n in range(10)), folder / "tracks.parquet")
    with ChatDouble(lambda number, message: 0.02) as server:
        ask(folder, server.url)
        assert len(server.log) == 10
        summary, rows = ask(folder, server.url, share_identical=True)
        assert len(server.log) == 11
    assert summary.outcomes == {"ok": 10}
    assert {row.caption for row in rows} == {"This is a piece with rock, slow."}
    assert [row.track_id for row in rows] == [f"t{n}" for n in range(10)]


def test_what_an_endpoint_takes_as_structured_answer_is_remembered_for_the_next_run(folder: Path) -> None:
    many(folder, 3)
    refusal = (400, {}, {"error": {"message": "response_format is not supported", "param": "response_format"}})

    def faults(number: int, message: str) -> object:
        return refusal if "response_format" in server.bodies[number] else None

    def answer(message: str) -> str:
        return json.dumps({"new_attribute": ["pleasant"], "description": f"A pleasant piece: {tags_of(message)}."})

    with ChatDouble(faults, answer=answer) as server:
        ask(folder, server.url, ("attribute_prediction",), wording="grounded", concurrency=1)
        refused = sum("response_format" in body for body in server.bodies)
        assert 1 <= refused <= 2
        many(folder, 5)
        ask(folder, server.url, ("attribute_prediction",), wording="grounded", concurrency=1)
        assert sum("response_format" in body for body in server.bodies) == refused


# --- several servers ------------------------------------------------------------------------------------------------


@contextmanager
def three_servers(latency: float = 0.02) -> Iterator[list[ChatDouble]]:
    with (
        ChatDouble(lambda number, message: latency) as one,
        ChatDouble(lambda number, message: latency) as two,
        ChatDouble(lambda number, message: latency) as three,
    ):
        yield [one, two, three]


def test_several_servers_share_the_work_and_their_number_changes_no_key(folder: Path) -> None:
    many(folder, 60)
    with three_servers() as servers:
        summary, _ = ask(folder, [server.url for server in servers], concurrency=9)
        shares = [len(server.log) for server in servers]
        assert sum(shares) == 60
        assert min(shares) >= 5
        again, _ = ask(folder, servers[0].url)
        assert sum(len(server.log) for server in servers) == 60
    assert summary.outcomes == again.outcomes == {"ok": 60}


def test_the_run_goes_on_while_one_server_lives(folder: Path) -> None:
    many(folder, 40)
    with three_servers() as servers:
        dead = ChatDouble()
        dead._server.server_close()
        summary, _ = ask(folder, [dead.url, *(server.url for server in servers[:2])], concurrency=6)
    assert summary.outcomes == {"ok": 40}


# --- memory ---------------------------------------------------------------------------------------------------------


def test_jobs_are_drawn_as_they_are_needed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    many(folder, 300)
    most = 0
    original = engine.Engine._next_active

    async def counted(self: Any) -> Any:
        nonlocal most
        most = max(most, len(self._by_key))
        return await original(self)

    monkeypatch.setattr(engine.Engine, "_next_active", counted)
    with ChatDouble(lambda number, message: BOOM if number % 3 == 0 else 0.005) as server:
        ask(folder, server.url, concurrency=4)
    assert most < engine.ALIVE_PER_REQUEST * 4 + 1
