"""Any OpenAI-compatible chat endpoint, or several at once, through the `openai` client.

With its aiohttp transport and without its pydantic models the client needs a fraction of the processor time of its
defaults: hundreds of requests under way are then bounded by the server. So the answer is read as plain JSON here.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import anyio
import httpx2
import openai

from dataset_builder.captioning.backends.endpoints import (
    Endpoint,
    EndpointPool,
    check_url,
    is_loopback_host,
    provider_label,
)
from dataset_builder.captioning.backends.response_format import (
    RUNGS,
    TOKEN_FIELDS,
    chat_body,
    next_rung,
    refuses_structure,
    refuses_token_field,
)
from dataset_builder.captioning.backends.server_faults import (
    ServerError,
    rate_hint,
    read_error,
    retry_after,
    scrub,
    status_fault,
)
from dataset_builder.captioning.requests import Answer, CaptionRequest, Fault, RateHint
from lpmc_errors import EndpointError, UsageError

DEFAULT_BASE_URL = "https://api.openai.com/v1"
CONCURRENCY = 512  # requests at once at the most; the engine begins with fewer and learns how many the server takes
TIMEOUT_S = 300.0  # per request; a model on the user's own CPU may take minutes when requests queue up in it
CONNECT_TIMEOUT_S = 10.0  # a server that is there takes the connection at once, however busy it is
CHECK_TIMEOUT_S = 30.0
KEEP_ALIVE_S = 4.0  # uvicorn closes an idle connection after 5 s; a request sent at that moment would be lost
SPARE_CONNECTIONS = 16  # beside the requests: checks, and connections that are being closed
LOCAL_KEY = "none"  # servers on the user's own machines want no key, the client insists on one

_NOT_CONNECTED = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)  # the request never left
_UNREADABLE = (aiohttp.ClientResponseError, httpx2.DecodingError, httpx2.TooManyRedirects)
_TIMED_OUT = (TimeoutError, asyncio.TimeoutError, httpx2.ReadTimeout)
_UNANSWERED = (openai.OpenAIError, aiohttp.ClientError, httpx2.HTTPError, httpx2.InvalidURL, OSError, *_TIMED_OUT)

_LIMIT_NAME = " token limit"  # ends the name under which the rungs remember how a server calls it

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Failure:
    """A fault and what it says of the server beside the request."""

    fault: Fault
    reached: bool = True
    sent: bool = True  # False: another server may be asked at once, nothing was spent
    structure: bool = False  # the response format may be what was refused
    token_field: bool = False  # the name of the token limit is what was refused


class ChatBackend:
    """Asks one request at a time; the engine decides how many are under way and what is tried again.

    `base_url` is one address or several that serve the same model; each request goes to the one with the fewest under
    way, and one that is down is left alone while another lives. The key comes from `api_key` or the environment
    variable OPENAI_API_KEY and is kept out of every message. `provider` is part of the key of every answer: without
    one it is `self-hosted` for servers of one's own and else the name of the public host.

    `structured` is how an answer with a schema is asked for: `auto` begins with a strict JSON schema and goes down to
    `json_object` and plain text where a server refuses it; the others stay with one way. `rungs` remembers the way
    per server and model, and how it calls the token limit (give a mapping that is kept between runs, and a run begins
    where the last one arrived).

    Raises `UsageError` when OpenAI is asked without a key, an address is no http(s) address, or the addresses are of
    different providers.
    """

    name = "openai"
    batch_size = 1

    def __init__(
        self,
        model: str,
        *,
        base_url: str | Sequence[str] | None = None,
        api_key: str | None = None,
        concurrency: int = CONCURRENCY,
        timeout: float = TIMEOUT_S,
        provider: str | None = None,
        structured: str = "auto",
        rungs: MutableMapping[str, str] | None = None,
    ):
        given = [base_url] if isinstance(base_url, str) else list(base_url or ())
        urls = given or [os.environ.get("OPENAI_BASE_URL") or DEFAULT_BASE_URL]
        self.base_urls = tuple(dict.fromkeys(check_url(url) for url in urls))
        if structured not in ("auto", *RUNGS):
            raise UsageError(f"--structured {structured}", "is unknown", f"choose from auto, {', '.join(RUNGS)}")
        key = api_key or os.environ.get("OPENAI_API_KEY")
        if not key and DEFAULT_BASE_URL in self.base_urls:
            raise UsageError(
                "OPENAI_API_KEY", "is not set", "export it, or name your own server with --base-url http://HOST:PORT/v1"
            )
        self.model = model
        self.provider = provider_label(self.base_urls, provider)
        self.concurrency = concurrency
        self.unreachable: tuple[str, ...] = ()  # addresses that `check` could not reach
        self._secret = key or ""
        self._timeout = timeout
        self._structured = structured
        self._rungs: MutableMapping[str, str] = {} if rungs is None else rungs
        self._pool = EndpointPool(self.base_urls)
        self._http = _http_client(self.base_urls, concurrency, timeout)
        # One owner of retries: the engine. The client's own would multiply with them.
        self._clients = {
            url: openai.AsyncOpenAI(
                api_key=key or LOCAL_KEY,
                base_url=url,
                max_retries=0,
                timeout=self._http.timeout,
                http_client=self._http,
            )
            for url in self.base_urls
        }

    @property
    def client(self) -> openai.AsyncOpenAI:
        """The client of the first address: for what is done once, such as handing in batch files."""
        return self._clients[self.base_urls[0]]

    def body(self, request: CaptionRequest) -> dict[str, Any]:
        """The body that the first address gets for `request`, as far as it is known what it takes: for batch files."""
        return chat_body(request, *self._form(f"{self.base_urls[0]} {request.model}"))

    def _form(self, place: str) -> tuple[str, str]:
        """The rung and the name of the token limit for a server and model."""
        rung = self._rungs.get(place, RUNGS[0]) if self._structured == "auto" else self._structured
        field = self._rungs.get(f"{place}{_LIMIT_NAME}", TOKEN_FIELDS[0])
        return rung if rung in RUNGS else RUNGS[0], field if field in TOKEN_FIELDS else TOKEN_FIELDS[0]

    async def check(self) -> None:
        """Raise `EndpointError` when no server can be reached or one refuses the key; before anything is paid.

        Servers that can't be reached beside one that can are logged and listed in `unreachable`.
        """
        results = await asyncio.gather(*(self._check_one(endpoint) for endpoint in self._pool.endpoints))
        failed = [(endpoint.url, fault) for endpoint, fault in zip(self._pool.endpoints, results, strict=True) if fault]
        for url, fault in failed:
            if fault.kind == "fatal":
                raise EndpointError(url, fault.message, "set OPENAI_API_KEY to a valid key for this endpoint")
        self.unreachable = tuple(url for url, _ in failed)
        if len(failed) == len(self.base_urls):
            more = f" and {len(failed) - 1} more" if len(failed) > 1 else ""
            raise EndpointError(failed[0][0] + more, failed[0][1].message, "start the server or correct --base-url")
        for url, fault in failed:
            logger.warning("%s: %s; the run goes on with the other servers", url, fault.message)

    async def answer(self, requests: Sequence[CaptionRequest]) -> list[Answer | Fault]:
        """The answers to `requests`, in their order; every failure becomes a `Fault`."""
        if len(requests) == 1:
            return [await self._answer_one(requests[0])]
        return list(await asyncio.gather(*(self._answer_one(request) for request in requests)))

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def _answer_one(self, request: CaptionRequest) -> Answer | Fault:
        tried: list[Endpoint] = []
        failure: _Failure | None = None
        while (endpoint := self._pool.pick(time.monotonic(), tried)) is not None:
            outcome: Answer | _Failure | None = None
            try:
                outcome = await self._ask(endpoint.url, request)
            finally:  # also when the run is stopped in the middle
                reached = not isinstance(outcome, _Failure) or outcome.reached
                self._pool.release(endpoint, time.monotonic(), reached)
            if isinstance(outcome, Answer):
                return outcome
            failure = outcome
            if failure.sent:
                break
            tried.append(endpoint)  # nothing was sent, so this is no second try: the engine alone owns those
        assert failure is not None  # the first pick always names a server
        return failure.fault

    async def _ask(self, url: str, request: CaptionRequest) -> Answer | _Failure:
        """One answer of one server, on the highest rung that it takes."""
        place = f"{url} {request.model}"
        rung, field = self._form(place)
        refusal: Fault | None = None
        while True:
            outcome = await self._send(url, chat_body(request, rung, field))
            if isinstance(outcome, _Failure) and outcome.token_field and field == TOKEN_FIELDS[0]:
                field = self._rungs[f"{place}{_LIMIT_NAME}"] = TOKEN_FIELDS[1]
                continue
            lower = next_rung(rung) if request.prompt.schema and self._structured == "auto" else None
            if isinstance(outcome, _Failure) and outcome.structure and lower:
                rung, refusal = lower, outcome.fault
                continue
            if isinstance(outcome, Answer) and refusal is not None and self._rungs.get(place) != rung:
                # Only now is it certain that the response format was what the server refused.
                self._rungs[place] = rung
                logger.warning("%s: structured answers are asked for as %s (%s)", url, rung, refusal.message)
            return outcome

    async def _send(self, url: str, body: dict[str, Any]) -> Answer | _Failure:
        try:
            with anyio.fail_after(self._timeout):  # in all; the transport's own time-outs begin anew with every byte
                response = await self._clients[url].post("/chat/completions", cast_to=httpx2.Response, body=body)
        except openai.APIStatusError as error:
            return self._status_failure(error.response)
        except _UNANSWERED as error:
            return self._connection_failure(error, self._timeout)
        return self._read(response)

    def _read(self, response: httpx2.Response) -> Answer | _Failure:
        hint = rate_hint(response.headers.raw)
        try:
            completion = json.loads(response.content)
            if completion.get("error") and not completion.get("choices"):  # some hosts send errors with status 200
                return self._error_in_answer(response, hint)
            choice = completion["choices"][0]
            message = choice["message"]
            text, reason = message.get("content"), choice.get("finish_reason")
            usage = completion.get("usage") or {}
            prompt_tokens, completion_tokens = usage.get("prompt_tokens"), usage.get("completion_tokens")
            model, refusal = completion.get("model"), message.get("refusal")
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            return _Failure(
                Fault(
                    "transient",
                    f"the server's answer is no chat completion ({type(error).__name__})",
                    hint=hint,
                    billed=True,
                )
            )
        if reason == "error":  # the host lost its model half way
            return _Failure(Fault("transient", "the server broke off its answer (finish_reason error)", hint=hint))
        if reason == "content_filter":
            return _Failure(Fault("refused", "the content filter stopped the answer", hint=hint))
        if not isinstance(text, str):
            if reason == "length":
                text = ""  # a reasoning model that used up its room: more room helps, as with any answer cut short
            elif isinstance(refusal, str):
                return _Failure(Fault("refused", f"the model refused: {scrub(refusal, self._secret)}", hint=hint))
            else:
                called = " but a tool call" if message.get("tool_calls") else ""
                return _Failure(
                    Fault("refused", f"the server sent no text{called} (finish_reason {reason})", hint=hint)
                )
        return Answer(
            text,
            model if isinstance(model, str) else None,
            reason if isinstance(reason, str) else None,
            prompt_tokens if isinstance(prompt_tokens, int) else None,
            completion_tokens if isinstance(completion_tokens, int) else None,
            hint,
        )

    def _status_failure(self, response: httpx2.Response) -> _Failure:
        return self._failure(
            response.status_code,
            read_error(response.content),
            retry_after(response.headers),
            rate_hint(response.headers.raw),
        )

    def _error_in_answer(self, response: httpx2.Response, hint: RateHint | None) -> _Failure:
        error = read_error(response.content)
        status = int(error.code) if error.code and error.code.isdecimal() and 400 <= int(error.code) < 600 else 500
        return self._failure(status, error, retry_after(response.headers), hint)

    def _failure(self, status: int, error: ServerError, wait: float | None, hint: RateHint | None) -> _Failure:
        fault = status_fault(status, error, self._secret, wait, hint)
        structure = refuses_structure(status, error.message, error.param)
        token_field = refuses_token_field(status, error.message, error.param)
        return _Failure(
            fault, reached=fault.kind != "unavailable", structure=structure and not token_field, token_field=token_field
        )

    def _connection_failure(self, error: BaseException, within: float) -> _Failure:
        """What a failure without an answer means, by aiohttp's own errors, which the transport often misnames."""
        chain = [error]
        while (cause := chain[-1].__cause__) is not None and len(chain) < 8:
            chain.append(cause)
        told = scrub(next((str(link) for link in reversed(chain) if str(link)), type(error).__name__), self._secret)
        if any(isinstance(link, _NOT_CONNECTED) for link in chain):
            return _Failure(Fault("unavailable", f"cannot be reached ({told})"), reached=False, sent=False)
        if any(isinstance(link, _UNREADABLE) for link in chain):
            return _Failure(Fault("transient", f"the answer cannot be read ({told})", billed=True))
        if any(isinstance(link, _TIMED_OUT) for link in chain):
            words = f"no answer within {min(within, self._timeout):g} s"
            return _Failure(Fault("transient", words, billed=True, timed_out=True))
        return _Failure(Fault("unavailable", f"the connection was cut ({told})"), reached=False)

    async def _check_one(self, endpoint: Endpoint) -> Fault | None:
        """The fault that keeps `endpoint` from being used, None if it answers (many servers have no /models)."""
        try:
            with anyio.fail_after(CHECK_TIMEOUT_S):
                # On a connection of its own: a server may close it when it likes and cut off the first question on it.
                async with _http_client([endpoint.url], 1, self._timeout) as http:
                    client = self._clients[endpoint.url].with_options(http_client=http)
                    await client.get("/models", cast_to=httpx2.Response)
        except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
            return self._status_failure(error.response).fault
        except openai.APIStatusError:
            return None
        except _UNANSWERED as error:
            return self._connection_failure(error, CHECK_TIMEOUT_S).fault
        return None


def _http_client(urls: Sequence[str], concurrency: int, timeout: float) -> httpx2.AsyncClient:
    """The aiohttp transport with room for `concurrency` requests; the environment's proxies, not for this machine."""
    connections = concurrency + SPARE_CONNECTIONS
    hosts = {urlsplit(url).hostname or "" for url in urls}
    direct = [f"[{host}]" if ":" in host else host for host in hosts if is_loopback_host(host)]
    return openai.DefaultAioHttpClient(
        limits=httpx2.Limits(
            max_connections=connections, max_keepalive_connections=connections, keepalive_expiry=KEEP_ALIVE_S
        ),
        timeout=httpx2.Timeout(timeout, connect=min(timeout, CONNECT_TIMEOUT_S)),
        mounts={f"all://{host}": None for host in direct},
    )
