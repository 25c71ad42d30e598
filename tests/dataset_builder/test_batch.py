"""Batch files through real HTTP: no answer at the wrong request, nothing bought twice, nothing lost."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from batch_double import BatchDouble, answer_to

from dataset_builder.captioning import batch, batch_endpoint
from dataset_builder.captioning.batch import BatchOutcome, BatchRunner
from dataset_builder.captioning.batch_files import BatchFile, read_batch_file, requests_of, write_batch_files
from dataset_builder.captioning.batch_ledger import has_unfinished
from dataset_builder.captioning.batch_results import ResultReport, keep_offline_results, read_batch_results
from dataset_builder.captioning.requests import Answer, CaptionRequest, Fault, Sampling
from dataset_builder.captioning.store import AnswerStore, Reservation
from dataset_builder.instructions import Message, Prompt
from lpmc_errors import EndpointError, Interrupted, TableError, UsageError

INTERVAL_S = 0.005
KEY = "sk-test-0123456789"


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_endpoint, "CALL_BACKOFF_FIRST_S", 0.005)
    monkeypatch.setattr(batch_endpoint, "LIST_PAUSE_S", 0.005)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[AnswerStore]:
    with AnswerStore(tmp_path / "store.sqlite") as opened, opened.sole_writer():
        yield opened


def request(number: int, model: str = "double", content: str | None = None, schema: str = "") -> CaptionRequest:
    messages = (Message("system", "be short"), Message("user", content or f"tags of row {number}\u2028\u00e9"))
    prompt = Prompt(messages, "released", "1", schema=schema)
    return CaptionRequest("127.0.0.1", model, prompt, Sampling(64, 0.7), f"track-{number}")


def body(asked: CaptionRequest) -> dict[str, Any]:
    messages = [{"role": message.role, "content": message.content} for message in asked.prompt.messages]
    return {"model": asked.model, "messages": messages, "max_tokens": asked.sampling.max_tokens}


def tiny_body(asked: CaptionRequest) -> dict[str, Any]:
    return {"model": asked.model}


def write(folder: Path, numbers: range, **limits: int) -> list[BatchFile]:
    return write_batch_files(map(request, numbers), folder / "batches", body=body, **limits)


def runner(double: BatchDouble, store: AnswerStore, **options: Any) -> BatchRunner:
    client = openai.AsyncOpenAI(api_key=KEY, base_url=double.url, max_retries=2)
    return BatchRunner(client, store, "127.0.0.1", **({"interval": INTERVAL_S} | options))


def run(
    double: BatchDouble, store: AnswerStore, files: list[BatchFile] | None = None, **options: Any
) -> list[BatchOutcome]:
    async def go() -> list[BatchOutcome]:
        work = runner(double, store, **options)
        await work.resume()
        await work.submit(files or [])
        return await work.poll()

    return asyncio.run(go())


def answered(store: AnswerStore, numbers: range) -> list[int]:
    """The rows that have an answer; each must be the answer to its own prompt."""
    found = []
    for number in numbers:
        answer = store.answer(request(number).key)
        if answer is not None:
            assert answer.text == answer_to({"body": body(request(number))})
            found.append(number)
    return found


def fault_kinds(store: AnswerStore, numbers: range) -> Counter[str]:
    return Counter(fault.kind for number in numbers for fault in store.faults(request(number).key))


# --- files -----------------------------------------------------------------------------------------------------------


def test_a_line_is_what_the_batch_api_and_vllm_run_batch_read(tmp_path: Path) -> None:
    (file,) = write(tmp_path, range(3))
    raw = file.path.read_bytes()
    assert raw.isascii()  # tags may hold characters that some readers take for the end of a line
    lines = [json.loads(line) for line in raw.splitlines()]
    assert lines == [
        {"custom_id": request(n).key, "method": "POST", "url": "/v1/chat/completions", "body": body(request(n))}
        for n in range(3)
    ]
    assert (file.requests, file.bytes, file.model) == (3, len(raw), "double")
    assert file.command == f"vllm run-batch -i {file.path} -o {file.output_path} --model double"
    assert file.output_path != file.path
    assert read_batch_file(file.path) == file


def test_120001_requests_make_3_files(tmp_path: Path) -> None:
    files = write_batch_files(map(request, range(120_001)), tmp_path, body=tiny_body)
    assert [file.requests for file in files] == [50_000, 50_000, 20_001]
    keys = {json.loads(line)["custom_id"] for file in files for line in file.path.open()}
    assert len(keys) == 120_001


def test_files_are_split_before_they_exceed_the_size_limit(tmp_path: Path) -> None:
    (whole,) = write(tmp_path / "whole", range(40))
    line = max(map(len, whole.path.read_bytes().splitlines(keepends=True)))
    files = write(tmp_path / "split", range(40), max_bytes=10 * line)
    assert len(files) >= 4
    assert all(file.bytes == file.path.stat().st_size <= 10 * line for file in files)
    assert all(file.bytes > 8 * line for file in files[:-1])
    assert b"".join(file.path.read_bytes() for file in files) == whole.path.read_bytes()


def test_a_file_holds_one_model(tmp_path: Path) -> None:
    mixed = [request(n, f"model-{n % 2}") for n in range(10)]
    files = write_batch_files(iter(mixed), tmp_path, body=body, max_requests=3)
    assert Counter((file.model, file.requests) for file in files) == {
        ("model-0", 3): 1,
        ("model-0", 2): 1,
        ("model-1", 3): 1,
        ("model-1", 2): 1,
    }
    for file in files:
        assert {json.loads(line)["body"]["model"] for line in file.path.open()} == {file.model}


def test_a_request_that_occurs_twice_is_written_once(tmp_path: Path) -> None:
    files = write_batch_files([request(n % 5) for n in range(20)], tmp_path, body=body, max_requests=2)
    assert [file.requests for file in files] == [2, 2, 1]


def test_the_requests_of_a_file_come_back_with_their_keys(tmp_path: Path) -> None:
    schema = '{"type":"object"}'
    asked = [request(0), request(1, content='quotes " and \\ and\nlines', schema=schema)]
    (file,) = write_batch_files(asked, tmp_path, body=body)
    back = list(requests_of(file))
    assert [one.canonical for one in back] == [one.canonical for one in asked]
    assert [one.key for one in back] == [one.key for one in asked]


def test_requests_of_another_version_are_not_taken_for_ours(tmp_path: Path) -> None:
    (file,) = write(tmp_path, range(2))
    text = file.requests_path.read_text()
    file.requests_path.write_text(text.replace('"key_version":', '"key_version":9'))
    with pytest.raises(TableError, match="another version"):
        list(requests_of(file))
    file.requests_path.unlink()
    with pytest.raises(TableError, match="cannot be read"):
        list(requests_of(file))


def test_nothing_remains_of_a_pass_that_breaks_off(tmp_path: Path) -> None:
    def broken() -> Iterator[CaptionRequest]:
        yield from map(request, range(5))
        raise RuntimeError("the tracks table is damaged")

    with pytest.raises(RuntimeError):
        write_batch_files(broken(), tmp_path / "batches", body=body, max_requests=2)
    assert list((tmp_path / "batches").iterdir()) == []


def test_a_request_larger_than_a_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"takes .* bytes in a batch file that may have 100"):
        write(tmp_path, range(1), max_bytes=100)


# --- results ---------------------------------------------------------------------------------------------------------


def line(number: int, **parts: Any) -> str:
    return json.dumps({"id": "x", "custom_id": request(number).key, "response": None, "error": None} | parts)


def completion(text: Any, reason: str = "stop", **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "finish_reason": reason, "message": {"role": "assistant", "content": text, **more}}
    usage = {"prompt_tokens": 7, "completion_tokens": 3}
    return {"status_code": 200, "body": {"model": "m-1", "choices": [choice], "usage": usage}}


def failure(status: int, code: str | None = None, message: str = "words") -> dict[str, Any]:
    return {"status_code": status, "body": {"error": {"message": message, "code": code, "type": "some_error"}}}


@pytest.mark.parametrize(
    ("parts", "kind"),
    [
        ({"response": failure(400)}, "refused"),
        ({"response": failure(422)}, "refused"),
        ({"response": failure(429, "rate_limit_exceeded")}, "rate_limited"),
        ({"response": failure(429, "insufficient_quota")}, "fatal"),
        ({"response": failure(401)}, "fatal"),
        ({"response": failure(404, "model_not_found")}, "fatal"),
        ({"response": failure(500)}, "transient"),
        ({"response": failure(503)}, "unavailable"),
        ({"error": {"code": "batch_expired", "message": "late"}}, "transient"),
        ({"error": {"code": "batch_cancelled", "message": "stopped"}}, "transient"),
        ({"error": {"code": "insufficient_quota", "message": "empty"}}, "fatal"),
        ({"error": {"code": "rate_limit_exceeded", "message": "slow"}}, "rate_limited"),
        ({}, "transient"),
        ({"response": {"status_code": 200, "body": None}}, "transient"),
        ({"response": {"status_code": 200, "body": {"choices": []}}}, "transient"),
        ({"response": completion("text", "content_filter")}, "refused"),
        ({"response": completion(None, "stop", refusal="I can't")}, "refused"),
        ({"response": completion(None, "tool_calls", tool_calls=[{}])}, "refused"),
        # vllm run-batch: an error of its own beside a response without a body
        ({"response": {"status_code": 400, "body": None}, "error": {"error": {"message": "too long"}}}, "refused"),
        ({"response": {"status_code": 400, "body": None}, "error": "EngineDeadError"}, "transient"),
    ],
)
def test_a_failed_line_is_a_fault_of_its_kind(parts: dict[str, Any], kind: str) -> None:
    ((key, fault),) = read_batch_results([line(1, **parts)])
    assert key == request(1).key
    assert isinstance(fault, Fault)
    assert fault.kind == kind


def test_an_answer_has_its_text_model_reason_and_tokens() -> None:
    rows = [line(1, response=completion("", "length")), line(2, response=completion("two")).encode()]
    assert dict(read_batch_results(rows)) == {
        request(1).key: Answer("", "m-1", "length", 7, 3),
        request(2).key: Answer("two", "m-1", "stop", 7, 3),
    }


def test_unusable_lines_are_counted_with_a_reason_and_stop_nothing() -> None:
    report = ResultReport()
    rows = [
        *("", "{cut", "[]", "7", '{"custom_id": ["a"]}', '{"no": "id"}', b"\xff\xfe", "[" * 100_000),
        *(line(9), line(1, response=completion("first")), line(1, response=completion("second")), line(2)),
        line(2, response=completion("late")),
    ]
    wanted = {request(1).key, request(2).key}.__contains__
    results = list(read_batch_results(rows, wanted=wanted, report=report))
    texts = [result.text for _, result in results if isinstance(result, Answer)]
    assert texts == ["first", "late"]  # an answer that follows a fault is not thrown away
    assert report.problems == {"broken line": 6, "unknown id": 2, "repeated id": 2}
    assert report.examples["broken line"] == "{cut"
    assert report.answers == 2


def test_a_key_in_an_error_text_is_not_kept() -> None:
    ((_, fault),) = read_batch_results([line(1, response=failure(401, message=f"bad key {KEY}"))])
    assert isinstance(fault, Fault)
    assert KEY not in fault.message


def test_what_vllm_run_batch_wrote_goes_into_the_store_once(tmp_path: Path, store: AnswerStore) -> None:
    (file,) = write(tmp_path, range(4))
    rows = [line(n, response=completion(f"row {n}")) for n in (2, 0)]
    rows.append(line(1, response={"status_code": 400, "body": None}, error="CUDA error"))
    rows.append(line(8, response=completion("of another file")))
    store.begin([request(2)])  # under way elsewhere: its one attempt is closed
    file.output_path.write_text("\n".join(rows))
    report = keep_offline_results(store, file, [file.output_path])
    assert (report.answers, report.faults, report.problems) == (2, {"transient": 1}, {"unknown id": 1})
    texts = {n: answer.text for n in range(4) if (answer := store.answer(request(n).key))}
    assert texts == {0: "row 0", 2: "row 2"}
    assert (store.totals().open, store.totals().sent) == (0, 3)
    before = store.totals().answers
    keep_offline_results(store, file, [file.output_path])
    assert store.totals().answers == before


# --- the batch api ---------------------------------------------------------------------------------------------------


def test_answers_reach_their_requests_and_the_files_are_removed(tmp_path: Path, store: AnswerStore) -> None:
    with BatchDouble(looks=2) as double:
        seen: list[batch.BatchProgress] = []
        files = write(tmp_path, range(20), max_requests=8)
        outcomes = run(double, store, files, on_progress=seen.append)
    assert answered(store, range(20)) == list(range(20))
    assert [(outcome.status, outcome.answers) for outcome in outcomes] == [("completed", 8)] * 2 + [("completed", 4)]
    assert set(double.submitted.values()) == {1}
    assert store.totals().open == 0
    assert {record.status for record in store.batches()} == {"completed"}
    assert list((tmp_path / "batches").iterdir()) == []
    assert store.setting("batch-intents:127.0.0.1") == "{}"
    assert seen[-1] == batch.BatchProgress((), 0, 20, 0)
    assert any(state.status == "in_progress" for progress in seen for state in progress.under_way)
    first = store.answer(request(0).key)
    assert first is not None
    assert (first.model, first.prompt_tokens, first.completion_tokens) == ("double-answered", 10, 5)


def test_half_an_expired_batch_is_kept_and_the_rest_is_asked_again_alone(tmp_path: Path, store: AnswerStore) -> None:
    with BatchDouble({0: "expired"}) as double:
        outcomes = run(double, store, write(tmp_path, range(12), max_requests=6))
        assert [outcome.status for outcome in outcomes] == ["expired", "completed"]
        assert outcomes[0].answers == 3
        assert answered(store, range(12)) == [0, 1, 2, 6, 7, 8, 9, 10, 11]
        assert fault_kinds(store, range(12)) == {"transient": 3}
        assert store.totals().open == 0
        run(double, store, write(tmp_path, range(3, 6)))
    assert answered(store, range(12)) == list(range(12))
    assert Counter(double.submitted.values()) == {1: 9, 2: 3}


def test_the_requests_that_a_cancelled_batch_does_not_name_are_open_no_more(tmp_path: Path, store: AnswerStore) -> None:
    with BatchDouble({0: "cancelled"}) as double:
        (outcome,) = run(double, store, write(tmp_path, range(6)))
    assert (outcome.status, outcome.answers, outcome.faults) == ("cancelled", 3, {"transient": 3})
    assert answered(store, range(6)) == [0, 1, 2]
    assert store.totals().open == 0


def test_a_batch_without_an_output_file_is_read_from_its_error_file(tmp_path: Path, store: AnswerStore) -> None:
    with BatchDouble({0: "no output"}) as double:
        (outcome,) = run(double, store, write(tmp_path, range(5)))
    assert (outcome.status, outcome.answers, outcome.faults) == ("completed", 0, {"refused": 5})
    assert "max_tokens is too large" in store.faults(request(0).key)[0].message


def test_every_kind_of_line_is_settled(tmp_path: Path, store: AnswerStore) -> None:
    with BatchDouble({0: "mixed"}) as double:
        (outcome,) = run(double, store, write(tmp_path, range(10)))
    assert outcome.answers == 4
    assert outcome.faults == {"refused": 2, "rate_limited": 1, "unavailable": 1, "transient": 2}
    cut_off = store.answer(request(0).key)
    assert cut_off is not None
    assert cut_off.finish_reason == "length"
    assert store.totals().open == 0


def test_strange_lines_are_reported_and_spoil_nothing(tmp_path: Path, store: AnswerStore) -> None:
    with BatchDouble({0: "strange"}) as double:
        (outcome,) = run(double, store, write(tmp_path, range(6)))
    assert answered(store, range(6)) == list(range(6))
    assert outcome.problems == {"unknown id": 2, "repeated id": 2, "broken line": 1}
    assert "unknown id, e.g." in outcome.message


def test_results_that_come_short_are_fetched_again_before_they_count_as_missing(
    tmp_path: Path, store: AnswerStore
) -> None:
    seen: list[batch.BatchProgress] = []
    with BatchDouble({0: "short"}) as double:
        (outcome,) = run(double, store, write(tmp_path, range(6)), on_progress=seen.append)
    fetched = sum(path.endswith("/content") for _, path in double.calls)
    assert fetched == 1 + batch.DOWNLOAD_TRIES
    assert (outcome.answers, outcome.faults) == (5, {"transient": 1})
    assert (seen[-1].answers, seen[-1].faults) == (5, 1)
    assert store.totals().open == 0


@pytest.mark.parametrize("how", ["cut", "torn"])
def test_a_download_that_is_cut_settles_nothing_as_missing(tmp_path: Path, store: AnswerStore, how: str) -> None:
    cuts: list[int] = []

    def cut_once(method: str, path: str, number: int) -> str | None:
        if path.endswith("/content") and not cuts:
            cuts.append(number)
            return how
        return None

    with BatchDouble(faults=cut_once) as double:
        (outcome,) = run(double, store, write(tmp_path, range(6)))
    assert cuts
    assert (outcome.answers, outcome.faults, outcome.problems) == (6, {}, {})


def test_looks_that_fail_are_repeated(tmp_path: Path, store: AnswerStore) -> None:
    looked: list[int] = []

    def broken(method: str, path: str, number: int) -> int | None:
        if path.startswith("/batches/"):
            looked.append(number)
            return {1: 500, 2: 502, 3: 429}.get(len(looked))
        return None

    with BatchDouble(faults=broken) as double:
        (outcome,) = run(double, store, write(tmp_path, range(4)))
    assert outcome.answers == 4
    assert len(looked) >= 5


def test_an_endpoint_that_stays_away_stops_the_run_and_loses_nothing(
    tmp_path: Path, store: AnswerStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "PATIENCE_S", 0.05)
    files = write(tmp_path, range(4))
    with BatchDouble() as double:
        double.faults = lambda method, path, number: 503 if path.startswith("/batches/") else None
        with pytest.raises(EndpointError, match="no look at a batch succeeded"):
            run(double, store, files)
        assert store.totals().open == 4
        double.faults = lambda method, path, number: None
        run(double, store)
    assert answered(store, range(4)) == list(range(4))
    assert set(double.submitted.values()) == {1}


def test_a_refused_key_stops_the_run_and_is_not_shown(tmp_path: Path, store: AnswerStore) -> None:
    with BatchDouble(faults=lambda method, path, number: 401) as double:
        with pytest.raises(EndpointError, match="HTTP 401") as raised:
            run(double, store, write(tmp_path, range(2)))
        assert len(double.calls) == 1
    assert KEY not in str(raised.value)


def test_a_batch_that_this_key_does_not_see_is_not_bought_again_silently(tmp_path: Path, store: AnswerStore) -> None:
    with BatchDouble({0: "gone"}) as double:
        (outcome,) = run(double, store, write(tmp_path, range(3)), reservation=lambda asked: Reservation(9, 70))
        assert outcome.status == "missing"
        assert "3 requests wait for it" in outcome.message
        assert all(store.is_open(request(n).key) for n in range(3))
        (again,) = run(double, store)  # a later run looks again, in case the key was the wrong one
        assert again.status == "missing"
        double.batches["batch_0"]["ending"] = "completed"
        (found,) = run(double, store)
    assert (found.status, found.answers) == ("completed", 3)
    assert answered(store, range(3)) == [0, 1, 2]


def test_a_batch_that_is_given_up_counts_as_spent_and_may_be_sent_again(tmp_path: Path, store: AnswerStore) -> None:
    with BatchDouble({0: "gone"}) as double:
        reserve: Callable[[CaptionRequest], Reservation] = lambda asked: Reservation(9, 70)  # noqa: E731
        run(double, store, write(tmp_path, range(3)), reservation=reserve)
        assert runner(double, store, reservation=reserve).abandon("batch_0") == 3
        assert fault_kinds(store, range(3)) == {"lost": 3}
        assert store.spend().cost == 3 * 70
        assert run(double, store) == []
        (outcome,) = run(double, store, write(tmp_path, range(3)), reservation=reserve)
    assert outcome.answers == 3


def test_answers_that_the_provider_has_deleted_leave_the_batch_missing(tmp_path: Path, store: AnswerStore) -> None:
    with BatchDouble({0: "emptied"}) as double:
        (outcome,) = run(double, store, write(tmp_path, range(3)))
    assert outcome.status == "missing"
    assert "its results are gone" in outcome.message
    assert store.totals().open == 3


def test_a_batch_that_fails_its_validation_leaves_its_requests_to_the_online_engine(
    tmp_path: Path, store: AnswerStore
) -> None:
    with BatchDouble({0: "invalid"}) as double:
        (outcome,) = run(double, store, write(tmp_path, range(3)))
    assert (outcome.status, outcome.answers) == ("failed", 0)
    assert "model_not_supported" in outcome.message
    assert fault_kinds(store, range(3)) == {"transient": 3}
    assert len(double.batches) == 1


def test_files_wait_while_the_queue_is_full(tmp_path: Path, store: AnswerStore) -> None:
    with BatchDouble(looks=3, room=2) as double:
        outcomes = run(double, store, write(tmp_path, range(12), max_requests=2))
        assert double.most_under_way == 2
        assert len(double.batches) == 6 + 4  # four met a full queue, and each was tried again when there was room
        assert sum(path == "/files" for _, path in double.calls) == 6  # a held file is not uploaded again
    assert Counter(outcome.status for outcome in outcomes) == {"completed": 6}
    assert answered(store, range(12)) == list(range(12))
    assert set(double.submitted.values()) == {1}
    assert store.totals().open == 0
    assert list((tmp_path / "batches").iterdir()) == []


def test_a_file_that_never_finds_room_is_given_back_unbought(
    tmp_path: Path, store: AnswerStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "FULL_TRIES", 3)
    with BatchDouble(room=0) as double:
        outcomes = run(double, store, write(tmp_path, range(4), max_requests=2))
    assert [outcome.status for outcome in outcomes] == ["held"]
    assert "2 batch files were not taken" in outcomes[0].message
    assert len(double.batches) == 2 + 2  # both files, then one of them alone until it was tried three times
    assert double.submitted == {}
    assert store.totals().open == 0


def test_a_creation_that_is_rate_limited_waits(tmp_path: Path, store: AnswerStore) -> None:
    tried: list[int] = []

    def busy(method: str, path: str, number: int) -> int | None:
        if (method, path) == ("POST", "/batches"):
            tried.append(number)
            return 429 if len(tried) < 3 else None
        return None

    with BatchDouble(faults=busy) as double:
        (outcome,) = run(double, store, write(tmp_path, range(3)))
    assert outcome.answers == 3
    assert len(tried) == 3


def test_the_whole_file_is_reserved_before_it_leaves(tmp_path: Path, store: AnswerStore) -> None:
    asked: list[tuple[int, Reservation]] = []

    def admit(file: BatchFile, reservation: Reservation) -> None:
        asked.append((file.requests, reservation))
        if len(asked) == 2:
            raise UsageError("--max-usd", "is used up")

    with BatchDouble() as double:
        options = {"reservation": lambda one: Reservation(100, 7), "admit": admit}
        with pytest.raises(UsageError):
            run(double, store, write(tmp_path, range(8), max_requests=5), **options)
        assert asked == [(5, Reservation(500, 35)), (3, Reservation(300, 21))]
        assert sum(path == "/files" for _, path in double.calls) == 1
        assert (store.spend().tokens, store.spend().cost) == (500, 35)
        run(double, store, price=lambda result: 2)
    assert (store.spend().tokens, store.spend().cost) == (5 * 15, 5 * 2)


def test_what_is_under_way_is_read_after_the_budget_refused_a_file(tmp_path: Path, store: AnswerStore) -> None:
    def admit(file: BatchFile, reservation: Reservation) -> None:
        if store.batches():
            raise UsageError("--max-usd", "is used up")

    async def go(double: BatchDouble) -> list[BatchOutcome]:
        work = runner(double, store, admit=admit)
        with pytest.raises(UsageError):
            await work.submit(write(tmp_path, range(6), max_requests=2))
        return await work.poll()

    with BatchDouble() as double:
        (outcome,) = asyncio.run(go(double))
    assert outcome.answers == 2
    assert list((tmp_path / "batches").iterdir()) == []


def test_a_fatal_line_stops_the_run_after_the_rest_was_kept(
    tmp_path: Path, store: AnswerStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    with BatchDouble(looks=0) as double:
        files = write(tmp_path, range(3))
        asyncio.run(runner(double, store).submit(files))
        double.look("batch_0")
        output = double.batches["batch_0"]["output_file_id"]
        lines = double.files[output].split(b"\n")
        lost = json.loads(lines[1])["custom_id"]
        lines[1] = json.dumps({"custom_id": lost, "response": failure(429, "insufficient_quota")}).encode()
        double.files[output] = b"\n".join(lines)
        with pytest.raises(EndpointError, match="HTTP 429"):
            run(double, store)
    assert len(answered(store, range(3))) == 2
    assert store.totals().open == 0


def test_an_endpoint_without_batches_is_named_with_the_way_out(store: AnswerStore) -> None:
    with BatchDouble() as double:
        asyncio.run(runner(double, store).probe())
    with BatchDouble(has_batches=False) as double:
        with pytest.raises(EndpointError, match=r"has no /files.*vllm run-batch"):
            asyncio.run(runner(double, store).probe())
        assert len(double.calls) == 1


# --- ended and taken up again ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("keeps_metadata", [True, False])
def test_a_creation_whose_answer_was_lost_is_not_repeated(
    tmp_path: Path, store: AnswerStore, keeps_metadata: bool
) -> None:
    def cut(method: str, path: str, number: int) -> str | None:
        return "cut" if (method, path) == ("POST", "/batches") else None

    with BatchDouble(faults=cut, keeps_metadata=keeps_metadata) as double:
        outcomes = run(double, store, write(tmp_path, range(6), max_requests=2))
    assert Counter(outcome.status for outcome in outcomes) == {"completed": 3}
    assert len(double.batches) == 3
    assert answered(store, range(6)) == list(range(6))


def test_a_creation_that_was_not_heard_is_repeated(tmp_path: Path, store: AnswerStore) -> None:
    tried: list[int] = []

    def deaf(method: str, path: str, number: int) -> int | None:
        if (method, path) == ("POST", "/batches"):
            tried.append(number)
            return 500 if len(tried) == 1 else None
        return None

    with BatchDouble(faults=deaf) as double:
        run(double, store, write(tmp_path, range(2)))
    assert (len(tried), len(double.batches)) == (2, 1)


RUNNER = """
import asyncio, sys
from pathlib import Path
import openai
sys.path[:0] = {paths!r}
from test_batch import write
from dataset_builder.captioning import batch_endpoint
from dataset_builder.captioning.batch import BatchRunner
from dataset_builder.captioning.store import AnswerStore

batch_endpoint.LIST_PAUSE_S = 0.01
folder, url, first = Path({folder!r}), {url!r}, sys.argv[1] == "first"

async def main(store):
    client = openai.AsyncOpenAI(api_key="key", base_url=url)
    runner = BatchRunner(client, store, "127.0.0.1", interval=0.02)
    print("resumed", len(await runner.resume()), flush=True)
    if first:
        await runner.submit(write(folder, range(20), max_requests=5))
        print("submitted", flush=True)
    for outcome in await runner.poll():
        print("outcome", outcome.status, outcome.answers, flush=True)

with AnswerStore(folder / "store.sqlite") as store, store.sole_writer():
    asyncio.run(main(store))
"""


def start(double: BatchDouble, folder: Path, which: str) -> subprocess.Popen[str]:
    paths = [str(Path(__file__).parents[2]), str(Path(__file__).parent), str(Path(__file__).parents[1])]
    script = RUNNER.format(paths=paths, folder=str(folder), url=double.url)
    return subprocess.Popen([sys.executable, "-c", script, which], stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("moment", ["at the second creation", "while it polls", "while it reads"])
def test_a_run_that_is_killed_submits_nothing_twice(tmp_path: Path, moment: str) -> None:
    with BatchDouble(looks=10**9) as double:
        killed: list[int] = []

        def kill() -> None:
            os.kill(process.pid, signal.SIGKILL)
            killed.append(process.pid)

        def kill_while_reading(method: str, path: str, number: int) -> None:
            if path.endswith("/content") and sum("/content" in path for _, path in double.calls) == 3:
                kill()

        if moment == "at the second creation":
            double.on_create = lambda: kill() if len(double.batches) == 2 else None
        if moment == "while it reads":
            double.looks, double.faults = 1, kill_while_reading
        process = start(double, tmp_path, "first")
        assert process.stdout is not None
        if moment == "while it polls":
            while process.stdout.readline() != "submitted\n":
                assert process.poll() is None
            kill()
        process.wait(timeout=30)
        assert killed
        created = len(double.batches)
        double.looks, double.on_create, double.faults = 0, lambda: None, lambda method, path, number: None
        second = start(double, tmp_path, "second")
        output, _ = second.communicate(timeout=30)
        assert second.returncode == 0
        assert len(double.batches) == created == (2 if moment == "at the second creation" else 4)
        assert set(double.submitted.values()) == {1}
    bought = range(5 * created)
    with AnswerStore(tmp_path / "store.sqlite") as store:
        assert answered(store, range(20)) == list(bought)
        assert store.totals().open == 0
        assert json.loads(store.setting("batch-intents:127.0.0.1") or "") == {}
    if moment != "while it reads":
        assert f"resumed {created}" in output


def test_an_upload_that_was_ended_is_forgotten(tmp_path: Path, store: AnswerStore) -> None:
    files = write(tmp_path, range(2))

    def broken(method: str, path: str, number: int) -> int | None:
        return 400 if path == "/files" else None

    with BatchDouble(faults=broken) as double:
        with pytest.raises(EndpointError, match="upload"):
            run(double, store, files)
        double.faults = lambda method, path, number: None
        calls = len(double.calls)
        assert run(double, store) == []
        assert len(double.calls) == calls  # nothing was created, so there is nothing to ask
    assert not files[0].path.exists()
    assert not files[0].requests_path.exists()


def test_a_batch_whose_file_is_gone_is_reported(tmp_path: Path, store: AnswerStore) -> None:
    files = write(tmp_path, range(2))

    def cut(method: str, path: str, number: int) -> str | int | None:
        return {("POST", "/batches"): "cut", ("GET", "/batches"): 400}.get((method, path))

    with BatchDouble(faults=cut) as double:
        with pytest.raises(EndpointError):
            run(double, store, files)
        double.faults = lambda method, path, number: None
        assert store.batches() == []
        assert has_unfinished(store, "127.0.0.1")  # although no batch of it is known
        files[0].path.unlink()
        (outcome,) = run(double, store)
    assert (outcome.id, outcome.status) == ("batch_0", "orphaned")
    assert "will be bought again" in outcome.message


@pytest.mark.parametrize("step", ["before its attempts", "after its attempts"])
def test_a_batch_registered_by_half_gets_each_open_attempt_once(tmp_path: Path, store: AnswerStore, step: str) -> None:
    """The process ended after the batch's id was stored, and before all was written that follows."""

    class Dying(AnswerStore):
        def begin(self, *arguments: Any, **options: Any) -> None:
            if step == "before its attempts":
                raise KeyboardInterrupt
            super().begin(*arguments, **options)

        def set(self, name: str, value: str) -> None:
            if self.batches():
                raise KeyboardInterrupt
            super().set(name, value)

    with BatchDouble() as double:
        store.__class__ = Dying
        with pytest.raises(KeyboardInterrupt):
            asyncio.run(runner(double, store).submit(write(tmp_path, range(4))))
        store.__class__ = AnswerStore
        assert len(store.batches()) == 1
        assert store.totals().open == (0 if step == "before its attempts" else 4)
        (outcome,) = run(double, store)
    assert outcome.answers == 4
    assert len(double.batches) == 1
    assert answered(store, range(4)) == [0, 1, 2, 3]
    assert store.totals().sent == 4


def test_an_ended_batch_of_the_same_content_is_not_taken_for_a_new_one(tmp_path: Path, store: AnswerStore) -> None:
    created: list[int] = []

    def deaf(method: str, path: str, number: int) -> int | None:
        if (method, path) == ("POST", "/batches"):
            created.append(number)
            return 500 if len(created) == 2 else None
        return None

    with BatchDouble({0: "expired"}, faults=deaf) as double:
        run(double, store, write(tmp_path, range(1)))  # half of one request: nothing ran
        assert answered(store, range(1)) == []
        (outcome,) = run(double, store, write(tmp_path, range(1)))
    assert (outcome.id, outcome.answers) == ("batch_1", 1)


def test_stop_leaves_everything_to_a_later_run(tmp_path: Path, store: AnswerStore) -> None:
    with BatchDouble(looks=10**9) as double:
        files = write(tmp_path, range(4))

        async def stopped() -> None:
            work = runner(double, store, interval=60.0)
            await work.submit(files)
            asyncio.get_running_loop().call_later(0.1, work.stop)
            await work.poll()

        with pytest.raises(Interrupted, match="1 batches are under way"):
            asyncio.run(stopped())
        assert store.totals().open == 4
        assert has_unfinished(store, "127.0.0.1")
        double.looks = 0
        (outcome,) = run(double, store)
    assert outcome.answers == 4
    assert not has_unfinished(store, "127.0.0.1")


def test_batches_of_another_provider_are_left_alone(tmp_path: Path, store: AnswerStore) -> None:
    with BatchDouble(looks=10**9) as double:
        asyncio.run(runner(double, store).submit(write(tmp_path, range(2))))
        client = openai.AsyncOpenAI(api_key=KEY, base_url=double.url)
        other = BatchRunner(client, store, "another host", interval=INTERVAL_S)
        assert asyncio.run(other.resume()) == []
    assert store.totals().open == 2
