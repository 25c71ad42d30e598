"""Tags to captions through real HTTP: nothing lost, nothing bought twice, every pair in one outcome."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from chat_double import ChatDouble, good_answer, tags_of

from dataset_builder.captioning import engine
from dataset_builder.captioning.backends.openai_chat import ChatBackend
from dataset_builder.captioning.captions_table import CaptionRow, read_captions, read_pipeline
from dataset_builder.captioning.pseudo_caption import (
    CaptioningSummary,
    caption_tracks,
    caption_with_baseline,
    make_plan,
    parse_instructions,
)
from dataset_builder.captioning.store import AnswerStore
from dataset_builder.instructions import INSTRUCTIONS
from dataset_builder.tracks import TaggedTrack, write_tracks
from lpmc_errors import DiskError, EndpointError, TableError, UsageError

TAGS = [("rock", "electric guitar"), ("jazz", "saxophone", "slow tempo"), ("flute",), ("techno", "energetic")]


@pytest.fixture(autouse=True)
def short_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "BACKOFF_FIRST_S", 0.01)


@pytest.fixture
def tracks(tmp_path: Path) -> Path:
    path = tmp_path / "tracks.parquet"
    write_tracks([TaggedTrack(f"t{number}", tags) for number, tags in enumerate(TAGS)], path)
    return path


def ask(
    tracks: Path, url: str, instructions: tuple[str, ...] = ("writing",), *, concurrency: int = 4, **options: object
) -> tuple[CaptioningSummary, list[CaptionRow]]:
    backend = ChatBackend("double", base_url=url, api_key="key-not-checked", concurrency=concurrency)
    plan = make_plan(backend, instructions, **options)
    output = tracks.with_name("captions.parquet")
    summary = caption_tracks(tracks, output, tracks.with_name("store.sqlite"), backend, plan)
    return summary, list(read_captions(output))


def test_every_pair_of_track_and_instruction_gets_one_row(tracks: Path) -> None:
    with ChatDouble() as server:
        summary, rows = ask(tracks, server.url, INSTRUCTIONS)
    assert summary.outcomes == {"ok": 16}
    assert Counter((row.track_id, row.instruction) for row in rows).most_common(1)[0][1] == 1
    assert len(rows) == len(server.log) == 16
    first = rows[0]
    assert first.caption == "This is a piece with rock, electric guitar."
    assert (first.model_asked, first.model_answered) == ("double", "double-answered")
    assert (first.prompt_tokens, first.completion_tokens, first.caption_origin) == (10, 5, "model")
    predicted = next(row for row in rows if row.instruction == "attribute_prediction")
    assert predicted.new_attributes == ("pleasant",)
    pipeline = read_pipeline(tracks.with_name("captions.parquet"))
    assert pipeline["outcomes"] == {"ok": 16}
    assert "key-not-checked" not in str(pipeline)


def test_a_finished_store_buys_nothing(tracks: Path) -> None:
    with ChatDouble() as server:
        _, first = ask(tracks, server.url)
        summary, second = ask(tracks, server.url)
    assert summary.requests_sent == 0
    assert len(server.log) == 4
    assert first == second


def test_appending_a_row_buys_one_answer(tracks: Path) -> None:
    with ChatDouble() as server:
        ask(tracks, server.url)
        more = [TaggedTrack(f"t{number}", tags) for number, tags in enumerate([*TAGS, ("ska",)])]
        write_tracks(more, tracks)
        ask(tracks, server.url)
        assert len(server.log) == 5
        assert tags_of(server.log[-1]) == "ska"


def test_another_wording_or_temperature_buys_all_again(tracks: Path) -> None:
    with ChatDouble() as server:
        ask(tracks, server.url)
        ask(tracks, server.url, wording="small")
        ask(tracks, server.url, temperature=0.5)
        assert len(server.log) == 12


def test_the_time_out_the_concurrency_and_the_key_are_no_part_of_the_question(tracks: Path) -> None:
    with ChatDouble() as server:
        ask(tracks, server.url)
        backend = ChatBackend("double", base_url=server.url, api_key="other", concurrency=1, timeout=5)
        plan = make_plan(backend, ("writing",))
        caption_tracks(tracks, tracks.with_name("c.parquet"), tracks.with_name("store.sqlite"), backend, plan)
        assert len(server.log) == 4


def test_server_errors_cut_connections_and_garbage_are_tried_again(tracks: Path) -> None:
    faults = {0: (500, {}, {"error": {"message": "boom"}}), 1: "cut", 2: "garbage", 3: (503, {}, {})}
    with ChatDouble(lambda number, message: faults.get(number)) as server:
        summary, rows = ask(tracks, server.url)
    assert summary.outcomes == {"ok": 4}
    assert all(row.caption for row in rows)
    assert len(server.log) == 8


def test_a_refused_request_is_recorded_sent_once_and_does_not_stop_the_rest(tracks: Path) -> None:
    refusal = (400, {}, {"error": {"message": "content filter"}})
    with ChatDouble(lambda number, message: refusal if "flute" in message else None) as server:
        summary, rows = ask(tracks, server.url)
        again, _ = ask(tracks, server.url)
        sent = Counter(tags_of(message) for message in server.log)
    assert summary.outcomes == {"ok": 3, "api_failed": 1}
    assert sent["flute"] == 1
    assert again.requests_sent == 0
    failed = next(row for row in rows if row.outcome == "api_failed")
    assert "content filter" in (failed.reason or "")
    assert failed.caption == "the music is characterized by flute"
    assert failed.caption_origin == "template"


def test_without_fallback_a_failed_row_has_no_caption(tracks: Path) -> None:
    refusal = (400, {}, {"error": {"message": "no"}})
    with ChatDouble(lambda number, message: refusal) as server:
        _, rows = ask(tracks, server.url, fallback=False)
    assert [row.caption for row in rows] == [None] * 4
    assert {row.outcome for row in rows} == {"api_failed"}


def test_a_request_that_never_succeeds_is_recorded_after_its_tries_and_asked_again_in_the_next_run(
    tracks: Path,
) -> None:
    broken = (500, {}, {"error": {"message": "boom"}})
    with ChatDouble(lambda number, message: broken if "flute" in message else None) as server:
        summary, rows = ask(tracks, server.url)
        sent = Counter(tags_of(message) for message in server.log)
    assert sent["flute"] == engine.MAX_TRIES
    assert summary.outcomes == {"ok": 3, "api_failed": 1}
    assert next(row for row in rows if row.outcome == "api_failed").attempts == engine.MAX_TRIES
    with ChatDouble() as server:
        summary, _ = ask(tracks, server.url)
        assert [tags_of(message) for message in server.log] == ["flute"]
    assert summary.outcomes == {"ok": 4}


def test_a_rate_limit_waits_as_long_as_the_server_says(tracks: Path) -> None:
    times: list[float] = []

    def faults(number: int, message: str) -> object:
        times.append(time.monotonic())
        return (429, {"retry-after": "1.2"}, {"error": {"message": "slow down"}}) if number == 0 else None

    with ChatDouble(faults) as server:
        summary, _ = ask(tracks, server.url, concurrency=1)
    assert summary.outcomes == {"ok": 4}
    assert times[1] - times[0] >= 1.2


@pytest.mark.parametrize(
    ("status", "code"),
    [(429, "insufficient_quota"), (401, "invalid_api_key"), (403, "forbidden"), (404, "model_not_found")],
)
def test_quota_key_and_model_errors_stop_the_run_after_one_request(tracks: Path, status: int, code: str) -> None:
    fault = (status, {}, {"error": {"message": f"{code} for sk-abcdefghijklmnop", "code": code}})
    with ChatDouble(lambda number, message: fault) as server:
        with pytest.raises(EndpointError) as raised:
            ask(tracks, server.url, concurrency=8)  # the first request goes alone
        assert len(server.log) == 1
    assert code in str(raised.value)
    assert "sk-abcdefghijklmnop" not in str(raised.value)


def test_a_wrong_key_is_named_before_anything_is_sent_and_never_shown(tracks: Path) -> None:
    with ChatDouble(key="the-right-one") as server:
        backend = ChatBackend("double", base_url=server.url, api_key="wrong-secret-1234")
        with pytest.raises(EndpointError) as raised:
            caption_tracks(
                tracks,
                tracks.with_name("c.parquet"),
                tracks.with_name("s.sqlite"),
                backend,
                make_plan(backend, ("writing",)),
            )
        assert server.log == []
    assert "401" in str(raised.value)
    assert "wrong-secret-1234" not in str(raised.value)
    assert b"wrong-secret-1234" not in tracks.with_name("s.sqlite").read_bytes()


def test_an_unreachable_endpoint_is_one_clear_error(tracks: Path) -> None:
    with pytest.raises(EndpointError, match=r"127\.0\.0\.1:9/v1: cannot be reached .*; start the server or correct"):
        ask(tracks, "http://127.0.0.1:9/v1")


def test_a_run_that_mostly_fails_stops(tracks: Path) -> None:
    write_tracks((TaggedTrack(f"t{number}", ("rock",)) for number in range(300)), tracks)
    broken = (500, {}, {"error": {"message": "boom"}})
    with ChatDouble(lambda number, message: broken) as server:
        with pytest.raises(EndpointError, match="requests failed"):
            ask(tracks, server.url)
        assert len(server.log) <= (engine.HEALTH_WINDOW + 8) * engine.MAX_TRIES


def test_an_unsupported_claim_is_asked_again_with_a_new_seed_and_then_replaced_by_the_template(tracks: Path) -> None:
    lies = iter(["A flute and a trumpet.", "A flute and a tuba.", "A flute beside a loud trumpet."])

    def lying(message: str) -> str:
        return next(lies) if "flute" in message else good_answer(message)

    with ChatDouble(answer=lying) as server:
        summary, rows = ask(tracks, server.url)
        bodies = [body for body in server.bodies if "flute" in body["messages"][-1]["content"]]
    assert summary.outcomes == {"ok": 3, "rejected": 1}
    assert summary.template_fallbacks == 1
    rejected = next(row for row in rows if row.outcome == "rejected")
    assert rejected.caption == "the music is characterized by flute"
    assert rejected.caption_origin == "template"
    assert "trumpet" in (rejected.reason or "")
    assert [body.get("seed") for body in bodies] == [None, 1, 2]


def test_a_server_that_repeats_itself_word_for_word_is_asked_only_twice(tracks: Path) -> None:
    with ChatDouble(answer=lambda message: "A trumpet.") as server:
        summary, _ = ask(tracks, server.url)
        assert len(server.log) == 8
    assert summary.outcomes == {"rejected": 4}


def test_an_answer_that_was_cut_off_is_asked_once_more_with_twice_the_room(tracks: Path) -> None:
    with ChatDouble(finish_reason="length") as server:
        summary, rows = ask(tracks, server.url, token_limit=50)
        limits = [body["max_tokens"] for body in server.bodies if "flute" in body["messages"][-1]["content"]]
    assert limits == [50, 100]
    assert summary.outcomes == {"rejected": 4}
    assert {row.reason for row in rows} == {"cut off after 100 tokens"}


def test_a_second_answer_that_is_faithful_is_kept(tracks: Path) -> None:
    asked: Counter[str] = Counter()

    def better_later(message: str) -> str:
        asked[message] += 1
        return good_answer(message) if asked[message] > 1 else "A trumpet."

    with ChatDouble(answer=better_later) as server:
        summary, rows = ask(tracks, server.url)
    assert summary.outcomes == {"ok": 4}
    assert {row.attempts for row in rows} == {2}


def test_a_track_without_tags_costs_nothing_and_is_counted(tracks: Path) -> None:
    write_tracks([TaggedTrack("a", ("rock",)), TaggedTrack("b", ())], tracks)
    with ChatDouble() as server:
        summary, rows = ask(tracks, server.url, INSTRUCTIONS)
        assert len(server.log) == 4
    assert summary.outcomes == {"ok": 4, "skipped_no_tags": 4}
    assert all(row.caption is None for row in rows if row.track_id == "b")


def test_requests_run_at_once_up_to_the_limit_and_no_further(tracks: Path) -> None:
    write_tracks((TaggedTrack(f"t{number}", (f"tag {number}",)) for number in range(40)), tracks)
    with ChatDouble(lambda number, message: 0.05) as server:
        ask(tracks, server.url, concurrency=5)
        assert 2 <= server.most_at_once <= 5


def test_a_title_or_artist_never_reaches_a_prompt(tracks: Path) -> None:
    write_tracks([TaggedTrack("a", ("rock",), title="Secret Song", artist="Hidden Band", album="Quiet Album")], tracks)
    with ChatDouble() as server:
        ask(tracks, server.url, INSTRUCTIONS)
        ask(tracks, server.url, INSTRUCTIONS, wording="small")
        sent = str(server.bodies)
    assert not any(name in sent for name in ("Secret Song", "Hidden Band", "Quiet Album"))


@pytest.mark.parametrize(
    ("backend", "expected"),
    [
        ("template", "the music is characterized by jazz, saxophone, slow tempo"),
        ("tag-concat", "jazz, saxophone, slow tempo"),
    ],
)
def test_the_baselines_need_no_model(tracks: Path, backend: str, expected: str) -> None:
    output = tracks.with_name("b.parquet")
    summary = caption_with_baseline(tracks, output, backend)
    rows = list(read_captions(output))
    assert summary.outcomes == {"ok": 4}
    assert rows[1].caption == expected
    assert rows[1].instruction == backend.replace("-", "_")


def test_unusable_tables_and_options_are_named(tmp_path: Path, tracks: Path) -> None:
    write_tracks([TaggedTrack("a", ())], tmp_path / "none.parquet")
    (tmp_path / "text.parquet").write_text("not parquet")
    for path, words in {
        tmp_path / "missing.parquet": "no such tracks table",
        tmp_path / "text.parquet": "not a Parquet file",
        tmp_path / "none.parquet": "none of its 1 tracks has a tag",
    }.items():
        with pytest.raises(TableError, match=words):
            ask(path, "http://127.0.0.1:9/v1")
    with pytest.raises(UsageError, match="unknown instruction 'singing'"):
        parse_instructions("writing,singing")
    with pytest.raises(UsageError, match="not an http"):
        ChatBackend("m", base_url="localhost:8000", api_key="k")


def test_a_file_that_is_no_store_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    path.write_bytes(b"holiday pictures" * 100)
    with pytest.raises(TableError, match="not an answer store"):
        AnswerStore(path)
    assert path.read_bytes() == b"holiday pictures" * 100


def run_cli(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "lpmc", *arguments], capture_output=True, text=True, timeout=120, **options
    )


def test_a_full_disk_is_one_clear_line_and_loses_no_answer(tracks: Path) -> None:
    small = tracks.with_name("small")
    # A limit on file sizes stands for the full disk: both end a write in the middle.
    script = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000)); sys.argv[0] = 'lpmc'; import lpmc; lpmc.main()"
    )
    result = subprocess.run(
        [sys.executable, "-c", script, "pseudo-caption", str(tracks), "--output", str(small), "--backend", "template"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 1
    assert len(result.stderr.strip().splitlines()) == 1, result.stderr
    assert "exceed the allowed size" in result.stderr
    assert not small.exists()
    assert not list(tracks.parent.glob(".small*"))


def test_a_read_only_folder_is_a_disk_error(tracks: Path) -> None:
    with pytest.raises(DiskError):
        AnswerStore(Path("/proc/nowhere/store.sqlite"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_run_stores_what_was_answered_and_exits_75(tracks: Path, number: int) -> None:
    write_tracks((TaggedTrack(f"t{count}", (f"tag {count}",)) for count in range(60)), tracks)
    command = [
        sys.executable,
        "-m",
        "lpmc",
        "pseudo-caption",
        str(tracks),
        "--output",
        str(tracks.with_name("c.parquet")),
    ]
    with ChatDouble(lambda count, message: 0.1) as server:
        command += ["--store", str(tracks.with_name("store.sqlite")), "--backend", "openai", "--model", "double"]
        command += ["--base-url", server.url, "--instructions", "writing", "--concurrency", "2"]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        while len(server.log) < 6:
            time.sleep(0.02)
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 75
        assert "run the same command again" in errors
        asked = len(server.log)
        with AnswerStore(tracks.with_name("store.sqlite")) as store:
            assert store.totals().answers == asked
        assert asked < 60
        assert subprocess.run(command, capture_output=True, timeout=120).returncode == 0
        assert len(server.log) == 60
        assert len(set(server.log)) == 60


def test_a_second_run_on_the_same_store_is_turned_away_and_buys_nothing(tracks: Path) -> None:
    with ChatDouble() as server:
        with AnswerStore(tracks.with_name("store.sqlite")) as other, other.sole_writer():
            with pytest.raises(DiskError, match="another run is asking into this store"):
                ask(tracks, server.url)
            assert server.log == []
        summary, _ = ask(tracks, server.url)  # the lock ends with its holder
    assert summary.outcomes == {"ok": 4}


def test_after_sigkill_only_what_was_missing_is_asked(tracks: Path) -> None:
    write_tracks((TaggedTrack(f"t{count}", (f"tag {count}",)) for count in range(40)), tracks)
    command = [
        sys.executable,
        "-m",
        "lpmc",
        "pseudo-caption",
        str(tracks),
        "--output",
        str(tracks.with_name("c.parquet")),
    ]
    with ChatDouble(lambda count, message: 0.05) as server:
        command += ["--store", str(tracks.with_name("store.sqlite")), "--backend", "openai", "--model", "double"]
        command += ["--base-url", server.url, "--instructions", "writing", "--concurrency", "2", "--json"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while len(server.log) < 10:
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert not tracks.with_name("c.parquet").exists()
        with AnswerStore(tracks.with_name("store.sqlite")) as store:
            kept = store.totals().answers
        before = len(server.log)
        assert 0 < kept <= before < 40
        assert subprocess.run(command, capture_output=True, timeout=120).returncode == 0
        assert len(server.log) - before == 40 - kept
