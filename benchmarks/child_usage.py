"""What a command costs: seconds, processor time and memory of it and all processes that it starts. Imported by others.

The caller should be a small process: on Linux the peak that the kernel reports of a child begins at what its parent
held when it started it.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

SAMPLE_S = 0.2  # between two looks at the memory of all processes together
TICKS = os.sysconf("SC_CLK_TCK")  # of /proc, a second


@dataclass(frozen=True)
class Usage:
    """What one run of a command took. Memory in MiB, processor time in seconds of one core."""

    wall_s: float
    user_s: float
    system_s: float
    largest_mib: float  # peak resident memory of the largest single process, from the kernel
    together_mib: float  # peak of all processes together, shared pages counted once, sampled; not below the largest
    private_mib: float  # peak of what of it is no mapped file (`load_dataset` maps its files), sampled
    elsewhere: float  # cores that other programs kept busy meanwhile
    output: str  # standard output

    @property
    def cpu_s(self) -> float:
        return self.user_s + self.system_s


def run_measured(
    command: Sequence[str],
    *,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
    accepted: Sequence[int] = (0,),
) -> Usage:
    """Run `command` to its end and say what it took. Raises `RuntimeError` with its last lines for another exit code.

    Processes that the command leaves behind when it ends are not counted.
    """
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        busy = _busy_seconds()
        begun = time.perf_counter()
        process = subprocess.Popen(command, cwd=cwd, env=environment, stdout=out, stderr=err, text=True)
        peaks = _Peaks(process.pid)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - begun
        peaks.stop()
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        output = out.read()
        if process.returncode not in accepted:
            err.seek(0)
            said = "\n".join((output + err.read()).splitlines()[-15:])
            raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}:\n{said}")
    own = usage.ru_utime + usage.ru_stime
    return Usage(
        wall_s=wall,
        user_s=usage.ru_utime,
        system_s=usage.ru_stime,
        largest_mib=usage.ru_maxrss / 1024,
        together_mib=max(peaks.together, usage.ru_maxrss) / 1024,
        private_mib=peaks.private / 1024,
        elsewhere=max(0.0, (_busy_seconds() - busy - own) / wall),
        output=output,
    )


class _Peaks:
    """Looks at the memory of a process and its descendants until stopped. In KiB."""

    def __init__(self, pid: int) -> None:
        self.together = self.private = 0
        self._pid = pid
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.is_set():
            found = [_proportional(pid) for pid in _tree(self._pid)]
            self.together = max(self.together, sum(whole for whole, _ in found))
            self.private = max(self.private, sum(anonymous for _, anonymous in found))
            self._ended.wait(SAMPLE_S)


def _tree(root: int) -> list[int]:
    """`root` and its living descendants."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                after_name = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            children.setdefault(int(after_name[1]), []).append(int(entry.name))
    found, waiting = [], [root]
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        waiting += children.get(pid, [])
    return found


def _proportional(pid: int) -> tuple[int, int]:
    """Resident memory of a process in KiB, each shared page divided by its holders: all of it, and without files."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0, 0
    values = {line.split(":")[0]: int(line.split()[1]) for line in lines[1:]}
    return values.get("Pss", 0), values.get("Pss_Anon", 0)


def _busy_seconds() -> float:
    """Seconds that all cores together have worked since the machine started."""
    fields = [int(value) for value in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    user, nice, system, _idle, _waiting, irq, softirq, _stolen = fields
    return (user + nice + system + irq + softirq) / TICKS
