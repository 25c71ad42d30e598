"""Does a captioner listen? Held against captioners of which the truth is known, and run on real files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from tone_model import CAPTIONS, save_tone_model, sound, write_track
from typer.testing import CliRunner

import lpmc_listening
from lpmc_errors import AudioError, TableError, UsageError
from modeling_lpmc.audio_dependence import SUBSTITUTES, AudioDependence, abstains, audio_dependence, judge
from modeling_lpmc.audio_substitutes import CORRUPTIONS, MP3_KBIT, derangement, silence, white_noise
from modeling_lpmc.listening import Recording, read_recordings

RATE = 16_000
NAMES = ("low", "high", "pulse")
CLIPS = [sound(NAMES[number % 3], 1.0, seed=number) for number in range(24)]
REFERENCES = [[CAPTIONS[NAMES[number % 3]]] for number in range(24)]


def centre(samples: np.ndarray) -> float:
    """The spectral centre of gravity in Hz."""
    power = np.abs(np.fft.rfft(samples)) ** 2
    return float((power * np.fft.rfftfreq(len(samples), 1 / RATE)).sum() / max(power.sum(), 1e-12))


def listening(sounds: Sequence[np.ndarray]) -> list[str]:
    """A captioner that hears the pitch of a sound, and says so when there is none."""
    said = []
    for samples in sounds:
        if not samples.any():
            said.append("[silence]")
            continue
        hertz = centre(samples)
        said.append(
            CAPTIONS["low" if hertz < 500 else "high" if 2_000 < hertz < 6_000 and _tonal(samples) else "pulse"]
        )
    return said


def _tonal(samples: np.ndarray) -> bool:
    power = np.sort(np.abs(np.fft.rfft(samples)) ** 2)
    return bool(power[-50:].sum() > 0.8 * power.sum())


def run(caption, **options) -> AudioDependence:  # type: ignore[no-untyped-def]
    return audio_dependence(caption, CLIPS, REFERENCES, **{"samples": 200, **options})


# --- the verdict ----------------------------------------------------------------------------------------------------


def test_a_captioner_that_hears_pitch_depends_on_the_audio() -> None:
    report = run(listening)
    assert report.verdict == "depends on the audio"
    assert not report.failed
    real, noise, quiet, other = report.conditions
    assert [one.name for one in report.conditions] == ["real", *SUBSTITUTES]
    assert real.scores["facts_f1"][0] == 1.0
    assert quiet.abstained == 1.0
    assert quiet.scores["facts_f1"][0] == 0.0
    assert noise.different_captions == 1
    assert other.losses["facts_f1"].low is not None
    assert other.losses["facts_f1"].low > 0.2


def test_a_constant_captioner_ignores_the_audio_whatever_it_scores() -> None:
    report = run(lambda sounds: [CAPTIONS["low"]] * len(sounds))
    assert report.verdict == "ignores the audio"
    assert report.failed == tuple(f"{name} on facts_f1" for name in SUBSTITUTES)
    assert report.conditions[0].scores["bleu1"][0] > 0.3  # type: ignore[operator]
    assert {one.identical for one in report.conditions} == {1.0}
    losses = [loss.value for one in report.conditions[1:] for loss in one.losses.values()]
    assert set(losses) == {0.0}


def test_captions_drawn_at_random_are_not_shown_to_depend_on_the_audio() -> None:
    random = np.random.default_rng(5)
    report = run(lambda sounds: [str(random.choice(list(CAPTIONS.values()))) for _ in sounds])
    assert report.verdict == "not shown to depend on the audio"


def test_a_captioner_that_tells_sound_from_silence_alone_does_not_pass() -> None:
    """It loses to silence and noise, but any other clip would do as well."""
    constant = CAPTIONS["low"]

    def sound_or_not(sounds: Sequence[np.ndarray]) -> list[str]:
        return [constant if samples.any() and _tonal(samples) else "[silence]" for samples in sounds]

    clips = [clip for clip, texts in zip(CLIPS, REFERENCES, strict=True) if texts[0] != CAPTIONS["pulse"]] * 2
    references = [texts for texts in REFERENCES if texts[0] != CAPTIONS["pulse"]] * 2
    report = audio_dependence(sound_or_not, clips, references, samples=200)
    assert report.failed == ("other clip on facts_f1",)
    assert report.verdict == "not shown to depend on the audio"


def test_a_difference_that_hangs_on_one_clip_is_not_enough() -> None:
    """The real sound is ahead of each substitute by one clip of 24, which a third of the bootstrap samples lack."""
    real = ["A song."] * 24
    real[7] = REFERENCES[7][0]
    report = judge({"real": real, **{name: ["A song."] * 24 for name in SUBSTITUTES}}, REFERENCES, samples=200)
    assert all(one.losses["facts_f1"].value > 0 for one in report.conditions[1:])  # type: ignore[operator]
    assert report.verdict == "not shown to depend on the audio"


def test_few_clips_give_no_verdict() -> None:
    report = audio_dependence(listening, CLIPS[:6], REFERENCES[:6], samples=50)
    assert (report.verdict, report.depends) == ("too few clips", False)


def test_intervals_of_no_difference_hold_zero_as_often_as_they_say() -> None:
    """A simulated captioner that guesses: 20 seeds and 3 substitutes, so 60 intervals of 95 %, 57 expected.

    52 is the 1 in 100 of a binomial(60, 0.95); percentile intervals of 24 clips are a little short.
    """
    held = 0
    for seed in range(20):
        random = np.random.default_rng(seed)
        words = list(CAPTIONS.values())
        captions = {name: [str(random.choice(words)) for _ in REFERENCES] for name in ("real", *SUBSTITUTES)}
        report = judge(captions, REFERENCES, samples=100, seed=seed)
        for one in report.conditions[1:]:
            loss = one.losses["facts_f1"]
            held += loss.low <= 0 <= loss.high  # type: ignore[operator]
    assert held >= 52


# --- what is heard --------------------------------------------------------------------------------------------------


def test_noise_is_as_long_and_as_loud_as_the_clip_and_seeded() -> None:
    clip = CLIPS[0]
    noise = white_noise(clip, 3, seed=1)
    assert noise.shape == clip.shape
    assert np.sqrt(np.mean(noise**2)) == pytest.approx(np.sqrt(np.mean(clip**2)), rel=0.02)
    assert np.array_equal(noise, white_noise(clip, 3, seed=1))
    assert not np.array_equal(noise, white_noise(clip, 4, seed=1))
    assert not silence(clip).any()


@pytest.mark.parametrize("n", [2, 3, 10, 101])
def test_no_clip_is_given_its_own_sound(n: int) -> None:
    for seed in range(20):
        order = derangement(n, seed)
        assert sorted(order) == list(range(n))
        assert not (order == np.arange(n)).any()


def test_each_condition_hears_what_its_name_says() -> None:
    heard: list[np.ndarray] = []

    def note(sounds: Sequence[np.ndarray]) -> list[str]:
        heard.extend(sounds)
        return ["A song."] * len(sounds)

    audio_dependence(note, CLIPS[:4], REFERENCES[:4], samples=20, seed=2, batch=3)
    real, noise, quiet, other = (heard[4 * part : 4 * part + 4] for part in range(4))
    assert all(np.array_equal(one, clip) for one, clip in zip(real, CLIPS, strict=False))
    assert all(
        np.array_equal(one, white_noise(clip, k, 2)) for k, (one, clip) in enumerate(zip(noise, CLIPS, strict=False))
    )
    assert not np.concatenate(quiet).any()
    for number, place in enumerate(derangement(4, 2)):
        assert np.array_equal(other[number], CLIPS[place])


@pytest.mark.parametrize("name", list(CORRUPTIONS))
def test_damage_keeps_the_range_and_changes_the_sound(name: str) -> None:
    clip = sound("pulse", 2.0)
    damaged = CORRUPTIONS[name](clip, RATE)
    assert damaged.dtype == np.float32
    assert np.abs(damaged).max() <= 1.0
    assert len(damaged) == {"short": len(clip), "faster": round(len(clip) / 1.04)}.get(name, len(clip))
    if name != "short":
        assert not np.array_equal(damaged[: len(clip)], clip[: len(damaged)])


def test_damage_is_what_it_says() -> None:
    clip = sound("high", 4.0)
    assert np.sqrt(np.mean(CORRUPTIONS["quieter"](clip, RATE) ** 2) / np.mean(clip**2)) == pytest.approx(0.1)
    assert np.mean(np.abs(CORRUPTIONS["clipped"](clip, RATE)) == 1.0) == pytest.approx(0.2, abs=0.01)
    spectrum = np.abs(np.fft.rfft(CORRUPTIONS["band-limited"](clip, RATE))) ** 2
    assert spectrum[4_200 * 4 :].sum() < 1e-3 * spectrum.sum()
    assert CORRUPTIONS["offset"](clip, RATE).mean() > 0.1
    assert len(CORRUPTIONS["short"](clip, RATE)) == 3 * RATE
    assert centre(CORRUPTIONS["faster"](clip, RATE)) == pytest.approx(1.04 * centre(clip), rel=0.02)


def test_mp3_is_encoded_at_its_bitrate(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    write = soundfile.write

    def noted(file, *arguments, **options) -> None:  # type: ignore[no-untyped-def]
        write(file, *arguments, **options)
        sizes.append(len(file.getvalue()))

    monkeypatch.setattr(soundfile, "write", noted)
    clip = sound("high", 5.0)
    damaged = CORRUPTIONS["mp3"](clip, RATE)
    assert 8 * sizes[0] / 5.0 / 1_000 == pytest.approx(MP3_KBIT, rel=0.05)
    assert np.corrcoef(damaged, clip)[0, 1] > 0.99  # and in time


@pytest.mark.parametrize(
    ("text", "admits"),
    [
        ("[silence]", True),
        ("No music detected.", True),
        ("No sound can be heard", True),
        ("There is only white noise.", True),
        ("No music video could be calmer.", False),
        ("A noise rock song with no sound effects.", False),
        ("Harsh static noise fills the room.", False),
    ],
)
def test_abstention_is_told_from_captions(text: str, admits: bool) -> None:
    assert abstains(text) is admits


# --- faults ---------------------------------------------------------------------------------------------------------


def test_faults_of_use_are_named_before_anything_is_captioned() -> None:
    def never(sounds: Sequence[np.ndarray]) -> list[str]:
        raise AssertionError("captioned")

    with pytest.raises(UsageError, match="there are 1; give at least 2"):
        audio_dependence(never, CLIPS[:1], REFERENCES[:1])
    with pytest.raises(UsageError, match="are for 3 clips, there are 4"):
        audio_dependence(never, CLIPS[:4], REFERENCES[:3])
    with pytest.raises(UsageError, match=r"condition 'reverb': is unknown; choose from quieter, clipped"):
        run(never, corruptions=["reverb"])
    with pytest.raises(UsageError, match=r"measure 'bleu9': is not computed here, or better when lower; choose from"):
        run(never, judged_by=["bleu9"])
    with pytest.raises(UsageError, match=r"measure 'facts_hallucination_rate': .*facts_f1$"):  # silence would win
        run(never, judged_by=["facts_hallucination_rate"])
    with pytest.raises(UsageError, match="gave 1 captions for 8 sounds"):
        run(lambda sounds: ["A song."])
    with pytest.raises(UsageError, match="lack those for silence, other clip"):
        judge({"real": ["a"], "noise": ["b"]}, [["c"]])


def test_captions_of_an_earlier_run_are_not_made_again() -> None:
    said: dict[tuple[str, int], str] = {}
    asked = []

    def counted(sounds: Sequence[np.ndarray]) -> list[str]:
        asked.append(len(sounds))
        return listening(sounds)

    first = run(counted, said=lambda *key_and_text: said.update({key_and_text[:2]: key_and_text[2]}))
    assert sum(asked) == 4 * len(CLIPS)
    asked.clear()
    for key in [("noise", 3), ("silence", 23)]:
        del said[key]
    assert run(counted, known=said) == first
    assert asked == [1, 1]
    asked.clear()
    assert len(run(counted, known={}, corruptions=["quieter"]).conditions) == 5


# --- files and the command ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tone_model(tmp_path_factory.mktemp("tone-model"))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    rows = []
    for number in range(24):
        name = NAMES[number % 3]
        write_track(folder / f"{number}.wav", [(name, 2.0)])
        rows.append({"track_id": f"t{number}", "audio_path": f"{number}.wav", "reference_captions": [CAPTIONS[name]]})
    (folder / "broken.wav").write_bytes(b"RIFF")
    soundfile.write(folder / "quiet.wav", np.zeros(RATE), RATE)
    rows += [
        {"track_id": "broken", "audio_path": "broken.wav", "reference_captions": ["A song."]},
        {"track_id": "quiet", "audio_path": "quiet.wav", "reference_captions": ["A song."]},
        {"track_id": "absent", "audio_path": "", "reference_captions": ["A song."]},
        {"track_id": "mute", "audio_path": "1.wav", "reference_captions": []},
    ]
    (folder / "table.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return folder


def app():  # type: ignore[no-untyped-def]
    """The command behind the same faults-in-one-line as `lpmc`."""
    import typer

    from lpmc import FaultsInOneLine

    program = typer.Typer(cls=FaultsInOneLine, pretty_exceptions_enable=False)
    program.command("audio-dependence")(lpmc_listening.listening_command)
    program.command("other")(lambda: None)
    return program


def command(*arguments: object):  # type: ignore[no-untyped-def]
    return CliRunner().invoke(app(), ["audio-dependence", *map(str, arguments)])


def test_a_trained_model_is_found_to_listen_and_faulty_files_are_recorded(
    model: Path, corpus: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    options = ("--model", model, "--output", output, "--beams", 1, "--samples", 200, "--json", "--require-dependence")
    result = command(corpus / "table.jsonl", *options)
    assert result.exit_code == 3, result.output
    report = json.loads((output / "audio_dependence.json").read_text("utf-8"))
    assert report["verdict"] == "depends on the audio"
    assert report["n"] == 24
    assert {row["id"] for row in report["skipped"]} == {"broken", "quiet", "absent", "mute"}
    assert json.loads(result.stdout[result.stdout.index("{") :])["reused"] == 0
    text = (output / "audio_dependence.md").read_text("utf-8")
    assert "**Depends on the audio** (24 clips, judged by facts_f1)" in text
    assert "| other clip |" in text
    assert "left out quiet: " in text

    lines = (output / "captions.jsonl").read_text("utf-8").splitlines()
    assert len(lines) == 1 + 4 * 24
    (output / "captions.jsonl").write_text("\n".join(lines[:60]) + '\n{"condition": "sil', "utf-8")  # interrupted
    again = command(corpus / "table.jsonl", *options)
    assert json.loads(again.stdout[again.stdout.index("{") :])["reused"] == 59
    assert json.loads((output / "audio_dependence.json").read_text("utf-8"))["conditions"] == report["conditions"]

    other = command(corpus / "table.jsonl", *options, "--seed", 1)
    assert other.exit_code == 2, other.output
    assert "holds captions of another model, weights, seed or set of clips; choose another --output" in other.output


def test_captions_of_other_weights_under_the_same_name_are_not_taken_over(
    model: Path, corpus: Path, tmp_path: Path
) -> None:
    from modeling_lpmc.captioner import Captioner
    from modeling_lpmc.listening import weights_digest

    captioner = Captioner.from_pretrained(str(model))
    before = weights_digest(captioner.model)
    assert weights_digest(Captioner.from_pretrained(str(model)).model) == before
    with torch.no_grad():
        captioner.model.model.decoder.layers[0].fc1.weight[0, 0] += 1e-4
    assert weights_digest(captioner.model) != before


def test_a_second_run_into_the_same_folder_is_refused_and_takes_nothing_from_the_first(tmp_path: Path) -> None:
    from modeling_lpmc.listening import _CaptionLog

    path = tmp_path / "out" / "captions.jsonl"
    with _CaptionLog(path, {"seed": 0}) as first:
        with pytest.raises(UsageError, match="is being written by another run"), _CaptionLog(path, {"seed": 0}):
            pass
        first.add("real", 0, "A song.")
    with pytest.raises(UsageError, match="holds captions of another model"), _CaptionLog(path, {"seed": 1}):
        pass
    with _CaptionLog(path, {"seed": 0}) as again:  # neither refusal keeps the lock
        assert again.known == {("real", 0): "A song."}


def test_a_model_whose_ears_are_cut_off_is_found_out(model: Path, corpus: Path, tmp_path: Path) -> None:
    """The same weights, but the decoder's attention to the sound is zero."""
    from modeling_lpmc.captioner import Captioner
    from modeling_lpmc.listening import run_listening_test

    captioner = Captioner.from_pretrained(str(model))
    for layer in captioner.model.model.decoder.layers:
        layer.encoder_attn.out_proj.weight.data.zero_()
        layer.encoder_attn.out_proj.bias.data.zero_()
    recordings, _ = read_recordings(corpus / "table.jsonl", limit=20)
    result = run_listening_test(recordings, captioner, tmp_path, model="deaf", num_beams=1, samples=100)
    assert result.report.verdict == "ignores the audio"


def test_the_command_fails_where_dependence_is_required_and_not_there(
    model: Path, corpus: Path, tmp_path: Path
) -> None:
    options = ("--model", model, "--output", tmp_path / "few", "--beams", 1, "--limit", 3, "--require-dependence")
    result = command(corpus / "table.jsonl", *options)
    assert result.exit_code == 1
    assert "too few clips" in result.output


def test_tags_stand_in_for_references_and_a_split_can_be_chosen(tmp_path: Path) -> None:
    table = tmp_path / "tracks.csv"
    table.write_text('path,tags,split\na.wav,"sad, piano",test\nb.wav,rock,train\nc.wav,,test\n', "utf-8")
    found, skipped = read_recordings(table, split="test")
    assert found == [Recording("a.wav", tmp_path / "a.wav", ("sad, piano",))]
    assert [row.reason for row in skipped] == ["has neither a reference caption nor tags"]
    with pytest.raises(TableError, match="has no row to listen to"):
        read_recordings(table, split="valid")
    with pytest.raises(TableError, match="has no column sound; it has path, tags, split"):
        read_recordings(table, audio_column="sound")


def test_a_table_whose_files_are_elsewhere_says_so_before_the_model_is_asked(
    model: Path, corpus: Path, tmp_path: Path
) -> None:
    from modeling_lpmc.captioner import Captioner
    from modeling_lpmc.listening import run_listening_test

    recordings, _ = read_recordings(corpus / "table.jsonl", audio_root=tmp_path, limit=3)
    with pytest.raises(AudioError, match=r"0 can be read, at least 2 are needed; the first fault: .*no such file"):
        run_listening_test(recordings, Captioner.from_pretrained(str(model)), tmp_path / "out", model="m")
    assert not (tmp_path / "out").exists()
