"""What is asked and what comes back: frozen records that cross the layers, and the key an answer is stored under."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from json.encoder import encode_basestring

from dataset_builder.instructions import Message, Prompt

KEY_VERSION = 2  # part of every key: raise it when the meaning of a key changes


@dataclass(frozen=True)
class Sampling:
    """How the model draws an answer. `temperature` 0 is greedy; None leaves a value to the server's default.

    `seed` also makes a repeated question a new one, so that a second answer is bought and kept beside the first.
    """

    max_tokens: int
    temperature: float | None = None
    top_p: float | None = None
    seed: int = 0


@lru_cache(maxsize=1024)
def _form(
    provider: str,
    model: str,
    head: tuple[Message, ...],
    last_role: str,
    max_tokens: int,
    temperature: float | None,
    top_p: float | None,
    schema: str,
) -> str:
    """What the requests of a run have in common, as canonical JSON. Cached: a run has a dozen forms and two million
    requests."""
    return json.dumps(
        {
            "provider": provider,
            "model": model,
            "messages_before": [[message.role, message.content] for message in head],
            "role": last_role,
            "sampling": {
                "max_tokens": max_tokens,
                "temperature": None if temperature is None else float(temperature),
                "top_p": None if top_p is None else float(top_p),
            },
            "schema": schema,
        },
        sort_keys=True,
        ensure_ascii=False,
        separators=(",", ":"),
    )


@dataclass(frozen=True)
class CaptionRequest:
    """One question to a language model.

    `provider` names who answers without naming a port or a process (`local`, `self-hosted`, or the host of a public
    endpoint); `variant` is the track id: two tracks with equal tags get answers of their own, as in the paper
    (empty when identical prompts share one answer).
    """

    provider: str
    model: str
    prompt: Prompt
    sampling: Sampling
    variant: str

    @cached_property
    def form(self) -> str:
        """The part of `canonical` that does not depend on the track or the seed."""
        messages, sampling = self.prompt.messages, self.sampling
        return _form(
            self.provider,
            self.model,
            messages[:-1],
            messages[-1].role,
            sampling.max_tokens,
            sampling.temperature,
            sampling.top_p,
            self.prompt.schema,
        )

    @property
    def content(self) -> str:
        """The last message: the one that carries the tags."""
        return self.prompt.messages[-1].content

    @cached_property
    def canonical(self) -> str:
        """Everything that can change the answer, as canonical JSON; nothing that can't (time-outs, keys, retries)."""
        return canonical_text(self.form, self.content, self.sampling.seed, self.variant)

    @cached_property
    def key(self) -> str:
        """sha256 of `canonical`: 64 hex characters."""
        return hashlib.sha256(self.canonical.encode()).hexdigest()


def canonical_text(form: str, content: str, seed: int, variant: str) -> str:
    """The canonical JSON of a request from its parts (the store keeps the parts): keys sorted, no white space."""
    return (
        f'{{"content":{encode_basestring(content)},"form":{form},"key_version":{KEY_VERSION},'
        f'"seed":{seed},"variant":{encode_basestring(variant)}}}'
    )


@dataclass(frozen=True)
class RateHint:
    """What a server says of its rate limits in the headers of an answer (`x-ratelimit-*`); None: it does not say."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    remaining_requests: int | None = None
    remaining_tokens: int | None = None


@dataclass(frozen=True)
class Answer:
    """A raw answer, before anything is parsed. Token counts are None when the server does not report them."""

    text: str
    model: str | None = None
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    hint: RateHint | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Fault:
    """A request without an answer.

    `kind` decides what happens next:

    - `transient` (5xx, time-out, garbage): tried again after a back-off;
    - `unavailable` (nobody listens, the connection was cut, 502 to 504): the same, and many in a row open the breaker;
    - `rate_limited`: waits `retry_after` seconds or a back-off, without counting as a try;
    - `refused` (400, 422, a content filter): recorded and not sent again;
    - `fatal` (wrong key, unknown model, no quota): stops the run, as every further request would fail alike;
    - `lost`: the process ended while the request was under way; what it cost is not known.

    `billed`: the server may have done its work and charge for it (a time-out, an answer that came broken).
    `timed_out`: no answer came in time, which tells the concurrency limit that the server has too much to do.
    """

    kind: str
    message: str
    retry_after: float | None = None
    hint: RateHint | None = field(default=None, compare=False)
    billed: bool = False
    timed_out: bool = False
