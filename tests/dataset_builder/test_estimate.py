"""An estimate is made of the prompts that would be sent, says where its figures are from, and never invents a price."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from dataset_builder.captioning.estimate import (
    LETTERS_PER_TOKEN,
    MOST_SOURCES,
    OTHER_SOURCES,
    PUBLISHED_WORDS,
    REASK_SHARE,
    TOKENS_PER_WORD,
    estimate,
    needs_consent,
)
from dataset_builder.captioning.jobs import AskPlan, CaptionJob, first_request
from dataset_builder.captioning.prices import load_prices
from dataset_builder.captioning.requests import Answer, CaptionRequest
from dataset_builder.captioning.store import AnswerStore, Verdict
from dataset_builder.captioning.store_reader import OutputTokens, asks_per_job, open_store_to_read, output_tokens
from dataset_builder.instructions import find_wording
from dataset_builder.tracks import TaggedTrack

MINI = load_prices().of("gpt-4o-mini")
PLAN = AskPlan("openai", "api.openai.com", "gpt-4o-mini", find_wording("released"), None, ("writing", "summary"))
SEEN = OutputTokens(answers=20, mean=50.0, low=30, high=80)


def job(number: int, instruction: str = "writing", source: str = "mc", tags: int = 3) -> CaptionJob:
    return CaptionJob(TaggedTrack(f"t{number}", tuple(f"tag{n}" for n in range(tags)), source=source), instruction)


def asked(count: int, instruction: str = "writing", source: str = "mc", tags: int = 3) -> list:
    jobs = [job(number, instruction, source, tags) for number in range(count)]
    return [(one, first_request(one, PLAN)) for one in jobs]


def letters(request: CaptionRequest) -> int:
    return sum(len(message.content) for message in request.prompt.messages)


def test_prompts_are_priced_by_their_own_letters_and_answers_by_those_in_the_store() -> None:
    jobs = asked(10)
    found = estimate(jobs, price=MINI, outputs={"writing": SEEN}, asks=1.0).total
    assert found.prompt_tokens.expected == round(sum(letters(request) for _, request in jobs) / LETTERS_PER_TOKEN)
    assert (found.completion_tokens.low, found.completion_tokens.expected, found.completion_tokens.high) == (
        300,
        500,
        800,
    )
    assert found.completion_tokens.worst == 10 * 256
    assert found.online.expected == MINI.cost(found.prompt_tokens.expected, 500)
    assert found.batch.expected == MINI.cost(found.prompt_tokens.expected, 500, batch=True)
    assert found.online.worst == MINI.cost(found.prompt_tokens.worst, 2560)


def test_while_the_store_holds_too_few_answers_the_papers_lengths_count() -> None:
    found = estimate(asked(100), price=MINI, outputs={"writing": replace(SEEN, answers=19)})
    words = PUBLISHED_WORDS["writing"]
    assert found.total.completion_tokens.expected == round(100 * words[0] * TOKENS_PER_WORD)
    high = 100 * words[2] * TOKENS_PER_WORD * (1 + REASK_SHARE)
    assert found.total.completion_tokens.high == pytest.approx(high, abs=1)
    assert found.basis == {"writing": "answers as long as the paper's (44.4 words x 1.35)"}
    enough = estimate(asked(100), price=MINI, outputs={"writing": SEEN})
    assert enough.basis == {"writing": "answers as long as 20 in the store"}


def test_the_published_lengths_are_those_of_the_published_captions(published_captions: Path) -> None:
    for name in ("writing", "attribute_prediction"):
        rows = json.loads((published_captions / f"caption_{name}" / "inference.json").read_text())
        words = sorted(len(row["prediction"].split()) for row in rows)
        mean, low, high = PUBLISHED_WORDS[name]
        assert len(rows) == 2839
        assert sum(words) / len(words) == pytest.approx(mean, abs=0.05)
        assert (words[len(words) // 10], words[len(words) * 9 // 10]) == (low, high)


def test_an_expected_answer_is_never_longer_than_its_limit() -> None:
    short = replace(PLAN, token_limit=40)
    jobs = [(one, first_request(one, short)) for one in (job(number) for number in range(10))]
    found = estimate(jobs, price=MINI, outputs={"writing": SEEN}, asks=1.0).total.completion_tokens
    assert (found.low, found.expected, found.high, found.worst) == (300, 400, 400, 400)


def test_jobs_are_counted_by_instruction_and_corpus_and_the_parts_add_up() -> None:
    jobs = (
        asked(30)
        + asked(20, "summary")
        + asked(10, source="mtt", tags=1)
        + [(job(n, source="mtt"), None) for n in (1, 2)]
    )
    found = estimate(jobs, price=MINI)
    assert (found.total.missing, found.total.stored) == (60, 2)
    assert {name: share.missing for name, share in found.by_instruction.items()} == {"writing": 40, "summary": 20}
    assert {name: (share.missing, share.stored) for name, share in found.by_source.items()} == {
        "mc": (50, 0),
        "mtt": (10, 2),
    }
    for parts in (found.by_instruction.values(), found.by_source.values()):
        for end in ("low", "expected", "high", "worst"):
            assert sum(getattr(part.online, end) for part in parts) == getattr(found.total.online, end)
    # A corpus with one tag a track has shorter prompts than one with three.
    each = {name: share.prompt_tokens.expected / share.missing for name, share in found.by_source.items()}
    assert each["mtt"] < each["mc"]


def test_everything_stored_costs_nothing() -> None:
    found = estimate([(job(number), None) for number in range(5)], price=MINI)
    assert found.total.stored == 5
    assert found.total.online.high == 0
    assert not needs_consent(found)
    assert "all: nothing to ask, 5 stored" in found.lines()
    assert estimate([], price=MINI).total.missing == 0


def test_an_unknown_price_is_unknown_in_every_part_and_never_nothing() -> None:
    found = estimate([*asked(3), (job(9, source="mtt"), None)], price=None)
    for share in (found.total, *found.by_instruction.values(), *found.by_source.values()):
        assert share.online is None
        assert share.batch is None
    assert found.to_dict()["total"]["usd_online"] is None
    text = "\n".join(found.lines())
    assert "cost unknown online, cost unknown by batch" in text
    assert "$" not in text
    assert not needs_consent(found)


def test_a_model_without_a_batch_price_has_an_unknown_one() -> None:
    found = estimate(asked(3), price=load_prices().of("gpt-5")).total
    assert found.online is not None
    assert found.batch is None


def many_jobs(count: int) -> Iterator[tuple[CaptionJob, CaptionRequest]]:
    for number in range(count):
        one = job(number, tags=1 + number % 20)
        yield one, first_request(one, PLAN)


def test_a_sample_prices_many_jobs_within_a_few_percent_and_the_same_way_every_time() -> None:
    exact = sum(letters(request) for _, request in many_jobs(10_000)) / LETTERS_PER_TOKEN
    found = estimate(many_jobs(10_000), price=MINI)
    assert found.total.prompt_tokens.expected == pytest.approx(exact, rel=0.05)
    assert found.total.prompt_tokens.low < exact < found.total.prompt_tokens.high
    assert found.to_dict() == estimate(many_jobs(10_000), price=MINI).to_dict()
    assert found.to_dict() != estimate(many_jobs(10_000), price=MINI, seed=1).to_dict()


def test_memory_does_not_grow_with_the_number_of_jobs() -> None:
    peaks = []
    for count in (1_000, 1_000, 10_000):  # the first fills caches
        tracemalloc.start()
        estimate(many_jobs(count), price=MINI)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] < peaks[1] + 3_000_000  # 9,000 jobs and their requests take 15 MB


def test_late_jobs_are_sampled_like_early_ones() -> None:
    jobs = asked(2_000, tags=1) + asked(2_000, tags=40)
    exact = sum(letters(request) for _, request in jobs) / LETTERS_PER_TOKEN
    assert estimate(jobs, price=MINI).total.prompt_tokens.expected == pytest.approx(exact, rel=0.15)


def test_a_column_with_thousands_of_sources_does_not_make_thousands_of_lines() -> None:
    jobs = [(job(number, source=f"s{number}"), None) for number in range(500)]
    found = estimate(jobs, price=MINI)
    assert len(found.by_source) == MOST_SOURCES + 1
    assert found.by_source[OTHER_SOURCES].stored == 500 - MOST_SOURCES


def test_several_candidates_and_re_asks_multiply_the_requests() -> None:
    assert estimate(asked(100), price=MINI, candidates=3).total.requests.expected == 300
    assert estimate(asked(100), price=MINI, asks=1.5).total.requests.expected == 150
    assert estimate(asked(100), price=MINI, asks=1.5, candidates=3).total.requests.expected == 300
    assert estimate(asked(100), price=MINI).total.requests.high == round(100 * (1 + REASK_SHARE))


def test_time_is_arithmetic() -> None:
    jobs = asked(1_000)
    assert estimate(jobs, price=MINI, rpm=500).seconds() == {"500 requests a minute": 120.0}
    assert estimate(jobs, price=MINI, rpm=500, rate=50.0).seconds()["50.0 answers a second (measured)"] == 20.0
    assert set(estimate(jobs, price=MINI).seconds()) == {
        f"{rpm} requests a minute" for rpm in ("500", "5,000", "30,000")
    }
    assert (
        "72.3 h at 500 requests a minute"
        in estimate([*jobs[:1]] * 2_170_000, price=MINI, outputs={"writing": SEEN}, asks=1.0).lines()
    )


def test_somebody_is_asked_above_five_dollars() -> None:
    # 100 tokens out at 0.60 a million: $5 at 83,333 answers; prompts on top.
    one = asked(1)[0]
    outputs = {"writing": OutputTokens(20, 100.0, 100, 100)}
    prompt = letters(one[1]) / LETTERS_PER_TOKEN
    each = Decimal(MINI.cost(round(prompt * 1000), 100_000)) / 1000
    limit = int(5 * 10**12 / each)
    assert not needs_consent(estimate([one] * (limit - 100), price=MINI, outputs=outputs, asks=1.0))
    assert needs_consent(estimate([one] * (limit + 100), price=MINI, outputs=outputs, asks=1.0))


def test_the_estimate_is_json_with_decimal_dollars_and_the_source_of_the_price() -> None:
    found = json.loads(json.dumps(estimate(asked(3), price=MINI).to_dict()))
    assert Decimal(found["total"]["usd_online"]["expected"]) > 0
    assert found["price"]["as_of"] == "2025-10-06"
    assert "litellm" in found["price"]["source"]
    assert found["by_source"]["mc"]["missing"] == 3


# --- what a store measured --------------------------------------------------------------------------------------------


def filled_store(path: Path, answers: int, completion_tokens: int | None = 60) -> AskPlan:
    with AnswerStore(path) as store:
        started = store.start_run(PLAN.signature, PLAN.facts, answers, {})
        for number in range(answers):
            one = job(number)
            request = first_request(one, PLAN)
            store.record(
                request,
                Answer(
                    "A rock song.", "m", "stop", 90, None if completion_tokens is None else completion_tokens + number
                ),
            )
            verdict = Verdict("ok", request.key, {"attempts": 1})
            store.keep_verdict(number.to_bytes(16, "big"), PLAN.signature, one.track.track_id, "writing", verdict)
        store.end_run(started, {})
    return PLAN


def test_the_store_tells_how_long_its_answers_are(tmp_path: Path) -> None:
    filled_store(tmp_path / "s.sqlite", 21)
    with open_store_to_read(tmp_path / "s.sqlite") as database:
        assert output_tokens(database) == {"writing": OutputTokens(21, 70.0, 62, 78)}
        assert output_tokens(database, PLAN.signature) == output_tokens(database)
        assert output_tokens(database, "another") == {}
        assert asks_per_job(database) == 1.0


def test_answers_that_were_asked_again_are_counted_for_each_job(tmp_path: Path) -> None:
    filled_store(tmp_path / "s.sqlite", 10)
    with AnswerStore(tmp_path / "s.sqlite") as store:
        for number in range(100, 105):
            store.record(first_request(job(number), PLAN), Answer("{bad"))
    with open_store_to_read(tmp_path / "s.sqlite") as database:
        assert asks_per_job(database) == 1.5


def test_a_server_that_counts_no_tokens_leaves_the_length_open(tmp_path: Path) -> None:
    filled_store(tmp_path / "s.sqlite", 30, completion_tokens=None)
    with open_store_to_read(tmp_path / "s.sqlite") as database:
        assert output_tokens(database) == {}


def test_an_empty_store_measures_nothing(tmp_path: Path) -> None:
    AnswerStore(tmp_path / "s.sqlite").__exit__(None, None, None)
    with open_store_to_read(tmp_path / "s.sqlite") as database:
        assert output_tokens(database) == {}
        assert asks_per_job(database) is None
