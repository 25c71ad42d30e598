"""Limits that hold: the most a request can cost is reserved before it is sent, and settled with what it did cost.

What was spent lives in the store (`AnswerStore.spend`), so a resumed run goes on counting where the last one stopped.
One event loop owns a budget; there are no locks because nothing here waits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

from dataset_builder.captioning.prices import COSTS_PER_DOLLAR, Price, format_dollars
from dataset_builder.captioning.requests import Answer, CaptionRequest, Fault
from dataset_builder.captioning.store import Reservation, Spend
from lpmc_errors import UsageError

TOKENS_PER_MESSAGE = 16  # the most that a chat template puts around a message (role, separators, start of the answer)
WARNING_SHARE = Fraction(4, 5)  # a limit that is spent to this share is worth a word


@dataclass(frozen=True)
class BudgetLimits:
    """The most to spend from one store, over all runs; None: no limit. Raises `UsageError` below 0."""

    max_usd: Decimal | None = None
    max_tokens: int | None = None
    max_requests: int | None = None

    def __post_init__(self) -> None:
        named = (("--max-usd", self.max_usd), ("--max-tokens", self.max_tokens), ("--max-requests", self.max_requests))
        for option, limit in named:
            if limit is not None and not (Decimal(limit).is_finite() and limit >= 0):
                raise UsageError(f"{option} {limit}", "is no limit", "give a number that is not negative")

    def divided(self, parts: int) -> BudgetLimits:
        """The part of one of `parts` shards."""
        return BudgetLimits(
            None if self.max_usd is None else self.max_usd / parts,
            None if self.max_tokens is None else self.max_tokens // parts,
            None if self.max_requests is None else self.max_requests // parts,
        )


@dataclass(frozen=True)
class BudgetSnapshot:
    """Where a budget stands. Costs in 1e-12 dollars (None: the price is unknown); limits are those of this shard."""

    requests: int
    tokens: int
    cost: int | None
    reserved_requests: int
    reserved_tokens: int
    reserved_cost: int | None
    max_requests: int | None
    max_tokens: int | None
    max_cost: int | None


@dataclass(frozen=True)
class _Amount:
    """A quantity of each of the three kinds that have limits."""

    requests: int
    tokens: int
    cost: int

    def plus(self, other: _Amount, sign: int = 1) -> _Amount:
        return _Amount(
            self.requests + sign * other.requests, self.tokens + sign * other.tokens, self.cost + sign * other.cost
        )


@dataclass(frozen=True)
class _Limit:
    """One limit: which field of an amount it holds for, how many, and how to say so."""

    field: str
    most: int
    option: str

    def words(self, amount: int) -> str:
        return format_dollars(amount) if self.field == "cost" else f"{amount:,} {self.field}"


def worst_case(request: CaptionRequest, price: Price | None, *, batch: bool = False) -> Reservation:
    """The most that `request` can use: every byte of its messages a token, and an answer up to its token limit.

    No tokenizer makes more tokens than there are bytes. The answer's schema counts too: servers put it into the prompt.
    """
    prompt = len(request.prompt.schema.encode())
    prompt += sum(len(message.content.encode()) + TOKENS_PER_MESSAGE for message in request.prompt.messages)
    answer = request.sampling.max_tokens
    return Reservation(prompt + answer, None if price is None else price.cost(prompt, answer, batch))


def check_price_known(model: str, self_hosted: bool, price: Price | None, allow_unknown: bool) -> None:
    """Raise `UsageError` when a public endpoint would be paid without anyone knowing what it costs."""
    if price is None and not self_hosted and not allow_unknown:
        raise UsageError(
            f"--model {model}",
            "its price is unknown",
            "give it with --prices FILE, or pass --allow-unknown-price to spend without a count of dollars",
        )


class Budget:
    """What may still be sent. At every moment spent + reserved stays within every limit, whatever the order of answers.

    `share` is 1/N for one of N shards: a limit of the whole job is divided among them. `price` None is unknown; then
    no dollar limit can be kept and `UsageError` names the model. Requests of an earlier run that went out without a
    price are counted at the dearest token of today's, so a dollar limit errs towards stopping early.
    """

    def __init__(
        self,
        limits: BudgetLimits,
        price: Price | None,
        spent: Spend,
        share: Fraction = Fraction(1),
        *,
        model: str = "the model",
    ) -> None:
        if not 0 < share <= 1:
            raise ValueError(f"a shard has a share of the limits between 0 and 1, not {share}")
        if limits.max_usd is not None and price is None:
            raise UsageError(
                f"--max-usd {limits.max_usd}",
                f"the price of {model} is unknown, so dollars can't be counted",
                "give it with --prices FILE, or limit the run with --max-tokens or --max-requests",
            )
        self._price = price
        cost = spent.cost + (price.dearest_token * spent.unpriced_tokens if price is not None else 0)
        self._spent = _Amount(spent.requests, spent.tokens, cost)
        self._reserved = _Amount(0, 0, 0)
        self._refused: Reservation | None = None
        most_cost = None if limits.max_usd is None else Fraction(limits.max_usd) * COSTS_PER_DOLLAR
        whole = (
            ("requests", limits.max_requests, "--max-requests"),
            ("tokens", limits.max_tokens, "--max-tokens"),
            ("cost", most_cost, "--max-usd"),
        )
        self._limits = tuple(
            _Limit(field, math.floor(most * share), option) for field, most, option in whole if most is not None
        )
        self._warned: set[str] = set()

    def worst_case(self, request: CaptionRequest) -> Reservation:
        """The most that `request` can use at this budget's price (see the function of this name)."""
        return worst_case(request, self._price)

    def reserve(self, reservation: Reservation) -> bool:
        """Set `reservation` aside; False, and nothing happens, when it does not fit now."""
        if self._too_much(reservation) is not None:
            self._refused = reservation
            return False
        self._refused = None
        self._reserved = self._reserved.plus(_amount(reservation))
        return True

    def release(self, reservation: Reservation) -> None:
        """Give back what was reserved for a request that was not sent after all."""
        self._reserved = self._reserved.plus(_amount(reservation), -1)

    def settle(self, reservation: Reservation, result: Answer | Fault) -> int | None:
        """Replace `reservation` by what `result` used; returns its cost in 1e-12 dollars, None when that is unknown.

        An answer counts whether or not a caption comes of it. One without token counts, a request that was lost and a
        fault that may be billed count with their reservation; other faults cost nothing.
        """
        amount = _amount(reservation)
        self.release(reservation)
        if isinstance(result, Fault):
            if result.kind != "lost" and not result.billed:
                amount = _Amount(1, 0, 0)
        elif result.prompt_tokens is not None and result.completion_tokens is not None:
            prompt, completion = result.prompt_tokens, result.completion_tokens
            cost = 0 if self._price is None else self._price.cost(prompt, completion)
            amount = _Amount(1, prompt + completion, cost)
        self._spent = self._spent.plus(amount)
        return None if self._price is None else amount.cost

    def exhausted(self, in_flight: int) -> str | None:
        """Why the run can't go on, in words: nothing is under way and the request refused last still doesn't fit."""
        if in_flight or self._refused is None:
            return None
        limit = self._too_much(self._refused)
        if limit is None:
            return None
        spent, needed = getattr(self._spent, limit.field), getattr(_amount(self._refused), limit.field)
        return (
            f"{limit.option} is used up: {limit.words(spent)} of {limit.words(limit.most)} spent,"
            f" and the next request may need {limit.words(needed)}"
        )

    def warning(self) -> str | None:
        """A word, once for each limit, when four fifths of it are spent; None otherwise."""
        for limit in self._limits:
            spent = getattr(self._spent, limit.field)
            if limit.option not in self._warned and spent and spent >= WARNING_SHARE * limit.most:
                self._warned.add(limit.option)
                return f"{limit.words(spent)} of {limit.option} {limit.words(limit.most)} are spent"
        return None

    def snapshot(self) -> BudgetSnapshot:
        """Where the budget stands, for the panel."""
        most = {limit.field: limit.most for limit in self._limits}
        known = self._price is not None
        return BudgetSnapshot(
            self._spent.requests,
            self._spent.tokens,
            self._spent.cost if known else None,
            self._reserved.requests,
            self._reserved.tokens,
            self._reserved.cost if known else None,
            most.get("requests"),
            most.get("tokens"),
            most.get("cost"),
        )

    def _too_much(self, reservation: Reservation) -> _Limit | None:
        """The first limit that `reservation` would exceed."""
        total = self._spent.plus(self._reserved).plus(_amount(reservation))
        return next((limit for limit in self._limits if getattr(total, limit.field) > limit.most), None)


def _amount(reservation: Reservation) -> _Amount:
    return _Amount(1, reservation.tokens, reservation.cost or 0)
