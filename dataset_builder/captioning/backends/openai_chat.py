"""Any OpenAI-compatible chat endpoint, through the `openai` client."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import openai

from dataset_builder.captioning.requests import Answer, CaptionRequest, Fault
from lpmc_errors import EndpointError, UsageError

DEFAULT_BASE_URL = "https://api.openai.com/v1"
TIMEOUT_S = 300.0  # per request; a model on the user's own CPU may take minutes when requests queue up in it
LOCAL_KEY = "none"  # servers on the user's own machines want no key, the client insists on one
MESSAGE_LIMIT = 300  # characters of a server's error text that are kept

_KEY_LIKE = re.compile(r"\b(?:sk|hf|gsk|pk|rk|key)[-_][A-Za-z0-9_\-*.]{6,}")
_QUOTA_CODES = {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "account_deactivated"}


class ChatBackend:
    """Asks one request at a time; the engine decides how many are under way.

    The key comes from `api_key` or the environment variable OPENAI_API_KEY and is kept out of every message.
    Raises `UsageError` when a public endpoint is asked without a key or `base_url` is no http(s) address.
    """

    name = "openai"
    batch_size = 1

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        concurrency: int = 8,
        timeout: float = TIMEOUT_S,
    ):
        self.base_url = base_url or os.environ.get("OPENAI_BASE_URL") or DEFAULT_BASE_URL
        address = urlsplit(self.base_url)
        if address.scheme not in ("http", "https") or not address.hostname:
            raise UsageError(
                f"--base-url {self.base_url}", "is not an http(s) address", "give e.g. http://127.0.0.1:8000/v1"
            )
        key = api_key or os.environ.get("OPENAI_API_KEY")
        if not key and self.base_url == DEFAULT_BASE_URL:
            raise UsageError(
                "OPENAI_API_KEY", "is not set", "export it, or name your own server with --base-url http://HOST:PORT/v1"
            )
        self._key = key or LOCAL_KEY
        self.model = model
        self.provider = address.hostname  # no port: a restarted server keeps its answers
        self.concurrency = concurrency
        self._timeout = timeout
        # One owner of retries: the engine. The client's own would multiply with them.
        self._client = openai.AsyncOpenAI(api_key=self._key, base_url=self.base_url, max_retries=0, timeout=timeout)

    async def check(self) -> None:
        """Raise `EndpointError` when the endpoint can't be reached or refuses the key; before anything is paid."""
        try:
            await self._client.models.list()
        except (openai.AuthenticationError, openai.PermissionDeniedError, openai.APIConnectionError) as error:
            fault = self._fault(error)
            raise EndpointError(self.base_url, fault.message, self._remedy(error)) from None
        except openai.APIError:
            return  # many servers have no /models; the first real request will tell

    async def answer(self, requests: Sequence[CaptionRequest]) -> list[Answer | Fault]:
        """The answers to `requests`, in their order; every failure becomes a `Fault`."""
        return [await self._answer_one(request) for request in requests]

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def _answer_one(self, request: CaptionRequest) -> Answer | Fault:
        sampling = request.sampling
        arguments: dict[str, Any] = {"max_tokens": sampling.max_tokens}
        if sampling.temperature is not None:
            arguments["temperature"] = sampling.temperature
        if sampling.top_p is not None:
            arguments["top_p"] = sampling.top_p
        if sampling.seed:
            arguments["seed"] = sampling.seed
        messages: Any = [{"role": message.role, "content": message.content} for message in request.prompt.messages]
        try:
            completion = await self._client.chat.completions.create(model=request.model, messages=messages, **arguments)
            choice = completion.choices[0]
            text = choice.message.content
        except openai.OpenAIError as error:
            return self._fault(error)
        except (AttributeError, IndexError, TypeError, ValueError) as error:
            return Fault("transient", f"the server's answer is no chat completion ({type(error).__name__})")
        if not isinstance(text, str):
            reason = getattr(choice, "finish_reason", None)
            return Fault("refused", f"the server sent no text (finish_reason {reason})")
        usage = completion.usage
        return Answer(
            text,
            completion.model,
            choice.finish_reason,
            usage.prompt_tokens if usage else None,
            usage.completion_tokens if usage else None,
        )

    def _scrub(self, text: str) -> str:
        if self._key != LOCAL_KEY:
            text = text.replace(self._key, "[key]")
        return " ".join(_KEY_LIKE.sub("[key]", text).split())[:MESSAGE_LIMIT]

    @staticmethod
    def _remedy(error: openai.OpenAIError) -> str:
        if isinstance(error, openai.APIConnectionError):
            return "start the server or correct --base-url"
        return "set OPENAI_API_KEY to a valid key for this endpoint"

    def _fault(self, error: openai.OpenAIError) -> Fault:
        if isinstance(error, openai.APITimeoutError):
            return Fault("transient", f"no answer within {self._timeout:.0f} s")
        if isinstance(error, openai.APIConnectionError):
            return Fault("transient", f"cannot be reached ({self._scrub(str(error.__cause__ or error))})")
        if not isinstance(error, openai.APIStatusError):
            return Fault("transient", f"the answer cannot be read ({self._scrub(str(error))})")
        status = error.status_code
        message = f"HTTP {status}: {self._scrub(error.message)}"
        if status == 429:
            if error.code in _QUOTA_CODES or (isinstance(error.body, dict) and error.body.get("type") in _QUOTA_CODES):
                return Fault("fatal", message)
            return Fault("rate_limited", message, _retry_after(error))
        if status in (401, 403, 404):
            return Fault("fatal", message)
        if status in (408, 409) or status >= 500:
            return Fault("transient", message, _retry_after(error))
        return Fault("refused", message)


def _retry_after(error: openai.APIStatusError) -> float | None:
    value = error.response.headers.get("retry-after", "")
    try:
        return max(0.0, float(value))
    except ValueError:
        return None  # the date form is rare among model servers: the ordinary back-off serves
