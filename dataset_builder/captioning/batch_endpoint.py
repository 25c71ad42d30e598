"""The calls to a Batch API through the `openai` client, each with its retries; nothing here knows the store.

A call that only reads, or whose repetition costs nothing, is repeated. Creating a batch costs money, so after a call
whose fate is unknown the list of batches tells whether it was heard.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Container
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import aiohttp
import httpx2
import openai

from dataset_builder.captioning.backends.server_faults import retry_after, scrub, status_fault
from dataset_builder.captioning.batch_files import CHAT_URL
from dataset_builder.captioning.batch_results import server_error
from dataset_builder.captioning.requests import Fault
from lpmc_errors import EndpointError, TableError

MARK = "lpmc"  # the batch's metadata field that holds the sha256 of its input file
CALL_TRIES = 6
CALL_BACKOFF_FIRST_S = 1.0
CALL_BACKOFF_MOST_S = 60.0
LIST_LOOKS = 3  # a list may lag behind the creation of a batch
LIST_PAUSE_S = 2.0
LIST_PAGE = 100  # batches a page; the most that the API gives
MISSING = "missing"  # kind of the fault of an id that the endpoint does not know
_ABSENT_STATUS = {404, 405, 501}  # how servers say that they have no such thing
_ENDED_EMPTY = "failed"  # a batch of that status has run nothing

# A body that ends too early is no error of the client's own family; which it is depends on its transport.
_CUT = (httpx2.HTTPError, aiohttp.ClientError, TimeoutError, asyncio.TimeoutError)

_Value = TypeVar("_Value")


class BatchEndpoint:
    """`/files` and `/batches` of one endpoint. `pause` waits, and may raise to end the run."""

    def __init__(self, client: openai.AsyncOpenAI, provider: str, pause: Callable[[float], Awaitable[None]]) -> None:
        # The client's own retries would create a batch twice when an answer got lost.
        self._client = client.with_options(max_retries=0)
        self._provider = provider
        self._pause = pause

    async def probe(self) -> None:
        """Raise `EndpointError` when the endpoint has no Batch API, can't be reached or refuses the key."""
        for name, ask in (("/files", self._client.files.list), ("/batches", self._client.batches.list)):
            page = await self._call(f"the list of {name}", partial(ask, limit=1))
            if isinstance(page, Fault) or not isinstance(getattr(page, "data", None), list):
                said = page.message if isinstance(page, Fault) else "what it answers is no list"
                raise EndpointError(
                    self._provider,
                    f"has no {name} ({said})",
                    "write the batch files and answer them with `vllm run-batch`, or ask online without batches",
                )

    async def upload(self, path: Path) -> str:
        """Send a batch file, streamed; its id at the endpoint."""

        async def send() -> Any:
            with path.open("rb") as lines:
                return await self._client.files.create(file=(path.name, lines, "application/jsonl"), purpose="batch")

        try:
            sent = await self._call(f"the upload of {path.name}", send)
        except OSError as error:
            raise TableError(path, f"cannot be read ({error.strerror})", "run the same command again") from error
        if isinstance(sent, Fault):
            raise self._stopped(f"the upload of {path.name}", sent)
        return str(sent.id)

    async def create(self, file_id: str, sha256: str, known: Container[str]) -> str | Fault:
        """Create the batch of an uploaded file, once, and return its id; a `rate_limited` fault when the queue is full.

        `known` holds ids of batches that are not the one to be created. Raises `EndpointError` when the endpoint
        refuses it, or can't be asked whether it was created.
        """
        what = "the creation of a batch"
        fault = Fault("unavailable", "not asked")
        for number in range(CALL_TRIES):
            batch = await self._once(
                partial(
                    self._client.batches.create,
                    input_file_id=file_id,
                    endpoint=CHAT_URL,
                    completion_window="24h",
                    metadata={MARK: sha256},
                )
            )
            if not isinstance(batch, Fault) and getattr(batch, "id", None):
                return str(batch.id)
            fault = batch if isinstance(batch, Fault) else Fault("transient", "the answer is no batch")
            if fault.kind == "rate_limited":
                return fault
            if fault.kind not in ("transient", "unavailable"):
                raise self._stopped(what, fault)
            found = await self.find(file_id, sha256, known)
            if found is not None:
                return found
            await self._pause(self._backoff(number, fault))
        raise self._stopped(what, fault)

    async def find(self, file_id: str, sha256: str, known: Container[str]) -> str | None:
        """The batch that was created from an uploaded file although nobody heard the answer, or None."""
        for look in range(LIST_LOOKS):
            if look:
                await self._pause(LIST_PAUSE_S)
            found = await self._call("the list of batches", lambda: self._listed(file_id, sha256, known))
            if isinstance(found, Fault):
                raise self._stopped("the list of batches", found)
            if found:
                return found[0]
        return None

    async def look(self, batch: str) -> Any | Fault:
        """The batch as it is now, or the fault of this one look. Raises `EndpointError` when the key is refused."""
        return await self._once(lambda: self._client.batches.retrieve(batch))

    async def download(self, file_id: str, into: BinaryIO) -> Fault | None:
        """Append the content of a file to `into`; the fault when it did not come whole."""

        async def receive() -> None:
            # Bytes, not the client's lines: those end at Unicode line separators too, in the middle of a caption.
            async with self._client.files.with_streaming_response.content(file_id) as response:
                async for block in response.iter_bytes():
                    into.write(block)

        result = await self._once(receive)
        return result if isinstance(result, Fault) else None

    def fault(self, error: openai.OpenAIError) -> Fault:
        """What an error of the client means, without the key that it may show."""
        if isinstance(error, openai.APIConnectionError):  # time-outs are among them
            cause = error.__cause__ or error
            return Fault("unavailable", f"cannot be reached ({self._scrub(str(cause)) or type(cause).__name__})")
        if not isinstance(error, openai.APIStatusError):
            return Fault("transient", f"the answer cannot be read ({self._scrub(str(error))})")
        said = server_error(error.body or error.message)
        fault = status_fault(error.status_code, said, self._client.api_key, retry_after(error.response.headers))
        return Fault(MISSING, fault.message) if error.status_code in _ABSENT_STATUS else fault

    def _scrub(self, text: str) -> str:
        return scrub(text, self._client.api_key)

    def _stopped(self, what: str, fault: Fault) -> EndpointError:
        return EndpointError(
            self._provider,
            f"{what} failed: {fault.message}",
            "look after the endpoint, the key or the account and run the same command again; nothing is lost",
        )

    async def _listed(self, file_id: str, sha256: str, known: Container[str]) -> list[str]:
        """The batches of that very upload, before those of a file with the same content."""
        same_file: list[str] = []
        same_content: list[str] = []
        seen: set[str] = set()
        async for batch in self._client.batches.list(limit=LIST_PAGE):
            if batch.id in seen:
                break  # the endpoint does not turn the page
            seen.add(batch.id)
            if batch.id in known or str(batch.status).lower() == _ENDED_EMPTY:
                continue
            if batch.input_file_id == file_id:
                same_file.append(batch.id)
            elif (batch.metadata or {}).get(MARK) == sha256:
                same_content.append(batch.id)
        return same_file or same_content

    async def _once(self, ask: Callable[[], Awaitable[_Value]]) -> _Value | Fault:
        try:
            return await ask()
        except openai.OpenAIError as error:
            fault = self.fault(error)
        except _CUT as error:
            fault = Fault("unavailable", f"the connection was cut ({type(error).__name__})")
        except ValueError as error:  # no JSON, though the header says so
            fault = Fault("transient", f"the answer cannot be read ({type(error).__name__})")
        if fault.kind == "fatal":
            raise self._stopped("a call", fault)
        return fault

    async def _call(self, what: str, ask: Callable[[], Awaitable[_Value]]) -> _Value | Fault:
        """The result of `ask`, repeated after faults that pass; a fault that does not."""
        fault = Fault("transient", "not asked")
        for number in range(CALL_TRIES):
            result = await self._once(ask)
            if not isinstance(result, Fault) or result.kind in ("refused", MISSING):
                return result
            fault = result
            if number + 1 < CALL_TRIES:
                await self._pause(self._backoff(number, fault))
        raise self._stopped(what, fault)

    @staticmethod
    def _backoff(number: int, fault: Fault) -> float:
        """Full jitter, or what the endpoint asks for."""
        if fault.retry_after is not None:
            return fault.retry_after
        return random.uniform(0, min(CALL_BACKOFF_MOST_S, CALL_BACKOFF_FIRST_S * 2**number))
