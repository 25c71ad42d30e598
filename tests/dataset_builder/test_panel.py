"""The panel: live on a terminal, now and then a plain line elsewhere, on standard error; never a cost of nothing."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from dataclasses import replace
from decimal import Decimal

import pytest
from rich.console import Console

from dataset_builder.captioning.panel import LINE_EVERY_S, RunSnapshot, run_panel

START = 1_000.0
HALF = RunSnapshot(
    done=600,
    total=1_000,
    started=START,
    reused=100,
    sent=520,
    answers=505,
    faults=9,
    rate_limited=4,
    rejected=12,
    failed=3,
    in_flight=6,
    limit=32,
    prompt_tokens=45_000,
    completion_tokens=30_000,
    cost=3 * 10**12,
    cost_before=10**12,
    max_usd=Decimal(5),
)


class Clock:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


def console(terminal: bool) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=110, color_system=None)


def written(where: Console) -> str:
    text = where.file.getvalue()
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


def plain(*steps: tuple[float, RunSnapshot]) -> list[str]:
    """The lines that come out when snapshots are shown at these seconds."""
    where, clock = console(False), Clock()
    with run_panel("pseudo-caption", where, clock) as show:
        for seconds, snapshot in steps:
            clock.now = START + seconds
            show(snapshot)
    return written(where).splitlines()


def test_without_a_terminal_a_line_is_said_every_ten_seconds_and_one_at_the_end() -> None:
    steps = [(second / 10, replace(HALF, done=second)) for second in range(351)]
    lines = plain(*steps)
    assert [line.split(",")[0] for line in lines] == [f"pseudo-caption: {done}/1" for done in (100, 200, 300, 350)]
    assert LINE_EVERY_S == 10


def test_a_short_run_says_one_line_and_an_empty_one_none() -> None:
    assert len(plain((0.1, HALF), (0.2, HALF))) == 1
    assert plain() == []


def test_the_end_is_not_said_twice() -> None:
    assert len(plain((10.0, HALF))) == 1


def test_a_plain_line_tells_everything_and_is_one_line() -> None:
    (line,) = plain((10.0, HALF))
    for part in (
        "pseudo-caption: 600/1,000",
        "505 answers (50.5/s)",
        "6/32 in flight",
        "4 x 429",
        "9 faults",
        "12 rejected",
        "75,000 tokens",
        "$3.00 spent, $4.60 projected, budget $5.00",
        "0:00:08 to go",
    ):
        assert part in line, line
    assert "\x1b" not in line


def test_on_a_terminal_the_panel_shows_the_same() -> None:
    where, clock = console(True), Clock()
    with run_panel("pseudo-caption", where, clock) as show:
        clock.now = START + 10
        show(HALF)
    text = written(where)
    for part in (
        "pseudo-caption",
        "600 of 1,000 (60.0%), 100 from earlier runs",
        "505 of 520 sent, 50.5 a second",
        "6 of at most 32",
        "9, of them 4 rate limits (429)",
        "12 rejected, 3 without an answer",
        "45,000 in, 30,000 out",
        "$3.00 spent, $4.60 projected, budget $5.00",
        "0:00:10 so far, 0:00:08 to go",
    ):
        assert part in text, text


def test_on_a_terminal_it_is_drawn_a_few_times_a_second_and_at_the_end() -> None:
    where, clock = console(True), Clock()
    with run_panel("p", where, clock) as show:
        for number in range(1_000):
            clock.now = START + number / 1_000
            show(replace(HALF, answers=number))
    text = written(where)
    assert 4 <= text.count("in flight") <= 8
    assert "999 of 520 sent" in text


def failing_run(where: Console) -> None:
    with run_panel("p", where, Clock()) as show:
        show(replace(HALF, done=1))
        show(replace(HALF, done=77))
        raise RuntimeError("the endpoint is gone")


@pytest.mark.parametrize("terminal", [True, False])
def test_the_last_state_is_shown_when_the_run_fails(terminal: bool) -> None:
    where = console(terminal)
    with pytest.raises(RuntimeError, match="the endpoint is gone"):
        failing_run(where)
    assert "77" in written(where)


def test_a_terminal_that_cannot_redraw_gets_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    where = console(True)
    with run_panel("p", where, Clock()) as show:
        show(HALF)
    assert len(written(where).splitlines()) == 1


def test_the_speed_is_that_of_the_last_half_minute() -> None:
    steps = [(second, replace(HALF, answers=10 * second, done=100 + 10 * second)) for second in range(1, 31)]
    slow = [(30 + second, replace(HALF, answers=300 + second, done=400 + second)) for second in range(1, 61)]
    assert "(1.0/s)" in plain(*steps, *slow)[-1]
    assert "(10.0/s)" in plain(*steps)[-1]


def test_jobs_that_an_earlier_run_settled_do_not_make_the_rest_look_fast() -> None:
    (line,) = plain((10.0, replace(HALF, done=510, reused=500, answers=10)))
    assert "0:08:10 to go" in line  # 490 jobs at one a second
    assert "$101.00 projected" in line  # 2 dollars bought ten
    assert "(more than the budget)" in line


def test_before_the_first_answer_nothing_is_guessed() -> None:
    (line,) = plain((0.0, RunSnapshot(0, 1_000, START, cost=0)))
    assert "unknown time to go" in line
    assert "projected" not in line
    (line,) = plain((10.0, RunSnapshot(5, 1_000, START, reused=5, cost=0)))
    assert "unknown time to go" in line


def test_a_cost_that_is_not_known_is_said_to_be_unknown() -> None:
    (line,) = plain((10.0, replace(HALF, cost=None, max_usd=None)))
    assert "cost unknown" in line
    assert "$" not in line


def test_the_end_has_nothing_to_go_and_no_projection() -> None:
    (line,) = plain((10.0, replace(HALF, done=1_000)))
    assert "nothing to go" in line
    assert "projected" not in line


def test_a_note_and_a_title_are_shown_as_they_are() -> None:
    note = "[bold] 80 % of --max-usd are spent"
    (line,) = plain((10.0, replace(HALF, note=note)))
    assert line.endswith(f"; {note}")
    where = console(True)
    with run_panel("a [title]", where, Clock()) as show:
        show(replace(HALF, note=note))
    assert note in written(where)
    assert "a [title]" in written(where)


def test_a_live_panel_leaves_standard_output_alone(capsys: pytest.CaptureFixture[str]) -> None:
    with run_panel("p", console(True), Clock()) as show:
        show(HALF)
        print("result")
    assert capsys.readouterr().out == "result\n"


def test_standard_output_stays_empty() -> None:
    script = (
        "from dataset_builder.captioning.panel import RunSnapshot, run_panel\n"
        "with run_panel('p') as show:\n    show(RunSnapshot(1, 2, 0.0))\n    print('result')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "result\n"
    assert "p: 1/2" in done.stderr
