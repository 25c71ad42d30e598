"""Prices and budgets: decimals that add up, unknown that is never 0, limits that hold with 500 requests under way."""

from __future__ import annotations

import random
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest

from dataset_builder.captioning.budget import (
    TOKENS_PER_MESSAGE,
    Budget,
    BudgetLimits,
    check_price_known,
    worst_case,
)
from dataset_builder.captioning.prices import COSTS_PER_DOLLAR, Price, dollars, format_dollars, load_prices
from dataset_builder.captioning.requests import Answer, CaptionRequest, Fault, Sampling
from dataset_builder.captioning.store import AnswerStore, Reservation, Spend
from dataset_builder.instructions import Message, Prompt
from lpmc_errors import TableError, UsageError

HEAD = "as_of: 2026-01-01\nsource: s\n"
MINI = load_prices().of("gpt-4o-mini")
assert MINI is not None


def request(
    text: str = "Write about: rock", max_tokens: int = 100, schema: str = "", track: str = "t1"
) -> CaptionRequest:
    prompt = Prompt((Message("system", "You write."), Message("user", text)), "w", "1", schema=schema)
    return CaptionRequest("api.openai.com", "gpt-4o-mini", prompt, Sampling(max_tokens), track)


def reservation(tokens: int, price: Price | None = MINI) -> Reservation:
    return Reservation(tokens, None if price is None else price.cost(0, tokens))


# --- prices -----------------------------------------------------------------------------------------------------------


def price_file(folder: Path, text: str) -> Path:
    path = folder / "prices.yaml"
    path.write_text(text)
    return path


def test_two_million_requests_cost_what_the_arithmetic_says_to_the_cent() -> None:
    assert format_dollars(MINI.cost(195_000_000, 137_000_000)) == "$111.45"
    assert format_dollars(MINI.cost(195_000_000, 137_000_000, batch=True)) == "$55.72"


def test_costs_of_single_requests_add_up_to_the_cost_of_all() -> None:
    each = [(random.Random(number).randrange(500), random.Random(-number).randrange(500)) for number in range(2000)]
    total = sum(MINI.cost(prompt, completion) for prompt, completion in each)
    assert total == MINI.cost(sum(prompt for prompt, _ in each), sum(completion for _, completion in each))


def test_a_fraction_of_the_smallest_unit_is_rounded_up(tmp_path: Path) -> None:
    path = price_file(
        tmp_path,
        HEAD + "prices: [{model: m, input: '0.0000001', output: '0', batch_factor: '0.5'}]",
    )
    price = load_prices(path).of("m")
    assert price is not None
    assert (price.cost(1, 0), price.cost(10, 0), price.cost(11, 0), price.cost(11, 0, batch=True)) == (1, 1, 2, 1)


def test_cached_tokens_cost_the_cached_price() -> None:
    assert MINI.cost(1000, 0, cached_tokens=400) == MINI.cost(600, 0) + MINI.cost(200, 0)  # 0.075 is half of 0.15
    without = load_prices().of("gpt-3.5-turbo")
    assert without is not None
    assert without.cost(1000, 0, cached_tokens=400) == without.cost(1000, 0)


def test_a_date_behind_the_model_does_not_change_the_price_but_any_other_ending_makes_it_unknown() -> None:
    prices = load_prices()
    assert prices.of("gpt-4o-mini-2024-07-18") == MINI
    assert prices.of("gpt-4.1-20250414") == prices.of("gpt-4.1")
    for other in ("gpt-4o-mini-audio", "gpt-4o-mini-2", "gpt-4o-min", "GPT-4o-mini", "openai/gpt-4o-mini", ""):
        assert prices.of(other) is None, other


def test_a_snapshot_with_a_price_of_its_own_keeps_it() -> None:
    prices = load_prices()
    assert prices.of("gpt-4o-2024-05-13").input == Decimal("5.00")
    assert prices.of("gpt-4o-2024-11-20").input == Decimal("2.50")


def test_a_price_holds_at_its_own_host_alone() -> None:
    prices = load_prices()
    assert prices.of("gpt-4o-mini", "api.openai.com") == MINI
    assert prices.of("gpt-4o-mini", "reseller.example") is None
    assert prices.of("gpt-4o-mini", "self-hosted") is None


def test_every_built_in_price_says_where_and_when_it_is_from() -> None:
    entries = load_prices().entries
    assert len(entries) >= 12
    for price in entries.values():
        assert price.input > 0
        assert price.output > 0
        assert price.source
        assert price.as_of.year >= 2025
        assert price.provider


def test_the_users_file_replaces_and_extends_the_table(tmp_path: Path) -> None:
    path = price_file(
        tmp_path,
        """
as_of: 2026-11-01
source: my contract
prices:
  - {model: gpt-4o-mini, input: "0.10", output: "0.50"}
  - {model: own-model, input: "1", output: "2", as_of: 2026-10-01, source: the bill}
""",
    )
    prices = load_prices(path)
    assert prices.of("gpt-4o-mini", "anywhere.example").output == Decimal("0.50")
    assert prices.of("own-model").source == "the bill"
    assert prices.of("own-model").as_of.isoformat() == "2026-10-01"
    assert prices.of("gpt-4.1") == load_prices().of("gpt-4.1")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[", "is no valid YAML (line 1)"),
        ("prices: 3", "prices: is missing"),
        ("- 1", "prices: is missing"),
        ("prices: []\nextra: 1", "the file: has the unknown key extra"),
        (HEAD + "prices: [1]", "entry 1: is no mapping"),
        (HEAD + "prices: [{model: m, input: '1'}]", "entry 1: lacks output"),
        ("source: s\nprices: [{model: m, input: '1', output: '1'}]", "entry 1: lacks as_of"),
        ("as_of: 2026-01-01\nprices: [{model: m, input: '1', output: '1'}]", "entry 1: lacks source"),
        (HEAD + "prices: [{model: m, input: 0.15, output: '1'}]", "input is 0.15, a decimal in"),
        (HEAD + "prices: [{model: m, input: '-1', output: '1'}]", "input is '-1'"),
        (HEAD + "prices: [{model: m, input: '1e3', output: '1'}]", "input is '1e3'"),
        ("as_of: soon\nsource: s\nprices: [{model: m, input: '1', output: '1'}]", "as_of is 'soon'"),
        (HEAD + "prices: [{model: m, input: '1', output: '1', cost: '1'}]", "unknown key cost"),
        (
            HEAD + "prices: [{model: m, input: '1', output: '1', batch_factor: '5'}]",
            "batch_factor is 5",
        ),
        (HEAD + "prices: [{model: 5, input: '1', output: '1'}]", "model is 5"),
        (
            HEAD + "prices: [{model: m, input: '1', output: '1'}, {model: m, input: '1', output: '1'}]",
            "entry 2: repeats the model m",
        ),
    ],
)
def test_a_file_that_is_no_price_table_is_named_in_one_line(tmp_path: Path, text: str, problem: str) -> None:
    path = price_file(tmp_path, text)
    with pytest.raises(TableError) as caught:
        load_prices(path)
    assert problem in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_price_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="No such file"):
        load_prices(tmp_path / "none.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(TableError, match="is not UTF-8"):
        load_prices(tmp_path / "binary.yaml")


def test_an_amount_above_nothing_never_reads_as_nothing_and_an_unknown_one_says_so() -> None:
    assert format_dollars(1) == "<$0.0001"
    assert format_dollars(COSTS_PER_DOLLAR // 100) == "$0.0100"
    assert format_dollars(0) == "$0.00"
    assert format_dollars(None) == "unknown"
    assert dollars(COSTS_PER_DOLLAR // 8) == Decimal("0.125")


# --- the budget -------------------------------------------------------------------------------------------------------


def test_the_worst_case_counts_bytes_of_messages_and_schema_and_the_whole_answer() -> None:
    asked = request("Beschreibe: Ümläute 音楽", max_tokens=77, schema='{"type":"object"}')
    tokens = sum(len(message.content.encode()) + TOKENS_PER_MESSAGE for message in asked.prompt.messages)
    tokens += len('{"type":"object"}')
    found = worst_case(asked, MINI)
    assert found == Reservation(tokens + 77, MINI.cost(tokens, 77))
    assert worst_case(asked, MINI, batch=True).cost == MINI.cost(tokens, 77, batch=True)
    assert worst_case(asked, None) == Reservation(tokens + 77, None)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "limits",
    [
        BudgetLimits(Decimal("0.20"), 10_000_000, 100_000),
        BudgetLimits(Decimal(100), 600_000, 100_000),
        BudgetLimits(Decimal(100), 10_000_000, 3_001),
    ],
    ids=["dollars", "tokens", "requests"],
)
def test_no_limit_is_exceeded_at_any_moment_with_500_requests_under_way(limits: BudgetLimits, seed: int) -> None:
    draw = random.Random(seed)
    budget = Budget(limits, MINI, Spend())
    under_way: list[tuple[Reservation, CaptionRequest]] = []
    most_in_flight = 0
    while True:
        asked = request("tag, " * draw.randrange(1, 40), max_tokens=draw.choice((96, 256, 512)))
        reserved = budget.worst_case(asked)
        if len(under_way) < 500 and budget.reserve(reserved):
            under_way.append((reserved, asked))
        elif under_way:
            held, sent = under_way.pop(draw.randrange(len(under_way)))
            fate = draw.random()
            prompt = len(sent.content) // 4
            if fate < 0.7:
                result: Answer | Fault = Answer("a", prompt_tokens=prompt, completion_tokens=draw.randrange(97))
            elif fate < 0.8:
                result = Answer("a")  # a server that counts no tokens
            else:
                result = Fault(draw.choice(("transient", "rate_limited", "refused", "lost")), "no")
            budget.settle(held, result)
        else:
            break
        most_in_flight = max(most_in_flight, len(under_way))
        now = budget.snapshot()
        assert now.reserved_requests == len(under_way)
        assert now.requests + now.reserved_requests <= limits.max_requests
        assert now.tokens + now.reserved_tokens <= limits.max_tokens
        assert now.cost + now.reserved_cost <= limits.max_usd * COSTS_PER_DOLLAR
    assert budget.exhausted(0)
    assert most_in_flight == 500
    assert budget.snapshot().reserved_tokens == 0


def test_the_same_price_is_charged_whatever_becomes_of_an_answer() -> None:
    budget = Budget(BudgetLimits(), MINI, Spend())
    held = reservation(1000)
    assert budget.reserve(held)
    assert budget.settle(held, Answer("{broken", prompt_tokens=100, completion_tokens=50)) == MINI.cost(100, 50)
    assert budget.snapshot().tokens == 150


def test_an_answer_without_token_counts_is_charged_with_its_reservation() -> None:
    budget = Budget(BudgetLimits(), MINI, Spend())
    held = reservation(1000)
    for answer in (Answer("a"), Answer("a", prompt_tokens=5), Answer("a", completion_tokens=5)):
        assert budget.reserve(held)
        assert budget.settle(held, answer) == held.cost
    assert budget.snapshot().tokens == 3000


def test_a_fault_costs_a_request_and_nothing_else_but_a_lost_one_its_reservation() -> None:
    budget = Budget(BudgetLimits(), MINI, Spend())
    held = reservation(1000)
    assert budget.reserve(held)
    assert budget.settle(held, Fault("rate_limited", "429")) == 0
    assert (budget.snapshot().requests, budget.snapshot().tokens) == (1, 0)
    assert budget.reserve(held)
    assert budget.settle(held, Fault("lost", "gone")) == held.cost
    assert (budget.snapshot().requests, budget.snapshot().tokens) == (2, 1000)


def test_an_unknown_price_is_no_cost_not_a_cost_of_nothing() -> None:
    budget = Budget(BudgetLimits(max_tokens=5000), None, Spend())
    held = reservation(1000, None)
    assert budget.reserve(held)
    assert budget.settle(held, Answer("a", prompt_tokens=10, completion_tokens=10)) is None
    assert budget.settle(held, Fault("transient", "500")) is None
    assert budget.snapshot().cost is None
    assert budget.snapshot().reserved_cost is None


def test_a_dollar_limit_without_a_price_names_the_model_and_the_remedy() -> None:
    with pytest.raises(UsageError, match=r"my-model is unknown.*--prices FILE"):
        Budget(BudgetLimits(max_usd=Decimal(5)), None, Spend(), model="my-model")


@pytest.mark.parametrize(
    "bad",
    [{"max_usd": Decimal("-1")}, {"max_usd": Decimal("NaN")}, {"max_usd": Decimal("Infinity")}, {"max_tokens": -1}],
)
def test_a_limit_that_is_none_is_refused(bad: dict[str, Decimal | int]) -> None:
    with pytest.raises(UsageError, match="is no limit"):
        BudgetLimits(**bad)


def test_the_end_is_told_when_nothing_is_under_way_and_the_next_request_does_not_fit() -> None:
    budget = Budget(BudgetLimits(max_tokens=2500), MINI, Spend())
    held = reservation(1000)
    assert budget.exhausted(0) is None
    assert budget.reserve(held)
    assert budget.reserve(held)
    assert not budget.reserve(held)
    assert budget.exhausted(2) is None  # what is under way may turn out cheaper than feared
    budget.settle(held, Answer("a", prompt_tokens=100, completion_tokens=0))
    assert budget.exhausted(0) is None  # it did: there is room again
    assert budget.reserve(held)
    budget.settle(held, Answer("a"))
    budget.settle(held, Answer("a"))
    assert not budget.reserve(held)
    assert budget.exhausted(0) == (
        "--max-tokens is used up: 2,100 tokens of 2,500 tokens spent, and the next request may need 1,000 tokens"
    )


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (BudgetLimits(max_usd=Decimal("0.001")), "--max-usd is used up: $0.0006 of $0.0010 spent"),
        (BudgetLimits(max_requests=1), "--max-requests is used up: 1 requests of 1 requests spent"),
    ],
)
def test_the_limit_that_ended_the_run_is_named(limits: BudgetLimits, words: str) -> None:
    budget = Budget(limits, MINI, Spend())
    held = reservation(1000)
    assert budget.reserve(held)
    budget.settle(held, Answer("a"))
    assert not budget.reserve(held)
    assert words in (budget.exhausted(0) or "")


def test_a_budget_that_was_just_enough_did_not_end_the_run() -> None:
    budget = Budget(BudgetLimits(max_tokens=1000), MINI, Spend())
    held = reservation(1000)
    assert budget.reserve(held)
    budget.settle(held, Answer("a"))
    assert budget.exhausted(0) is None  # nothing more was asked for


def test_a_released_reservation_is_free_again() -> None:
    budget = Budget(BudgetLimits(max_requests=1), MINI, Spend())
    held = reservation(10)
    assert budget.reserve(held)
    assert not budget.reserve(held)
    budget.release(held)
    assert budget.reserve(held)


def test_a_resumed_run_goes_on_counting_where_the_store_stands(tmp_path: Path) -> None:
    with AnswerStore(tmp_path / "s.sqlite") as store:
        for number in range(3):
            asked = request(track=f"t{number}")
            store.begin([asked], lambda one: worst_case(one, MINI))
            store.settle(asked.key, Answer("a", prompt_tokens=300, completion_tokens=100), MINI.cost(300, 100))
        budget = Budget(BudgetLimits(max_tokens=1300), MINI, store.spend())
    assert budget.snapshot().tokens == 1200
    assert budget.snapshot().cost == MINI.cost(900, 300)
    assert not budget.reserve(reservation(101))
    assert budget.reserve(reservation(100))


def test_requests_that_went_out_without_a_price_count_at_the_dearest_token() -> None:
    spent = Spend(requests=12, tokens=1300, cost=7, unpriced=10, unpriced_tokens=1000)
    assert Budget(BudgetLimits(), MINI, spent).snapshot().cost == 7 + MINI.cost(0, 1000)


def test_a_shard_gets_its_part_of_every_limit_and_all_parts_stay_within_the_whole() -> None:
    limits = BudgetLimits(Decimal("0.0031"), 1000, 10)
    parts = [Budget(limits, MINI, Spend(), Fraction(1, 3)).snapshot() for _ in range(3)]
    assert (parts[0].max_requests, parts[0].max_tokens) == (3, 333)
    assert sum(part.max_cost for part in parts) <= Decimal("0.0031") * COSTS_PER_DOLLAR
    assert Budget(limits.divided(3), MINI, Spend()).snapshot() == parts[0]
    assert BudgetLimits().divided(3) == BudgetLimits()
    with pytest.raises(ValueError):
        Budget(limits, MINI, Spend(), Fraction(3))


def test_each_limit_warns_once_at_four_fifths() -> None:
    budget = Budget(BudgetLimits(max_tokens=1000, max_requests=10), MINI, Spend())
    for number in range(4):
        held = reservation(199)
        assert budget.reserve(held)
        budget.settle(held, Answer("a"))
        assert budget.warning() is None, number
    assert budget.reserve(reservation(4))
    assert budget.warning() is None  # reserved is not spent
    budget.settle(reservation(4), Answer("a"))
    assert budget.warning() == "800 tokens of --max-tokens 1,000 tokens are spent"
    assert budget.warning() is None


def test_a_public_endpoint_with_an_unknown_price_needs_a_word() -> None:
    with pytest.raises(UsageError, match=r"--model new: its price is unknown; .*--allow-unknown-price"):
        check_price_known("new", False, None, False)
    check_price_known("new", False, None, True)
    check_price_known("new", True, None, False)
    check_price_known("gpt-4o-mini", False, MINI, False)
