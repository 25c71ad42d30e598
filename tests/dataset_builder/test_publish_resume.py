"""A push that is killed, cut off or overtaken: readers see the old data set or the new, and nothing is sent twice."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import small_corpus
from hub_clients import check_output, command
from hub_double import HubDouble

from dataset_builder.build import build_dataset
from dataset_builder.publish import published_files

REPO = "org/lp-musiccaps"
STAGED = {"COMMIT_BYTES": 110_000, "GROUP_BYTES": 1}  # a shard is some 33 kB: three a commit, one a step


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A data set of twelve shards, and a second version with other captions in nine shards."""
    folder = tmp_path_factory.mktemp("versions")
    found = []
    for name, count in (("first", 12), ("second", 9)):
        corpus = small_corpus.write_corpus(folder / name, small_corpus.tracks(count))
        rows = [row for row in corpus.rows if name == "first" or row.instruction != "summary"]
        small_corpus.write_captions(rows, corpus.captions, dict(small_corpus.PIPELINE))
        output = folder / name / "lp-musiccaps"
        build_dataset(
            corpus.captions, corpus.tracks, config="cfg", output=output, audio_root=corpus.audio, shard_bytes=1
        )
        assert len(list(output.glob("cfg/*.parquet"))) == count
        found.append(output)
    return found[0], found[1]


def contents(dataset: Path) -> dict[str, bytes]:
    return {name: (dataset / name).read_bytes() for name in published_files(dataset)}


def published(hub: HubDouble, revision: str = "main") -> dict[str, bytes]:
    files = hub.files("dataset", REPO, revision)
    return {name: content for name, content in files.items() if name != ".gitattributes"}


def parquet_bytes(dataset: Path) -> int:
    return sum(path.stat().st_size for path in dataset.glob("cfg/*.parquet"))


def every_state_was_whole(hub: HubDouble, *datasets: Path) -> None:
    """Each state of `main` that a reader could meet was empty or exactly one of the data sets."""
    repository = hub.repository("dataset", REPO)
    allowed = [{}, *(contents(dataset) for dataset in datasets)]
    for commit in repository.history(repository.branches["main"]):
        assert published(hub, commit.sha) in allowed, commit.title


def test_a_large_push_is_resumable_commits_beside_main_and_one_on_it(hub, pusher, versions):
    first, second = versions

    done = pusher.push(first, REPO, limits=STAGED)

    assert published(hub) == contents(first)
    assert done["commits"] >= 5
    assert [done["sent_files"], done["files"]] == [len(contents(first))] * 2
    assert done["sent_bytes"] == done["bytes"] == sum(map(len, contents(first).values()))
    assert hub.state.received == parquet_bytes(first)
    every_state_was_whole(hub, first)

    done = pusher.push(second, REPO, limits=STAGED)

    assert published(hub) == contents(second)
    assert len(done["deleted"]) == 12
    every_state_was_whole(hub, first, second)
    assert list(hub.repository("dataset", REPO).branches) == ["main"]
    assert hub.repository("dataset", REPO).branches["main"] == done["revision"]


def test_what_is_there_already_is_not_sent_again(hub, pusher, versions):
    first, _ = versions
    done, again = [pusher.push(first, REPO) for _ in range(2)]
    assert (again["sent_files"], again["sent_bytes"], again["commits"]) == (0, 0, 0)
    assert again["revision"] == done["revision"]
    assert hub.state.received == parquet_bytes(first)
    assert done["commits"] == 1  # a small push needs no branch


def wait_for(condition, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


@pytest.mark.parametrize("uploads", [1, 5])
def test_a_push_that_is_killed_goes_on_where_it_was(hub, pusher, versions, tmp_path, uploads):
    first, _ = versions
    environment = hub.environment(tmp_path / "home")
    hub.fail("PUT /__lfs/", delay=0.1)
    running = subprocess.Popen(
        command("push", first, "--repo", REPO, **STAGED), env=environment, stderr=subprocess.DEVNULL
    )
    wait_for(lambda: len(hub.state.uploads) >= uploads)
    running.send_signal(signal.SIGKILL)
    running.wait(10)
    assert published(hub) == {}, "a reader met half a data set"
    hub.state.faults.clear()
    time.sleep(0.3)  # what was on its way arrives

    sent_before = len(hub.state.uploads)
    done = pusher.push(first, REPO, limits=STAGED)

    assert published(hub) == contents(first)
    assert len(hub.state.uploads) == 12
    assert sum(size for _, size in hub.state.uploads) == parquet_bytes(first)
    assert sent_before >= uploads
    assert done["sent_files"] <= done["files"] - 3 * (uploads // 3), "what a commit holds was handed over again"
    assert done["bytes"] == sum(map(len, contents(first).values()))
    every_state_was_whole(hub, first)


def test_faults_of_hub_and_line_in_the_middle_are_waited_out(hub, pusher, versions):
    first, _ = versions
    commits = hub.fail("POST .*/commit/", 2, status=500)
    hub.fail("POST .*/commit/", 5, status=429, headers={"Retry-After": "1"})
    hub.fail("POST .*/commit/", 4, lose_answer=True)
    hub.fail("PUT /__lfs/", 3, status=502)
    hub.fail("PUT /__lfs/", 6, cut_after=1)
    hub.fail("GET /api/datasets/org", 3, status=503)

    pusher.run("import time; usual_sleep = time.sleep; time.sleep = lambda seconds: usual_sleep(seconds / 10)")
    done = pusher.push(first, REPO, limits=STAGED)
    pusher.run("time.sleep = usual_sleep")

    assert published(hub) == contents(first)
    assert commits.met >= 6
    assert len(hub.state.uploads) == 12, "something was sent twice"
    assert done["files"] == len(contents(first))
    every_state_was_whole(hub, first)


def test_a_lost_answer_to_the_last_commit_makes_no_second_one(hub, pusher, versions):
    first, _ = versions
    hub.fail("POST .*/commit/main", 1, lose_answer=True)
    done = pusher.push(first, REPO)
    repository = hub.repository("dataset", REPO)
    assert published(hub) == contents(first)
    assert len(repository.commits) == 2  # the Hub's own first one, and ours
    assert done["revision"] == repository.branches["main"]


def test_a_hub_that_stays_away_or_asks_for_hours_ends_the_run_with_the_code_for_resuming(hub, pusher, versions):
    first, _ = versions
    hub.fail("POST .*/commit/", status=429, headers={"Retry-After": "3600"})
    answer = pusher.push(first, REPO)
    assert answer.startswith("HubAwayError(75): ")
    assert "answers 429 and asks to wait 3600 s; run the same command again later" in answer
    hub.state.faults.clear()

    hub.fail("POST .*/commit/", status=503)
    answer = pusher.push(first, REPO, limits={"MAX_TRIES": 2})
    assert answer.startswith("HubAwayError(75): ")
    assert "answers 503" in answer
    hub.state.faults.clear()

    done = pusher.push(first, REPO)
    assert published(hub) == contents(first)
    assert done["sent_bytes"] == done["bytes"]
    assert hub.state.received == parquet_bytes(first), "the shards were sent again"


def test_the_hubs_own_rate_limit_is_kept(hub, pusher, versions):
    first, _ = versions
    hub.limit("POST .*/preupload/", 8, window=1.0)
    pusher.push(first, REPO, limits=STAGED)
    assert published(hub) == contents(first)
    assert any(status == 429 for _, _, status in hub.state.log)


def test_a_repository_that_somebody_else_changed_meanwhile_is_left_alone(hub, pusher, versions):
    first, _ = versions
    hub.fail("POST .*/commit/main", 1, status=412)  # as for a parent that is not the head any more
    answer = pusher.push(first, REPO)
    assert answer.startswith("HubAwayError(75): ")
    assert "was changed by somebody else while this was sent; run the same command again" in answer
    assert published(hub) == {}

    pusher.push(first, REPO)
    assert published(hub) == contents(first)
    assert hub.state.received == parquet_bytes(first)


def test_a_commit_of_somebody_else_between_look_and_commit_stops_the_push(hub, pusher, versions, tmp_path):
    """The parent that is sent is the state that was compared, so that the Hub itself refuses (412)."""
    first, _ = versions
    environment = hub.environment(tmp_path / "home")
    pusher.push(first, REPO)
    repository = hub.repository("dataset", REPO)
    hub.fail("PUT /__lfs/", 1, delay=1)
    _, second = versions
    running = subprocess.Popen(
        command("push", second, "--repo", REPO), env=environment, stderr=subprocess.PIPE, text=True
    )
    wait_for(lambda: hub.state.faults[0].met)
    files = dict(repository.commits[repository.branches["main"]].files)
    files["notes.md"] = hub.state.store(b"from a colleague")
    theirs = repository.commit("main", files, "a colleague's")
    _, said = running.communicate(timeout=60)
    assert running.returncode == 75
    assert "was changed by somebody else" in said
    assert repository.branches["main"] == theirs

    pusher.push(second, REPO)
    assert published(hub) == {**contents(second), "notes.md": b"from a colleague"}


def test_a_configuration_that_appears_after_the_first_look_is_not_hidden_either(hub, pusher, versions):
    first, _ = versions
    pusher.push(first, REPO)
    hub.fail("POST /api/validate-yaml", 1, delay=0.5)
    repository = hub.repository("dataset", REPO)
    with ThreadPoolExecutor(1) as pool:
        pushing = pool.submit(pusher.push, first, REPO)
        wait_for(lambda: hub.state.faults[0].met)
        files = dict(repository.commits[repository.branches["main"]].files)
        files["theirs/build.json"] = hub.state.store(b"{}")
        theirs = repository.commit("main", files, "a colleague's configuration")
        assert "holds the configuration(s) theirs" in pushing.result(60)
    assert repository.branches["main"] == theirs


def test_a_directory_that_is_built_anew_during_the_push_is_not_published_half_and_half(hub, pusher, versions, tmp_path):
    first = shutil.copytree(versions[0], tmp_path / "lp-musiccaps")
    hub.fail("PUT /__lfs/", 12, delay=1)
    with ThreadPoolExecutor(1) as pool:
        pushing = pool.submit(pusher.push, first, REPO)
        wait_for(lambda: hub.state.faults[0].met >= 12)
        card = first / "README.md"
        card.write_text(card.read_text() + "Nobody has checked this sentence.\n")
        answer = pushing.result(60)
    assert answer.startswith("HubAwayError(75): ")
    assert "README.md: changed while the push ran; run the same command again" in answer
    assert published(hub) == {}


def test_a_branch_that_another_push_took_away_is_no_missing_repository(hub, pusher, versions):
    first, _ = versions
    hub.fail("PUT /__lfs/", 2, delay=0.5)
    with ThreadPoolExecutor(1) as pool:
        pushing = pool.submit(pusher.push, first, REPO, limits=STAGED)
        wait_for(lambda: hub.state.faults[0].met >= 2)
        del hub.repository("dataset", REPO).branches["lpmc-push"]
        answer = pushing.result(60)
    assert answer.startswith("HubAwayError(75): the repository: was changed by somebody else")

    pusher.push(first, REPO, limits=STAGED)
    assert published(hub) == contents(first)
    assert hub.state.received == parquet_bytes(first)


def test_what_a_library_set_up_to_print_gets_no_signed_address(hub, pusher, versions):
    first, _ = versions
    hub.fail("PUT /__lfs/", 1, status=502)
    pusher.run("import logging; logging.basicConfig(level='WARNING')")
    assert pusher.push(first, REPO)["commits"] == 1  # `Pusher` looks at all that was printed


def test_ctrl_c_ends_at_once_with_75_and_the_next_run_goes_on(hub, pusher, versions, tmp_path):
    first, _ = versions
    environment = hub.environment(tmp_path / "home")
    hub.fail("PUT /__lfs/", 4, 5, 6, delay=30)  # of several at once, in threads that know nothing of Ctrl-C
    running = subprocess.Popen(
        command("push", first, "--repo", REPO, COMMIT_BYTES=STAGED["COMMIT_BYTES"]),
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(lambda: hub.state.faults[0].met >= 4)
    begun = time.monotonic()
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=20)
    assert running.returncode == 75
    assert time.monotonic() - begun < 5
    assert "interrupted; run the same command again to resume" in said
    assert "Traceback" not in said
    hub.state.faults.clear()

    pusher.push(first, REPO, limits=STAGED)
    assert published(hub) == contents(first)
    assert sum(size for _, size in hub.state.uploads) == parquet_bytes(first)


def test_the_command_tells_what_it_will_send_and_how_far_it_is(hub, versions, tmp_path):
    first, _ = versions
    environment = hub.environment(tmp_path / "home")
    dry = subprocess.run(
        command("push", first, "--repo", REPO, "--dry-run"), env=environment, capture_output=True, text=True
    )
    assert dry.returncode == 0, dry.stderr
    assert [line.split()[-1] for line in dry.stdout.splitlines()] == published_files(first)
    assert not hub.state.repositories, "a dry run made the repository"

    done = subprocess.run(
        command("push", first, "--repo", REPO, "--gated", "manual", "--json", **STAGED),
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    check_output(done.stdout + done.stderr)
    report = json.loads(done.stdout)
    assert report["gated"] == hub.repository("dataset", REPO).gated == "manual"
    assert f"{REPO} (public, gated (manual), will be created): {len(contents(first))} files" in done.stderr


def test_a_terminal_shows_a_bar_that_moves(hub, versions, tmp_path):
    first, _ = versions
    hub.fail("PUT /__lfs/", delay=0.1)
    own, theirs = pty.openpty()
    running = subprocess.Popen(
        command("push", first, "--repo", REPO, **STAGED),
        env=hub.environment(tmp_path / "home") | {"COLUMNS": "150", "TERM": "xterm"},
        stderr=theirs,
        stdout=subprocess.DEVNULL,
    )
    os.close(theirs)
    shown = b""
    try:
        while part := os.read(own, 65_536):
            shown += part
    except OSError:  # how Linux tells that the other end is closed
        pass
    running.wait(30)
    assert running.returncode == 0, shown[-2000:]
    check_output(shown.decode())
    steps = set(re.findall(r"sending (cfg/\S+\.parquet), [\d,]+ B", shown.decode()))
    assert len(steps) >= 5, "the bar stood still"
