"""What a person sees while a run asks: a live panel on a terminal, now and then a plain line elsewhere.

On standard error alone, so that standard output stays the program's result.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from dataset_builder.captioning.prices import dollars, format_dollars

REDRAW_S = 0.25
LINE_EVERY_S = 10.0
RATE_WINDOW_S = 30.0  # speed and time left are those of the last half minute: a limit that changes shows soon


@dataclass(frozen=True)
class RunSnapshot:
    """A run at one moment. Jobs are (track, instruction) pairs; costs are in 1e-12 dollars, None: unknown.

    `reused` jobs needed nothing new. `cost` is everything that the store was ever charged, `cost_before` what of it
    was spent before this run. `started` is `time.monotonic()` at the start; `note` is a word on what is going on.
    """

    done: int
    total: int
    started: float
    reused: int = 0
    sent: int = 0
    answers: int = 0
    faults: int = 0
    rate_limited: int = 0
    rejected: int = 0
    failed: int = 0
    in_flight: int = 0
    limit: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: int | None = None
    cost_before: int = 0
    max_usd: Decimal | None = None
    note: str = ""


@dataclass(frozen=True)
class _Pace:
    """Answers a second, jobs a second (None: nothing was done yet)."""

    answers: float | None = None
    jobs: float | None = None


class _Speed:
    """The pace over the last `RATE_WINDOW_S`. Jobs that an earlier run settled are no work and don't count."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int, int]] = deque()

    def at(self, snapshot: RunSnapshot, now: float) -> _Pace:
        if not self._seen:
            self._seen.append((snapshot.started, 0, 0))
        worked = snapshot.done - snapshot.reused
        if now - self._seen[-1][0] >= REDRAW_S:
            self._seen.append((now, snapshot.answers, worked))
        while len(self._seen) > 2 and now - self._seen[0][0] > RATE_WINDOW_S:
            self._seen.popleft()
        then, answers, jobs = self._seen[0]
        if now <= then:
            return _Pace()
        return _Pace((snapshot.answers - answers) / (now - then), (worked - jobs) / (now - then))


@contextmanager
def run_panel(
    title: str, console: Console | None = None, clock: Callable[[], float] = time.monotonic
) -> Iterator[Callable[[RunSnapshot], None]]:
    """Give `show(snapshot)`, which may be called after every answer: it draws a few times a second at most.

    `console` is standard error when not given. The last snapshot is always shown when the block ends.
    """
    console = console or Console(stderr=True)
    draws = console.is_terminal and not console.is_dumb_terminal
    with _live(title, console, clock) if draws else _plain(title, console, clock) as show:
        yield show


@contextmanager
def _live(title: str, console: Console, clock: Callable[[], float]) -> Iterator[Callable[[RunSnapshot], None]]:
    speed = _Speed()
    last: RunSnapshot | None = None
    drawn = -REDRAW_S + clock()
    with Live(console=console, auto_refresh=False, redirect_stdout=False) as live:

        def draw(snapshot: RunSnapshot) -> None:
            live.update(_panel(title, snapshot, speed.at(snapshot, clock()), clock()), refresh=True)

        def show(snapshot: RunSnapshot) -> None:
            nonlocal last, drawn
            last = snapshot
            if clock() - drawn >= REDRAW_S:
                drawn = clock()
                draw(snapshot)

        try:
            yield show
        finally:
            if last is not None:
                draw(last)


@contextmanager
def _plain(title: str, console: Console, clock: Callable[[], float]) -> Iterator[Callable[[RunSnapshot], None]]:
    speed = _Speed()
    last: RunSnapshot | None = None
    spoken: RunSnapshot | None = None
    spoken_at = clock()

    def say(snapshot: RunSnapshot) -> None:
        line = _plain_line(title, snapshot, speed.at(snapshot, clock()), clock())
        console.print(Text(line), soft_wrap=True)

    def show(snapshot: RunSnapshot) -> None:
        nonlocal last, spoken, spoken_at
        last = snapshot
        if clock() - spoken_at >= LINE_EVERY_S:
            spoken, spoken_at = snapshot, clock()
            say(snapshot)

    try:
        yield show
    finally:
        if last is not None and last != spoken:
            say(last)


# --- words ----------------------------------------------------------------------------------------------------------


def _panel(title: str, snapshot: RunSnapshot, pace: _Pace, now: float) -> Panel:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in _facts(snapshot, pace, now):
        grid.add_row(name, Text(value))
    bar = Table.grid(expand=True)  # a progress bar on its own does not end its line
    bar.add_row(ProgressBar(total=max(snapshot.total, 1), completed=snapshot.done))
    return Panel(Group(bar, grid), title=Text(title), title_align="left")


def _facts(snapshot: RunSnapshot, pace: _Pace, now: float) -> Iterator[tuple[str, str]]:
    share = f" ({snapshot.done / snapshot.total:.1%})" if snapshot.total else ""
    reused = f", {snapshot.reused:,} from earlier runs" if snapshot.reused else ""
    yield "done", f"{snapshot.done:,} of {snapshot.total:,}{share}{reused}"
    speed = "-" if pace.answers is None else f"{pace.answers:,.1f} a second"
    yield "answers", f"{snapshot.answers:,} of {snapshot.sent:,} sent, {speed}"
    yield "in flight", f"{snapshot.in_flight:,}" + (f" of at most {snapshot.limit:,}" if snapshot.limit else "")
    yield "faults", f"{snapshot.faults:,}, of them {snapshot.rate_limited:,} rate limits (429)"
    yield "captions", f"{snapshot.rejected:,} rejected, {snapshot.failed:,} without an answer"
    yield "tokens", f"{snapshot.prompt_tokens:,} in, {snapshot.completion_tokens:,} out"
    yield "dollars", _dollars(snapshot)
    yield "time", f"{_clock(now - snapshot.started)} so far, {_left(snapshot, pace)} to go"
    if snapshot.note:
        yield "", snapshot.note


def _plain_line(title: str, snapshot: RunSnapshot, pace: _Pace, now: float) -> str:
    parts = [
        f"{title}: {snapshot.done:,}/{snapshot.total:,}",
        f"{snapshot.answers:,} answers" + ("" if pace.answers is None else f" ({pace.answers:,.1f}/s)"),
        f"{snapshot.in_flight:,}/{snapshot.limit:,} in flight",
        f"{snapshot.rate_limited:,} x 429",
        f"{snapshot.faults:,} faults",
        f"{snapshot.rejected:,} rejected",
        f"{snapshot.prompt_tokens + snapshot.completion_tokens:,} tokens",
        _dollars(snapshot),
        f"{_left(snapshot, pace)} to go",
    ]
    return ", ".join(parts) + (f"; {snapshot.note}" if snapshot.note else "")


def _dollars(snapshot: RunSnapshot) -> str:
    """Spent, projected to the end of the job at this run's price of a job, and the budget."""
    if snapshot.cost is None:
        return "cost unknown"
    words = f"{format_dollars(snapshot.cost)} spent"
    worked = snapshot.done - snapshot.reused
    if worked > 0 and snapshot.done < snapshot.total:
        each = (snapshot.cost - snapshot.cost_before) / worked
        projected = snapshot.cost + round(each * (snapshot.total - snapshot.done))
        words += f", {format_dollars(projected)} projected"
        if snapshot.max_usd is not None and dollars(projected) > snapshot.max_usd:
            words += " (more than the budget)"
    if snapshot.max_usd is not None:
        words += f", budget ${snapshot.max_usd:,.2f}"
    return words


def _left(snapshot: RunSnapshot, pace: _Pace) -> str:
    rest = snapshot.total - snapshot.done
    if rest <= 0:
        return "nothing"
    return _clock(rest / pace.jobs) if pace.jobs else "unknown time"


def _clock(seconds: float) -> str:
    minutes, second = divmod(max(round(seconds), 0), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}"
