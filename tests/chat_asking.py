"""Asking a chat server through the real backend, in one call."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from dataset_builder.captioning.backends.openai_chat import ChatBackend
from dataset_builder.captioning.requests import Answer, CaptionRequest, Fault, Sampling
from dataset_builder.instructions import Message, Prompt
from tests.chat_double import ChatDouble

SCHEMA = json.dumps({"type": "object", "properties": {"description": {"type": "string"}}, "required": ["description"]})
SECRET = "a-secret-of-the-user-1234"
DEAD = "http://127.0.0.1:9/v1"


def request(content: str = "Describe this.\nrock", *, schema: str = "", **sampling: Any) -> CaptionRequest:
    prompt = Prompt((Message("system", "Be brief. Answer as JSON."), Message("user", content)), "w", "1", schema=schema)
    return CaptionRequest("self-hosted", "double", prompt, Sampling(**{"max_tokens": 64, **sampling}), "t1")


def ask(url: str | list[str], *requests: CaptionRequest, **options: Any) -> list[Answer | Fault]:
    async def run() -> list[Answer | Fault]:
        backend = ChatBackend("double", base_url=url, api_key=SECRET, **options)
        try:
            return [(await backend.answer([one]))[0] for one in requests or (request(),)]
        finally:
            await backend.close()

    return asyncio.run(run())


def only(url: str | list[str], one: CaptionRequest | None = None, **options: Any) -> Answer | Fault:
    return ask(url, one or request(), **options)[0]


def answering(fault: Any) -> ChatDouble:
    return ChatDouble(lambda number, message: fault)
