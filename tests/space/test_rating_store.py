"""The store under what happens to it: many writers, a kill in the middle of a line, lines that are no JSON."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from lpmc_errors import DiskError
from space import rating_store
from space.rating_store import RatingStore

PROJECT = Path(__file__).resolve().parents[2]
APPEND = """
import sys
from pathlib import Path
from space.rating_store import RatingStore
store, name, number = RatingStore(Path(sys.argv[1])), sys.argv[2], int(sys.argv[3])
print("ready", flush=True)
sys.stdin.readline()
for count in range(number):
    store.append("ratings", {"rating_id": f"{name}-{count}", "text": "ü" * (count % 300)})
    print(count, flush=True)
"""


def writer(folder: Path, name: str, number: int) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", APPEND, str(folder), name, str(number)],
        cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_eight_processes_that_append_two_hundred_records_each_lose_none(tmp_path):
    writers = [writer(tmp_path, f"w{number}", 200) for number in range(8)]
    for process in writers:
        assert process.stdout.readline() == "ready\n"
    for process in writers:
        process.stdin.write("\n")
        process.stdin.flush()
    for process in writers:
        process.communicate(timeout=120)
        assert process.returncode == 0

    lines = (tmp_path / "ratings.jsonl").read_bytes().splitlines()
    names = [json.loads(line)["rating_id"] for line in lines]
    assert len(names) == 1600
    assert set(names) == {f"w{number}-{count}" for number in range(8) for count in range(200)}
    for number in range(8):  # each writer's own records in its own order
        assert [name for name in names if name.startswith(f"w{number}-")] == [f"w{number}-{n}" for n in range(200)]
    assert not (tmp_path / "torn.jsonl").exists()


def test_a_writer_that_is_killed_leaves_a_store_with_every_record_that_it_reported(tmp_path):
    for name in ("first", "second", "third"):
        process = writer(tmp_path, name, 100_000)
        assert process.stdout.readline() == "ready\n"
        process.stdin.write("\n")
        process.stdin.flush()
        reported = [process.stdout.readline() for _ in range(40)]
        os.kill(process.pid, signal.SIGKILL)
        rest = process.communicate()[0]
        reported += [line for line in rest.splitlines(keepends=True) if line.endswith("\n")]

        store = RatingStore(tmp_path)
        store.append("ratings", {"rating_id": f"after-{name}"})  # the lock of the dead is free
        kept = [record["rating_id"] for record in store.read("ratings")]
        assert set(kept) >= {f"{name}-{int(count)}" for count in reported}
        assert kept[-1] == f"after-{name}"
        assert store.unreadable() == 0


def test_half_a_line_is_not_read_and_the_next_writer_sets_it_aside(tmp_path):
    store = RatingStore(tmp_path)
    store.append("ratings", {"rating_id": "a"})
    with (tmp_path / "ratings.jsonl").open("ab") as file:
        file.write('{"rating_id": "b", "text": "ü'.encode()[:-1])  # cut within a character

    assert [record["rating_id"] for record in store.read("ratings")] == ["a"]
    RatingStore(tmp_path).append("ratings", {"rating_id": "c"})

    assert [record["rating_id"] for record in store.read("ratings")] == ["a", "c"]
    (torn,) = [json.loads(line) for line in (tmp_path / "torn.jsonl").read_text().splitlines()]
    assert torn["file"] == "ratings.jsonl"
    assert torn["text"].startswith('{"rating_id": "b"')
    assert store.unreadable() == 0


def test_a_torn_line_longer_than_one_step_back_is_cut_at_the_right_place(tmp_path, monkeypatch):
    monkeypatch.setattr(rating_store, "_STEP", 7)
    store = RatingStore(tmp_path)
    store.append("claims", {"rater": "a"})
    with (tmp_path / "claims.jsonl").open("ab") as file:
        file.write(b'{"rater": "' + b"x" * 50)

    store.append("claims", {"rater": "c"})

    assert store.read("claims") == [{"rater": "a"}, {"rater": "c"}]


def test_a_store_that_begins_with_half_a_line_is_usable(tmp_path):
    (tmp_path / "raters.jsonl").write_bytes(b'{"rat')
    store = RatingStore(tmp_path)

    store.append("raters", {"rater": "a"})

    assert (tmp_path / "raters.jsonl").read_text() == '{"rater": "a"}\n'


def test_a_line_that_is_no_object_is_counted_stays_where_it_is_and_hides_nothing(tmp_path):
    (tmp_path / "ratings.jsonl").write_bytes(b'{"rating_id": "a"}\n\xff\xfe broken\n[1]\n\n{"rating_id": "b"}\n')
    store = RatingStore(tmp_path)

    assert [record["rating_id"] for record in store.read("ratings")] == ["a", "b"]
    assert store.unreadable() == 2
    store.append("ratings", {"rating_id": "c"})
    assert b"broken" in (tmp_path / "ratings.jsonl").read_bytes()


def test_what_another_store_appends_is_read_without_reading_anew(tmp_path):
    one, other = RatingStore(tmp_path), RatingStore(tmp_path)
    one.append("ratings", {"rating_id": "a"})
    seen = one.read("ratings")
    other.append("ratings", {"rating_id": "b"})

    assert one.read("ratings") is seen
    assert [record["rating_id"] for record in seen] == ["a", "b"]


def test_check_and_write_under_the_lock_are_one_step_for_threads_of_two_stores(tmp_path):
    stores = [RatingStore(tmp_path), RatingStore(tmp_path)]

    def take(store: RatingStore) -> None:
        for _ in range(10):
            with store.locked():
                number = len(store.read("claims"))
                time.sleep(0.001)
                store.append("claims", {"number": number})

    threads = [threading.Thread(target=take, args=(store,)) for store in stores * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [record["number"] for record in RatingStore(tmp_path).read("claims")] == list(range(40))


def test_a_lock_that_somebody_keeps_is_an_error_that_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(rating_store, "LOCK_SECONDS", 0.05)
    one, other = RatingStore(tmp_path), RatingStore(tmp_path)

    with one.locked(), pytest.raises(DiskError, match="its lock was not free"):
        other.append("ratings", {})


def test_a_disk_that_is_full_is_one_line_and_the_half_written_record_harms_nobody(tmp_path):
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))"
    script = f"""
{limit}
from pathlib import Path
from lpmc_errors import DiskError
from space.rating_store import RatingStore
store = RatingStore(Path({str(tmp_path)!r}))
try:
    for number in range(100):
        store.append("ratings", {{"rating_id": number, "text": "x" * 90}})
except DiskError as error:
    print(error)
"""
    ran = subprocess.run([sys.executable, "-c", script], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert "ratings.jsonl: the file would exceed the allowed size" in ran.stdout

    store = RatingStore(tmp_path)
    store.append("ratings", {"rating_id": "after"})

    assert [record["rating_id"] for record in store.read("ratings")] == [0, 1, 2, 3, "after"]
    assert (tmp_path / "torn.jsonl").exists()
