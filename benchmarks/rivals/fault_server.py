"""The server of `generation_faults.py`: 400 prompts, an answer made of the tags, and faults that are the same for all.

An OpenAI-compatible chat endpoint on 127.0.0.1 and 127.0.0.2. What becomes of a request is decided by a hash of its
prompt and of how often that prompt has come before; the first part of the path names the run, and every run starts
from nothing. `/{run}/log` is the log.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass

PROMPTS = 400
ANSWER_S = 0.05  # the server's time for an answer or a fault
RETRY_AFTER_S = 1  # what a 429 asks for
# Of the faults. Chosen so that the first requests meet exactly the shares below, and the first 50 prompts neither a 400
# nor garbage: when its first batch of 50 is lost, distilabel cannot read its own files back and nothing is kept.
SEED = 466
REFUSED_SHARE = 0.01  # prompts that are always answered 400
# First matching share of a uniform hash of (prompt, times seen); with the refused prompts, 5 % of requests fail.
FAULT_SHARES = (("rate_limited", 0.015), ("error", 0.010), ("garbage", 0.015))
TAGS = [
    "acoustic guitar",
    "piano",
    "violin",
    "flute",
    "cello",
    "harmonica",
    "trumpet",
    "saxophone",
    "banjo",
    "mandolin",
    "accordion",
    "harp",
    "organ",
    "clarinet",
    "jazz",
    "blues",
    "folk",
    "techno",
    "ambient",
    "reggae",
    "disco",
    "gospel",
    "mellow",
    "energetic",
    "melancholic",
    "dreamy",
    "relaxing",
    "uplifting",
    "dark",
    "romantic",
    "groovy",
    "peaceful",
    "aggressive",
    "hypnotic",
]


def make_tags() -> list[tuple[str, ...]]:
    """`PROMPTS` different tag lists of 3 to 6 tags; the index is the prompt's id. The same in every process."""
    chance = random.Random(20260)
    lists: dict[tuple[str, ...], None] = {}
    while len(lists) < PROMPTS:
        lists[tuple(chance.sample(TAGS, chance.randint(3, 6)))] = None
    return list(lists)


def _uniform(*parts: object) -> float:
    return int.from_bytes(hashlib.sha256(repr((SEED, *parts)).encode()).digest()[:8], "big") / 2**64


def is_refused(prompt: int) -> bool:
    """Whether the server answers 400 to `prompt` whenever it comes."""
    return _uniform("refused", prompt) < REFUSED_SHARE


def outcome_of(prompt: int, seen: int) -> str:
    """What becomes of `prompt` when it comes after having been `seen` times: `ok`, `refused` or a fault."""
    if is_refused(prompt):
        return "refused"
    value = _uniform("fault", prompt, seen)
    for name, share in FAULT_SHARES:
        if value < share:
            return name
        value -= share
    return "ok"


@dataclass
class Seen:
    """One request: seconds of the server's monotonic clock at its arrival and at its reply. `prompt` -1: not ours."""

    prompt: int
    outcome: str
    arrived: float
    replied: float = 0.0


def caption_of(prompt: int, tags: tuple[str, ...]) -> str:
    """The server's answer; the id in it shows later beside which prompt it was put."""
    return f"A recording with {', '.join(tags[:-1])} and {tags[-1]}, take {prompt:04d}."


async def serve() -> None:
    """Serve until the process is ended; the first line on standard output is the port."""
    from aiohttp import web

    lists = make_tags()
    prompt_of = {", ".join(tags): number for number, tags in enumerate(lists)}
    logs: dict[str, list[Seen]] = defaultdict(list)
    times: dict[str, Counter[int]] = defaultdict(Counter)

    async def models(request: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": "fault-server", "object": "model"}]})

    async def chat(request: web.Request) -> web.Response:
        arrived = time.monotonic()
        label = request.match_info["label"]
        try:
            messages = (await request.json()).get("messages") or [{"content": ""}]
        except ConnectionResetError:  # killed while it was sending: no request
            return web.Response()
        content = messages[-1]["content"]
        text = content if isinstance(content, str) else content[0]["text"]
        prompt = prompt_of.get(text.strip().rsplit("\n", 1)[-1].strip(), -1)
        outcome = "ok" if prompt < 0 else outcome_of(prompt, times[label][prompt])
        times[label][prompt] += 1
        seen = Seen(prompt, outcome, arrived)
        logs[label].append(seen)
        await asyncio.sleep(ANSWER_S)  # goes on when the client is killed: the provider has answered, and charges
        seen.replied = time.monotonic()
        if outcome == "rate_limited":
            error = {"message": "Rate limit reached for requests", "type": "requests", "code": "rate_limit_exceeded"}
            return web.json_response({"error": error}, status=429, headers={"Retry-After": str(RETRY_AFTER_S)})
        if outcome == "error":
            return web.json_response(
                {"error": {"message": "The server had an error", "type": "server_error"}}, status=500
            )
        if outcome == "refused":
            # vLLM's words; datatrove looks for this type when it skips bad requests, the others read the status.
            refusal = {"message": "Invalid prompt", "type": "BadRequestError", "param": None, "code": 400}
            return web.json_response({"error": refusal}, status=400)
        if outcome == "garbage":
            return web.Response(text="<html><body>Service temporarily busy</body></html>", content_type="text/html")
        answer = "Hello." if prompt < 0 else caption_of(prompt, lists[prompt])
        message = {"role": "assistant", "content": answer}
        return web.json_response(
            {
                "id": "chatcmpl-1",
                "object": "chat.completion",
                "created": int(time.time()),
                "model": "fault-server",
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 30, "completion_tokens": 20, "total_tokens": 50},
            }
        )

    async def log(request: web.Request) -> web.Response:
        entries = logs[request.match_info["label"]]
        if "count" in request.query:
            answered = len({seen.prompt for seen in entries if seen.outcome == "ok" and seen.replied})
            return web.json_response({"answered": answered, "requests": len(entries), "now": time.monotonic()})
        return web.json_response([asdict(seen) for seen in entries])

    app = web.Application()
    # datatrove appends /v1/models to an address that already ends in /v1; a provider would not answer that.
    for path in ("/{label}/v1/models", "/{label}/v1/v1/models"):
        app.router.add_get(path, models)
    app.router.add_post("/{label}/v1/chat/completions", chat)
    app.router.add_get("/{label}/log", log)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    first = web.TCPSite(runner, "127.0.0.1", 0)
    await first.start()
    port = runner.addresses[0][1]
    await web.TCPSite(runner, "127.0.0.2", port).start()
    print(port, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve())
