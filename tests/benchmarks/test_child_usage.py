"""The figures of the benchmarks: is what a child process takes seen, and all of what its own children take?"""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from benchmarks.child_usage import run_measured

ROOT = Path(__file__).parents[2]
HOLD_MEMORY = """
    import multiprocessing, time
    def hold(mib, all_there):
        kept = bytearray(mib << 20)
        kept[::4096] = b"x" * len(kept[::4096])
        all_there.wait()
        end = time.process_time() + 0.6
        while time.process_time() < end:
            pass
    if __name__ == "__main__":
        context = multiprocessing.get_context("fork")
        all_there = context.Barrier(PROCESSES)
        parts = [context.Process(target=hold, args=(120, all_there)) for _ in range(PROCESSES)]
        [part.start() for part in parts]
        [part.join() for part in parts]
"""


def hold_memory(processes: int) -> list[str]:
    return [sys.executable, "-c", textwrap.dedent(HOLD_MEMORY).replace("PROCESSES", str(processes))]


MEASURE = """
    import json, sys
    from benchmarks.child_usage import run_measured
    usage = run_measured(json.loads(sys.argv[1]))
    print(json.dumps([usage.largest_mib, usage.together_mib, usage.private_mib]))
"""


def test_memory_of_two_processes_is_counted_together_and_the_largest_apart() -> None:
    # Measured from a small process, as the benchmarks do: Linux starts a child's peak at that of its parent.
    command = [sys.executable, "-c", textwrap.dedent(MEASURE), json.dumps(hold_memory(2))]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    largest, together, private = json.loads(done.stdout)
    assert 120 < largest < 200
    assert 240 < together < 340
    assert private > 240


def test_processor_time_of_grandchildren_is_counted() -> None:
    usage = run_measured(hold_memory(2))
    assert usage.cpu_s > 1.1
    assert usage.wall_s > 0.6


def test_the_output_and_the_folder_are_the_commands_own(tmp_path: Path) -> None:
    usage = run_measured([sys.executable, "-c", "import os; print(os.getcwd())"], cwd=tmp_path)
    assert usage.output.strip() == str(tmp_path)


def test_a_command_that_fails_is_an_error_that_shows_what_it_said() -> None:
    command = [sys.executable, "-c", "raise SystemExit('the disk is on fire')"]
    with pytest.raises(RuntimeError, match=r"ended with 1:\n.*the disk is on fire"):
        run_measured(command)
    assert run_measured(command, accepted=(0, 1)).output == ""
