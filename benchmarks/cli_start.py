"""How long `lpmc --help` takes, beside a Python that does nothing, interleaved in one run.

    python benchmarks/cli_start.py [--runs 21]

The limit is the interpreter's own start; the rest is the import of Typer and rich. Exits with 1 above half a second.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

LIMIT_S = 0.5
COMMANDS = {
    "lpmc --help": [sys.executable, "-m", "lpmc", "--help"],
    "python -c pass": [sys.executable, "-c", "pass"],
}


def main() -> int:
    """Print the medians and their ratio."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=21)
    runs = parser.parse_args().runs
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(runs):
        for name, command in COMMANDS.items():
            start = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    for name, value in medians.items():
        print(f"{name:16} median {value:.3f} s, worst {max(seconds[name]):.3f} s over {runs} runs")
    print(f"ratio of medians {medians['lpmc --help'] / medians['python -c pass']:.1f}")
    return 0 if medians["lpmc --help"] < LIMIT_S else 1


if __name__ == "__main__":
    sys.exit(main())
