"""The rendered corpus: what is written is true of what is heard, and the same everywhere."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

pytest.importorskip("pretty_midi", reason="the SoundFont comes with the extra `render`")

from caption_metrics.facts import unsupported_facts
from dataset_builder.sources import rendered, rendered_fonts
from dataset_builder.sources.rendered import arrange, describe, read_rendered, render_corpus, split_of
from dataset_builder.sources.rendered_composer import Arrangement
from dataset_builder.sources.rendered_facts import tempo_word
from dataset_builder.sources.rendered_files import LOCK
from dataset_builder.sources.rendered_fonts import find_soundfont
from dataset_builder.sources.rendered_genres import GENRES
from dataset_builder.sources.rendered_instruments import DRUM_KEYS, INSTRUMENTS
from dataset_builder.sources.rendered_player import perform, play
from dataset_builder.sources.rendered_soundfont import SoundFont
from dataset_builder.sources.rendered_theory import Key
from dataset_builder.tracks import TaggedTrack, read_tracks, write_tracks
from lpmc_errors import AudioError, MissingExtraError, TableError, UsageError
from lpmc_files import claimed

PROJECT = Path(__file__).resolve().parents[2]
RATE = 16_000
CLIP_S = 4.0
UNPITCHED = {"bells", "timpani", "taiko"}  # the partials of what is struck are no multiples of its pitch


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> tuple[Path, list[TaggedTrack]]:
    """Five clips of each genre, as a run of `render_corpus` leaves them, with nothing done to their sound."""
    root = tmp_path_factory.mktemp("rendered")
    return root, render_corpus(root, clips=5 * len(GENRES), duration_s=CLIP_S, effects=False)


@pytest.fixture(scope="module")
def waves(corpus) -> list[np.ndarray]:
    root, tracks = corpus
    return [soundfile.read(root / str(track.audio_path), dtype="float32")[0] for track in tracks]


def _power(wave: np.ndarray, window: int, hop: int) -> np.ndarray:
    """Power spectrogram, shape = (frames, window // 2 + 1)."""
    frames = np.lib.stride_tricks.sliding_window_view(wave, window)[::hop] * np.hanning(window)
    return np.abs(np.fft.rfft(frames, axis=1)) ** 2


def _bands(wave: np.ndarray) -> np.ndarray:
    """Log energy in 32 bands from 40 Hz, shape = (frames, 32); a frame is 16 ms."""
    edges = np.searchsorted(np.fft.rfftfreq(1024, 1 / RATE), np.geomspace(40, 7900, 33))
    spectrum = np.cumsum(np.pad(_power(wave, 1024, 256), ((0, 0), (1, 0))), axis=1)
    return np.log(spectrum[:, np.maximum(edges[1:], edges[:-1] + 1)] - spectrum[:, edges[:-1]] + 1e-4)


def _busyness(wave: np.ndarray) -> float:
    """How much the spectrum rises over 30 ms, on average: large where notes and strokes follow fast."""
    magnitude = np.sqrt(_power(wave, 1024, 160))
    level = np.log(1 + 100 * magnitude / magnitude.max())
    return float(np.maximum(level[3:] - level[:-3], 0).mean())


def _features(wave: np.ndarray) -> np.ndarray:
    bands = _bands(wave)
    return np.concatenate((bands.mean(axis=0), bands.std(axis=0), [10 * _busyness(wave)]))


def _tune(arrangement: Arrangement) -> tuple:
    """What makes an arrangement the same for a listener: who plays which notes, in any key, at any tempo."""
    sixteenth = 15 / arrangement.bpm
    return tuple(
        (
            part.instrument.tag,
            tuple((round(note.start / sixteenth), note.pitch - arrangement.key.tonic) for note in part.notes),
        )
        for part in arrangement.parts
        if not part.instrument.drum
    )


def test_each_genre_is_in_each_split_and_no_arrangement_of_test_is_in_train():
    turns = len(GENRES)
    splits = [(index % turns, split_of(index)) for index in range(10 * turns)]
    assert set(splits) == {(genre, split) for genre in range(turns) for split in ("train", "valid", "test")}
    assert Counter(split for _, split in splits) == {"train": 8 * turns, "valid": turns, "test": turns}
    tunes: dict[str, Counter[tuple]] = {"train": Counter(), "valid": Counter(), "test": Counter()}
    for index in range(1_000):
        tunes[split_of(index)][_tune(arrange(index, 0, 4.0))] += 1
    tunes["train"].pop((), None)  # drums alone have no tune
    assert not tunes["test"].keys() & tunes["train"].keys()
    assert not tunes["valid"].keys() & tunes["train"].keys()
    assert max(tunes["train"].values()) == 1


def test_tags_are_the_facts_in_the_words_of_a_caption(corpus):
    _, tracks = corpus
    for track in tracks:
        facts = track.extra
        assert track.tags == (
            facts["genre"],
            facts["mood"],
            *facts["instruments"],
            tempo_word(facts["bpm"]),
            facts["key"],
            f"{facts['metre']} time",
            *([facts["texture"]] if facts["texture"] else []),
            *facts["effects"],
            "instrumental",
        )
        assert len(set(track.tags)) == len(track.tags)
        assert track.source == "rendered"
        assert "GPL-2.0" in track.licence
        json.dumps(dict(facts))
    assert (tempo_word(89), tempo_word(90), tempo_word(120), tempo_word(121)) == (
        "slow tempo",
        "medium tempo",
        "medium tempo",
        "fast tempo",
    )


def test_the_reference_caption_states_only_the_facts(corpus):
    _, tracks = corpus
    for track in tracks:
        (caption,) = track.reference_captions
        assert not unsupported_facts(caption, track.tags), caption
        assert track.extra["reference_style"] == "grammar"


def test_clips_sound_from_the_first_moment_to_the_last_and_never_clip(corpus, waves):
    _, tracks = corpus
    for track, wave in zip(tracks, waves, strict=True):
        assert wave.shape == (CLIP_S * RATE,)
        assert np.abs(wave).max() == pytest.approx(10 ** (-3 / 20), abs=1e-4)
        loudness = np.sqrt((wave.reshape(-1, RATE // 2) ** 2).mean(axis=1))
        assert loudness.min() > 10 ** (-60 / 20), track.track_id  # a stop is music too
        assert np.sqrt((wave[: RATE // 5] ** 2).mean()) > 10 ** (-45 / 20), track.track_id
        assert abs(wave.mean()) < 0.03  # some bass samples stand off zero a little


def test_a_nearest_centroid_tells_the_genres_of_held_out_clips(corpus, waves):
    _, tracks = corpus
    features = np.stack([_features(wave) for wave in waves])
    genres = np.array([track.extra["genre"] for track in tracks])
    train = np.arange(len(tracks)) < 4 * len(GENRES)
    scaled = (features - features[train].mean(axis=0)) / (features[train].std(axis=0) + 1e-6)
    names = [genre.name for genre in GENRES]
    centroids = np.stack([scaled[train & (genres == name)].mean(axis=0) for name in names])
    guesses = np.array([names[np.argmin(((centroids - clip) ** 2).sum(axis=1))] for clip in scaled[~train]])
    assert (guesses == genres[~train]).mean() >= 0.5  # chance is one in as many as there are genres


def test_busy_genres_sound_busier_and_faster_than_quiet_ones(corpus, waves):
    _, tracks = corpus
    busyness = {
        genre.name: np.mean(
            [_busyness(wave) for track, wave in zip(tracks, waves, strict=True) if track.tags[0] == genre.name]
        )
        for genre in GENRES
    }
    assert max(busyness["ambient"], busyness["ballad"]) * 1.5 < min(busyness[name] for name in ("techno", "march"))
    assert "metal" in sorted(busyness, key=busyness.__getitem__)[-6:]
    tempi = {genre.name: [track.extra["bpm"] for track in tracks if track.tags[0] == genre.name] for genre in GENRES}
    assert max(tempi["ambient"]) < min(tempi["rock"]) < min(tempi["metal"])
    assert {tag for track in tracks for tag in track.tags} >= {"slow tempo", "medium tempo", "fast tempo"}


def test_the_key_of_the_tags_is_the_key_that_is_heard(corpus, waves):
    """Chroma against the key profiles of Krumhansl and Kessler (1982), the simplest estimator there is."""
    _, tracks = corpus
    profiles = {
        "major": (6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88),
        "minor": (6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17),
    }
    frequency = np.fft.rfftfreq(4096, 1 / RATE)
    used = (frequency > 60) & (frequency < 2000)
    pitch_class = np.round(12 * np.log2(frequency[used] / 440) + 69).astype(int) % 12
    right = 0
    for track, wave in zip(tracks, waves, strict=True):
        chroma = np.zeros(12)
        np.add.at(chroma, pitch_class, np.sqrt(_power(wave, 4096, 2048))[:, used].sum(axis=0))
        likeness = {
            Key(tonic, mode).name: np.corrcoef(np.roll(profile, tonic), chroma)[0, 1]
            for mode, profile in profiles.items()
            for tonic in range(12)
        }
        right += max(likeness, key=likeness.__getitem__) == track.extra["key"]
    assert right / len(tracks) >= 0.4  # chance is 1/24; a key a semitone off would give 0


def test_every_instrument_plays_the_pitch_that_is_written():
    font = SoundFont(find_soundfont("default"))
    for name, instrument in INSTRUMENTS.items():
        if instrument.drum or name in UNPITCHED:
            continue
        for pitch in (instrument.low + 2, (instrument.low + instrument.high) // 2):
            wave = font.note(0, instrument.program, pitch, 100, 1.0, 32_000)[6_400:25_600]
            likeness = {  # of the wave to itself, one period later, for the pitch and its neighbours
                offset: _self_likeness(wave, 32_000 / (440 * 2 ** ((pitch + offset - 69) / 12)))
                for offset in (-1.0, -0.5, 0.0, 0.5, 1.0)
            }
            # An accordion's reeds beat against each other: it may come out a quarter-tone off, but no semitone.
            assert likeness[0.0] > max(likeness.values()) - 0.1, (name, pitch, likeness)
            assert likeness[0.0] > max(likeness[-1.0], likeness[1.0]), (name, pitch, likeness)


def _self_likeness(wave: np.ndarray, lag: float) -> float:
    """Autocorrelation at a lag in samples, over four periods so that a semitone shows."""
    shift = round(4 * lag)
    return float(np.corrcoef(wave[:-shift], wave[shift:])[0, 1])


def test_every_drum_of_every_kit_sounds_and_softer_strokes_are_softer():
    font = SoundFont(find_soundfont("default"))
    for program in {instrument.program for instrument in INSTRUMENTS.values() if instrument.drum}:
        for piece, key in DRUM_KEYS.items():
            loud, soft = (np.abs(font.note(128, program, key, velocity, 0.1, RATE)).max() for velocity in (110, 40))
            assert loud > 0.01, (program, piece)
            assert soft < loud / 4, (program, piece)


def test_a_plucked_note_dies_away_and_a_bowed_one_does_not():
    font = SoundFont(find_soundfont("default"))

    def late_share(name: str) -> float:
        wave = font.note(0, INSTRUMENTS[name].program, 60, 100, 2.0, RATE)
        return float(np.abs(wave[28_000:32_000]).max() / np.abs(wave[:8_000]).max())

    assert late_share("banjo") < 0.1
    assert late_share("violin") > 0.5
    assert len(font.note(0, 40, 60, 100, 0.5, RATE)) < RATE  # released after half a second, it soon ends


def test_every_instrument_of_the_tags_can_be_heard_in_the_mix():
    for index in range(12):
        arrangement = arrange(index, 3, 5.0)
        full = play(arrangement, RATE, 5.0).astype(np.float64)
        for part in arrangement.parts:
            rest = replace(arrangement, parts=tuple(other for other in arrangement.parts if other is not part))
            if not rest.parts:
                continue
            without = play(rest, RATE, 5.0).astype(np.float64)
            # Both are scaled to the same peak: take out of the mix what the others explain of it.
            left = full - without * (full @ without) / (without @ without)
            assert np.sqrt((left**2).mean()) > 10 ** (-35 / 20) * np.sqrt((full**2).mean()), part.instrument.tag
        assert set(arrangement.instruments) == {part.instrument.tag for part in arrangement.parts}


def test_notes_stay_in_the_instruments_register_and_on_the_harmony():
    for index in range(120):
        arrangement = arrange(index, 1, 20.0)
        degrees = set(arrangement.key.scale)
        for part in arrangement.parts:
            if part.instrument.drum:
                assert {note.pitch for note in part.notes} <= set(DRUM_KEYS.values())
                continue
            pitches = [note.pitch for note in part.notes]
            assert part.instrument.low <= min(pitches), (arrangement.genre, part.instrument)
            assert max(pitches) <= part.instrument.high, (arrangement.genre, part.instrument)
        pitched = [note.pitch % 12 for part in arrangement.parts if not part.instrument.drum for note in part.notes]
        assert np.mean([pitch in degrees for pitch in pitched]) > 0.5, arrangement.genre


def test_a_clip_is_the_same_file_in_another_process_and_in_a_larger_corpus(tmp_path):
    """Seven clips, then three, each in its own process: the three are byte for byte the first of the seven."""
    script = (
        "import sys; from pathlib import Path; from dataset_builder.sources.rendered import render_corpus;"
        "render_corpus(Path(sys.argv[1]), clips=int(sys.argv[2]), seed=5, duration_s=4.0)"
    )
    for folder, clips in (("seven", "7"), ("three", "3")):
        subprocess.run([sys.executable, "-c", script, tmp_path / folder, clips], check=True, cwd=PROJECT)
    sums = {
        folder: {
            file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in (tmp_path / folder).rglob("*.flac")
        }
        for folder in ("seven", "three")
    }
    assert len(sums["three"]) == 3
    assert sums["three"].items() <= sums["seven"].items()
    font = find_soundfont("default")
    alone = perform(arrange(2, 5, 4.0), RATE, 4.0, fonts=[font], key="5:2", effects=True).wave
    assert np.array_equal(soundfile.read(tmp_path / "seven/audio/rendered-5-00002.flac", dtype="int16")[0], alone)
    assert len(set(sums["seven"].values())) == 7


@pytest.fixture
def performed(monkeypatch) -> list[str]:
    """The keys of the clips that this process renders from here on."""
    keys: list[str] = []
    monkeypatch.setattr(rendered, "perform", lambda *a, **k: keys.append(k["key"]) or perform(*a, **k))
    return keys


def test_a_stopped_rendering_is_continued_and_a_damaged_clip_rendered_anew(tmp_path, performed):
    options = {"clips": 4, "duration_s": 2.0}
    whole = list(read_rendered(tmp_path, **options))
    contents = {path: path.read_bytes() for path in sorted((tmp_path / "audio").iterdir())}
    first, second, *_ = contents
    (tmp_path / "parts/00000.jsonl").unlink()  # a run that was killed within its first part
    (tmp_path / "corpus.json").unlink()
    first.write_bytes(contents[first][:-500])  # cut off
    second.unlink()
    performed.clear()
    calls: list[tuple[int, int]] = []
    assert list(read_rendered(tmp_path, **options, progress=lambda done, of: calls.append((done, of)))) == whole
    assert performed == ["0:0", "0:1"]
    assert calls == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert {path: path.read_bytes() for path in contents} == contents
    performed.clear()
    assert list(read_rendered(tmp_path, **options)) == whole
    assert performed == []
    first.write_bytes(contents[first][:-500])  # under a row that stands
    left = tmp_path / "audio/.rendered-0-00001.abcdefgh.flac"
    left.write_bytes(b"fLaC")  # what a killed run leaves
    assert list(read_rendered(tmp_path, **options)) == whole
    assert performed == ["0:0"]
    assert not left.exists()
    with soundfile.SoundFile(first, "w", RATE, 1, "PCM_16", format="FLAC") as file:
        file.write(np.zeros(2 * RATE, np.int16))  # whole and as long, but not the clip
    assert list(read_rendered(tmp_path, **options)) == whole
    assert first.read_bytes() == contents[first]
    performed.clear()
    list(read_rendered(tmp_path, **options | {"duration_s": 3.0}))
    assert len(performed) == 4  # other parameters, other clips
    for damaged in ("corpus.json", "parts/00000.jsonl"):
        (tmp_path / damaged).write_text("{", "utf-8")
        assert len(list(read_rendered(tmp_path, **options | {"duration_s": 3.0}))) == 4
    assert len(performed) == 4  # the clips themselves were whole


def test_a_longer_corpus_keeps_the_clips_of_the_shorter_one(tmp_path, performed):
    short = list(read_rendered(tmp_path, clips=3, duration_s=1.0))
    longer = list(read_rendered(tmp_path, clips=5, duration_s=1.0))
    assert longer[:3] == short
    assert performed == ["0:0", "0:1", "0:2", "0:3", "0:4"]
    assert json.loads((tmp_path / "corpus.json").read_text())["clips"] == 5


def test_a_bit_that_turned_is_found_where_every_clip_is_decoded(tmp_path, performed):
    options = {"clips": 3, "duration_s": 1.0}
    list(read_rendered(tmp_path, **options))
    clip = sorted((tmp_path / "audio").iterdir())[1]
    sound = clip.read_bytes()
    damaged = bytearray(sound)
    damaged[len(sound) // 2] ^= 0x10
    clip.write_bytes(damaged)
    performed.clear()
    list(read_rendered(tmp_path, **options))
    assert performed == []  # size and header are as they were
    list(read_rendered(tmp_path, **options, verify=True))
    assert performed == ["0:1"]
    assert clip.read_bytes() == sound


def test_two_processes_write_the_files_of_one_and_go_on_after_a_kill(tmp_path):
    script = (
        "import sys; from pathlib import Path; from dataset_builder.sources.rendered import render_corpus\n"
        "if __name__ == '__main__':\n"
        "    render_corpus(Path(sys.argv[1]), clips=60, duration_s=1.0, workers=int(sys.argv[2]))\n"
    )
    run = tmp_path / "run.py"
    run.write_text(script)
    environment = os.environ | {"PYTHONPATH": str(PROJECT)}
    command = [sys.executable, str(run), str(tmp_path / "two"), "2"]
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as killed:
        while not len(list((tmp_path / "two/audio").glob("r*.flac"))) > 20:
            assert killed.poll() is None
            time.sleep(0.02)
        killed.kill()
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "two/audio").glob("r*.flac")}
    time.sleep(0.3)  # its workers end with it
    for folder, workers in (("two", "2"), ("one", "1")):
        subprocess.run([*command[:2], tmp_path / folder, workers], check=True, env=environment)
    one, two = ({p.name: p.read_bytes() for p in (tmp_path / name).rglob("*.[fj]*")} for name in ("one", "two"))
    assert len(one) == 60 + 2 + 1
    assert one == two
    kept = [name for name, when in before.items() if (tmp_path / "two/audio" / name).stat().st_mtime_ns == when]
    assert len(kept) > 20


def test_ctrl_c_ends_with_the_code_of_an_interrupted_run_and_whole_clips(tmp_path):
    command = [sys.executable, "-m", "lpmc", "tracks", "rendered", "--root", str(tmp_path / "corpus")]
    command += ["--set", "clips=4000", "--set", "duration_s=1", "--set", "workers=2"]
    with subprocess.Popen(command, cwd=PROJECT, stderr=subprocess.PIPE, text=True, start_new_session=True) as run:
        while not len(list((tmp_path / "corpus/audio").glob("r*.flac"))) > 5:
            assert run.poll() is None
            time.sleep(0.02)
        os.killpg(run.pid, signal.SIGINT)  # as a terminal does: to every process of the group
        _, told = run.communicate(timeout=30)
    assert run.returncode == 75, told
    assert "Traceback" not in told
    clips = list((tmp_path / "corpus/audio").iterdir())
    assert all(len(soundfile.read(clip)[0]) == RATE for clip in clips)  # and no half file beside them


def test_a_disk_that_is_full_is_named_also_by_a_worker(tmp_path):
    limited = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (9_000, 9_000));"
    limited += "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
    run = tmp_path / "run.py"
    run.write_text(
        f"{limited}\nimport sys; from pathlib import Path; from dataset_builder.sources.rendered import render_corpus\n"
        "if __name__ == '__main__':\n"
        "    try: render_corpus(Path(sys.argv[1]), clips=60, duration_s=2.0, workers=2)\n"
        "    except Exception as error: print(type(error).__name__, error)\n"
    )
    told = subprocess.run(
        [sys.executable, run, tmp_path / "corpus"],
        env=os.environ | {"PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
    )
    assert told.stdout.startswith("DiskError"), told
    assert "the file would exceed the allowed size" in told.stdout
    assert not list((tmp_path / "corpus/audio").iterdir())


def test_a_file_in_the_place_of_a_folder_is_named(tmp_path):
    (tmp_path / "audio").write_text("a file where a folder should be")
    with pytest.raises(TableError, match="audio: is a file, expected a folder"):
        list(read_rendered(tmp_path, clips=2, duration_s=1.0))


def test_a_standing_corpus_is_read_without_the_extra_and_a_new_one_names_it(tmp_path, monkeypatch):
    tracks = list(read_rendered(tmp_path, clips=2, duration_s=1.0))
    monkeypatch.setattr(rendered_fonts.importlib.util, "find_spec", lambda name: None)
    assert list(read_rendered(tmp_path, clips=2, duration_s=1.0)) == tracks
    with pytest.raises(MissingExtraError, match=r"pip install 'lp-musiccaps\[render\]'"):
        list(read_rendered(tmp_path / "new", clips=2))
    assert not (tmp_path / "new").exists()


def test_the_tracks_survive_the_tracks_table(corpus, tmp_path):
    _, tracks = corpus
    write_tracks(tracks, tmp_path / "tracks.parquet")
    assert list(read_tracks(tmp_path / "tracks.parquet")) == tracks


@pytest.mark.parametrize(
    ("options", "item"),
    [
        ({"clips": 0}, "clips"),
        ({"clips": 10**20}, "clips"),
        ({"seed": -1}, "seed"),
        ({"sampling_rate": 100}, "sampling_rate"),
        ({"duration_s": 0.0}, "duration_s"),
        ({"duration_s": float("nan")}, "duration_s"),
        ({"workers": 0}, "workers"),
        ({"soundfonts": " , "}, "soundfonts"),
        ({"soundfonts": "default", "held_out_soundfont": "default"}, "soundfonts"),
        ({"soundfonts": "default,nowhere.sf2"}, "SoundFont nowhere.sf2"),
    ],
)
def test_parameters_out_of_range_are_refused_in_one_line(tmp_path, options, item):
    with pytest.raises(UsageError) as caught:
        list(read_rendered(tmp_path, **options))
    assert str(caught.value).startswith(f"{item}: ")
    assert "\n" not in str(caught.value)


def test_a_second_run_in_the_same_folder_is_refused_and_takes_no_file_of_the_first(tmp_path):
    unfinished = tmp_path / "audio" / ".rendered-0-00000.abc.flac"
    unfinished.parent.mkdir()
    unfinished.touch()
    with claimed(tmp_path, LOCK, "renders"), pytest.raises(UsageError, match="another process renders there"):
        list(read_rendered(tmp_path, clips=1, duration_s=1.0))
    assert unfinished.exists()
    assert len(list(read_rendered(tmp_path, clips=1, duration_s=1.0))) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == [LOCK, "audio", "corpus.json", "parts"]
    with claimed(tmp_path, LOCK, "renders"):  # what stands is read beside a run that renders
        assert len(list(read_rendered(tmp_path, clips=1, duration_s=1.0))) == 1


def test_a_root_that_is_a_file_and_a_file_that_is_no_soundfont_are_named(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"RIFF....WAVE")
    with pytest.raises(TableError, match="is a file, expected a folder"):
        list(read_rendered(file))
    with pytest.raises(AudioError, match="cannot be read as a SoundFont 2 or 3 file"):
        SoundFont(file)
    with pytest.raises(AudioError, match="has no preset 3 in bank 77"):
        SoundFont(find_soundfont("default")).zones(77, 3)


@pytest.mark.parametrize("rate", [22_050, 44_100])
def test_other_sampling_rates_and_lengths_are_rendered_as_asked(rate):
    arrangement = arrange(6, 0, 2.5)
    wave = play(arrangement, rate, 2.5)
    assert wave.dtype == np.int16
    assert wave.shape == (round(2.5 * rate),)
    assert describe(arrangement, 6, 0).extra["genre"] == "classical"
