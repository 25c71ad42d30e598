"""One job cut into parts that know nothing of each other, and put together again; and what its stores report."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from chat_double import ChatDouble

from dataset_builder.captioning.captions_table import read_captions
from dataset_builder.captioning.finish import merge_shards
from dataset_builder.captioning.jobs import CaptionJob, shard_of
from dataset_builder.captioning.pseudo_caption import make_plan, parse_shard
from dataset_builder.instructions import INSTRUCTIONS
from dataset_builder.tracks import TaggedTrack, write_tracks
from lpmc_errors import TableError, UsageError

TRACKS = 60


@pytest.fixture
def tracks(tmp_path: Path) -> Path:
    path = tmp_path / "tracks.parquet"
    rows = [TaggedTrack(f"t{n}", ("rock", f"tag {n}", *(["slow"] if n % 3 else []))) for n in range(TRACKS)]
    write_tracks([*rows, TaggedTrack("empty", ())], path)
    return path


def command(tracks: Path, output: str, urls: list[str], *more: str) -> list[str]:
    parts = [sys.executable, "-m", "lpmc", "pseudo-caption", str(tracks), "--output", str(tracks.with_name(output))]
    parts += ["--backend", "openai", "--model", "double", "--instructions", "writing,summary", "--json"]
    return [*parts, *(part for url in urls for part in ("--base-url", url)), *more]


def run(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(arguments, capture_output=True, text=True, timeout=120, cwd=cwd)


def test_every_job_belongs_to_one_shard_whatever_their_number() -> None:
    class Named:
        name, provider, model = "openai", "self-hosted", "m"

    plan = make_plan(Named(), INSTRUCTIONS)  # type: ignore[arg-type]
    jobs = [
        CaptionJob(TaggedTrack(f"t{n}", ("rock",) if n % 5 else ()), name) for n in range(500) for name in INSTRUCTIONS
    ]
    for shards in (1, 2, 4, 7):
        counts = Counter(shard_of(job, plan, shards) for job in jobs)
        assert set(counts) == set(range(shards))
        assert max(counts.values()) < 1.2 * min(counts.values())
    # The part of a job depends on its own question alone: other jobs may come and go.
    assert shard_of(jobs[3], plan, 4) == shard_of(CaptionJob(TaggedTrack("t0", ()), jobs[3].instruction), plan, 4)


@pytest.mark.parametrize("text", ["4/4", "1", "-1/4", "a/b", "1/0", "1/4/2", ""])
def test_a_shard_is_i_of_n(text: str) -> None:
    with pytest.raises(UsageError, match="is not I/N"):
        parse_shard(text)


def test_four_shards_on_three_servers_with_one_of_them_killed_make_the_table_of_one_process(tracks: Path) -> None:
    folder = tracks.parent

    def slow(number: int, message: str) -> float:
        return 0.03

    with ChatDouble(slow) as one, ChatDouble(slow) as two, ChatDouble(slow) as three:
        urls = [one.url, two.url, three.url]
        commands = [
            command(tracks, f"part-{n}.parquet", urls, "--shard", f"{n}/4", "--concurrency", "4") for n in range(4)
        ]
        processes = [subprocess.Popen(parts, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for parts in commands]
        victim = processes[2]
        store = folder / "part-2.store.sqlite"
        while not store.exists() or len(one.log) + len(two.log) + len(three.log) < 20:
            time.sleep(0.02)
        time.sleep(0.3)
        os.kill(victim.pid, signal.SIGKILL)
        for process in processes:
            process.communicate(timeout=120)
        assert [process.returncode for process in processes] == [0, 0, -signal.SIGKILL, 0]
        killed_at = Counter([*one.log, *two.log, *three.log])
        again = run(*commands[2])
        assert again.returncode == 0, again.stderr
        sent = Counter([*one.log, *two.log, *three.log])
        assert len(sent) == 2 * TRACKS
        assert sum(sent.values()) <= 2 * TRACKS + 4  # the kill lost at most what was under way
        assert json.loads(again.stdout)["requests_sent"] == sum(sent.values()) - sum(killed_at.values())
        assert min(len(server.log) for server in (one, two, three)) > 10
        whole = run(*command(tracks, "whole.parquet", [one.url]))
        assert whole.returncode == 0, whole.stderr
    merged = run(
        *(sys.executable, "-m", "lpmc", "merge-shards"),
        *(str(folder / f"part-{n}.parquet") for n in (3, 0, 2, 1)),
        *("--tracks", str(tracks), "--output", str(folder / "merged.parquet"), "--json"),
    )
    assert merged.returncode == 0, merged.stderr
    assert json.loads(merged.stdout)["outcomes"] == {"ok": 2 * TRACKS, "skipped_no_tags": 2}
    assert list(read_captions(folder / "merged.parquet")) == list(read_captions(folder / "whole.parquet"))

    told = run(
        sys.executable, "-m", "lpmc", "report", *(str(folder / f"part-{n}.store.sqlite") for n in range(4)), "--json"
    )
    assert told.returncode == 0, told.stderr
    assert "double" in told.stdout


def test_tables_that_are_not_all_shards_of_one_run_are_not_merged(tracks: Path) -> None:
    folder = tracks.parent
    with ChatDouble() as server:
        for n in range(3):
            assert run(*command(tracks, f"p{n}.parquet", [server.url], "--shard", f"{n}/3")).returncode == 0
        assert (
            run(*command(tracks, "warm.parquet", [server.url], "--shard", "2/3", "--temperature", "1")).returncode == 0
        )
        assert run(*command(tracks, "whole.parquet", [server.url])).returncode == 0
    parts = [folder / f"p{n}.parquet" for n in range(3)]
    for tables, words in (
        (parts[:2], "shard 2/3 is missing"),
        ([*parts, parts[1]], "shard 1/3 is there twice"),
        ([*parts[:2], folder / "warm.parquet"], "comes from another run"),
        ([*parts[:2], folder / "whole.parquet"], "is no shard"),
    ):
        with pytest.raises(TableError, match=words):
            merge_shards(tables, tracks, folder / "merged.parquet")
        assert not (folder / "merged.parquet").exists()
    ledger = merge_shards(parts, tracks, folder / "merged.parquet")
    made = json.loads((folder / "merged.pipeline.json").read_text())
    assert (made["requests_sent"], made["store_requests"], made["store_tokens"]) == (120, 120, 1800)
    assert (made["store_cost_usd"], made["shards"]) == (None, 3)
    assert ledger.outcomes == {"ok": 2 * TRACKS, "skipped_no_tags": 2}


def test_the_budget_of_a_shard_is_its_part_of_the_whole(tracks: Path) -> None:
    with ChatDouble() as server:
        result = run(*command(tracks, "p.parquet", [server.url], "--shard", "0/2", "--max-requests", "40"))
        assert result.returncode == 75
        assert "--max-requests is used up" in result.stderr
        assert len(server.log) == 20
