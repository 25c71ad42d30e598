"""Clips a second: `lpmc build` with every file decoded to its end, beside `audiofolder` and `push_to_hub`, same clips.

    python benchmarks/dataset_audio.py [--clips 5000] [--folder DIR] [--repeats 5] [--push]

The clips are rendered here (10 s, 16 kHz, music; half FLAC, half MP3) and all differ. What `push_to_hub` does before it
uploads (embed the files, write Parquet, in as many processes) is done with its own parts, in shards of the same size,
with torchcodec, which `audiofolder` needs; `--push` adds the uploads, to the Hub of the tests in a process of its own.
Both must hand over every file byte for byte. `--folder` keeps clips and figures; 5,000 clips need about 5 GB there.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from child_usage import Usage, run_measured

CLIPS = 5_000
FEW = 24  # clips that show what starting costs
NAME, CONFIG = "lp-musiccaps", "rendered"
SHARD_BYTES = 128_000_000  # of `lpmc build`; `push_to_hub` would make larger ones unless told
CAPTIONS = ("writing", "summary", "paraphrase", "attribute_prediction")
PROJECT = Path(__file__).resolve().parent.parent
LPMC = Path(sys.executable).with_name("lpmc")
TORCHCODEC = Path(sys.prefix) / "torchcodec"  # `make test` installs it there, apart from the rest
BUSY = 0.05  # cores that other programs may use before a figure is marked
RESULTS = "dataset_audio.json"


@dataclass(frozen=True)
class Corpus:
    """`clips` holds `<split>/<clip>` and their `metadata.jsonl`, as `audiofolder` wants it; the tables lie beside."""

    folder: Path
    count: int

    @property
    def clips(self) -> Path:
        return self.folder / "clips"

    @property
    def tracks(self) -> Path:
        return self.folder / "tracks.parquet"

    @property
    def captions(self) -> Path:
        return self.folder / "captions.parquet"


# --- inside a process of their own ------------------------------------------------------------------------------------


def make_corpus(folder: str, count: str) -> None:
    """Render the clips, turn every second one into MP3, and write the tables and the metadata."""
    import msd_corpus
    import soundfile

    from dataset_builder.captioning.captions_table import read_captions
    from dataset_builder.sources.rendered import render_corpus
    from dataset_builder.tracks import TaggedTrack, write_tracks

    corpus = Corpus(Path(folder), int(count))
    rendered = corpus.folder / "as-rendered"
    found: list[TaggedTrack] = []
    for index, track in enumerate(render_corpus(rendered, clips=corpus.count)):
        source = rendered / str(track.audio_path)
        target = corpus.clips / track.split / source.with_suffix(".mp3" if index % 2 else ".flac").name
        target.parent.mkdir(parents=True, exist_ok=True)
        if index % 2:
            wave, rate = soundfile.read(source, dtype="int16")
            soundfile.write(target, wave, rate, format="MP3")
        else:
            shutil.copyfile(source, target)
        values = vars(track) | {"audio_path": target.relative_to(corpus.clips).as_posix()}
        found.append(TaggedTrack(**values))
    write_tracks(found, corpus.tracks)
    msd_corpus.write_synthetic_captions(corpus.tracks, corpus.captions)
    texts = {(row.track_id, row.instruction): row.caption for row in read_captions(corpus.captions)}
    with contextlib.ExitStack() as stack:
        files = {
            split: stack.enter_context((corpus.clips / split / "metadata.jsonl").open("w", encoding="utf-8"))
            for split in {track.split for track in found}
        }
        for track in found:
            row: dict[str, Any] = {
                "file_name": Path(str(track.audio_path)).name,
                "track_id": track.track_id,
                "tag": list(track.tags),
            }
            row |= {f"caption_{name}": texts[track.track_id, name] for name in CAPTIONS}
            row |= {"caption_ground_truth": track.reference_captions[0], "facts": json.dumps(dict(track.extra))}
            files[track.split].write(json.dumps(row) + "\n")


def copy_clips(folder: str, target: str) -> None:
    """Every clip into one file: what the disk and the kernel allow."""
    with Path(target).open("wb") as whole:
        for path in clip_files(Path(folder)):
            whole.write(path.read_bytes())


def decode_clips(folder: str) -> None:
    """Every clip decoded and dropped: what a check of every file costs at least."""
    import soundfile

    for path in clip_files(Path(folder)):
        soundfile.read(path, dtype="float32")


def clip_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*/*") if path.suffix in (".flac", ".mp3"))


def build_with_audiofolder(clips: str, target: str, processes: str) -> None:
    """What `load_dataset("audiofolder").push_to_hub()` does, with files in the place of the upload."""
    import multiprocessing

    from datasets import load_dataset
    from datasets.arrow_writer import get_writer_batch_size_from_data_size, get_writer_batch_size_from_features

    count = int(processes)
    splits = load_dataset("audiofolder", data_dir=clips, num_proc=count if count > 1 else None)
    Path(target).mkdir(parents=True)
    for name, split in splits.items():
        size = split._estimate_nbytes()
        rows = get_writer_batch_size_from_features(split.features) or get_writer_batch_size_from_data_size(
            len(split), size
        )
        shards = max(int(size / SHARD_BYTES) + 1, count)
        jobs = [
            (split.shard(num_shards=count, index=job, contiguous=True), job, count, shards, rows, f"{target}/{name}")
            for job in range(count)
        ]
        if count == 1:
            write_shards(*jobs[0])
        else:
            with multiprocessing.get_context("spawn").Pool(count) as pool:
                pool.starmap(write_shards, jobs)


def write_shards(part: Any, job: int, jobs: int, shards: int, rows: int, prefix: str) -> None:
    """The shards of one process, cut and written as `push_to_hub` does it."""
    from datasets.table import embed_table_storage

    each, more = divmod(shards, jobs)
    start = each * job + min(job, more)
    mine = each + (job < more)
    for index in range(mine):
        shard = part.shard(num_shards=mine, index=index, contiguous=True).with_format("arrow")
        shard = shard.map(embed_table_storage, batched=True, batch_size=rows, keep_in_memory=True).with_format(None)
        shard.to_parquet(f"{prefix}-{start + index:05d}-of-{shards:05d}.parquet", batch_size=rows)


def push_with_audiofolder(clips: str, processes: str) -> None:
    from datasets import load_dataset

    count = int(processes) if int(processes) > 1 else None
    splits = load_dataset("audiofolder", data_dir=clips, num_proc=count)
    splits.push_to_hub("org/clips", num_proc=count, max_shard_size=SHARD_BYTES)


def verify(clips: str, tracks: str, *built: str) -> None:
    """Every clip must lie in every build, byte for byte, beside its own track. Prints what was compared."""
    import pyarrow.parquet as pq

    table = pq.read_table(tracks, columns=["track_id", "audio_path"]).to_pylist()
    wanted = {row["track_id"]: digest(Path(clips, row["audio_path"]).read_bytes()) for row in table}
    for folder in built:
        found: dict[str, str] = {}
        for path in sorted(Path(folder).rglob("*.parquet")):
            for batch in pq.ParquetFile(path).iter_batches(batch_size=100, columns=["track_id", "audio"]):
                for row in batch.to_pylist():
                    found[row["track_id"]] = digest(row["audio"]["bytes"])
        if found != wanted:
            wrong = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
            raise SystemExit(f"{folder}: {len(wrong)} clips differ, the first is {wrong[0]}")
    print(f"{len(wanted)} clips, all different: {len(set(wanted.values())) == len(wanted)}")


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


INSIDE: dict[str, Callable[..., None]] = {
    "corpus": make_corpus,
    "copy": copy_clips,
    "decode": decode_clips,
    "audiofolder": build_with_audiofolder,
    "audiofolder-push": push_with_audiofolder,
    "verify": verify,
}


def inside(kind: str, *words: object) -> list[str]:
    return [sys.executable, __file__, "--inside", kind, *map(str, words)]


# --- around it --------------------------------------------------------------------------------------------------------


class Bench:
    """Runs each way of building the data set on a corpus, every time from nothing."""

    def __init__(self, folder: Path, torchcodec: Path) -> None:
        self.scratch = folder / "scratch"
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "PYTHONPATH"))}
        self.plain = kept | {"HF_HOME": str(self.scratch / "hf-home"), "HF_HUB_OFFLINE": "1"}
        self.with_torchcodec = self.plain | {"PYTHONPATH": str(torchcodec)}

    def ours(self, corpus: Corpus, processes: int) -> Usage:
        command = [LPMC, "build", corpus.captions, "--tracks", corpus.tracks, "--config", CONFIG, "--json"]
        command += ["--audio-root", corpus.clips, "--output", self.built("ours", processes), "--num-proc", processes]
        return run_measured(list(map(str, command)), environment=self.plain)

    def audiofolder(self, corpus: Corpus, processes: int) -> Usage:
        command = inside("audiofolder", corpus.clips, self.built("audiofolder", processes), processes)
        return run_measured(command, environment=self.with_torchcodec)

    def copy(self, corpus: Corpus, processes: int) -> Usage:
        return run_measured(inside("copy", corpus.clips, self.scratch / "all-clips"), environment=self.plain)

    def decode(self, corpus: Corpus, processes: int) -> Usage:
        return run_measured(inside("decode", corpus.clips), environment=self.plain)

    def ours_pushed(self, corpus: Corpus, processes: int) -> Usage:
        with hub() as online:
            made = self.ours(corpus, processes)
            command = [str(LPMC), "push", str(self.built("ours", processes)), "--repo", f"org/{NAME}"]
            return together(made, run_measured(command, environment=self.reaching(self.plain, online)))

    def audiofolder_pushed(self, corpus: Corpus, processes: int) -> Usage:
        with hub() as online:
            command = inside("audiofolder-push", corpus.clips, processes)
            return run_measured(command, environment=self.reaching(self.with_torchcodec, online))

    def reaching(self, environment: dict[str, str], online: dict[str, str]) -> dict[str, str]:
        return {name: value for name, value in environment.items() if name != "HF_HUB_OFFLINE"} | online

    def built(self, kind: str, processes: int) -> Path:
        return self.scratch / f"{kind}-{processes}" / NAME

    def clear(self) -> None:
        """Nothing of the last run is left, on the disk or on its way there."""
        shutil.rmtree(self.scratch, ignore_errors=True)
        self.scratch.mkdir()
        os.sync()


@contextlib.contextmanager
def hub() -> Iterator[dict[str, str]]:
    """A fresh Hub on 127.0.0.1; what a client's environment must say to reach it."""
    process = subprocess.Popen(
        [sys.executable, str(PROJECT / "tests/hub_double.py"), "0"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        yield {"HF_ENDPOINT": address, "HF_TOKEN": "hf_test", "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "127.0.0.1"}
    finally:
        process.terminate()
        process.wait(10)


def together(first: Usage, second: Usage) -> Usage:
    """Two commands, one after the other, as one."""
    sums = ("wall_s", "user_s", "system_s")
    values = {name: getattr(first, name) + getattr(second, name) for name in sums}
    peaks = {
        name: max(getattr(first, name), getattr(second, name))
        for name in ("largest_mib", "together_mib", "private_mib", "elsewhere")
    }
    return Usage(**values, **peaks, output=first.output)


@dataclass(frozen=True)
class Way:
    """A way to build the data set: what the table calls it, the method of `Bench`, and what it is held against."""

    name: str
    kind: str
    processes: int
    rival: str = ""


WAYS = [
    Way("`lpmc build`", "ours", 1, "`audiofolder`, embedded"),
    Way("`audiofolder`, embedded", "audiofolder", 1),
    Way("`lpmc build --num-proc 2`", "ours", 2, "`audiofolder`, embedded, num_proc=2"),
    Way("`audiofolder`, embedded, num_proc=2", "audiofolder", 2),
    Way("soundfile decodes every clip", "decode", 1),
    Way("bytes into one file", "copy", 1),
]
PUSHED = [
    Way("`lpmc build --num-proc 2`, `lpmc push`", "ours_pushed", 2, "`audiofolder`, `push_to_hub(num_proc=2)`"),
    Way("`audiofolder`, `push_to_hub(num_proc=2)`", "audiofolder_pushed", 2),
]


def corpus_of(folder: Path, count: int) -> Corpus:
    corpus = Corpus(folder / f"corpus-{count}", count)
    if not (corpus.folder / "made").exists():
        run_measured(inside("corpus", corpus.folder, count))
        (corpus.folder / "made").touch()
    return corpus


def run(folder: Path, clips: int, repeats: int, torchcodec: Path, pushes: bool) -> None:
    corpus, few = corpus_of(folder, clips), corpus_of(folder, FEW)
    bench = Bench(folder, torchcodec)
    files = clip_files(corpus.clips)
    size = sum(path.stat().st_size for path in files)
    ways = WAYS + (PUSHED if pushes else [])
    runs: dict[str, list[Usage]] = {way.name: [] for way in ways}
    starts: dict[str, list[Usage]] = {way.name: [] for way in ways}
    bench.clear()
    bench.decode(corpus, 1)  # so that every file is in the page cache
    for turn in range(repeats):
        for way in ways:
            for what, kept in ((few, starts), (corpus, runs)):
                bench.clear()
                kept[way.name].append(getattr(bench, way.kind)(what, way.processes))
            if turn == 0 and way.kind in ("ours", "audiofolder"):
                built = bench.built(way.kind, way.processes)
                said = run_measured(inside("verify", corpus.clips, corpus.tracks, built)).output.strip()
                print(f"{way.name}: {said}", flush=True)
    bench.clear()
    kinds = {suffix: [path.stat().st_size for path in files if path.suffix == suffix] for suffix in (".flac", ".mp3")}
    sizes = ", ".join(
        f"{len(found)} {suffix[1:].upper()} ({sum(found) / 1e6:.0f} MB)" for suffix, found in kinds.items()
    )
    print(f"{len(files)} clips: {sizes}; medians of {repeats} interleaved rounds")
    print("\n".join(table(ways, runs, starts, len(files), size)))
    record = {name: {"runs": [asdict(one) | {"output": ""} for one in found]} for name, found in runs.items()}
    for name, found in starts.items():
        record[name]["few"] = [asdict(one) | {"output": ""} for one in found]
    (folder / RESULTS).write_text(json.dumps({"clips": len(files), "bytes": size, "ways": record}, indent=2) + "\n")


def table(
    ways: list[Way], runs: dict[str, list[Usage]], starts: dict[str, list[Usage]], clips: int, size: int
) -> list[str]:
    """The Markdown table. The ratio of medians is that to the other program with as many processes."""
    median = {name: statistics.median(one.wall_s for one in found) for name, found in runs.items()}
    few = {name: statistics.median(one.wall_s for one in found) for name, found in starts.items()}
    lines = [
        f"| | clips a second | (lowest to highest) | against audiofolder | MB a second | processor seconds | peak MiB "
        f"(all processes) | seconds with {FEW} clips | clips a second beyond them |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for way in ways:
        name = way.name
        rates = sorted(clips / one.wall_s for one in runs[name])
        against = f"{median[way.rival] / median[name]:.2f} x" if way.rival else ""
        mark = " (other programs ran)" if any(one.elsewhere > BUSY for one in runs[name]) else ""
        cpu = statistics.median(one.cpu_s for one in runs[name])
        peak = max(one.together_mib for one in runs[name])
        lines.append(
            f"| {name}{mark} | {clips / median[name]:.0f} | {rates[0]:.0f} to {rates[-1]:.0f} | {against} "
            f"| {size / 1e6 / median[name]:.0f} | {cpu:.1f} | {peak:.0f} | {few[name]:.2f} "
            f"| {(clips - FEW) / (median[name] - few[name]):.0f} |"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=CLIPS)
    parser.add_argument("--folder", type=Path, help="where the clips and the figures stay; default: nowhere")
    parser.add_argument("--repeats", type=int, default=5, help="interleaved rounds")
    parser.add_argument("--torchcodec", type=Path, default=TORCHCODEC, help="folder that torchcodec is installed in")
    parser.add_argument("--push", action="store_true", help="also upload, to a Hub on this machine")
    parser.add_argument("--inside", nargs="+", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.inside:
        INSIDE[given.inside[0]](*given.inside[1:])
        return
    if given.clips <= FEW:
        parser.error(f"--clips must be more than {FEW}")
    if not (given.torchcodec / "torchcodec").is_dir():
        parser.error(f"{given.torchcodec}: no torchcodec; pip install --no-deps --target DIR torchcodec==0.13.0")
    with contextlib.nullcontext(given.folder) if given.folder else tempfile.TemporaryDirectory() as folder:
        place = Path(folder).resolve()
        place.mkdir(parents=True, exist_ok=True)
        run(place, given.clips, given.repeats, given.torchcodec.resolve(), given.push)


if __name__ == "__main__":
    main()
