"""The benchmark that waits for a GPU runs from end to end on a CPU, so that no rented minute is lost to a mistake."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_part_of_the_gpu_benchmark_runs_on_a_cpu(tmp_path: Path) -> None:
    asked = ["--tiny", "--batches", "2", "--modes", "eager", "--precisions", "bfloat16", "--repeats", "1"]
    done = subprocess.run(
        [sys.executable, "benchmarks/gpu_training.py", *asked, "--updates", "2", "--threads", "2"],
        cwd=ROOT,
        env=os.environ | {"HF_HOME": str(tmp_path), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    rows = [line for line in done.stdout.splitlines() if line.startswith("| bfloat16 |")]
    assert len(rows) == 3  # of the updates, the feed and the loop
    assert all("nan" not in row for row in rows)
