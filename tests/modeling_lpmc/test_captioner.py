"""The captioner with a small model that was really trained, on files whose content is known to the second."""

from __future__ import annotations

import gc
import json
import shutil
import weakref

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file, save_file
from tone_model import CAPTIONS, save_tone_model, sound, write_track

from lpmc_errors import AudioError, ModelError, UsageError
from modeling_lpmc import captioner as captioner_module
from modeling_lpmc.audio import load_audio, open_track
from modeling_lpmc.captioner import (
    SILENCE_TEXT,
    Captioner,
    CaptionSegment,
    FailedFile,
    TrackCaption,
    find_audio,
    track_caption,
)


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    return save_tone_model(tmp_path_factory.mktemp("models") / "tones")


@pytest.fixture(scope="module")
def captioner(model_folder):
    return Captioner.from_pretrained(model_folder, device="cpu")


def rows(result: TrackCaption) -> list[tuple[float, float, str]]:
    return [(segment.start, segment.end, segment.text) for segment in result.segments]


def test_each_window_is_captioned_as_what_it_holds_at_the_seconds_where_it_holds_it(captioner, tmp_path):
    path = write_track(tmp_path / "a.wav", [("low", 10), ("pulse", 10), ("noise", 10), ("high", 10.25)], rate=44100)

    (result,) = captioner.caption_files([path])

    assert rows(result) == [
        (0.0, 10.0, CAPTIONS["low"]),
        (10.0, 20.0, CAPTIONS["pulse"]),
        (20.0, 30.0, CAPTIONS["noise"]),
        (30.0, 40.0, CAPTIONS["high"]),
    ]
    assert result.duration == 40.25


def test_a_tail_is_kept_by_shifting_the_last_window_back_to_the_end(captioner, tmp_path):
    path = write_track(tmp_path / "a.wav", [("noise", 10), ("low", 17.951)], rate=22050)

    (result,) = captioner.caption_files([path])

    assert [(start, end) for start, end, _ in rows(result)] == [(0.0, 10.0), (10.0, 20.0), (17.951, 27.951)]
    assert [text for _, _, text in rows(result)] == [CAPTIONS["noise"], CAPTIONS["low"], CAPTIONS["low"]]


def test_real_recordings_give_windows_in_real_seconds(captioner, recordings):
    orchestra, electronic = captioner.caption_files(recordings)

    assert [row[:2] for row in rows(orchestra)] == [(0.0, 10.0), (10.0, 20.0), (20.0, 30.0)]
    assert orchestra.duration == pytest.approx(30.013, abs=0.001)
    assert [row[:2] for row in rows(electronic)][4:] == [(40.0, 50.0), (49.947, 59.947)]
    assert electronic.duration == pytest.approx(59.947, abs=0.001)
    assert all(text in CAPTIONS.values() for _, _, text in rows(orchestra) + rows(electronic))


def test_a_clip_shorter_than_a_window_is_one_segment_that_ends_with_it(captioner, tmp_path):
    (result,) = captioner.caption_files([write_track(tmp_path / "a.wav", [("low", 7.5)])])

    assert [row[:2] for row in rows(result)] == [(0.0, 7.5)]
    assert result.caption == result.segments[0].text


def test_windows_batched_across_files_give_the_same_captions_as_files_one_by_one(captioner, tmp_path, recordings):
    plans = [
        [("low", 10), ("high", 6)],
        [("noise", 4)],
        [("pulse", 33)],
        [("high", 10), ("silence", 12), ("noise", 10)],
    ]
    paths = [write_track(tmp_path / f"{number}.wav", plan) for number, plan in enumerate(plans)] + recordings

    together = list(captioner.caption_files(paths, batch_size=5))
    alone = [result for path in paths for result in captioner.caption_files([path], batch_size=1)]

    assert together == alone
    assert [result.path for result in together] == [str(path) for path in paths]
    assert len({segment.text for result in together for segment in result.segments}) >= 5  # four sounds and silence


def test_one_bad_file_is_one_failure_in_its_place_and_the_rest_goes_on(captioner, tmp_path):
    good = [write_track(tmp_path / f"{name}.wav", [(name, 12)]) for name in ("low", "noise")]
    (tmp_path / "text.wav").write_text("no music")
    silent = write_track(tmp_path / "silent.wav", [("silence", 20)])
    paths = [tmp_path / "absent.wav", good[0], tmp_path / "text.wav", silent, good[1], tmp_path]

    results = list(captioner.caption_files(paths, batch_size=3))

    assert [result.path for result in results] == [str(path) for path in paths]
    assert [type(result) for result in results] == [
        FailedFile, TrackCaption, FailedFile, FailedFile, TrackCaption, FailedFile,
    ]  # fmt: skip
    assert results[1].caption == CAPTIONS["low"]
    assert results[4].caption == CAPTIONS["noise"]
    assert "no such file" in results[0].error
    assert "silence: nothing to caption" in results[3].error
    assert not any("\n" in result.error for result in results if isinstance(result, FailedFile))


def test_a_finished_track_is_handed_over_before_the_next_files_are_read(captioner, tmp_path):
    asked = []

    def paths():
        for name in ("low", "high", "noise"):
            asked.append(name)
            yield write_track(tmp_path / f"{name}.wav", [(name, 20)])

    results = captioner.caption_files(paths(), batch_size=2)

    assert next(results).caption == CAPTIONS["low"]
    assert asked == ["low"]
    assert [result.caption for result in results] == [CAPTIONS["high"], CAPTIONS["noise"]]


def test_the_sound_of_files_waiting_for_a_full_batch_is_not_kept(captioner, tmp_path, monkeypatch):
    tracks = []

    def remember(*args):
        track = open_track(*args)
        tracks.append(weakref.ref(track))
        return track

    monkeypatch.setattr(captioner_module, "open_track", remember)
    alive = []

    def paths():
        for number in range(4):
            gc.collect()
            alive.append(sum(reference() is not None for reference in tracks))
            yield write_track(tmp_path / f"{number}.wav", [("low", 2)])

    results = list(captioner.caption_files(paths(), batch_size=64))

    assert len(results) == 4
    assert alive == [0, 0, 0, 0]


def test_a_file_and_its_loaded_clip_give_the_same_segments(captioner, tmp_path, recordings):
    offset = tmp_path / "offset.wav"
    soundfile.write(offset, sound("high", 23.0) + sound("silence", 23.0) + 0.2, 16000)
    for path in (*recordings, offset):
        (result,) = captioner.caption_files([path])
        assert list(result.segments) == captioner.caption_clip(load_audio(path), batch_size=3)


def test_an_offset_of_the_recorder_is_not_heard(captioner, tmp_path):
    for level in (0.0, 0.1, -0.3):
        soundfile.write(tmp_path / "a.wav", np.concatenate([sound("high", 10), sound("silence", 10)]) + level, 16000)

        (result,) = captioner.caption_files([tmp_path / "a.wav"])

        assert [text for _, _, text in rows(result)] == [CAPTIONS["high"], SILENCE_TEXT]


@pytest.mark.parametrize("name", ["a.m4a", "a.webm"])
def test_m4a_and_webm_are_captioned_like_others(captioner, tmp_path, name):
    av = pytest.importorskip("av", reason="PyAV is not installed")
    rate, codec = (44100, "aac") if name == "a.m4a" else (48000, "libopus")
    with av.open(str(tmp_path / name), "w") as container:
        stream = container.add_stream(codec, rate=rate, layout="mono")
        resampler = av.AudioResampler(format=stream.codec_context.format, layout="mono", rate=rate, frame_size=1024)
        samples = np.concatenate([sound("low", 10, rate), sound("pulse", 10, rate)])
        frame = av.AudioFrame.from_ndarray(samples[None, :], format="fltp", layout="mono")
        frame.sample_rate = rate
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))

    (result,) = captioner.caption_files([tmp_path / name])

    assert [text for _, _, text in rows(result)] == [CAPTIONS["low"], CAPTIONS["pulse"]]


def test_a_silent_window_is_called_silence_and_has_no_vote(captioner, tmp_path):
    path = write_track(tmp_path / "a.wav", [("silence", 20), ("high", 10)])

    (result,) = captioner.caption_files([path])

    assert [text for _, _, text in rows(result)] == [SILENCE_TEXT, SILENCE_TEXT, CAPTIONS["high"]]
    assert result.caption == CAPTIONS["high"]


def test_segments_stream_before_the_clip_is_done(captioner, tmp_path, monkeypatch):
    clip = load_audio(write_track(tmp_path / "a.wav", [("low", 10), ("noise", 10), ("high", 10)]))
    seen = []
    ask = captioner._caption_windows
    monkeypatch.setattr(
        captioner, "_caption_windows", lambda windows, beams: seen.append(len(windows)) or ask(windows, beams)
    )

    stream = captioner.iter_segments(clip, batch_size=1)

    assert next(stream) == CaptionSegment(0.0, 10.0, CAPTIONS["low"])
    assert seen == [1]
    assert [segment.text for segment in stream] == [CAPTIONS["noise"], CAPTIONS["high"]]


def test_a_silent_clip_is_refused(captioner, tmp_path):
    clip = load_audio(write_track(tmp_path / "a.wav", [("silence", 3)]))

    with pytest.raises(AudioError, match="silence: nothing to caption"):
        captioner.caption_clip(clip)


def test_a_clip_at_another_rate_is_refused(captioner, tmp_path):
    clip = load_audio(write_track(tmp_path / "a.wav", [("low", 3)]), 8000)

    with pytest.raises(ValueError, match="8000 Hz"):
        captioner.caption_clip(clip)


def test_the_number_of_beams_reaches_the_model(captioner, tmp_path, monkeypatch):
    path = write_track(tmp_path / "a.wav", [("low", 3)])
    given = []
    ask = captioner.model.candidates
    monkeypatch.setattr(captioner.model, "candidates", lambda x, beams: given.append(beams) or ask(x, beams))

    list(captioner.caption_files([path], num_beams=2))
    list(captioner.caption_files([path]))
    with pytest.raises(UsageError, match="number of beams"):
        list(captioner.caption_files([path], num_beams=0))
    with pytest.raises(UsageError, match="batch size"):
        list(captioner.caption_files([path], batch_size=0))

    assert given == [2, None]
    assert captioner.model.generation_config.num_beams == 5


def test_progress_tells_the_windows_done_of_each_file(captioner, tmp_path):
    paths = [write_track(tmp_path / f"{seconds}.wav", [("low", seconds)]) for seconds in (25, 10)]
    told = []

    list(
        captioner.caption_files(
            paths, batch_size=2, progress=lambda path, done, total: told.append((path, done, total))
        )
    )

    assert told == [(paths[0], 2, 3), (paths[0], 3, 3), (paths[1], 1, 1)]


def test_too_little_memory_names_the_batch_size(captioner, tmp_path, monkeypatch):
    def fail(*given):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(captioner.model, "candidates", fail)

    with pytest.raises(ModelError, match="smaller --batch-size"):
        list(captioner.caption_files([write_track(tmp_path / "a.wav", [("low", 3)])]))


def test_the_json_object_has_exactly_the_published_keys():
    result = TrackCaption("a.wav", 12.5, (CaptionSegment(0.0, 10.0, "One."), CaptionSegment(2.5, 12.5, "Two.")), "One.")

    assert json.loads(json.dumps(result.to_dict())) == {
        "path": "a.wav",
        "duration": 12.5,
        "segments": [{"start": 0.0, "end": 10.0, "text": "One."}, {"start": 2.5, "end": 12.5, "text": "Two."}],
        "caption": "One.",
        "tags": [],
        "notes": [],
    }


def segments(*texts: str, end: float | None = None) -> list[CaptionSegment]:
    made = [CaptionSegment(10.0 * number, 10.0 * number + 10, text) for number, text in enumerate(texts)]
    if end is not None:
        made[-1] = CaptionSegment(end - 10, end, made[-1].text)
    return made


def test_the_track_caption_is_the_segment_that_agrees_most_with_the_others():
    odd = "A wedding speech with loud applause"
    near = "A calm piano melody with soft strings"

    assert track_caption(segments(odd, "A calm piano melody", near, "Soft strings and a piano")) == near
    assert track_caption(segments("Only one.")) == "Only one."
    assert track_caption(segments("Same words", "same WORDS.", "other")) == "Same words"


def test_a_window_that_overlaps_its_neighbour_weighs_only_the_seconds_it_adds():
    texts = ("slow sad violin", "slow sad cello", "fast happy drums", "fast happy drums")

    overlapping = segments(*texts, end=30.6)  # the last window adds 0.6 s
    full = segments(*texts, end=40.0)

    assert track_caption(overlapping) == "slow sad violin"
    assert track_caption(full) == "fast happy drums"


def test_a_track_of_silence_alone_has_silence_for_a_caption():
    assert track_caption(segments(SILENCE_TEXT, SILENCE_TEXT)) == SILENCE_TEXT
    assert track_caption(segments(SILENCE_TEXT, "!!!")) == "!!!"


def test_folders_are_searched_in_order_without_hidden_files(tmp_path):
    for name in (
        "b.mp3",
        "a.WAV",
        "sub/c.flac",
        ".hidden.wav",
        "._a.wav",
        "notes.txt",
        ".cache/d.wav",
        "sub/cover.png",
    ):
        (tmp_path / "music" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "music" / name).touch()
    given = tmp_path / "given.xyz"

    found = find_audio([given, tmp_path / "music", tmp_path / "music" / "b.mp3"])

    assert found == [given] + [tmp_path / "music" / name for name in ("a.WAV", "b.mp3", "sub/c.flac")]


def test_a_folder_without_audio_is_named(tmp_path):
    (tmp_path / "notes.txt").touch()

    with pytest.raises(AudioError, match="holds no audio file"):
        find_audio([tmp_path])


@pytest.mark.parametrize(
    "lost", ["config.json", "model.safetensors", "tokenizer.json", "preprocessor_config.json", "generation_config.json"]
)
def test_an_incomplete_model_directory_names_what_it_lacks(model_folder, tmp_path, lost):
    folder = shutil.copytree(model_folder, tmp_path / "model")
    (folder / lost).unlink()

    with pytest.raises(ModelError, match=f"it lacks {lost};"):
        Captioner.from_pretrained(folder)


def test_a_model_without_a_tokenizer_says_how_it_gets_one(model_folder, tmp_path):
    folder = shutil.copytree(model_folder, tmp_path / "model")
    (folder / "tokenizer.json").unlink()

    with pytest.raises(
        ModelError, match=r"no words: it lacks tokenizer\.json; run `lpmc convert` again with --tokenizer"
    ):
        Captioner.from_pretrained(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json", "processor_config.json"])
@pytest.mark.parametrize("content", ["", "{ no json"])
def test_a_damaged_model_file_is_one_line(model_folder, tmp_path, name, content):
    folder = shutil.copytree(model_folder, tmp_path / "model")
    (folder / name).write_text(content)

    with pytest.raises(ModelError) as caught:
        Captioner.from_pretrained(folder)
    assert str(caught.value).startswith(f"{folder}: cannot be loaded")
    assert "\n" not in str(caught.value)


def test_weights_that_are_missing_are_not_replaced_by_random_numbers(model_folder, tmp_path):
    folder = shutil.copytree(model_folder, tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    name = next(name for name in weights if "conv1.weight" in name)
    del weights[name]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})

    with pytest.raises(ModelError, match="lacks 1 of its weights"):
        Captioner.from_pretrained(folder)


def test_a_feature_extractor_that_hears_otherwise_than_the_model_is_refused(model_folder, tmp_path):
    folder = shutil.copytree(model_folder, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"spectrum": "power"}))

    with pytest.raises(ModelError, match=r"config\.json says spectrum power, its feature extractor real"):
        Captioner.from_pretrained(folder)


def test_weights_of_another_shape_are_refused(model_folder, tmp_path):
    folder = shutil.copytree(model_folder, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"encoder_ffn_dim": 32}))

    with pytest.raises(ModelError) as caught:
        Captioner.from_pretrained(folder)
    assert "\n" not in str(caught.value)


def test_a_model_of_another_kind_is_named(tmp_path, model_folder):
    folder = shutil.copytree(model_folder, tmp_path / "model")
    (folder / "config.json").write_text(json.dumps({"model_type": "whisper"}))

    with pytest.raises(ModelError, match="type 'whisper', expected 'lpmc'"):
        Captioner.from_pretrained(folder)


def test_names_that_lead_nowhere_are_told_apart(tmp_path, recordings):
    with pytest.raises(ModelError, match="no such model directory"):
        Captioner.from_pretrained(tmp_path / "nothing")
    with pytest.raises(ModelError, match="is a file, expected a model directory"):
        Captioner.from_pretrained(recordings[0])
    with pytest.raises(ModelError, match="no folder here, and the Hub did not give it"):
        Captioner.from_pretrained("nobody/nothing")  # HF_HUB_OFFLINE is set
    with pytest.raises(ModelError, match="no name was given"):
        Captioner.from_pretrained("")


@pytest.mark.parametrize("device", ["tpu", "cuda:99", "meta"])
def test_a_device_that_is_not_there_is_wrong_usage(model_folder, device):
    with pytest.raises(UsageError, match="is not available on this machine"):
        Captioner.from_pretrained(model_folder, device=device)


def test_code_that_lies_in_the_model_directory_is_never_run(model_folder, tmp_path):
    folder = shutil.copytree(model_folder, tmp_path / "model")
    trap = tmp_path / "ran"
    for file in folder.glob("*.py"):
        file.write_text(f"open({str(trap)!r}, 'w')\nraise SystemExit(9)\n")

    assert Captioner.from_pretrained(folder).sampling_rate == 16000
    assert not trap.exists()


def test_a_model_says_whether_it_is_a_demonstration(captioner, tmp_path):
    folder = save_tone_model(tmp_path / "model", demonstration=True)

    assert Captioner.from_pretrained(folder).demonstration is True
    assert captioner.demonstration is False
