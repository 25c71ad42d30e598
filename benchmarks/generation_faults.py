"""The same prompts through several systems at one server that fails: what is kept, what is paid for twice.

    python benchmarks/generation_faults.py --systems ours,distilabel,datatrove,data-designer,curator --venvs DIR

Every system runs in an environment of its own under DIR, made from `rivals/<name>.txt` when it is missing, and is used
as its documentation says, with retries, resume and error tolerance on; each script in `rivals/` names its settings.
The server is one process on 127.0.0.1. It decides by a hash of the prompt and of how often it has seen it, so that
every system meets the same faults. Two experiments a system:

- plain: the command, then the same command again until it keeps no more than before;
- killed: the same, with SIGKILL to its process group once half of the prompts are answered.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))  # run from the checkout, installed or not

from rivals.fault_server import ANSWER_S, PROMPTS, RETRY_AFTER_S, Seen, is_refused, make_tags, outcome_of  # noqa: E402

INSTRUCTION = "writing"
CONCURRENCY = 8  # requests in flight, for every system that has such an option
SILENCE_S = 30.0  # a command that sends no request for so long is killed and called hung; every start takes below 10
IN_HAND_S = 0.05  # an answer that left the server so shortly before the kill counts as under way
MOST_COMMANDS = 12  # an experiment gives up after so many


@dataclass(frozen=True)
class System:
    """How one system is started. `requirements` is empty for ours, which runs in the driver's environment."""

    name: str
    requirements: str
    script: str
    options: tuple[str, ...] = ()
    address: str = "http://127.0.0.1:{port}/{label}/v1"


SYSTEMS = {
    system.name: system
    for system in (
        System("ours", "", ""),
        System("distilabel", "distilabel", "ask_distilabel.py"),
        System("distilabel-batch1", "distilabel", "ask_distilabel.py", ("--batch", "1")),
        # 127.0.0.2 is no name that datatrove knows for this machine, so it takes its way to hosted APIs.
        System("datatrove", "datatrove", "ask_datatrove.py", address="http://127.0.0.2:{port}/{label}/v1"),
        System(
            "datatrove-tolerant", "datatrove", "ask_datatrove.py", ("--tolerant",), "http://127.0.0.2:{port}/{label}/v1"
        ),
        System("datatrove-local", "datatrove", "ask_datatrove.py", address="http://127.0.0.1:{port}/{label}"),
        System("data-designer", "data-designer", "ask_data_designer.py"),
        System("data-designer-buffer25", "data-designer", "ask_data_designer.py", ("--batch", "25")),
        System("curator", "curator", "ask_curator.py"),
    )
}


@contextlib.contextmanager
def running_server() -> Iterator[int]:
    """The port of a server process that ends with the block."""
    process = subprocess.Popen(
        [sys.executable, str(HERE / "rivals" / "fault_server.py")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline())
    finally:
        process.terminate()
        process.wait(timeout=10)


def ask_server(port: int, path: str) -> Any:
    """The JSON that the server answers to a GET of `path`."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=10) as reply:
        return json.load(reply)


# --- one system -----------------------------------------------------------------------------------------------------


def make_environment(system: System, venvs: Path) -> Path:
    """The Python of `system`, after installing its pinned requirements into `venvs` when they are not there yet."""
    if not system.requirements:
        return Path(sys.executable)
    folder = venvs / system.requirements
    python, mark = folder / "bin" / "python", folder / ".installed"
    pinned = HERE / "rivals" / f"{system.requirements}.txt"
    if not mark.exists() or mark.read_text() != pinned.read_text():
        print(f"installing {system.requirements} into {folder}", file=sys.stderr, flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        # The lists are complete, so nothing is resolved anew.
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-deps", "-r", str(pinned)], check=True)
        mark.write_text(pinned.read_text())
    return python


def write_inputs(folder: Path) -> None:
    """`prompts.jsonl` for the others and `tracks.parquet` for ours, with the same tags and the same user message."""
    from dataset_builder.instructions import render_prompt
    from dataset_builder.tracks import TaggedTrack, write_tracks

    lists = make_tags()
    write_tracks((TaggedTrack(f"{number:04d}", tags) for number, tags in enumerate(lists)), folder / "tracks.parquet")
    with (folder / "prompts.jsonl").open("w") as out:
        for number, tags in enumerate(lists):
            message = render_prompt(INSTRUCTION, tags).messages[-1]
            out.write(json.dumps({"id": f"{number:04d}", "prompt": message.content}) + "\n")


def command_of(system: System, python: Path, inputs: Path, work: Path, url: str) -> list[str]:
    """The command line of `system`; the same text resumes."""
    if system.script:
        return [
            *(str(python), str(HERE / "rivals" / system.script), "--prompts", str(inputs / "prompts.jsonl")),
            *("--base-url", url, "--work", str(work), "--concurrency", str(CONCURRENCY), *system.options),
        ]
    return [
        *(str(python), "-m", "lpmc", "pseudo-caption", str(inputs / "tracks.parquet"), "--backend", "openai"),
        *("--base-url", url, "--model", "fault-server", "--instructions", INSTRUCTION),
        *("--concurrency", str(CONCURRENCY), "--output", str(work / "captions.parquet"), "--json"),
    ]


def environment_of(work: Path, venvs: Path) -> dict[str, str]:
    """Offline, telemetry off, a home of its own, no key and no proxy of the user's."""
    tables = sorted(venvs.glob("*/lib/python*/site-packages/litellm/litellm_core_utils/tokenizers"))
    return {
        "PATH": os.environ["PATH"],
        "LANG": "C.UTF-8",
        "HOME": str(work / "home"),
        "PYTHONPATH": "",
        "OMP_NUM_THREADS": "1",
        "NO_PROXY": "*",
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TELEMETRY_ENABLED": "false",  # Curator
        "NEMO_TELEMETRY_ENABLED": "false",  # Data Designer
        **({"TIKTOKEN_CACHE_DIR": str(tables[0])} if tables else {}),
    }


def kept_rows(system: System, work: Path) -> list[tuple[str, str]]:
    """(id, caption) of every row that the system put into its result."""
    if system.script:
        file = work / "rows.jsonl"
        rows = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
        return [(row["id"], row["caption"]) for row in rows]
    import pyarrow.parquet as pq

    file = work / "captions.parquet"
    rows = pq.read_table(file).to_pylist() if file.exists() else []
    return [(row["track_id"], row["caption"]) for row in rows if row["caption_origin"] == "model"]


@dataclass
class Outcome:
    """What one experiment with one system gave; counts of prompts, rows, requests."""

    system: str
    experiment: str
    kept: list[int] = field(default_factory=list)  # right rows after every command
    exits: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    requests: list[int] = field(default_factory=list)  # of every command
    wrong: int = 0  # rows with another prompt's caption, or a second row for one prompt
    refused_sent: list[int] = field(default_factory=list)  # requests for the prompts that are always refused
    bought_twice: int = 0  # prompts answered well more than once
    under_way: int = 0  # of these, prompts with an answer that was under way at the kill
    rate_limited: int = 0  # 429 that were followed by another request of the same prompt ...
    waited: int = 0  # ... no sooner than Retry-After
    probes: int = 0  # requests that carry none of the prompts


def run_command(
    command: list[str], work: Path, venvs: Path, *, port: int, label: str, kill_at: int | None = None
) -> tuple[str, float]:
    """Run `command` in a process group of its own. `kill_at` answered prompts end it with SIGKILL.

    Returns how it ended (exit status, `killed` or `hung`) and when, by the server's clock, it was last known alive.
    """
    (work / "home").mkdir(parents=True, exist_ok=True)
    with (work / "output.txt").open("ab") as output:
        process = subprocess.Popen(
            command,
            cwd=HERE.parent if command[1] == "-m" else work,
            env=environment_of(work, venvs),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        end, alive, requests, heard = "", 0.0, -1, 0.0
        try:
            while process.poll() is None and not end:
                count = ask_server(port, f"{label}/log?count=1")
                alive = count["now"]
                if count["requests"] != requests:
                    requests, heard = count["requests"], alive
                if kill_at is not None and count["answered"] >= kill_at:
                    end = "killed"
                elif alive - heard > SILENCE_S:
                    end = "hung"
                else:
                    time.sleep(0.01 if kill_at else 0.1)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # also the workers that a crashed parent left behind
            process.wait()
    return end or str(process.returncode), alive


def experiment(system: System, name: str, python: Path, folder: Path, venvs: Path, port: int, turn: int) -> Outcome:
    """One experiment, `plain` or `killed`, with `system` from nothing."""
    label = f"{system.name}-{name}-{turn}"
    work = folder / label
    work.mkdir()
    url = system.address.format(port=port, label=label)
    command = command_of(system, python, folder, work, url)
    result = Outcome(system.name, name)
    killed_at = -1.0
    for number in range(MOST_COMMANDS):
        before = len(ask_server(port, f"{label}/log"))
        start = time.monotonic()
        kill = PROMPTS // 2 if name == "killed" and killed_at < 0 else None
        end, alive = run_command(command, work, venvs, port=port, label=label, kill_at=kill)
        result.exits.append(end)
        result.seconds.append(round(time.monotonic() - start, 1))
        if end == "killed":
            killed_at = alive
        time.sleep(4 * ANSWER_S)  # what was under way reaches the log
        log = [Seen(**entry) for entry in ask_server(port, f"{label}/log")]
        result.requests.append(len(log) - before)
        result.refused_sent.append(sum(seen.outcome == "refused" for seen in log[before:]))
        rows = kept_rows(system, work)
        right = {name for name, caption in rows if f"take {name}." in caption}
        result.kept.append(len(right))
        result.wrong = len(rows) - len(right)
        gained = number == 0 or result.kept[-1] > result.kept[-2]
        # An aborted command may gain nothing and still have passed a fault, so only a quiet end counts as the last.
        if end == "hung" or (not gained and end != "killed" and (end == "0" or not result.requests[-1])):
            break
    by_prompt: dict[int, list[Seen]] = defaultdict(list)
    for seen in log:
        by_prompt[seen.prompt].append(seen)
    result.probes = len(by_prompt.pop(-1, []))
    for entries in by_prompt.values():
        good = [seen for seen in entries if seen.outcome == "ok"]
        result.bought_twice += len(good) > 1
        result.under_way += len(good) > 1 and any(seen.arrived <= killed_at < seen.replied + IN_HAND_S for seen in good)
        for seen, following in pairwise(entries):
            if seen.outcome == "rate_limited":
                result.rate_limited += 1
                result.waited += following.arrived - seen.replied >= RETRY_AFTER_S
    return result


def commands_of(outcome: Outcome) -> str:
    """How many commands it took; the last one only shows that nothing more comes, unless it was cut short."""
    if outcome.exits[-1] == "hung" or len(outcome.kept) == MOST_COMMANDS:
        return f"{len(outcome.kept)}, unfinished"
    return str(len(outcome.kept) - 1)


def table(results: list[Outcome]) -> str:
    """The results as Markdown, one line a system and turn."""
    head = (
        "| system | kept by the first command | its requests | of these, for refused prompts | its exit "
        "| kept in the end | commands | wrong rows | 429 waited for "
        "| with SIGKILL at half: kept in the end | commands | answers bought twice (under way at the kill) |"
    )
    lines = [head, "|" + "---|" * (head.count("|") - 1)]
    for plain, killed in zip(results[::2], results[1::2], strict=True):
        last = "hung" if killed.exits[-1] == "hung" else str(killed.kept[-1])
        lines.append(
            f"| {plain.system} | {plain.kept[0]} | {plain.requests[0]} | {plain.refused_sent[0]} | {plain.exits[0]} "
            f"| {plain.kept[-1]} | {commands_of(plain)} | {plain.wrong + killed.wrong} "
            f"| {plain.waited + killed.waited} of {plain.rate_limited + killed.rate_limited} "
            f"| {last} | {commands_of(killed)} | {killed.bought_twice} ({killed.under_way}) |"
        )
    return "\n".join(lines)


def main() -> None:
    """Parse, run, print the table; `--output` also gets every figure as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--systems", default="ours", help=f"comma-separated, of {', '.join(SYSTEMS)}")
    parser.add_argument("--venvs", type=Path, default=Path(tempfile.gettempdir()) / "generation-faults-venvs")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--work", type=Path, help="keep every system's files in this new folder")
    parser.add_argument("--output", type=Path, help="write every figure there as JSON")
    arguments = parser.parse_args()
    systems = [SYSTEMS[name] for name in arguments.systems.split(",")]
    venvs = arguments.venvs.resolve()
    pythons = [make_environment(system, venvs) for system in systems]
    folder = arguments.work.resolve() if arguments.work else Path(tempfile.mkdtemp(prefix="generation-faults-"))
    folder.mkdir(exist_ok=True)
    write_inputs(folder)
    refused = sum(is_refused(prompt) for prompt in range(PROMPTS))
    first = Counter(outcome_of(prompt, 0) for prompt in range(PROMPTS))
    print(f"{PROMPTS} prompts, {PROMPTS - refused} achievable; first requests: {dict(sorted(first.items()))}\n")
    results: list[Outcome] = []
    with running_server() as port:
        for turn in range(arguments.repeats):
            for system, python in zip(systems, pythons, strict=True):
                for name in ("plain", "killed"):
                    results.append(experiment(system, name, python, folder, venvs, port, turn))
                    print(json.dumps(asdict(results[-1])), file=sys.stderr, flush=True)
    print(table(results))
    if arguments.output:
        arguments.output.write_text(json.dumps([asdict(result) for result in results], indent=1) + "\n")
    if not arguments.work:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
