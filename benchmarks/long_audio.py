"""Memory and time of reading a three-hour file window by window, beside reading it whole.

    python benchmarks/long_audio.py [--minutes 5 180] [--folder DIR]

The file is stereo FLAC at 44.1 kHz: chords under noise, written second by second. Each way runs in a process of
its own; `windows` is what the captioner and the pipeline do before the model hears anything.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
import soundfile
from child_usage import run_measured

RATE = 44_100  # Hz
SEED = 20230731  # the paper's date
HELD = "import sys; from modeling_lpmc import audio"
WAYS = {
    "imports alone": HELD,
    "whole (`load_audio`)": f"{HELD}; print(len(audio.load_audio(sys.argv[1]).samples) // 160000)",
    "windows (`open_track`)": (
        f"{HELD}; track = audio.open_track(sys.argv[1]); "
        "bounds = [(i, i + 160000) for i in range(0, track.num_samples - 159999, 160000)]; "
        "print(sum(1 for _ in audio.track_windows(track, bounds)))"
    ),
}


def write_music(path: Path, minutes: float) -> None:
    """A stereo FLAC of `minutes`, a second at a time."""
    generator = np.random.default_rng(SEED)
    with soundfile.SoundFile(path, "w", RATE, 2, format="FLAC", subtype="PCM_16") as file:
        for second in range(round(60 * minutes)):
            times = second + np.arange(RATE) / RATE
            chord = sum(np.sin(2 * np.pi * hz * 2 ** ((second // 4 % 12) / 12) * times) for hz in (110, 138.6, 164.8))
            noise = generator.standard_normal((RATE, 2)) * 0.02
            file.write(0.15 * np.asarray(chord)[:, None] + noise)


def main() -> int:
    """Write the files, read them in both ways, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, nargs="+", default=[5, 180])
    parser.add_argument("--folder", type=Path, help="where the files are written; default: a temporary folder")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        print("| minutes | way | windows | peak memory, MiB | processor, s | wall, s |\n|---|---|---|---|---|---|")
        for minutes in arguments.minutes:
            path = Path(folder) / f"{minutes:g}.flac"
            write_music(path, minutes)
            for name, program in WAYS.items():
                used = run_measured([sys.executable, "-c", program, str(path)])
                cells = (f"{minutes:g}", name, used.output.strip() or "-", f"{used.largest_mib:.0f}")
                print(f"| {' | '.join(cells)} | {used.cpu_s:.1f} | {used.wall_s:.1f} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
