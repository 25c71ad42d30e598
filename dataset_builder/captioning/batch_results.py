"""The answers to a batch file: output and error lines of OpenAI's Batch API and of `vllm run-batch`.

Lines come back in any order, in two files, with ids that may be missing, repeated or strange. They are matched by id
alone. What can't be read is counted with its reason; nothing in a file that was paid for stops the reading of the rest.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dataset_builder.captioning.backends.server_faults import ServerError, read_error, scrub, status_fault
from dataset_builder.captioning.batch_files import BatchFile, requests_of
from dataset_builder.captioning.requests import Answer, Fault
from dataset_builder.captioning.store import AnswerStore, Reservation
from lpmc_errors import TableError

LINE_CHARACTERS = 2000  # of a line that is looked at for a message about it
# Codes of lines without an HTTP status that would come back for every further request.
FATAL_CODES = frozenset(
    (
        *("insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "account_deactivated"),
        *("invalid_api_key", "model_not_found"),
    )
)
_KEY = re.compile(r"[0-9a-f]{64}")


@dataclass
class ResultReport:
    """What was in the results of one batch: answers, faults by kind, and lines that could not be used, by reason.

    `examples` holds the first unusable line of each reason, cut short. `answered` has every id that was seen: True
    with an answer, False with a fault. One report serves the output and the error file of a batch.
    """

    answers: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    problems: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    answered: dict[str, bool] = field(default_factory=dict)
    fatal: Fault | None = None

    def problem(self, reason: str, line: str) -> None:
        """Count a line that could not be used."""
        self.problems[reason] += 1
        self.examples.setdefault(reason, _short(line))

    def add(self, key: str, result: Answer | Fault) -> None:
        """Count a result."""
        self.answered[key] = isinstance(result, Answer)
        if isinstance(result, Answer):
            self.answers += 1
        else:
            self.faults[result.kind] += 1
            if result.kind == "fatal":
                self.fatal = self.fatal or result


def read_batch_results(
    source: Path | Iterable[str | bytes],
    *,
    wanted: Callable[[str], bool] = lambda key: True,
    report: ResultReport | None = None,
) -> Iterator[tuple[str, Answer | Fault]]:
    """(key, result) of every usable line of a results file, or of its lines, in their order.

    `wanted` tells whether a key was asked for; a line of another one is counted as `unknown id`. An id that was seen
    before is counted as `repeated id`; only an answer that follows a fault is still given. Raises `TableError` when
    the file can't be read; no line raises.
    """
    report = ResultReport() if report is None else report
    with _lines(source) as lines:
        for line in lines:
            text = (line.decode("utf-8", errors="replace") if isinstance(line, bytes) else line).strip()
            if not text:
                continue
            try:
                value = json.loads(text)
                key = value["custom_id"]
            except (ValueError, KeyError, TypeError, RecursionError):
                report.problem("broken line", text)
                continue
            if not isinstance(key, str) or not _KEY.fullmatch(key) or not wanted(key):
                report.problem("unknown id", text)
                continue
            result = _result(value)
            before = report.answered.get(key)
            if before is not None:
                report.problem("repeated id", text)
                if before or not isinstance(result, Answer):
                    continue
            report.add(key, result)
            yield key, result


def keep_offline_results(
    store: AnswerStore,
    file: BatchFile,
    results: Iterable[Path],
    *,
    reservation: Callable[[Any], Reservation] = lambda request: Reservation(),
    price: Callable[[Answer | Fault], int | None] = lambda result: 0,
) -> ResultReport:
    """Put what `vllm run-batch` answered to `file` into the store; a second call with the same files changes nothing.

    Raises `TableError` for a missing or unreadable file, `DiskError`.
    """
    report = ResultReport()
    asked = {request.key for request in requests_of(file) if store.answer(request.key) is None}

    def wanted(key: str) -> bool:
        return key in asked or store.answer(key) is not None

    found = {
        key: result
        for path in results
        for key, result in read_batch_results(path, wanted=wanted, report=report)
        if key in asked
    }
    answered = (request for request in requests_of(file) if request.key in found)
    store.begin((request for request in answered if not store.is_open(request.key)), reservation)
    for key, result in found.items():
        store.settle(key, result, price(result))
    return report


def completion_result(completion: Any) -> Answer | Fault:
    """The answer in the JSON body of a chat completion, or the fault that it is: the same rules as online."""
    try:
        choice = completion["choices"][0]
        message, reason = choice["message"], choice.get("finish_reason")
        text, usage = message.get("content"), completion.get("usage") or {}
        tokens = usage.get("prompt_tokens"), usage.get("completion_tokens")
        refusal = message.get("refusal")
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        return Fault("transient", f"the server's answer is no chat completion ({type(error).__name__})")
    if reason == "error":  # the host lost its model half way
        return Fault("transient", "the server broke off its answer (finish_reason error)")
    if reason == "content_filter":
        return Fault("refused", "the content filter stopped the answer")
    if not isinstance(text, str):
        if reason == "length":
            text = ""  # a reasoning model that used up its room: more room helps, as with any answer cut short
        elif isinstance(refusal, str):
            return Fault("refused", f"the model refused: {_short(refusal)}")
        else:
            called = " but a tool call" if message.get("tool_calls") else ""
            return Fault("refused", f"the server sent no text{called} (finish_reason {reason})")
    model = completion.get("model")
    return Answer(text, _kind(model, str), _kind(reason, str), _kind(tokens[0], int), _kind(tokens[1], int))


def _kind(value: Any, kind: type) -> Any:
    return value if isinstance(value, kind) else None


def _result(line: Mapping[str, Any]) -> Answer | Fault:
    response, error = line.get("response"), line.get("error")
    if not isinstance(response, dict):
        return _never_run(server_error(error))
    status, body = response.get("status_code"), response.get("body")
    if isinstance(status, int) and 200 <= status < 300 and not error:
        return completion_result(body)
    if isinstance(error, str):
        # vllm run-batch marks every exception with 400, whether the request was bad or the engine died.
        return Fault("transient", f"the server failed: {_short(error)}")
    said = server_error(body or error)
    if not isinstance(status, int) or status < 400:
        return Fault("transient", f"an error without a status: {_short(said.message or said.code or '')}")
    if said.code in FATAL_CODES or said.type in FATAL_CODES:
        return Fault("fatal", f"HTTP {status}: {_short(said.message)}")
    return status_fault(status, said, "")


def _never_run(said: ServerError) -> Fault:
    """A line without a response: the provider did not run the request, or did not hear the end of it."""
    text = ": ".join(part for part in (said.code, _short(said.message)) if part) or "the line has no response"
    if said.code in FATAL_CODES:
        return Fault("fatal", text)
    if said.code == "rate_limit_exceeded":
        return Fault("rate_limited", text)
    return Fault("transient", text)  # batch_expired, batch_cancelled, request_timeout and their like: to be sent again


def server_error(value: Any) -> ServerError:
    """The error as providers write it: `{"error": {...}}`, the inner part alone, or plain text."""
    return read_error(json.dumps(value).encode()) if value else ServerError("")


def _short(text: str) -> str:
    return scrub(text[:LINE_CHARACTERS], "")


@contextmanager
def _lines(source: Path | Iterable[str | bytes]) -> Iterator[Iterable[str | bytes]]:
    if not isinstance(source, Path):
        yield source
        return
    try:
        with source.open("rb") as lines:
            yield lines
    except OSError as error:
        raise TableError(source, f"cannot be read ({error.strerror})", "name the file with the answers") from error
