"""The job files run for real: bash, lpmc and hf as they are; stand-ins for vLLM (a chat double), Slurm and pip."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from chat_double import good_answer

from dataset_builder.captioning.captions_table import read_captions
from dataset_builder.tracks import TaggedTrack, write_tracks

PROJECT = Path(__file__).resolve().parents[2]
JOB_FILES = PROJECT / "job_files"
SHARD_SCRIPT, ARRAY_SCRIPT, HF_SCRIPT = (
    JOB_FILES / name for name in ("caption_shard.sh", "slurm_array.sbatch", "hf_jobs.sh")
)
PROGRAMS = Path(sys.executable).parent  # lpmc and hf of this environment
TRACKS = 12
TOKEN = "hf_secretSecretSecret"

# `vllm serve MODEL --host H --port P OPTIONS`. FAKE_*: what it does; the folder `server` says what it saw.
VLLM = f"""#!{sys.executable}
import json, os, pathlib, signal, subprocess, sys, time
sys.path.insert(0, {str(PROJECT / "tests")!r})
seen = pathlib.Path(os.environ["FAKE_FOLDER"])
arguments = sys.argv[1:]
options = dict(zip(arguments[2::2], arguments[3::2]))
assert arguments[0] == "serve" and options["--host"] == "127.0.0.1", arguments
(seen / f"arguments-{{os.getpid()}}").write_text(json.dumps([*arguments, os.environ["VLLM_CACHE_ROOT"]]))
if os.environ.get("FAKE_DIES"):
    sys.exit("CUDA out of memory")
(seen / f"pid-{{os.getpid()}}").touch()
worker = subprocess.Popen(["sleep", "300"])
(seen / f"pid-{{worker.pid}}").touch()
if os.environ.get("FAKE_STUBBORN"):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
else:  # it ends well, but leaves its worker behind; like the real one it would hear Ctrl-C
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    signal.signal(signal.SIGINT, lambda *_: os._exit(1))
time.sleep(float(os.environ.get("FAKE_START", "0.2")))
from chat_double import ChatDouble, good_answer
def fault(number, message):
    with (seen / "asked").open("a") as log:
        log.write(json.dumps(message) + "\\n")
    return float(os.environ.get("FAKE_SECONDS", "0"))
def answer(message):
    return "" if message.endswith("tag 3") and os.environ.get("FAKE_REJECTS") else good_answer(message)
with ChatDouble(fault, answer, port=int(options["--port"])):
    while True:
        time.sleep(1)
"""
SCONTROL = """#!/bin/bash
printf '%s\\n' "$*" >>"$FAKE_FOLDER/scontrol"
"""
# `python3 -m venv DIR` makes an environment whose pip notes what it is asked for and "installs" the real lpmc.
PYTHON3 = f"""#!/bin/bash
if [ "$1 $2" = "-m venv" ]; then
    mkdir -p "$3/bin"
    cat >"$3/bin/python" <<END
#!/bin/bash
printf '%s\\n' "\\$*" >>"$FAKE_FOLDER/pip"
ln -sf {PROGRAMS}/lpmc "$3/bin/lpmc"
END
    chmod +x "$3/bin/python"
else
    exec {sys.executable} "$@"
fi
"""
HF = f"""#!{sys.executable}
import json, os, sys
with open(os.environ["FAKE_FOLDER"] + "/hf", "a") as log:
    log.write(json.dumps(sys.argv[1:]) + "\\n")
"""


def alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


class Place:
    """A folder (its name has a space) with tracks and stand-ins, and the scripts started in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seen, self.bin = folder / "seen", folder / "bin"
        for made in (self.seen, self.bin):
            made.mkdir(parents=True)
        rows = [TaggedTrack(f"t{n}", ("rock", f"tag {n}")) for n in range(TRACKS)]
        write_tracks(rows, folder / "tracks.parquet")
        for name, text in {"vllm": VLLM, "scontrol": SCONTROL}.items():
            self.program(name, text)

    def program(self, name: str, text: str) -> None:
        path = self.bin / name
        path.write_text(text)
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    def environment(self, **more: str | None) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("OPENAI_", "SLURM_", "VLLM_", "HF_TOKEN"))}
        given: dict[str, str | None] = {
            "PATH": f"{self.bin}:{PROGRAMS}:/usr/bin:/bin",
            "FAKE_FOLDER": str(self.seen),
            "TRACKS": "tracks.parquet",
            "MODEL": "double",
            "OUTPUT": "the captions",
            "SHARD": "0",
            "SHARDS": "1",
            "TMPDIR": str(self.folder),
            "http_proxy": "http://127.0.0.1:9",  # nobody is there: a request that went by the proxy would fail
        }
        return kept | {name: value for name, value in (given | more).items() if value is not None}

    def start(self, *command: object, **more: str | None) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(part) for part in command],
            cwd=self.folder,
            env=self.environment(**more),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # background jobs of a shell ignore it
        )

    def shard(self, *options: str, **more: str | None) -> subprocess.Popen[str]:
        return self.start(SHARD_SCRIPT, "--instructions", "writing", *options, **more)

    def array(self, task: int, of: int, *options: str, **more: str | None) -> subprocess.Popen[str]:
        """A task as Slurm starts it: from a copy of the script in a folder of Slurm's."""
        copy = self.folder / f"slurm_script_{task}"
        shutil.copy(ARRAY_SCRIPT, copy)
        slurm = {"SLURM_ARRAY_JOB_ID": "77", "SLURM_ARRAY_TASK_ID": str(task), "SLURM_ARRAY_TASK_COUNT": str(of)}
        slurm |= {"SLURM_SUBMIT_DIR": str(PROJECT), "SHARD": None, "SHARDS": None}  # type: ignore[dict-item]
        return self.start("bash", copy, "--instructions", "writing", *options, **(slurm | more))

    @property
    def pids(self) -> list[int]:
        """The server processes and their workers."""
        return [int(path.name.removeprefix("pid-")) for path in self.seen.glob("pid-*")]

    @property
    def asked(self) -> list[str]:
        """Every prompt that a server got, in order."""
        log = self.seen / "asked"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.is_file() else []

    def answers(self, store: str) -> int:
        with sqlite3.connect(self.folder / store) as database:
            if not database.execute("SELECT 1 FROM sqlite_master WHERE name = 'answer'").fetchone():
                return 0  # copied before lpmc had made its tables
            return int(database.execute("SELECT count(*) FROM answer").fetchone()[0])


def wait_for(condition: Callable[[], object], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def end_of(job: subprocess.Popen[str]) -> tuple[int, str]:
    """(exit status, standard error)."""
    _, errors = job.communicate(timeout=60)
    return job.returncode, errors


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path / "a place")
    yield made
    for pid in made.pids:
        if alive(pid):
            os.kill(pid, signal.SIGKILL)


# --- one shard ------------------------------------------------------------------------------------------------------


def test_a_shard_starts_a_server_captions_and_leaves_no_process_and_no_cache_behind(place: Place) -> None:
    status, errors = end_of(place.shard(VLLM_OPTIONS="--max-model-len 2048"))
    assert status == 0, errors
    rows = list(read_captions(place.folder / "the captions/captions-0-of-1.parquet"))
    assert {row.track_id: row.caption for row in rows} == {
        f"t{n}": f"This is a piece with rock, tag {n}." for n in range(TRACKS)
    }
    assert len(place.pids) == 2
    assert not [pid for pid in place.pids if alive(pid)]
    *arguments, cache = json.loads(next(place.seen.glob("arguments-*")).read_text())
    assert arguments[:2] == ["serve", "double"]
    assert arguments[-2:] == ["--max-model-len", "2048"]
    assert Path(cache).parent == place.folder
    assert not Path(cache).exists()
    left = {path.name for path in (place.folder / "the captions").iterdir()} - {"captions-0-of-1.store.sqlite.lock"}
    ends = ("parquet", "pipeline.json", "store.sqlite", "vllm.log")
    assert left == {f"captions-0-of-1.{end}" for end in ends}


def test_a_server_that_dies_at_the_start_is_named_with_its_log(place: Place) -> None:
    status, errors = end_of(place.shard(FAKE_DIES="1"))
    assert status == 1
    log = "the captions/captions-0-of-1.vllm.log"
    assert errors.splitlines()[-1] == f"caption_shard: the vLLM server did not start; see {log}"
    assert "CUDA out of memory" in (place.folder / log).read_text()


def test_a_server_that_takes_too_long_and_ignores_its_end_is_killed(place: Place) -> None:
    status, errors = end_of(place.shard(FAKE_START="99", FAKE_STUBBORN="1", START_SECONDS="0", STOP_SECONDS="1"))
    assert status == 1
    assert "did not start" in errors
    assert not [pid for pid in place.pids if alive(pid)]


@pytest.mark.parametrize("name", ["TRACKS", "MODEL", "OUTPUT", "SHARD", "SHARDS"])
def test_a_missing_variable_is_named(place: Place, name: str) -> None:
    status, errors = end_of(place.shard(**{name: None}))
    assert status != 0
    assert f"{name}: " in errors
    assert len(errors.splitlines()) == 1


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"TRACKS": "other.parquet"}, "other.parquet: there is no such tracks table"),
        ({"SHARD": "2", "SHARDS": "2"}, "SHARD=2: is not one of 0 to SHARDS - 1"),
        ({"SHARD": "two"}, "SHARD=two: is not one of"),
        ({"PATH": "/usr/bin:/bin"}, "vllm: there is no such program"),
    ],
)
def test_what_lpmc_would_refuse_is_refused_before_a_server_starts(
    place: Place, more: dict[str, str], named: str
) -> None:
    status, errors = end_of(place.shard(**more))
    assert status == 1
    assert named in errors
    assert not place.pids


def test_a_signal_while_the_server_starts_ends_the_job_without_asking(place: Place) -> None:
    job = place.shard(FAKE_START="99")
    wait_for(lambda: place.pids)
    job.send_signal(signal.SIGTERM)
    assert end_of(job)[0] == 75
    assert not place.asked
    assert not [pid for pid in place.pids if alive(pid)]


def test_a_signal_before_lpmc_listens_is_an_interruption_too(place: Place) -> None:
    place.program("lpmc", f'#!/bin/bash\ntouch "$FAKE_FOLDER/lpmc"\nexec {PROGRAMS}/lpmc "$@"\n')
    job = place.shard()
    wait_for((place.seen / "lpmc").exists)
    job.send_signal(signal.SIGTERM)
    assert end_of(job)[0] == 75
    assert not place.asked
    assert not [pid for pid in place.pids if alive(pid)]


def test_ctrl_c_keeps_the_server_until_what_is_under_way_is_stored(place: Place) -> None:
    job = place.shard("--concurrency", "2", FAKE_SECONDS="0.6")
    wait_for(lambda: len(place.asked) >= 2)
    os.killpg(job.pid, signal.SIGINT)  # as a terminal does: to every process of the group
    status, errors = end_of(job)
    assert status == 75, errors
    assert 2 <= len(place.asked) < TRACKS
    assert place.answers("the captions/captions-0-of-1.store.sqlite") == len(place.asked)
    assert not [pid for pid in place.pids if alive(pid)]


# --- a Slurm array --------------------------------------------------------------------------------------------------


def test_two_tasks_and_a_merge_give_the_whole_and_rejected_rows_are_no_failure(place: Place) -> None:
    tasks = [place.array(number, 2, "--no-fallback", FAKE_REJECTS="1") for number in range(2)]
    ends = [end_of(task) for task in tasks]
    assert [status for status, _ in ends] == [0, 0], ends
    parts = [f"the captions/captions-{number}-of-2.parquet" for number in range(2)]
    counts = [len(list(read_captions(place.folder / part))) for part in parts]
    assert min(counts) > 0
    assert sum(counts) == TRACKS
    merge = place.start("lpmc", "merge-shards", *parts, "--tracks", "tracks.parquet", "--output", "whole.parquet")
    assert end_of(merge)[0] == 0
    rows = list(read_captions(place.folder / "whole.parquet"))
    assert [row.track_id for row in rows] == [f"t{n}" for n in range(TRACKS)]
    assert [row.track_id for row in rows if row.outcome != "ok"] == ["t3"]
    assert not (place.seen / "scontrol").exists()


def test_a_task_that_gets_a_signal_stores_stops_queues_itself_again_and_goes_on(place: Place) -> None:
    task = place.array(0, 1, "--concurrency", "2", FAKE_SECONDS="0.3")
    wait_for(lambda: len(place.asked) >= 2)
    task.send_signal(signal.SIGTERM)
    status, errors = end_of(task)
    assert status == 75, errors
    assert (place.seen / "scontrol").read_text() == "requeue 77_0\n"
    assert not [pid for pid in place.pids if alive(pid)]
    before = place.asked
    assert 2 <= len(before) < TRACKS
    assert place.answers("the captions/captions-0-of-1.store.sqlite") == len(before)
    assert not (place.folder / "the captions/captions-0-of-1.parquet").exists()

    assert end_of(place.array(0, 1))[0] == 0
    after = place.asked[len(before) :]
    assert len(after) == TRACKS - len(before)
    assert set(after).isdisjoint(before)
    assert len(list(read_captions(place.folder / "the captions/captions-0-of-1.parquet"))) == TRACKS


def test_a_spent_budget_does_not_queue_the_task_again(place: Place) -> None:
    status, errors = end_of(place.array(0, 1, "--max-requests", "5"))
    assert status == 75, errors
    assert "--max-requests" in errors
    assert len(place.asked) == 5
    assert not (place.seen / "scontrol").exists()


def test_a_task_that_fails_ends_with_its_status_and_is_not_queued_again(place: Place) -> None:
    assert end_of(place.array(0, 1, FAKE_DIES="1"))[0] == 1
    assert end_of(place.array(0, 1, SLURM_SUBMIT_DIR="/nowhere"))[1].startswith("slurm_array: /nowhere/job_files")
    assert "sbatch --array" in end_of(place.array(0, 1, SLURM_ARRAY_TASK_ID=None))[1]
    assert not (place.seen / "scontrol").exists()


# --- Hugging Face Jobs ----------------------------------------------------------------------------------------------

HF_SETTINGS = {"BUCKET": "me/captions", "SHARDS": "2", "PACKAGE": "lp-musiccaps==0.1", "HF_TOKEN": TOKEN}


def test_a_dry_run_of_the_real_hf_shows_a_job_for_every_shard_and_never_the_token(place: Place) -> None:
    options = ("--timeout", "60", "--wording", "my words.yaml")  # hf has a --timeout, too
    settings = HF_SETTINGS | {
        "DRY_RUN": "1",
        "HF_HUB_OFFLINE": "1",
        "TIMEOUT": "2h",
        "https_proxy": "http://127.0.0.1:9",
    }
    job = place.start(HF_SCRIPT, *options, **settings)
    shown, errors = job.communicate(timeout=60)
    assert job.returncode == 0, errors
    assert TOKEN not in shown + errors
    jobs = shown.split("Job configuration:")[1:]
    assert len(jobs) == 2
    for number, text in enumerate(jobs):
        lines = [" ".join(line.split()) for line in text.splitlines()]
        for wanted in (
            "image vllm/vllm-openai:latest",
            "flavor a10g-large",
            "timeout 2h",
            "env MODEL=double",
            f"SHARD={number}",
            "SHARDS=2",
            "PACKAGE=lp-musiccaps==0.1",
            "TRACKS=/data/tracks.parquet",
            "KEEP=/data/captions",
            "secrets HF_TOKEN=***",
            "volumes hf://buckets/me/captions:/data",
            f"labels name=lpmc-captions-{number}-of-2",
            "(dry run) Job not submitted.",
        ):
            assert wanted in lines, text
        assert "caption_shard --timeout 60 --wording 'my words.yaml'" in text


def test_one_job_can_be_submitted_again_alone(place: Place) -> None:
    place.program("hf", HF)
    status, errors = end_of(place.start(HF_SCRIPT, **(HF_SETTINGS | {"SHARDS": "4", "ONLY": "2"})))
    assert status == 0, errors
    (submitted,) = (json.loads(line) for line in (place.seen / "hf").read_text().splitlines())
    assert {"SHARD=2", "SHARDS=4", "lpmc-captions-2-of-4"} <= set(submitted)


@pytest.mark.parametrize("name", ["BUCKET", "MODEL", "SHARDS", "PACKAGE"])
def test_nothing_is_submitted_while_a_setting_is_missing(place: Place, name: str) -> None:
    place.program("hf", HF)
    status, errors = end_of(place.start(HF_SCRIPT, **(HF_SETTINGS | {name: None})))
    assert status != 0
    assert f"{name}: " in errors
    assert not (place.seen / "hf").exists()


def test_a_job_that_vanishes_goes_on_elsewhere_from_what_the_bucket_keeps(place: Place) -> None:
    place.program("hf", HF)
    place.program("python3", PYTHON3)
    options = ("--instructions", "writing", "--concurrency", "2")
    status, errors = end_of(place.start(HF_SCRIPT, *options, **(HF_SETTINGS | {"SHARDS": "1"})))
    assert status == 0, errors
    submitted = json.loads((place.seen / "hf").read_text())
    assert TOKEN not in json.dumps(submitted)
    cut = submitted.index("--")
    environment: dict[str, str | None] = {"HF_TOKEN": None, "SHARD": None, "SHARDS": None, "OUTPUT": None}
    for number, word in enumerate(submitted[:cut]):
        if word == "--env":
            name, _, value = submitted[number + 1].partition("=")
            environment[name] = value.replace("/data/tracks", "tracks").replace("/data/", "bucket/")
    command = submitted[cut + 2 :]

    first = place.start(*command, **(environment | {"FAKE_SECONDS": "0.6", "KEEP_SECONDS": "0.3"}))
    kept = place.folder / "bucket/captions/captions-0-of-1.store.sqlite"
    wait_for(lambda: kept.is_file() and place.answers(str(kept)) >= 2)
    os.killpg(first.pid, signal.SIGKILL)  # the machine is gone, with everything on its disk
    running = [path for path in Path("/proc").glob("[0-9]*/environ") if _belongs(path, place)]
    for path in running:
        os.kill(int(path.parent.name), signal.SIGKILL)
    first.communicate(timeout=10)
    held = place.answers(str(kept))
    before = len(place.asked)
    assert 2 <= held <= before < TRACKS

    status, errors = end_of(place.start(*command, **environment))
    assert status == 0, errors
    assert len(place.asked) - before == TRACKS - held
    kept_files = {path.name for path in kept.parent.iterdir()}
    assert kept_files == {f"captions-0-of-1.{end}" for end in ("parquet", "pipeline.json", "store.sqlite", "vllm.log")}
    captions = {row.caption for row in read_captions(kept.with_name("captions-0-of-1.parquet"))}
    assert captions == {good_answer(f"\nrock, tag {n}") for n in range(TRACKS)}
    assert place.answers(str(kept)) == TRACKS
    assert set((place.seen / "pip").read_text().splitlines()) == {"-m pip install --quiet lp-musiccaps==0.1"}


def _belongs(environ: Path, place: Place) -> bool:
    try:
        return f"FAKE_FOLDER={place.seen}".encode() in environ.read_bytes().split(b"\0")
    except OSError:
        return False


# --- all of them ----------------------------------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_shellcheck_has_nothing_to_say() -> None:
    command = ["shellcheck", "--shell=bash", *map(str, (SHARD_SCRIPT, ARRAY_SCRIPT, HF_SCRIPT))]
    found = subprocess.run(command, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout
