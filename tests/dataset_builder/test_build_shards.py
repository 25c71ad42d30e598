"""Shards by several processes, builds that are killed and go on, and two builds at once."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import small_corpus
from filelock import FileLock

from dataset_builder import build, shards
from dataset_builder.build import build_dataset
from dataset_builder.captioning.captions_table import write_captions
from lpmc_errors import UsageError

CLIP_BYTES = 3_244  # a tenth of a second of 16-bit sound at 16 kHz, with its header

# A build as a user's script has it; prints how far it is, so that a test knows when to strike.
BUILD = """
import sys
from pathlib import Path
from dataset_builder.build import build_dataset
from lpmc_errors import LpmcError

if __name__ == "__main__":
    captions, tracks, audio, output = map(Path, sys.argv[1:5])
    try:
        build_dataset(captions, tracks, config="fma", output=output, audio_root=audio, num_proc=int(sys.argv[5]),
                      shard_bytes=int(sys.argv[6]), progress=lambda done, total: print(done, total, flush=True))
    except LpmcError as error:
        sys.exit(str(error))
"""


@pytest.fixture
def corpus(tmp_path: Path) -> small_corpus.Corpus:
    return small_corpus.write_corpus(tmp_path / "in", small_corpus.tracks(60))


def started(corpus: small_corpus.Corpus, script: Path, output: Path, num_proc: int) -> subprocess.Popen:
    script.write_text(BUILD)
    paths = [str(path) for path in (corpus.captions, corpus.tracks, corpus.audio, output)]
    environment = {**os.environ, "PYTHONPATH": str(Path(build.__file__).parents[1])}
    return subprocess.Popen(
        [sys.executable, str(script), *paths, str(num_proc), str(5 * CLIP_BYTES)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore Ctrl-C
    )


def digests(directory: Path) -> dict[str, str]:
    files = [path for path in directory.rglob("*") if path.is_file()]
    return {path.relative_to(directory).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def undisturbed(corpus: small_corpus.Corpus, output: Path) -> dict[str, str]:
    options = {"config": "fma", "audio_root": corpus.audio, "shard_bytes": 5 * CLIP_BYTES}
    build_dataset(corpus.captions, corpus.tracks, output=output, **options)
    return digests(output)


def test_several_processes_write_the_same_bytes_as_one(corpus, tmp_path):
    expected = undisturbed(corpus, tmp_path / "one")

    process = started(corpus, tmp_path / "script.py", tmp_path / "two", num_proc=2)
    out, error = process.communicate(timeout=120)

    assert process.returncode == 0, error
    assert digests(tmp_path / "two") == expected
    assert len([name for name in expected if name.startswith("fma/train")]) == 6
    assert out.split()[-2:] == ["60", "60"], "the progress of all processes adds up"


@pytest.mark.parametrize("num_proc", [1, 2])
def test_a_killed_build_goes_on_with_the_shards_it_had_and_ends_the_same(corpus, tmp_path, num_proc):
    expected = undisturbed(corpus, tmp_path / "one")
    output = tmp_path / "two"
    process = started(corpus, tmp_path / "script.py", output, num_proc)
    staging = output / ".fma.building"
    deadline = time.monotonic() + 60
    while not list(staging.glob("train-?????.json")) and time.monotonic() < deadline:
        time.sleep(0.002)
    process.kill()
    process.communicate()
    kept = {path.name: path.stat().st_mtime_ns for path in staging.glob("*-?????.parquet")}
    assert kept, "nothing was finished before the kill"
    written: list[str] = []

    def progress(done: int, total: int) -> None:
        written.append(f"{done} {total}")

    options = {"config": "fma", "audio_root": corpus.audio, "shard_bytes": 5 * CLIP_BYTES, "progress": progress}
    build_dataset(corpus.captions, corpus.tracks, output=output, **options)

    assert digests(output) == expected
    first = kept["train-00000.parquet"]
    assert next((output / "fma").glob("train-00000-*")).stat().st_mtime_ns == first, "a finished shard was written anew"
    assert int(written[0].split()[0]) > 5, "the progress begins where the first run ended"
    assert sorted(path.name for path in output.iterdir()) == sorted({name.split("/")[0] for name in expected})


def interrupt_after_one_shard(corpus: small_corpus.Corpus, options: dict) -> None:
    def once(task: shards.ShardTask, report: shards.Report) -> None:
        shards.write_shard(task, report)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dataset_builder.build.write_shard", once)
        with pytest.raises(KeyboardInterrupt):
            build_dataset(corpus.captions, corpus.tracks, **options)


def test_shards_of_other_inputs_are_not_taken_over(corpus, tmp_path):
    options = {"config": "fma", "output": tmp_path / "out", "audio_root": corpus.audio, "shard_bytes": 5 * CLIP_BYTES}
    interrupt_after_one_shard(corpus, options)
    assert list((tmp_path / "out/.fma.building").glob("*.parquet"))
    write_captions([replace(row, caption="Changed.") for row in corpus.rows], corpus.captions, {})

    build_dataset(corpus.captions, corpus.tracks, **options)

    files = sorted((tmp_path / "out/fma").glob("*.parquet"))
    texts = {text for path in files for text in pq.read_table(path)["caption_writing"].to_pylist()}
    assert texts == {"Changed."}


def test_a_changed_audio_file_is_read_anew_after_an_interruption(corpus, tmp_path):
    options = {"config": "fma", "output": tmp_path / "out", "audio_root": corpus.audio, "shard_bytes": 5 * CLIP_BYTES}
    interrupt_after_one_shard(corpus, options)
    changed = (corpus.audio / "clips/t3.wav").read_bytes()
    (corpus.audio / "clips/t0.wav").write_bytes(changed)

    build_dataset(corpus.captions, corpus.tracks, **options)

    rows = pq.read_table(sorted((tmp_path / "out/fma").glob("train-*"))[0]).to_pylist()
    assert rows[0]["audio"]["bytes"] == changed


def test_ctrl_c_stops_all_processes_within_seconds_and_leaves_what_is_finished(corpus, tmp_path):
    output = tmp_path / "out"
    process = started(corpus, tmp_path / "script.py", output, num_proc=2)
    deadline = time.monotonic() + 60
    while not list((output / ".fma.building").glob("*-?????.json")) and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=20)

    assert process.returncode != 0
    assert "KeyboardInterrupt" in error
    assert list((output / ".fma.building").glob("*-?????.parquet"))
    assert not (output / "fma").exists()


def test_a_second_build_of_the_same_configuration_is_refused_while_one_runs(corpus, tmp_path):
    (tmp_path / "out").mkdir()
    with FileLock(tmp_path / "out/.fma.lock"):
        with pytest.raises(UsageError, match="is being built by another process"):
            build_dataset(corpus.captions, corpus.tracks, config="fma", output=tmp_path / "out")
        build_dataset(corpus.captions, corpus.tracks, config="other", output=tmp_path / "out")

    build_dataset(corpus.captions, corpus.tracks, config="fma", output=tmp_path / "out")
    assert not list((tmp_path / "out").glob(".*"))


def test_two_configurations_built_at_once_are_both_on_the_card(corpus, tmp_path, monkeypatch):
    inputs = {"captions": corpus.captions, "tracks": corpus.tracks, "output": tmp_path / "out"}
    first = threading.Thread(target=build_dataset, kwargs={**inputs, "config": "first"})
    second = threading.Thread(target=build_dataset, kwargs={**inputs, "config": "second"})
    known = build.config_names

    def looked(directory: Path) -> list[str]:
        names = list(known(directory))
        if threading.current_thread() is first:
            second.start()
            second.join(2)  # seconds, in which the second build would end if it were let
        return names

    monkeypatch.setattr(build, "config_names", looked)
    first.start()
    first.join()
    second.join()

    assert sorted(build._configs_of_card(tmp_path / "out/README.md")) == ["first", "second"]
    assert not list((tmp_path / "out").glob(".*"))


def test_the_worker_of_a_killed_build_does_not_outlive_it(corpus, tmp_path):
    process = started(corpus, tmp_path / "script.py", tmp_path / "out", num_proc=2)
    children: list[int] = []
    deadline = time.monotonic() + 60
    while len(children) < 3 and time.monotonic() < deadline:  # two workers and the resource tracker of multiprocessing
        children = [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
    process.kill()
    process.communicate()

    while any(Path(f"/proc/{pid}").exists() and "Z" not in state(pid) for pid in children):
        assert time.monotonic() < deadline + 30, "a worker waits for ever"
        time.sleep(0.05)


def workers_of(process: subprocess.Popen) -> list[int]:
    """The two workers, as soon as both have begun to import; that takes them a second or more."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = [int(pid) for pid in children.read_text().split()]
        workers = [pid for pid in found if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        workers = [pid for pid in workers if "libarrow" in Path(f"/proc/{pid}/maps").read_text()]
        if len(workers) == 2:
            return workers
        time.sleep(0.002)
    raise AssertionError("no two workers")


def test_ctrl_c_while_the_workers_start_is_told_once(corpus, tmp_path):
    process = started(corpus, tmp_path / "script.py", tmp_path / "out", num_proc=2)
    for pid in [*workers_of(process), process.pid]:  # a terminal tells all of them
        os.kill(pid, signal.SIGINT)
    _, error = process.communicate(timeout=30)

    assert error.count("Traceback") == 1, error
    assert error.rstrip().endswith("KeyboardInterrupt")


def test_a_worker_that_is_killed_ends_the_build_in_one_line(corpus, tmp_path):
    process = started(corpus, tmp_path / "script.py", tmp_path / "out", num_proc=2)
    os.kill(workers_of(process)[0], signal.SIGKILL)
    _, error = process.communicate(timeout=30)

    assert process.returncode == 1
    assert "a worker process: was killed" in error
    assert "Traceback" not in error


def state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2]
    except OSError:
        return "Z"


def test_counts_of_shards_add_up_to_those_of_one(corpus, tmp_path):
    one = build_dataset(corpus.captions, corpus.tracks, config="one", output=tmp_path / "out")
    many = build_dataset(corpus.captions, corpus.tracks, config="many", output=tmp_path / "out", shard_bytes=2_000)

    assert many.files["train"] > 3
    assert one.files == {"train": 1, "valid": 1, "test": 1}
    texts = [json.loads((tmp_path / "out" / name / "build.json").read_text()) for name in ("one", "many")]
    assert texts[0] == texts[1]
    assert texts[0]["outcomes"]["writing"] == {"ok": 60}
