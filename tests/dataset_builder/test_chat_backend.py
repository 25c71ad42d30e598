"""The HTTP backend against real servers on 127.0.0.1: bodies, answers, kinds of faults, waiting, keys."""

from __future__ import annotations

import asyncio
import email.utils
import json
import socket
import time
from typing import Any

import pytest

from dataset_builder.captioning.backends import openai_chat
from dataset_builder.captioning.backends.openai_chat import ChatBackend
from dataset_builder.captioning.backends.response_format import RUNGS, chat_body
from dataset_builder.captioning.backends.server_faults import retry_after, scrub
from dataset_builder.captioning.requests import Answer, Fault, RateHint
from lpmc_errors import UsageError
from tests.chat_asking import DEAD, SCHEMA, SECRET, answering, ask, only, request
from tests.chat_double import ChatDouble, completion


@pytest.fixture(autouse=True)
def no_settings_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("OPENAI_API_KEY", "OPENAI_BASE_URL", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
    for name in names:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


# --- bodies and answers ---


def test_the_body_holds_what_was_asked_and_nothing_that_was_left_to_the_server() -> None:
    assert chat_body(request(), "text") == {
        "model": "double",
        "messages": [
            {"role": "system", "content": "Be brief. Answer as JSON."},
            {"role": "user", "content": "Describe this.\nrock"},
        ],
        "max_tokens": 64,
    }
    body = chat_body(request(temperature=0.0, top_p=0.9, seed=7), "text")
    assert (body["temperature"], body["top_p"], body["seed"]) == (0.0, 0.9, 7)


def test_the_rung_decides_the_response_format_and_only_where_there_is_a_schema() -> None:
    structured = request(schema=SCHEMA)
    strict = chat_body(structured, "json_schema")["response_format"]
    assert strict["type"] == "json_schema"
    assert strict["json_schema"]["strict"] is True
    assert strict["json_schema"]["schema"] == json.loads(SCHEMA)
    assert chat_body(structured, "json_object")["response_format"] == {"type": "json_object"}
    assert "response_format" not in chat_body(structured, "text")
    assert not any("response_format" in chat_body(request(), rung) for rung in RUNGS)


def test_a_body_is_made_anew_so_that_spoiling_one_spoils_no_other() -> None:
    one = request(schema=SCHEMA)
    first = chat_body(one, "json_schema")
    before = json.dumps(first)
    first["messages"].clear()
    first["response_format"]["json_schema"]["schema"].clear()
    assert json.dumps(chat_body(one, "json_schema")) == before


def test_every_attempt_sends_the_same_body() -> None:
    faults: dict[int, Any] = {0: (500, {}, {}), 1: "cut", 2: (429, {}, {})}
    with ChatDouble(lambda number, message: faults.get(number)) as server:
        ask(server.url, *[request(schema=SCHEMA, seed=3)] * 4)
        assert len(server.bodies) == 4
        assert all(body == server.bodies[0] for body in server.bodies)


def test_an_answer_carries_text_model_reason_tokens_and_the_rate_limits() -> None:
    headers = {
        "X-RateLimit-Limit-Requests": "500",
        "x-ratelimit-limit-tokens": "200000, 200000;w=60",
        "x-ratelimit-remaining-requests": "499",
        "x-ratelimit-remaining-tokens": "soon",
        "x-ratelimit-reset-requests": "120ms",
    }
    with answering((200, headers, completion("A song.", reason="length"))) as server:
        answer = only(server.url)
    assert answer == Answer("A song.", "double-answered", "length", 10, 5)
    assert answer.hint == RateHint(500, 200_000, 499, None)


def test_a_server_that_reports_nothing_leaves_nothing_known() -> None:
    bare = {"choices": [{"message": {"content": "A song."}}]}
    with answering((200, {}, bare)) as server:
        answer = only(server.url)
    assert answer == Answer("A song.")
    assert answer.hint is None


def test_answers_keep_the_order_of_the_requests() -> None:
    with ChatDouble(lambda number, message: 0.2 if message.endswith("slow") else None) as server:

        async def run() -> list[Answer | Fault]:
            backend = ChatBackend("double", base_url=server.url)
            results = await backend.answer([request("x\nslow"), request("x\nquick")])
            await backend.close()
            return results

        results = asyncio.run(run())
    texts = [result.text for result in results if isinstance(result, Answer)]
    assert texts == ["This is a piece with slow.", "This is a piece with quick."]


def test_hundreds_of_requests_are_under_way_at_once() -> None:
    with answering(0.5) as server:

        async def run() -> list[Answer | Fault]:
            backend = ChatBackend("double", base_url=server.url, concurrency=250)
            results = await asyncio.gather(*(backend.answer([request(f"x\n{number}")]) for number in range(250)))
            await backend.close()
            return [result for (result,) in results]

        results = asyncio.run(run())
        assert server.most_at_once > 200
    assert all(isinstance(result, Answer) for result in results)


# --- faults ---


@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [
        (400, {"message": "too long"}, "refused"),
        (400, {"message": "flagged", "code": "content_filter"}, "refused"),
        (413, {"message": "too large"}, "refused"),
        (422, {"message": "unprocessable"}, "refused"),
        (401, {"message": "no"}, "fatal"),
        (402, {"message": "no money"}, "fatal"),
        (403, {"message": "no"}, "fatal"),
        (404, {"message": "no such model", "code": "model_not_found"}, "fatal"),
        (408, {"message": "late"}, "transient"),
        (409, {"message": "locked"}, "transient"),
        (500, {"message": "please generate at a lower rate; quota"}, "transient"),
        (529, {"message": "overloaded"}, "transient"),
        (502, {"message": "bad gateway"}, "unavailable"),
        (503, {"message": "loading"}, "unavailable"),
        (504, {"message": "gateway"}, "unavailable"),
        (429, {"message": "you exceeded your current quota, insufficient_quota"}, "rate_limited"),
        (429, {"message": "x", "code": "insufficient_quota"}, "fatal"),
        (429, {"message": "x", "type": "insufficient_quota"}, "fatal"),
        (429, {"message": "x", "code": 429}, "rate_limited"),
    ],
)
def test_a_status_and_the_code_of_the_error_decide_its_kind_never_its_words(
    status: int, error: dict[str, Any], kind: str
) -> None:
    with answering((status, {"x-ratelimit-limit-requests": "60"}, {"error": error})) as server:
        fault = only(server.url)
        assert len(server.log) == 1
    assert isinstance(fault, Fault)
    assert fault.kind == kind
    assert fault.message == f"HTTP {status}: {error['message']}"
    assert fault.hint == RateHint(requests_per_minute=60)


@pytest.mark.parametrize(
    "body",
    [
        {"error": "what went wrong"},
        {"detail": "what went wrong"},
        {"object": "error", "message": "what went wrong", "code": 400},
        [{"error": {"message": "what went wrong", "status": "INVALID_ARGUMENT"}}],
        b"what went wrong",
    ],
)
def test_the_message_is_found_in_every_shape_that_servers_give_it(body: Any) -> None:
    with answering((400, {}, body)) as server:
        fault = only(server.url)
    assert isinstance(fault, Fault)
    assert fault.message == "HTTP 400: what went wrong"


@pytest.mark.parametrize(
    ("fault", "kind", "words"),
    [
        ("cut", "unavailable", "the connection was cut"),
        ("truncated", "unavailable", "the connection was cut"),
        ("garbage", "transient", "no chat completion"),
        ((200, {}, {"choices": []}), "transient", "no chat completion"),
        ((200, {}, []), "transient", "no chat completion"),
        ((200, {}, {"choices": [{"message": None}]}), "transient", "no chat completion"),
        ((200, {}, {"error": {"message": "upstream busy", "code": 503}}), "unavailable", "HTTP 503: upstream busy"),
        ((200, {}, {"error": {"message": "slow down", "code": 429}}), "rate_limited", "HTTP 429: slow down"),
        ((200, {}, {"error": {"message": "odd", "code": "weird"}}), "transient", "HTTP 500: odd"),
        ((200, {}, completion("half", reason="error")), "transient", "broke off"),
        ((200, {}, completion("half", reason="content_filter")), "refused", "content filter"),
        ((200, {}, completion(None)), "refused", "no text (finish_reason stop)"),
        ((200, {}, completion(None, reason="tool_calls", tool_calls=[{}])), "refused", "a tool call"),
        ((200, {}, completion(None, refusal="I won't")), "refused", "the model refused: I won't"),
        ((200, {"content-encoding": "gzip"}, b"this is no gzip"), "transient", "cannot be read"),
    ],
)
def test_what_is_no_answer_is_a_fault_that_says_why(fault: Any, kind: str, words: str) -> None:
    with answering(fault) as server:
        result = only(server.url)
        assert len(server.log) == 1
    assert isinstance(result, Fault)
    assert result.kind == kind
    assert words in result.message


def test_an_empty_answer_and_one_that_only_thought_are_answers() -> None:
    with answering((200, {}, completion(""))) as server:
        assert only(server.url) == Answer("", "double-answered", "stop", 10, 5)
    with answering((200, {}, completion(None, reason="length"))) as server:
        assert only(server.url) == Answer("", "double-answered", "length", 10, 5)
    with answering((200, {}, completion("{" + " " * 500, reason="length"))) as server:
        result = only(server.url, request(schema=SCHEMA))
        assert isinstance(result, Answer)
        assert result.finish_reason == "length"


@pytest.mark.parametrize("fault", [5.0, "drip"])
def test_a_request_ends_after_its_time_out_even_when_bytes_keep_coming(fault: Any) -> None:
    with answering(fault) as server:
        began = time.monotonic()
        result = only(server.url, timeout=0.6)
        assert time.monotonic() - began < 3.0
    assert result == Fault("transient", "no answer within 0.6 s", billed=True, timed_out=True)


def test_nobody_listening_and_an_unknown_host_are_unavailable() -> None:
    for url in (DEAD, "http://no-such-host.invalid/v1"):
        result = only(url)
        assert isinstance(result, Fault)
        assert result.kind == "unavailable"
        assert "cannot be reached" in result.message


def test_a_server_that_takes_no_connection_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_chat, "CONNECT_TIMEOUT_S", 0.3)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:  # fill the backlog: the next connection gets no answer
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
        result = only(f"http://127.0.0.1:{port}/v1", timeout=5)
        for one in waiting:
            one.close()
    assert isinstance(result, Fault)
    assert (result.kind, result.message[:17]) == ("unavailable", "cannot be reached")


# --- waiting ---


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "2"}, 2.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9.0),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "later"}, None),
        ({"retry-after": "Wed, 99 Foo 2026 99:99:99 GMT"}, None),
        ({}, None),
        ({"retry-after": "Mon, 23 Nov 2026 10:00:30 GMT", "date": "Mon, 23 Nov 2026 10:00:00 GMT"}, 30.0),
        ({"retry-after": "Mon, 23 Nov 2026 10:00:00 GMT", "date": "Mon, 23 Nov 2026 10:00:30 GMT"}, 0.0),
    ],
)
def test_the_wait_is_read_from_seconds_milliseconds_and_dates(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers) == seconds


def test_a_date_without_the_servers_own_is_taken_from_this_machines_clock() -> None:
    assert retry_after({"retry-after": email.utils.formatdate(time.time() + 60)}) == pytest.approx(60, abs=2)


@pytest.mark.parametrize(("status", "kept"), [(429, 7.0), (503, 7.0), (500, 7.0), (400, None), (401, None)])
def test_the_wait_is_kept_where_the_request_is_sent_again(status: int, kept: float | None) -> None:
    with answering((status, {"retry-after": "7"}, {})) as server:
        fault = only(server.url)
    assert isinstance(fault, Fault)
    assert fault.retry_after == kept


# --- keys ---


@pytest.mark.parametrize(
    "text",
    [
        f"Incorrect key {SECRET}.",
        "Incorrect key sk-proj-abc***wxyz",
        "token hf_abcdefghijklm is bad",
        "Authorization: Bearer eyJhbGciOi.abc-def was refused",
        "GET https://host/v1?api_key=0123456789abcdef failed",
        "AIzaSyA1234567890abcdefg",
        "proxy http://me:hunter22@proxy.example.com failed",
    ],
)
def test_keys_are_scrubbed_from_every_message(text: str) -> None:
    with answering((400, {}, {"error": {"message": text}})) as server:
        fault = only(server.url)
    assert isinstance(fault, Fault)
    assert "[key]" in fault.message
    for secret in (SECRET, "sk-proj", "wxyz", "hf_abc", "eyJ", "0123456789abcdef", "AIza", "hunter22"):
        assert secret not in fault.message


def test_scrubbing_leaves_ordinary_words_and_cuts_after_scrubbing() -> None:
    assert (
        scrub("the key of the song is\nE major, rock-and-roll", "e") == "the key of the song is E major, rock-and-roll"
    )
    assert scrub("bad key k!", "k") == "bad key [key]!"
    assert scrub("x" * 295 + SECRET, SECRET) == "x" * 295 + "[key]"
    assert scrub("x" * 293 + " sk-abcdefghij", "") == "x" * 293 + " [key]"


def test_the_key_of_the_environment_is_sent_and_a_local_server_needs_none(monkeypatch: pytest.MonkeyPatch) -> None:
    with ChatDouble() as server:
        asyncio.run(ChatBackend("double", base_url=server.url).answer([request()]))
        monkeypatch.setenv("OPENAI_API_KEY", "from-the-environment")
        asyncio.run(ChatBackend("double", base_url=server.url).answer([request()]))
        assert [headers["authorization"] for headers in server.headers] == [
            "Bearer none",
            "Bearer from-the-environment",
        ]


def test_addresses_and_options_that_cannot_work_are_named() -> None:
    for url, words in {
        "localhost:8000": "not an http",
        "http://": "not an http",
        "http://host:99999/v1": "not an http",
        "ftp://host/v1": "not an http",
        "http://me:hunter22@host/v1": "has a user name or password",
    }.items():
        with pytest.raises(UsageError, match=words) as raised:
            ChatBackend("m", base_url=url, api_key="k")
        assert "hunter22" not in str(raised.value)
    with pytest.raises(UsageError, match="OPENAI_API_KEY: is not set"):
        ChatBackend("m")
    with pytest.raises(UsageError, match="structured xml: is unknown"):
        ChatBackend("m", base_url=DEAD, structured="xml")


def test_a_model_that_wants_the_newer_name_of_the_token_limit_gets_it_and_it_is_remembered() -> None:
    said = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
    refusal = (400, {}, {"error": {"message": said, "param": "max_tokens", "code": "unsupported_parameter"}})
    rungs: dict[str, str] = {}
    with ChatDouble(lambda number, message: refusal if "max_tokens" in server.bodies[number] else None) as server:
        for _ in range(2):
            assert isinstance(only(server.url, rungs=rungs), Answer)
        sent = [sorted(set(body) & {"max_tokens", "max_completion_tokens"}) for body in server.bodies]
        assert "max_completion_tokens" in ChatBackend("double", base_url=server.url, rungs=rungs).body(request())
    assert sent == [["max_tokens"], ["max_completion_tokens"], ["max_completion_tokens"]]
