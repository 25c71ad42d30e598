"""The JSON body of a chat request, and the ladder of ways to ask for a structured answer.

Servers differ in what they take: a strict JSON schema, any JSON object, or nothing but the prompt. The messages are the
same on every rung, so an answer is stored under the same key whichever rung it came by.
"""

from __future__ import annotations

import json
import re
from typing import Any

from dataset_builder.captioning.requests import CaptionRequest

RUNGS = ("json_schema", "json_object", "text")  # from the strictest down
# How the longest answer is said: by nearly all servers, and by OpenAI's own newer models, which refuse the first.
TOKEN_FIELDS = ("max_tokens", "max_completion_tokens")
SCHEMA_NAME = "answer"  # the API wants a name; it has no effect

# What servers call the thing they refuse. Read only in answers to requests that carried a response_format.
_STRUCTURE_WORDS = re.compile(
    r"response[_ ]?format|json[_ ]?(?:schema|object|mode)|structured[_ ]?outputs?|guided|grammar|schema"
    r"|requested parameters",
    re.IGNORECASE,
)
_UNSUPPORTED_WORDS = re.compile(r"\bunsupported\b|\bnot supported\b|\bnot implemented\b", re.IGNORECASE)
_STRUCTURE_STATUS = {400, 404, 422, 501}


def chat_body(request: CaptionRequest, rung: str, token_field: str = TOKEN_FIELDS[0]) -> dict[str, Any]:
    """The body of `/chat/completions` for `request`, made anew at every call.

    `rung` is one of `RUNGS` and matters only when the prompt has a schema; `token_field` is one of
    `TOKEN_FIELDS`. A seed of 0 and a temperature or top_p of None are left to the server.
    """
    sampling = request.sampling
    body: dict[str, Any] = {
        "model": request.model,
        "messages": [{"role": message.role, "content": message.content} for message in request.prompt.messages],
        token_field: sampling.max_tokens,
    }
    if sampling.temperature is not None:
        body["temperature"] = sampling.temperature
    if sampling.top_p is not None:
        body["top_p"] = sampling.top_p
    if sampling.seed:
        body["seed"] = sampling.seed
    if request.prompt.schema and rung == "json_schema":
        schema = {"name": SCHEMA_NAME, "strict": True, "schema": json.loads(request.prompt.schema)}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    elif request.prompt.schema and rung == "json_object":
        body["response_format"] = {"type": "json_object"}
    return body


def next_rung(rung: str) -> str | None:
    """The rung below, None below the lowest."""
    below = RUNGS.index(rung) + 1
    return RUNGS[below] if below < len(RUNGS) else None


def refuses_token_field(status: int, message: str, parameter: str | None) -> bool:
    """Whether a server refuses the name `max_tokens` and wants the other one."""
    return status in (400, 422) and TOKEN_FIELDS[1] in message and (parameter or TOKEN_FIELDS[0]) in TOKEN_FIELDS


def refuses_structure(status: int, message: str, parameter: str | None) -> bool:
    """Whether a server's refusal may be about the response format that was asked for.

    `parameter` is the field of the request that the server names, if it does. Some say only "unsupported", so this
    can be wrong; it is confirmed when the same request is answered on a lower rung.
    """
    if status not in _STRUCTURE_STATUS:
        return False
    if parameter:
        return bool(_STRUCTURE_WORDS.search(parameter))
    return bool(_STRUCTURE_WORDS.search(message) or _UNSUPPORTED_WORDS.search(message))
