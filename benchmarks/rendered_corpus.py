"""How long does a rendered clip take, where does the time go, and how much memory does it need?

    python benchmarks/rendered_corpus.py                                  # the package's SoundFont
    python benchmarks/rendered_corpus.py --soundfonts fluid,musescore,opl3 --held-out default --clips 480

Processor seconds a clip, by part: composing, playing the notes, room and effects, FLAC; then the same clips as a corpus
with one process and with --workers, wall time, and the time that the standing corpus takes to be looked over. The fonts
begin unopened; the first clips pay for them.
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from pathlib import Path

from dataset_builder.sources import rendered_player
from dataset_builder.sources.rendered import arrange, read_rendered
from dataset_builder.sources.rendered_files import write_clip
from dataset_builder.sources.rendered_fonts import find_soundfont

RATE = 16_000  # Hz
CLIPS_WANTED, HOURS_ALLOWED = 100_000, 2.0


def parts_of_a_clip(fonts: list[Path], clips: int, seconds: float, folder: Path) -> dict[str, float]:
    """Processor seconds a clip by part."""
    spent = dict.fromkeys(("compose", "notes", "room and effects", "FLAC"), 0.0)
    finish = rendered_player._finish

    def timed_finish(*arguments: object) -> object:
        begun = time.process_time()
        result = finish(*arguments)  # type: ignore[arg-type]
        spent["room and effects"] += time.process_time() - begun
        return result

    rendered_player._finish = timed_finish  # type: ignore[assignment]
    for index in range(clips):
        begun = time.process_time()
        arrangement = arrange(index, 0, seconds)
        composed = time.process_time()
        performance = rendered_player.perform(arrangement, RATE, seconds, fonts=fonts, key=f"0:{index}", effects=True)
        played = time.process_time()
        write_clip(folder / f"{index}.flac", performance.wave, RATE, "benchmark")
        spent["compose"] += composed - begun
        spent["notes"] += played - composed
        spent["FLAC"] += time.process_time() - played
    rendered_player._finish = finish
    spent["notes"] -= spent["room and effects"]
    return {name: total / clips for name, total in spent.items()}


def corpus_seconds(folder: Path, options: argparse.Namespace, workers: int) -> float:
    """Wall seconds of `read_rendered`."""
    begun = time.perf_counter()
    for _ in read_rendered(
        folder,
        clips=options.clips,
        duration_s=options.seconds,
        soundfonts=options.soundfonts,
        held_out_soundfont=options.held_out,
        workers=workers,
    ):
        pass
    return time.perf_counter() - begun


def main() -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--soundfonts", default="default")
    parser.add_argument("--held-out")
    parser.add_argument("--clips", type=int, default=240)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    fonts = [find_soundfont(font) for font in options.soundfonts.split(",")]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        spent = parts_of_a_clip(fonts, options.clips, options.seconds, folder / "clips")
        total = sum(spent.values())
        print(f"{options.clips} clips of {options.seconds:g} s, fonts {options.soundfonts}")
        print("processor ms a clip: " + ", ".join(f"{name} {1_000 * value:.1f}" for name, value in spent.items()))
        print(
            f"together {1_000 * total:.1f}, so {CLIPS_WANTED:,} clips take {CLIPS_WANTED * total / 3600:.2f} core hours"
        )
        print(f"allowed on 2 cores: {1_000 * HOURS_ALLOWED * 3600 * 2 / CLIPS_WANTED:.0f} ms")
        print(f"peak memory of this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")
        for workers in sorted({1, options.workers}):
            seconds = corpus_seconds(folder / f"corpus-{workers}", options, workers)
            again = corpus_seconds(folder / f"corpus-{workers}", options, workers)
            rate = options.clips / seconds * 3600
            print(f"{workers} workers: {seconds:.1f} s, {rate:,.0f} clips an hour; looked over again in {again:.2f} s")
        children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        print(f"largest worker: {children:.0f} MiB, of which file pages of the fonts can be dropped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
