"""The key of a request and the store of its answers: nothing bought twice, nothing lost, on any file system."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from dataset_builder.captioning import answer_log
from dataset_builder.captioning.requests import Answer, CaptionRequest, Fault, Sampling, canonical_text
from dataset_builder.captioning.store import AnswerStore, BatchRecord, Reservation, Verdict
from dataset_builder.instructions import Message, Prompt, render_prompt
from lpmc_errors import TableError


def ask(tags: tuple[str, ...] = ("rock",), variant: str = "t0", **sampling: object) -> CaptionRequest:
    settings = Sampling(**({"max_tokens": 256} | sampling))
    return CaptionRequest("self-hosted", "m", render_prompt("writing", tags), settings, variant)


def with_messages(*messages: Message, schema: str = "") -> CaptionRequest:
    return replace(ask(), prompt=Prompt(messages, "w", "1", schema=schema))


# --- keys -----------------------------------------------------------------------------------------------------------


def test_whatever_can_change_an_answer_changes_its_key() -> None:
    system, user = Message("system", "Describe."), Message("user", "rock")
    different = [
        ask(),
        ask(("rock", "pop")),
        ask(variant="t1"),
        ask(temperature=0.0),
        ask(temperature=0.5),
        ask(top_p=0.9),
        ask(seed=1),
        ask(max_tokens=128),
        replace(ask(), model="other"),
        replace(ask(), provider="api.example.com"),
        with_messages(system, user),
        with_messages(Message("system", "Describe!"), user),  # one character of the system message
        with_messages(user),
        with_messages(Message("system", "rock")),
        with_messages(user, schema='{"type":"object"}'),
    ]
    assert len({request.key for request in different}) == len(different)


def test_equal_questions_have_equal_keys_however_they_were_written() -> None:
    assert ask(temperature=1).key == ask(temperature=1.0).key
    assert replace(ask(), prompt=replace(ask().prompt, wording="another name", shared=0)).key == ask().key
    assert len(ask().key) == 64


def test_the_canonical_text_is_sorted_json_of_everything_that_was_asked() -> None:
    request = with_messages(Message("system", 'Say "ü"\n'), Message("user", "rock\u2028é"), schema='{"a":1}')
    parsed = json.loads(request.canonical)
    assert json.dumps(parsed, sort_keys=True, ensure_ascii=False, separators=(",", ":")) == request.canonical
    assert parsed["content"] == "rock\u2028é"
    assert parsed["form"]["messages_before"] == [["system", 'Say "ü"\n']]
    assert parsed["form"]["schema"] == '{"a":1}'
    assert parsed["form"]["model"] == "m"


# --- the store ------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["sqlite", "log"])
def path(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store on a local and, with `log`, on what is taken for a network file system."""
    monkeypatch.setenv("LPMC_STORE", request.param)
    return tmp_path / "store.sqlite"


def test_what_was_answered_is_there_when_the_store_is_opened_again(path: Path) -> None:
    first, second, third = ask(variant="a"), ask(variant="b"), ask(variant="c")
    answer = Answer("One\ntwo “ü”", "m-2", "stop", 10, 5)
    with AnswerStore(path) as store, store.sole_writer():
        store.begin([first, second], lambda request: Reservation(300, 7))
        store.settle(first.key, answer, 3)
        store.settle(second.key, Fault("refused", "HTTP 400: no"))
        store.start_run("plan", {"model": "m"}, 3, {})
        store.keep_verdict(b"k" * 16, "plan", "a", "writing", Verdict("ok", first.key, {"facts": ["tempo: slow"]}))
        store.set("rung", "text")
        store.add_batch(BatchRecord("batch_1", "p", "file_1", "validating"), [third])
        store.update_batch("batch_1", "in_progress")
    with AnswerStore(path) as store:
        assert store.answer(first.key) == answer
        assert store.answer(second.key) is None
        assert store.was_refused(second.key)
        assert not store.was_refused(first.key)
        assert [fault.message for fault in store.faults(second.key)] == ["HTTP 400: no"]
        assert store.canonical(first.key) == first.canonical
        assert store.verdict(b"k" * 16) == Verdict("ok", first.key, {"facts": ["tempo: slow"]})
        assert store.verdict(b"x" * 16) is None
        assert store.verdict_keys().tolist() == [b"k" * 16]
        assert store.settled("plan") == {"writing": {"ok": 1}}
        assert store.setting("rung") == "text"
        assert store.open_keys("batch_1") == {third.key}
        assert store.is_open(third.key)
        assert [(batch.id, batch.status) for batch in store.batches()] == [("batch_1", "in_progress")]
        totals = store.totals()
        assert (totals.answers, totals.prompt_tokens, totals.completion_tokens, totals.sent, totals.open) == (
            1,
            10,
            5,
            3,
            1,
        )
        assert totals.faults_by_kind == {"refused": 1}


def test_a_second_answer_to_a_question_does_not_replace_the_first(path: Path) -> None:
    with AnswerStore(path) as store:
        store.record(ask(), Answer("first"))
        store.record(ask(), Answer("second"))
        assert store.answer(ask().key) == Answer("first")


def test_spend_counts_what_was_reserved_until_it_is_known(path: Path) -> None:
    a, b, c = ask(variant="a"), ask(variant="b"), ask(variant="c")
    with AnswerStore(path) as store:
        store.begin([a, b, c], lambda request: Reservation(300, 1000))
        assert (store.spend().requests, store.spend().tokens, store.spend().cost) == (3, 900, 3000)
        store.settle(a.key, Answer("x", prompt_tokens=20, completion_tokens=5), 40)
        store.settle(b.key, Fault("transient", "boom"), 0)
        spend = store.spend()
    assert (spend.requests, spend.tokens, spend.cost, spend.unpriced) == (3, 325, 1040, 0)
    with AnswerStore(path) as store, store.sole_writer():  # c was under way when its process ended
        spend = store.spend()
        assert (spend.tokens, spend.cost) == (325, 1040)
        assert store.totals().faults_by_kind == {"transient": 1, "lost": 1}
        assert not store.is_open(c.key)


def test_requests_in_a_batch_are_not_lost_with_their_process(path: Path) -> None:
    with AnswerStore(path) as store:
        store.add_batch(BatchRecord("batch_1", "p", "f", "validating"), [ask()])
    with AnswerStore(path) as store, store.sole_writer():
        assert store.open_keys("batch_1") == {ask().key}


def test_a_larger_token_limit_asks_again_only_what_the_smaller_one_cut_off(path: Path) -> None:
    whole, cut = ask(variant="whole", max_tokens=50), ask(variant="cut", max_tokens=50)
    with AnswerStore(path) as store:
        store.record(whole, Answer("All said.", finish_reason="stop", completion_tokens=40))
        store.record(cut, Answer("All sa", finish_reason="length", completion_tokens=50))
        found = store.find(ask(variant="whole", max_tokens=100))
        assert found is not None
        assert (found.key, found.answer.text) == (whole.key, "All said.")
        assert store.find(ask(variant="cut", max_tokens=100)) is None
        assert store.find(ask(variant="whole", max_tokens=45)) is not None
        assert store.find(ask(variant="whole", max_tokens=30)) is None  # such a limit would have cut it
        assert store.find(ask(variant="whole", max_tokens=100, temperature=0.3)) is None
        assert store.find(ask(variant="whole", max_tokens=100, seed=1)) is None


def test_a_file_that_is_no_store_or_an_older_one_is_named_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE holiday (picture)")
    before = path.read_bytes()
    with pytest.raises(TableError, match="no answer store of this version; choose another --store"):
        AnswerStore(path)
    assert path.read_bytes() == before


# --- network file systems -------------------------------------------------------------------------------------------


def mounted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(
        "22 1 253:0 / / rw,relatime - ext4 /dev/vda rw\n"
        f"40 22 0:30 / {str(tmp_path).replace(' ', chr(92) + '040')} rw,relatime - {kind} server:/export rw\n"
    )
    monkeypatch.setattr(answer_log, "MOUNTS", table)


@pytest.mark.parametrize(("kind", "network"), [("nfs4", True), ("lustre", True), ("fuse.sshfs", True), ("xfs", False)])
def test_network_mounts_are_detected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, network: bool) -> None:
    folder = tmp_path / "with space"
    folder.mkdir()
    mounted(folder, monkeypatch, kind)
    assert answer_log.on_network_file_system(folder) is network


def test_a_store_on_a_network_mount_is_a_folder_of_appended_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounted(tmp_path, monkeypatch, "nfs4")
    path = tmp_path / "store.sqlite"
    for number in range(2):
        with AnswerStore(path) as store:
            store.record(ask(variant=f"t{number}"), Answer(f"answer {number}"))
    assert not path.exists()
    files = sorted((tmp_path / "store.sqlite.log").iterdir())
    assert len(files) == 2
    with files[0].open("a") as torn:
        torn.write('["answer", "00')  # its process died while it wrote
    with AnswerStore(path) as store:
        assert [store.answer(ask(variant=f"t{number}").key) for number in range(2)] == [
            Answer("answer 0"),
            Answer("answer 1"),
        ]


def test_a_killed_process_leaves_every_answer_it_had(path: Path) -> None:
    script = (
        "import os, sys, signal\n"
        "from pathlib import Path\n"
        "from dataset_builder.captioning.store import AnswerStore\n"
        "from dataset_builder.captioning.requests import *\n"
        "from dataset_builder.instructions import render_prompt\n"
        "store = AnswerStore(Path(sys.argv[1]))\n"
        "for n in range(50):\n"
        "    prompt = render_prompt('writing', ('rock',))\n"
        "    request = CaptionRequest('self-hosted', 'm', prompt, Sampling(256), f't{n}')\n"
        "    store.record(request, Answer(f'answer {n}'))\n"
        "store.begin([CaptionRequest('self-hosted', 'm', render_prompt('writing', ('x',)), Sampling(256), 'last')])\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    result = subprocess.run([sys.executable, "-c", script, str(path)], env=os.environ, cwd=Path(__file__).parents[2])
    assert result.returncode == -signal.SIGKILL
    with AnswerStore(path) as store, store.sole_writer():
        assert all(store.answer(ask(variant=f"t{n}").key) == Answer(f"answer {n}") for n in range(50))
        assert store.totals().faults_by_kind == {"lost": 1}


def test_the_canonical_text_can_be_put_together_from_its_parts() -> None:
    request = ask(seed=3)
    assert canonical_text(request.form, request.content, 3, "t0") == request.canonical
