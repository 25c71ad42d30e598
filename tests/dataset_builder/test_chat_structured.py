"""The ladder of ways to ask for a structured answer, against servers that refuse some of them."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from dataset_builder.captioning.backends.openai_chat import ChatBackend
from dataset_builder.captioning.backends.response_format import RUNGS
from dataset_builder.captioning.requests import Answer, Fault
from tests.chat_asking import SCHEMA, answering, ask, only, request
from tests.chat_double import ChatDouble


def taking(*rungs: str, status: int = 400, words: str = "response_format {} is not supported") -> ChatDouble:
    """A server that takes only some ways of asking for a structured answer."""

    def faults(number: int, message: str) -> Any:
        rung = server.bodies[number].get("response_format", {"type": "text"})["type"]
        return None if rung in rungs else (status, {}, {"error": {"message": words.format(rung)}})

    server = ChatDouble(faults)  # the closure above reads the bodies that it keeps
    return server


def asked_for(server: ChatDouble) -> list[str]:
    return [body.get("response_format", {"type": "text"})["type"] for body in server.bodies]


@pytest.mark.parametrize(
    ("rungs", "sent"),
    [
        (("json_schema", "json_object", "text"), ["json_schema"]),
        (("json_object", "text"), ["json_schema", "json_object"]),
        (("text",), ["json_schema", "json_object", "text"]),
    ],
)
def test_a_refused_response_format_goes_down_a_rung_and_is_remembered(rungs: tuple[str, ...], sent: list[str]) -> None:
    known: dict[str, str] = {}
    with taking(*rungs) as server:
        first, second = ask(server.url, request(schema=SCHEMA), request("x\njazz", schema=SCHEMA), rungs=known)
        assert isinstance(first, Answer)
        assert isinstance(second, Answer)
        assert asked_for(server) == [*sent, sent[-1]]
        assert list(known.values()) == ([sent[-1]] if len(sent) > 1 else [])
        server.bodies.clear()
        server.log.clear()
        assert isinstance(only(server.url, request(schema=SCHEMA), rungs=known), Answer)
        assert asked_for(server) == [sent[-1]]


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (400, "This response_format type is unavailable now"),
        (400, "'response_format.type' must be 'json_object' or 'text', not {}"),
        (422, "grammar is not supported by this model"),
        (404, "No endpoints found that can handle the requested parameters."),
        (501, "{} mode: not implemented"),
        (400, "Unsupported"),
    ],
)
def test_refusals_of_a_response_format_are_known_in_the_words_of_several_servers(status: int, words: str) -> None:
    with taking("text", status=status, words=words) as server:
        assert isinstance(only(server.url, request(schema=SCHEMA)), Answer)
        assert asked_for(server)[-1] == "text"


@pytest.mark.parametrize(
    "error",
    [
        {"message": "the prompt is too long"},
        {"message": "flagged", "code": "content_filter"},
        {"message": "Unsupported parameter: 'max_tokens' is not supported with this model.", "param": "max_tokens"},
    ],
)
def test_a_refusal_for_another_reason_is_sent_once_and_leaves_the_rung(error: dict[str, str]) -> None:
    known: dict[str, str] = {}
    with answering((400, {}, {"error": error})) as server:
        result = only(server.url, request(schema=SCHEMA), rungs=known)
        assert len(server.log) == 1
    assert isinstance(result, Fault)
    assert result.kind == "refused"
    assert known == {}


def test_a_suspicion_that_no_lower_rung_confirms_is_not_remembered() -> None:
    known: dict[str, str] = {}
    with answering((400, {}, {"error": {"message": "a seed is not supported"}})) as server:
        result = only(server.url, request(schema=SCHEMA), rungs=known)
        assert asked_for(server) == ["json_schema", "json_object", "text"]
    assert isinstance(result, Fault)
    assert result.kind == "refused"
    assert known == {}


def test_a_request_without_a_schema_never_goes_down_the_ladder() -> None:
    with taking() as server:
        assert isinstance(only(server.url, request()), Fault)
        assert len(server.log) == 1


def test_other_faults_on_the_way_keep_the_rung() -> None:
    known: dict[str, str] = {}
    with answering((500, {}, {"error": {"message": "response_format crashed"}})) as server:
        result = only(server.url, request(schema=SCHEMA), rungs=known)
        assert len(server.log) == 1
    assert isinstance(result, Fault)
    assert result.kind == "transient"
    assert known == {}


@pytest.mark.parametrize("structured", RUNGS)
def test_a_chosen_way_is_the_only_one(structured: str) -> None:
    with taking() as server:
        result = only(server.url, request(schema=SCHEMA), structured=structured)
        assert asked_for(server) == [structured]
    assert isinstance(result, Fault)
    assert result.kind == "refused"


def test_requests_at_once_go_down_together_and_an_unknown_memory_is_ignored() -> None:
    known = {"other": "text"}
    with taking("json_object", "text") as server:
        known[f"{server.url} double"] = "no-such-rung"

        async def run() -> list[Answer | Fault]:
            backend = ChatBackend("double", base_url=server.url, rungs=known)
            results = await backend.answer([request(f"x\n{number}", schema=SCHEMA) for number in range(30)])
            await backend.close()
            return results

        assert all(isinstance(result, Answer) for result in asyncio.run(run()))
        assert Counter(asked_for(server)) == {"json_schema": 30, "json_object": 30}
        assert known == {"other": "text", f"{server.url} double": "json_object"}
