"""A small study for tests: clips of tones, captions written for this purpose, and a server on 127.0.0.1."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import soundfile

PROJECT = Path(__file__).resolve().parents[2]
SERVE = "from lpmc_ratings import app; app()"
RATE = 8000  # Hz
START_SECONDS = 120
INSTRUMENTS = ("piano", "violin", "trumpet", "flute", "cello", "banjo", "sitar", "accordion", "harp", "tuba")
# What a page must show as it stands: HTML, Markdown, and what gradio's templates take for code.
TEXTS = ("An <b onclick='x'>electric guitar</b> & ${1+1} {{value}} `loud` *fast*", "A drum kit in 4/4")


def human_caption(number: int) -> str:
    return f"A {'slow' if number % 2 else 'fast'} piece number {number} for {INSTRUMENTS[number % 10]}."


def write_inputs(folder: Path, clips: int, *, seconds: float = 1.4, systems: tuple[str, ...] = ("ours",)) -> list[str]:
    """Write items.jsonl, a FLAC a clip and a file of captions a system; give the arguments of `prepare`."""
    (folder / "sounds").mkdir(parents=True)
    items = []
    for number in range(clips):
        times = np.arange(int(RATE * seconds)) / RATE
        name = f"sounds/whale-clip-{number}.flac"
        soundfile.write(folder / name, 0.2 * np.sin(2 * np.pi * (220 + 20 * number) * times), RATE)
        items.append({"item": f"clip-{number}", "audio": name, "human": human_caption(number)})
    write_lines(folder / "items.jsonl", items)
    arguments = ["--items", str(folder / "items.jsonl")]
    for order, system in enumerate(systems):
        rows = [{"item": f"clip-{number}", "caption": f"{TEXTS[order % 2]}, take {number}."} for number in range(clips)]
        write_lines(folder / f"{system}.jsonl", rows)
        arguments += ["--systems", str(folder / f"{system}.jsonl")]
    return arguments


def write_lines(path: Path, rows: list[dict]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def read_lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


class RatingServer:
    """`lpmc ratings serve` as a process; `stop` ends it, `start` serves the same study again at the same port."""

    def __init__(self, study: Path, port: int, scratch: Path) -> None:
        self.study, self.port, self.scratch = study, port, scratch
        self.url = f"http://127.0.0.1:{port}"
        self.log = scratch / f"server-{port}.txt"
        self.process: subprocess.Popen | None = None

    def start(self) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("GRADIO")}
        environment |= {"GRADIO_TEMP_DIR": str(self.scratch / "cache"), "PYTHONPATH": str(PROJECT)}
        with self.log.open("a") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-c", SERVE, "serve", str(self.study), "--port", str(self.port)],
                cwd=self.scratch, env=environment, stdout=output, stderr=subprocess.STDOUT,
            )  # fmt: skip

    def wait(self) -> None:
        for _ in range(START_SECONDS * 10):
            if self.process.poll() is not None:
                raise AssertionError(
                    f"the server ended with {self.process.returncode}:\n{self.log.read_text()[-3000:]}"
                )
            try:
                urllib.request.urlopen(self.url, timeout=5).close()
                return
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
        raise AssertionError(f"the server did not answer:\n{self.log.read_text()[-3000:]}")

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(timeout=30)
