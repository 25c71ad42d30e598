"""How fast tags become captions through HTTP, and how a run of the paper's size (2,170,000 requests) plans and resumes.

    python benchmarks/generation.py throughput            # server on core 0, one client after another on core 1
    python benchmarks/generation.py scale --folder DIR    # needs about 6 GB of disk and a quarter of an hour

`throughput` compares, interleaved, the engine with its store and its checks against the same requests through a plain
`AsyncOpenAI` with `asyncio.gather`, and through bare aiohttp, which is what the machine allows. The server answers each
request after 200 ms and does nothing else.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

LATENCY_S = 0.2
IN_FLIGHT = 500
REQUESTS = 8_000
ROUNDS = 3
TRACKS = 542_500  # times four instructions: 2,170,000 requests, the paper's size
FINISHED_SHARE = 0.99
WORDS = (
    *("rock", "jazz", "techno", "ambient", "blues", "folk", "reggae", "piano", "saxophone", "electric guitar", "flute"),
    *("violin", "drums", "synthesizer", "male vocals", "female vocals", "slow tempo", "fast tempo", "mellow", "dark"),
    *(
        "energetic",
        "happy",
        "melancholic",
        "acoustic",
        "distorted",
        "lo-fi",
        "groovy",
        "dreamy",
        "1980s",
        "instrumental",
    ),
)


def tags(number: int, count: int) -> tuple[str, ...]:
    return tuple(random.Random(number).sample(WORDS, count))


# --- the server -----------------------------------------------------------------------------------------------------


def serve(port: int) -> None:
    """Chat completions that repeat the tags, after `LATENCY_S`."""
    from aiohttp import web

    async def chat(request: web.Request) -> web.Response:
        body = json.loads(await request.read())
        asked = body["messages"][-1]["content"].rsplit("\n", 1)[-1].strip()
        await asyncio.sleep(LATENCY_S)
        message = {"role": "assistant", "content": f"This is a piece with {asked}."}
        answer = {
            "id": "c",
            "object": "chat.completion",
            "created": 1,
            "model": "m",
            "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
            "usage": {"prompt_tokens": 90, "completion_tokens": 44, "total_tokens": 134},
        }
        return web.Response(body=json.dumps(answer).encode(), content_type="application/json")

    async def models(request: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": []})

    app = web.Application()
    app.router.add_post("/v1/chat/completions", chat)
    app.router.add_get("/v1/models", models)
    web.run_app(app, host="127.0.0.1", port=port, print=None, access_log=None, backlog=2048)


@contextlib.contextmanager
def server(core: int | None) -> Iterator[str]:
    """A running server, on `core` when given; its base URL."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen([sys.executable, __file__, "serve", str(port)])
    if core is not None:
        os.sched_setaffinity(process.pid, {core})
    try:
        for _ in range(200):
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/models", timeout=1).close()
                break
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(10)


# --- the clients ----------------------------------------------------------------------------------------------------


def prompts() -> list[str]:
    from dataset_builder.instructions import render_prompt

    return [render_prompt("writing", tags(number, 5)).messages[-1].content for number in range(REQUESTS)]


def ask_with_engine(url: str) -> int:
    from dataset_builder.captioning.backends.openai_chat import ChatBackend
    from dataset_builder.captioning.pseudo_caption import caption_tracks, make_plan
    from dataset_builder.tracks import TaggedTrack, write_tracks

    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        write_tracks((TaggedTrack(f"t{n}", tags(n, 5)) for n in range(REQUESTS)), place / "tracks.parquet")
        backend = ChatBackend("m", base_url=url, api_key="k", concurrency=IN_FLIGHT)
        plan = make_plan(backend, ("writing",))
        started()
        found = caption_tracks(place / "tracks.parquet", place / "c.parquet", place / "s.sqlite", backend, plan)
        return found.outcomes["ok"]


def ask_with_gather(url: str) -> int:
    import openai

    async def run() -> int:
        client = openai.AsyncOpenAI(api_key="k", base_url=url, max_retries=5, timeout=120)
        gate = asyncio.Semaphore(IN_FLIGHT)

        async def one(prompt: str) -> str:
            async with gate:
                answer = await client.chat.completions.create(
                    model="m", messages=[{"role": "user", "content": prompt}], max_tokens=256
                )
            return answer.choices[0].message.content or ""

        return sum(map(bool, await asyncio.gather(*(one(prompt) for prompt in asked))))

    asked = prompts()
    started()
    return asyncio.run(run())


def ask_with_aiohttp(url: str) -> int:
    import aiohttp

    async def run() -> int:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=IN_FLIGHT)) as session:

            async def one(prompt: str) -> str:
                body = {"model": "m", "messages": [{"role": "user", "content": prompt}], "max_tokens": 256}
                async with session.post(f"{url}/chat/completions", json=body) as response:
                    return json.loads(await response.read())["choices"][0]["message"]["content"]

            return sum(map(bool, await asyncio.gather(*(one(prompt) for prompt in asked))))

    asked = prompts()
    started()
    return asyncio.run(run())


CLIENTS = {"engine": ask_with_engine, "AsyncOpenAI gather": ask_with_gather, "bare aiohttp": ask_with_aiohttp}


def started() -> None:
    """Mark the start of the asking: imports and the making of the input are no part of it."""
    global _wall, _cpu
    _wall, _cpu = time.perf_counter(), time.process_time()


_wall = _cpu = 0.0


def throughput() -> None:
    cores = sorted(os.sched_getaffinity(0))
    apart = len(cores) > 1
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in CLIENTS}
    with server(cores[0] if apart else None) as url:
        for _ in range(ROUNDS):
            for name in CLIENTS:
                output = subprocess.run(
                    [sys.executable, __file__, "client", name, url, str(cores[-1] if apart else -1)],
                    check=True,
                    capture_output=True,
                    text=True,
                ).stdout
                kept, wall, cpu = json.loads(output.splitlines()[-1])
                assert kept == REQUESTS, (name, kept)
                found[name].append((REQUESTS / wall, cpu / REQUESTS * 1e6))
    print(
        f"{REQUESTS} requests, {IN_FLIGHT} in flight, {LATENCY_S * 1000:.0f} ms, medians of {ROUNDS} interleaved rounds"
    )
    print("| client | answers a second | (lowest to highest) | processor time an answer | against gather |")
    print("|---|---:|---:|---:|---:|")
    plain = statistics.median(rate for rate, _ in found["AsyncOpenAI gather"])
    for name, runs in found.items():
        rates, cpu = sorted(rate for rate, _ in runs), statistics.median(cost for _, cost in runs)
        middle = statistics.median(rates)
        print(f"| {name} | {middle:.0f} | {rates[0]:.0f} to {rates[-1]:.0f} | {cpu:.0f} µs | {middle / plain:.2f} x |")


def client(name: str, url: str, core: int) -> None:
    if core >= 0:
        os.sched_setaffinity(0, {core})
    kept = CLIENTS[name](url)
    print(json.dumps([kept, time.perf_counter() - _wall, time.process_time() - _cpu]))


# --- the paper's size -----------------------------------------------------------------------------------------------


def scale(folder: Path, tracks: int) -> None:
    """Plan, resume and report a run of `tracks` x 4 requests, each in a process of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    print(f"{tracks * 4:,} requests; store 99 % finished, the missing ones last")
    print("| step | seconds | peak memory (MiB) | |")
    print("|---|---:|---:|---|")
    steps = ["tracks", "estimate", "fill", "resume", "report"]
    with server(None) as url:
        for step in steps:
            if step == "fill" and (folder / "filled").exists():
                continue
            output = subprocess.run(
                [sys.executable, __file__, "step", step, str(folder), url, str(tracks)],
                check=True,
                capture_output=True,
                text=True,
            ).stdout
            seconds, peak, words = json.loads(output.splitlines()[-1])
            print(f"| {step} | {seconds:.1f} | {peak:.0f} | {words} |", flush=True)


def make_scale_tracks(folder: Path, url: str, tracks: int) -> str:
    from dataset_builder.tracks import TaggedTrack, write_tracks

    rows = (
        TaggedTrack(f"TR{n:07d}", tags(n, 5 + n % 6), "train", "msd", title=f"Title {n}", artist=f"Artist {n % 5000}")
        for n in range(tracks)
    )
    write_tracks(rows, folder / "tracks.parquet")
    return f"{(folder / 'tracks.parquet').stat().st_size / 2**20:.0f} MiB"


def scale_plan(url: str, most: int = 500):
    from dataset_builder.captioning.backends.openai_chat import ChatBackend
    from dataset_builder.captioning.pseudo_caption import make_plan
    from dataset_builder.instructions import INSTRUCTIONS

    backend = ChatBackend("m", base_url=url, api_key="k", concurrency=most)
    return backend, make_plan(backend, INSTRUCTIONS)


def estimate_scale(folder: Path, url: str, tracks: int) -> str:
    from dataset_builder.captioning.pseudo_caption import RunLimits, price_tracks

    _, plan = scale_plan(url)
    found = price_tracks(folder / "tracks.parquet", folder / "none.sqlite", plan, RunLimits())
    return f"{found.total.missing:,} to ask, {found.total.prompt_tokens.expected:,} prompt tokens"


def fill_store(folder: Path, url: str, tracks: int) -> str:
    """A store as a run leaves it that was ended after 99 % of its requests: same tables, same rows, no server."""
    from dataset_builder.captioning.captions_table import CaptionRow
    from dataset_builder.captioning.jobs import first_request, verdict_key, verdict_of
    from dataset_builder.captioning.pseudo_caption import plan_jobs
    from dataset_builder.captioning.requests import Answer
    from dataset_builder.captioning.store import AnswerStore

    _, plan = scale_plan(url)
    path = folder / "store.sqlite"
    total = tracks * len(plan.instructions)
    finished = int(FINISHED_SHARE * total)
    with AnswerStore(path) as store, store.sole_writer(), store.grouped(lambda: None):
        store.start_run(plan.signature, plan.facts, total, {"instructions": list(plan.instructions)})
        for number, job in enumerate(plan_jobs(folder / "tracks.parquet", plan)):
            if number == finished:
                break
            request = first_request(job, plan)
            store.begin([request])
            caption = f"This is a piece with {', '.join(job.track.tags)}, number {number}."
            store.settle(request.key, Answer(caption, "m", "stop", 90, 44), 0)
            row = CaptionRow(
                job.track.track_id,
                job.instruction,
                caption,
                "ok",
                caption_origin="model",
                request_key=request.key,
                attempts=1,
                seed=0,
                tag_coverage=1.0,
                facts=tuple(f"genre: {tag}" for tag in job.track.tags[:4]),
            )
            key = verdict_key(job, plan, request.key)
            store.keep_verdict(key, plan.signature, row.track_id, row.instruction, verdict_of(row))
            if number % 5_000 == 0:
                store.commit()
    (folder / "filled").touch()
    return f"{finished:,} answers, {path.stat().st_size / 2**30:.2f} GiB"


def resume_scale(folder: Path, url: str, tracks: int) -> str:
    """From the start of the command to the first request; then the run is stopped."""
    from dataset_builder.captioning.pseudo_caption import caption_tracks
    from lpmc_errors import Interrupted

    backend, plan = scale_plan(url, 8)
    begun, first = time.perf_counter(), 0.0
    original = backend.answer

    async def answer(requests):
        nonlocal first
        first = first or time.perf_counter() - begun
        if time.perf_counter() - begun - first > 2:
            raise Interrupted("the benchmark", "has seen enough")
        return await original(requests)

    backend.answer = answer
    with contextlib.suppress(Interrupted):
        caption_tracks(folder / "tracks.parquet", folder / "captions.parquet", folder / "store.sqlite", backend, plan)
    return f"**{first:.1f} s to the first request**"


def report_scale(folder: Path, url: str, tracks: int) -> str:
    from dataset_builder.captioning.report import store_report

    found = store_report([folder / "store.sqlite"])
    return json.dumps(found["plans"][0]["outcomes"])


STEPS = {
    "tracks": make_scale_tracks,
    "estimate": estimate_scale,
    "fill": fill_store,
    "resume": resume_scale,
    "report": report_scale,
}


def run_step(name: str, folder: Path, url: str, tracks: int) -> None:
    begun = time.perf_counter()
    words = STEPS[name](folder, url, tracks)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps([time.perf_counter() - begun, peak, words]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("throughput")
    big = commands.add_parser("scale")
    big.add_argument("--folder", type=Path, required=True)
    big.add_argument("--tracks", type=int, default=TRACKS)
    for name, words in (("serve", ["port"]), ("client", ["name", "url", "core"])):
        inner = commands.add_parser(name)
        for word in words:
            inner.add_argument(word)
    inner = commands.add_parser("step")
    for word in ("name", "folder", "url", "tracks"):
        inner.add_argument(word)
    given = parser.parse_args()
    if given.command == "throughput":
        throughput()
    elif given.command == "scale":
        scale(given.folder, given.tracks)
    elif given.command == "serve":
        serve(int(given.port))
    elif given.command == "client":
        client(given.name, given.url, int(given.core))
    else:
        run_step(given.name, Path(given.folder), given.url, int(given.tracks))


if __name__ == "__main__":
    main()
