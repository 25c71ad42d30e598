"""What is asked and what comes back: frozen records that cross the layers, and the key an answer is stored under."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property

from dataset_builder.instructions import Prompt

KEY_VERSION = 1  # part of every key: raise it when the meaning of a key changes


@dataclass(frozen=True)
class Sampling:
    """How the model draws an answer. `temperature` 0 is greedy; None leaves a value to the server's default.

    `seed` also makes a repeated question a new one, so that a second answer is bought and kept beside the first.
    """

    max_tokens: int
    temperature: float | None = None
    top_p: float | None = None
    seed: int = 0


@dataclass(frozen=True)
class CaptionRequest:
    """One question to a language model.

    `provider` names who answers without naming a port or a process (`local`, or the host of the endpoint);
    `variant` is the track id: two tracks with equal tags get answers of their own, as in the paper.
    """

    provider: str
    model: str
    prompt: Prompt
    sampling: Sampling
    variant: str

    @cached_property
    def canonical(self) -> str:
        """Everything that can change the answer, as canonical JSON; nothing that can't (time-outs, keys, retries)."""
        return json.dumps(
            {
                "key_version": KEY_VERSION,
                "provider": self.provider,
                "model": self.model,
                "messages": [[message.role, message.content] for message in self.prompt.messages],
                "sampling": {
                    "max_tokens": self.sampling.max_tokens,
                    "temperature": self.sampling.temperature,
                    "top_p": self.sampling.top_p,
                    "seed": self.sampling.seed,
                },
                "variant": self.variant,
            },
            sort_keys=True,
            ensure_ascii=False,
            separators=(",", ":"),
        )

    @cached_property
    def key(self) -> str:
        """sha256 of `canonical`: 64 hex characters."""
        return hashlib.sha256(self.canonical.encode()).hexdigest()


@dataclass(frozen=True)
class Answer:
    """A raw answer, before anything is parsed. Token counts are None when the server does not report them."""

    text: str
    model: str | None = None
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


@dataclass(frozen=True)
class Fault:
    """A request without an answer.

    `kind` decides what happens next: `transient` is tried again after a back-off, `rate_limited` after `retry_after`
    seconds (or a back-off) without counting as a try, `refused` is recorded and not tried again, `fatal` stops the
    run (wrong key, unknown model, no quota): every further request would fail in the same way.
    """

    kind: str
    message: str
    retry_after: float | None = None
