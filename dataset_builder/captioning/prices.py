"""What a model costs: a dated table of decimals. A model that is not in it has an unknown price, never 0.

`prices.yaml` says where its figures come from; a file of the user's in the same format replaces and extends it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import ROUND_CEILING, Decimal
from pathlib import Path
from typing import Any

import yaml

from lpmc_errors import TableError

BUILT_IN = Path(__file__).with_name("prices.yaml")
COSTS_PER_DOLLAR = 10**12  # costs are integers of 1e-12 dollars: they add up exactly over millions of requests
COSTS_PER_MILLION_TOKENS = COSTS_PER_DOLLAR // 10**6
MAX_BYTES = 1_000_000  # a price table is read by people; more is another file by mistake

_FILE_KEYS = frozenset({"as_of", "source", "prices"})
_NEEDED = ("model", "input", "output", "as_of", "source")
_ENTRY_KEYS = frozenset({*_NEEDED, "provider", "cached_input", "batch_factor"})
_AMOUNT = re.compile(r"\d{1,9}(\.\d{1,12})?")  # more digits would be a mistake, and would not add up exactly
_DATE_SUFFIX = re.compile(r"-(?:\d{4}-\d{2}-\d{2}|\d{8})$")


@dataclass(frozen=True)
class Price:
    """US dollars for a million tokens. `batch_factor` is the Batch API's share of them, None: no discount is known."""

    model: str
    input: Decimal
    output: Decimal
    as_of: date
    source: str
    provider: str | None = None  # the host that charges this; None: any
    cached_input: Decimal | None = None
    batch_factor: Decimal | None = None

    def cost(self, prompt_tokens: int, completion_tokens: int, batch: bool = False, cached_tokens: int = 0) -> int:
        """The price of one request in 1e-12 dollars, rounded up.

        `cached_tokens` of the `prompt_tokens` are charged at the cached price, where there is one. A batch without a
        known discount costs what it costs online.
        """
        cached = cached_tokens if self.cached_input is not None else 0
        dollars = (prompt_tokens - cached) * self.input + completion_tokens * self.output
        if cached and self.cached_input is not None:
            dollars += cached * self.cached_input
        if batch and self.batch_factor is not None:
            dollars *= self.batch_factor
        return int((dollars * COSTS_PER_MILLION_TOKENS).to_integral_value(ROUND_CEILING))

    @property
    def dearest_token(self) -> int:
        """The most that one token of any kind can cost, in 1e-12 dollars."""
        return max(self.cost(1, 0), self.cost(0, 1))


@dataclass(frozen=True)
class Prices:
    """Prices by model id."""

    entries: Mapping[str, Price]

    def of(self, model: str, provider: str | None = None) -> Price | None:
        """The price of `model`, None when it is unknown: by its exact id, or by its id without the date behind it.

        With a `provider` (a host) only a price that holds there counts: a reseller charges what it likes.
        """
        for name in (model, _DATE_SUFFIX.sub("", model)):
            price = self.entries.get(name)
            if price is not None:
                return price if None in (provider, price.provider) or provider == price.provider else None
        return None


def load_prices(path: Path | None = None) -> Prices:
    """The built-in table, with the entries of the user's file at `path` in the place of its own.

    Raises `TableError` in one line when the file is no price table.
    """
    entries = _read(BUILT_IN)
    if path is not None:
        entries |= _read(path)
    return Prices(entries)


def dollars(cost: int) -> Decimal:
    """1e-12 dollars as dollars, exactly."""
    return Decimal(cost).scaleb(-12)


def exact_dollars(cost: int) -> str:
    """1e-12 dollars as a decimal number without loss, for JSON: `0.0000255`."""
    return f"{dollars(cost).normalize():f}"


def format_dollars(cost: int | None) -> str:
    """`$12.34`, with four places below a dollar; `unknown` for None. An amount above 0 never reads as 0."""
    if cost is None:
        return "unknown"
    amount = dollars(cost)
    if 0 < amount < Decimal("0.0001"):
        return "<$0.0001"
    return f"${amount:,.2f}" if amount >= 1 or not cost else f"${amount:.4f}"


class _Fault(Exception):
    """(key, problem) of what is wrong with the content."""


def _read(path: Path) -> dict[str, Price]:
    remedy = f"see {BUILT_IN.name} of the package for the format"
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
        if len(raw) > MAX_BYTES:
            raise TableError(path, f"is larger than {MAX_BYTES:,} bytes: no price table", remedy)
        content = yaml.safe_load(raw.decode("utf-8-sig"))
        return _entries(content)
    except OSError as error:
        raise TableError(path, f"cannot be read ({error.strerror or error})", "check the path of --prices") from error
    except UnicodeDecodeError as error:
        raise TableError(path, "is not UTF-8", "save it as UTF-8") from error
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" (line {mark.line + 1})" if mark else ""
        raise TableError(path, f"is no valid YAML{where}", remedy) from error
    except _Fault as fault:
        key, problem = fault.args
        raise TableError(path, f"{key}: {problem}", remedy) from None


def _entries(content: object) -> dict[str, Price]:
    if not isinstance(content, dict) or not isinstance(content.get("prices"), list):
        raise _Fault("prices", "is missing: a list of entries with model, input and output is expected")
    _no_others(content, _FILE_KEYS, "the file")
    shared = {key: content[key] for key in ("as_of", "source") if key in content}
    entries: dict[str, Price] = {}
    for number, entry in enumerate(content["prices"], start=1):
        where = f"entry {number}"
        if not isinstance(entry, dict):
            raise _Fault(where, "is no mapping")
        _no_others(entry, _ENTRY_KEYS, where)
        price = _price(shared | entry, where)
        if price.model in entries:
            raise _Fault(where, f"repeats the model {price.model}")
        entries[price.model] = price
    return entries


def _no_others(mapping: dict[Any, Any], known: frozenset[str], where: str) -> None:
    others = [str(key) for key in mapping if key not in known]
    if others:
        raise _Fault(where, f"has the unknown key {others[0]}; known are {', '.join(sorted(known))}")


def _price(entry: dict[str, Any], where: str) -> Price:
    missing = [key for key in _NEEDED if key not in entry]
    if missing:
        raise _Fault(where, f"lacks {missing[0]}")
    where = f"{where} ({entry['model']})"
    for key in ("model", "source", "provider"):
        if key in entry and not (isinstance(entry[key], str) and entry[key].strip()):
            raise _Fault(where, f"{key} is {entry[key]!r}, a text is expected")
    factor = _amount(entry, "batch_factor", where)
    if factor is not None and not 0 < factor <= 1:
        raise _Fault(where, f"batch_factor is {factor}, a share of the online price is expected (such as 0.5)")
    return Price(
        entry["model"],
        _needed_amount(entry, "input", where),
        _needed_amount(entry, "output", where),
        _date(entry["as_of"], where),
        entry["source"],
        entry.get("provider"),
        _amount(entry, "cached_input", where),
        factor,
    )


def _amount(entry: dict[str, Any], key: str, where: str) -> Decimal | None:
    if key not in entry:
        return None
    return _needed_amount(entry, key, where)


def _needed_amount(entry: dict[str, Any], key: str, where: str) -> Decimal:
    value = entry[key]
    # Not a number of YAML's: 0.1 would be a binary fraction, and money must add up exactly.
    if not isinstance(value, str) or not _AMOUNT.fullmatch(value):
        raise _Fault(where, f'{key} is {value!r}, a decimal in quotation marks is expected (such as "0.15")')
    return Decimal(value)


def _date(value: object, where: str) -> date:
    if type(value) is date:
        return value
    try:
        return date.fromisoformat(str(value))
    except ValueError as error:
        raise _Fault(where, f"as_of is {value!r}, a date is expected (such as 2026-01-31)") from error
