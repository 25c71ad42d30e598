"""`lpmc pseudo-caption` and `lpmc report` as a person meets them: estimate, preview, batches, budget, provenance."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from batch_double import BatchDouble
from chat_double import ChatDouble

from dataset_builder.captioning.captions_table import read_captions
from dataset_builder.tracks import TaggedTrack, write_tracks

PRICES = """\
as_of: 2026-01-01
source: the test
prices:
  - {model: double, input: "1000", output: "2000", batch_factor: "0.5"}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = [TaggedTrack(f"t{n}", ("rock", f"tag {n}"), source="here" if n % 2 else "there") for n in range(12)]
    write_tracks([*rows, TaggedTrack("empty", ())], tmp_path / "tracks.parquet")
    (tmp_path / "prices.yaml").write_text(PRICES)
    return tmp_path


def lpmc(folder: Path, *arguments: str, key: str | None = None) -> subprocess.CompletedProcess[str]:
    import os

    environment = {name: value for name, value in os.environ.items() if not name.startswith("OPENAI_")}
    if key:
        environment["OPENAI_API_KEY"] = key
    command = [sys.executable, "-m", "lpmc", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=folder, env=environment)


def caption(folder: Path, url: str, *more: str, instructions: str = "writing") -> subprocess.CompletedProcess[str]:
    at = ("--backend", "openai", "--base-url", url, "--model", "double", "--instructions", instructions)
    return lpmc(folder, "pseudo-caption", "tracks.parquet", "--output", "captions.parquet", *at, *more)


# --- before anything is spent ---------------------------------------------------------------------------------------


def test_an_estimate_prices_the_missing_requests_sends_nothing_and_leaves_nothing(folder: Path) -> None:
    with ChatDouble() as server:
        result = caption(folder, server.url, "--estimate", "--prices", "prices.yaml", "--json")
        assert result.returncode == 0, result.stderr
        assert server.log == []
        assert server.checks == 0
        found = json.loads(result.stdout)
        assert (found["total"]["missing"], found["total"]["stored"]) == (12, 0)
        assert set(found["by_source"]) == {"here", "there"}
        dollars = {end: float(value) for end, value in found["total"]["usd_online"].items()}
        assert 0 < dollars["low"] <= dollars["expected"] <= dollars["high"] <= dollars["worst"]
        # 12 prompts of about 85 letters, 12 answers of 44.4 words, at 1 and 2 dollars a thousand tokens
        assert dollars["expected"] == pytest.approx((12 * 85 / 4 * 1000 + 12 * 44.4 * 1.35 * 2000) / 1e6, rel=0.05)
        assert not list(folder.glob("*.sqlite*"))
        assert caption(folder, server.url, "--prices", "prices.yaml", "--max-usd", "9").returncode == 0
        again = json.loads(caption(folder, server.url, "--estimate", "--json").stdout)
    assert (again["total"]["missing"], again["total"]["stored"]) == (0, 12)


def test_an_estimate_needs_no_key(folder: Path) -> None:
    result = lpmc(
        folder, "pseudo-caption", "tracks.parquet", "--estimate", "--backend", "openai", "--model", "gpt-4o-mini"
    )
    assert result.returncode == 0, result.stderr
    assert "as of" in result.stdout
    assert "$" in result.stdout


def test_a_preview_finishes_some_rows_shows_their_prompts_and_keeps_their_answers(folder: Path) -> None:
    with ChatDouble() as server:
        result = caption(folder, server.url, "--preview", "3", "--json", instructions="writing,summary")
        assert result.returncode == 0, result.stderr
        rows = json.loads(result.stdout)
        assert [(row["track_id"], row["instruction"]) for row in rows] == [
            ("t0", "writing"),
            ("t0", "summary"),
            ("t1", "writing"),
        ]
        assert rows[0]["prompt"][0]["content"].endswith("rock, tag 0")
        assert rows[0]["caption"] == "This is a piece with rock, tag 0."
        assert len(server.log) == 3
        assert not (folder / "captions.parquet").exists()
        assert caption(folder, server.url, instructions="writing,summary").returncode == 0
        assert len(server.log) == 24


def test_a_public_endpoint_with_an_unknown_price_needs_a_word(folder: Path) -> None:
    command = ("pseudo-caption", "tracks.parquet", "--output", "c.parquet", "--backend", "openai", "--model", "no-such")
    result = lpmc(folder, *command, key="sk-test-1234567890")
    assert result.returncode == 2
    assert "its price is unknown" in result.stderr
    assert "--allow-unknown-price" in result.stderr
    assert not (folder / "c.store.sqlite").exists()


def test_a_run_that_may_cost_more_than_five_dollars_needs_a_word(folder: Path) -> None:
    with ChatDouble() as server:
        (folder / "prices.yaml").write_text(PRICES.replace("1000", "100000").replace("2000", "200000"))
        result = caption(folder, server.url, "--prices", "prices.yaml")
        assert result.returncode == 2
        assert "may cost more than $5" in result.stderr
        assert server.log == []
        assert caption(folder, server.url, "--prices", "prices.yaml", "--max-usd", "1000").returncode == 0


def test_a_dollar_limit_without_a_price_is_refused(folder: Path) -> None:
    with ChatDouble() as server:
        result = caption(folder, server.url, "--max-usd", "5")
        assert result.returncode == 2
        assert "price of double is unknown" in result.stderr
        assert server.log == []


def test_a_spent_budget_ends_the_run_resumable(folder: Path) -> None:
    with ChatDouble() as server:
        # The worst case of one request is its 101 bytes and 64 tokens: $0.25. An answer costs $0.02.
        result = caption(folder, server.url, "--prices", "prices.yaml", "--max-usd", "0.4", "--answer-tokens", "64")
        assert result.returncode == 75
        assert "--max-usd is used up" in result.stderr
        sent = len(server.log)
        assert 0 < sent < 12
        report = json.loads(lpmc(folder, "report", "captions.store.sqlite", "--json").stdout)
        assert float(report["spent"]["usd"]) == pytest.approx(0.02 * sent)
        done = caption(folder, server.url, "--prices", "prices.yaml", "--max-usd", "2", "--answer-tokens", "64")
        assert done.returncode == 0, done.stderr
        assert len(server.log) == 12


# --- batches --------------------------------------------------------------------------------------------------------


def test_files_for_an_offline_engine_come_back_as_answers_and_leave_nothing_to_ask(folder: Path) -> None:
    with ChatDouble() as server:
        written = caption(folder, server.url, "--write-batch", "files", "--json")
        assert written.returncode == 0, written.stderr
        assert server.log == []
        (file,) = json.loads(written.stdout)
        assert file["requests"] == 12
        lines = [json.loads(line) for line in (folder / file["file"]).read_text().splitlines()]
        results = []
        for line in reversed(lines):  # an engine of another kind, in another order, with an order of its own
            request = urllib.request.Request(
                server.url.removesuffix("/v1") + line["url"],
                json.dumps(line["body"]).encode(),
                {"content-type": "application/json"},
            )
            body = json.loads(urllib.request.urlopen(request, timeout=10).read())
            response = {"status_code": 200, "request_id": "r", "body": body}
            results.append({"id": "vllm-1", "custom_id": line["custom_id"], "response": response, "error": None})
        output = Path(file["file"]).with_suffix(".output.jsonl")
        (folder / output).write_text("\n".join(json.dumps(result) for result in results))
        assert len(server.log) == 12
        read = caption(folder, server.url, "--read-batch", "files", "--json")
        assert read.returncode == 0, read.stderr
        assert "12 answers read" in read.stderr
        assert len(server.log) == 12
    assert json.loads(read.stdout)["requests_sent"] == 0
    assert [row.caption for row in read_captions(folder / "captions.parquet")][:2] == [
        "This is a piece with rock, tag 0.",
        "This is a piece with rock, tag 1.",
    ]


def test_batches_are_read_and_their_leftovers_asked_online(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import batch_double
    from chat_double import good_answer

    def faithful(line: dict[str, Any]) -> str:
        return good_answer(line["body"]["messages"][-1]["content"])

    monkeypatch.setattr(batch_double, "answer_to", faithful)
    with BatchDouble({0: "expired"}) as server:
        result = caption(folder, server.url, "--batch", "--poll", "0.05", "--json")
        assert result.returncode == 0, result.stderr
        assert "expired" in result.stderr
        assert server.calls.count(("POST", "/chat/completions")) == 1  # the first asks what the endpoint takes
        assert len(server.submitted) == 11
        assert sorted(server.submitted.values())[-5:] == [2] * 5  # half of the expired batch did not run
    rows = [row for row in read_captions(folder / "captions.parquet") if row.outcome == "ok"]
    assert [row.caption for row in rows] == [f"This is a piece with rock, tag {n}." for n in range(12)]


# --- what is left behind --------------------------------------------------------------------------------------------


def test_the_report_of_an_unfinished_run_adds_up_to_its_input(folder: Path) -> None:
    with ChatDouble() as server:
        assert caption(folder, server.url, "--max-requests", "5").returncode == 75
        found = json.loads(lpmc(folder, "report", "captions.store.sqlite", "--json").stdout)
        (plan,) = found["plans"]
        assert plan["outcomes"] == {"ok": 5, "pending": 8}
        text = lpmc(folder, "report", "captions.store.sqlite")
    assert text.returncode == 0
    assert "not finished" in text.stdout


def test_pipeline_json_says_how_the_table_was_made(folder: Path) -> None:
    with ChatDouble() as server:
        caption(folder, server.url, "--temperature", "0.5")
    made = json.loads((folder / "captions.pipeline.json").read_text())
    assert len(made["signature"]) == 64
    assert (made["plan_format"], made["format"]) == (1, 2)
    assert (made["model"], made["provider"], made["wording"]) == ("double", "self-hosted", "released")
    assert made["wording_version"]
    assert made["parser_version"]
    assert made["checks_version"]
    assert made["temperature"] == 0.5
    assert made["started"] <= made["finished"]
    assert made["ledger"]["models_answered"] == {"double-answered": 12}
    assert made["outcomes"] == made["ledger"]["outcomes"] == {"ok": 12, "skipped_no_tags": 1}
    assert (made["requests_sent"], made["store_requests"], made["store_cost_usd"]) == (12, 12, None)


def test_another_run_of_the_same_plan_has_the_same_signature(folder: Path) -> None:
    signatures = []
    with ChatDouble() as server:
        for temperature in ("0.5", "0.5", "0.6"):
            caption(folder, server.url, "--temperature", temperature)
            signatures.append(json.loads((folder / "captions.pipeline.json").read_text())["signature"])
    assert signatures[0] == signatures[1] != signatures[2]


def test_a_users_wording_is_read_from_a_file_and_a_broken_one_is_named(folder: Path) -> None:
    (folder / "mine.yaml").write_text(
        "name: mine\nsystem: Be brief.\ninstructions:\n  writing:\n    prompt: 'Say: {tags}'\n"
    )
    (folder / "broken.yaml").write_text("name: broken\ninstructions:\n  writing:\n    prompt: 'no place for tags'\n")
    with ChatDouble(answer=lambda message: message.replace("Say:", "A piece with")) as server:
        assert caption(folder, server.url, "--wording", "mine.yaml").returncode == 0
        assert server.bodies[0]["messages"][0] == {"role": "system", "content": "Be brief."}
        lacking = caption(folder, server.url, "--wording", "mine.yaml", instructions="summary")
        broken = caption(folder, server.url, "--wording", "broken.yaml")
        assert len(server.log) == 12
    assert lacking.returncode == 2
    assert "summary" in lacking.stderr
    assert broken.returncode == 1
    assert "{tags}" in broken.stderr


def test_a_store_on_a_network_file_system_works_the_same(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LPMC_STORE", "log")
    with ChatDouble() as server:
        assert caption(folder, server.url, "--max-requests", "5").returncode == 75
        assert caption(folder, server.url).returncode == 0
        assert len(server.log) == 12
        assert (folder / "captions.store.sqlite.log").is_dir()
        assert not (folder / "captions.store.sqlite").exists()
        report = json.loads(lpmc(folder, "report", "captions.store.sqlite", "--json").stdout)
    assert report["requests"]["sent"] == 12
