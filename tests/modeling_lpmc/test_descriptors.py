"""Tempo, key and loudness against sounds whose truth is known by construction."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from modeling_lpmc import descriptors
from modeling_lpmc.audio_track_lpmc import read_track
from modeling_lpmc.descriptors import describe, integrated_loudness

RATE = 16_000
Floats = NDArray[np.float64]


def sine(hertz: float, seconds: float, rate: int = RATE) -> Floats:
    return np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)


def clicks(bpm: float, seconds: float = 20.0, rate: int = RATE) -> Floats:
    """A short decaying tone on every beat."""
    wave = np.zeros(round(seconds * rate))
    click = sine(1_000, 0.03, rate) * np.exp(-np.arange(round(0.03 * rate)) / (0.006 * rate))
    for beat in range(int(seconds * bpm / 60) - 1):
        start = round(beat * 60 / bpm * rate)
        wave[start : start + len(click)] += click
    return wave


def cadence(tonic: int, minor: bool, tuning_cents: float = 0.0, rate: int = RATE) -> Floats:
    """Chords I IV V I with the scale above them; the harmonic minor's leading tone in V."""
    scale = (0, 2, 3, 5, 7, 8, 11, 12) if minor else (0, 2, 4, 5, 7, 9, 11, 12)
    third, sixth = (3, 8) if minor else (4, 9)
    chords = ((0, third, 7), (5, 5 + sixth - 5, 12), (7, 11, 14), (0, third, 7))
    notes = []
    for number, degree in enumerate(scale):
        voices = [tonic + 48 + tone for tone in chords[number // 2]] + [tonic + 60 + degree]
        fade = np.minimum(1.0, np.linspace(20, 0, round(0.6 * rate)))
        notes.append(sum(sine(440 * 2 ** ((v - 69 + tuning_cents / 100) / 12), 0.6, rate) for v in voices) * fade)
    return np.concatenate(notes) / 5


def noise(seconds: float, pink: bool) -> Floats:
    wave = np.random.default_rng(7).standard_normal(round(seconds * RATE))
    if pink:
        spectrum = np.fft.rfft(wave)
        wave = np.fft.irfft(spectrum / np.sqrt(np.maximum(1, np.arange(len(spectrum)))), len(wave))
    return 0.3 * wave / np.abs(wave).max()


@pytest.mark.parametrize(("bpm", "rate"), [(72, 16_000), (92.5, 44_100), (120, 16_000), (151, 22_050)])
def test_the_tempo_of_clicks_is_found_within_half_a_percent(bpm: float, rate: int) -> None:
    found = describe(clicks(bpm, rate=rate), rate)
    assert found.bpm == pytest.approx(bpm, rel=0.005)
    assert found.bpm_confidence > 0.5


@pytest.mark.parametrize(
    ("tonic", "minor", "name"),
    [(0, False, "C major"), (9, True, "A minor"), (6, False, "F# major"), (3, True, "Eb minor")],
)
def test_the_key_of_a_scale_over_a_cadence_is_found(tonic: int, minor: bool, name: str) -> None:
    assert describe(cadence(tonic, minor), RATE).key == name


@pytest.mark.parametrize("cents", [-40, 40])
def test_a_key_is_found_beside_concert_pitch(cents: float) -> None:
    assert describe(cadence(2, False, cents), RATE).key == "D major"


def test_a_key_does_not_depend_on_the_sampling_rate() -> None:
    assert describe(cadence(7, False, rate=44_100), 44_100).key == "G major"


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 48_000])
def test_a_full_scale_sine_of_997_hz_has_the_loudness_of_the_standard(rate: int) -> None:
    assert describe(sine(997, 3, rate), rate).loudness_lufs == pytest.approx(-3.01, abs=0.1)


def test_low_tones_count_for_less_and_high_ones_for_more() -> None:
    low, middle, high = (describe(sine(hertz, 3, 48_000), 48_000).loudness_lufs for hertz in (30, 997, 10_000))
    assert low is not None
    assert middle is not None
    assert high is not None
    # the response of the coefficients that the standard lists for 48 kHz, at these frequencies
    assert low - middle == pytest.approx(_listed_gain_db(30) - _listed_gain_db(997), abs=0.02)
    assert high - middle == pytest.approx(_listed_gain_db(10_000) - _listed_gain_db(997), abs=0.02)


def _listed_gain_db(hertz: float) -> float:
    z = np.exp(-2j * np.pi * hertz / 48_000)
    shelf = (1.53512485958697 - 2.69169618940638 * z + 1.19839281085285 * z**2) / (
        1 - 1.69065929318241 * z + 0.73248077421585 * z**2
    )
    high_pass = (1 - 2 * z + z**2) / (1 - 1.99004745483398 * z + 0.99007225036621 * z**2)
    return float(20 * np.log10(abs(shelf * high_pass)))


def test_pauses_and_quiet_passages_are_gated_out_of_the_loudness() -> None:
    loud = 0.1 * sine(997, 10)
    alone = integrated_loudness(loud, RATE)
    assert alone == pytest.approx(-22.98, abs=0.1)
    for quiet in (0.0, 0.01):  # the absolute gate's and, 20 dB below the loud half, the relative one's
        gated = integrated_loudness(np.concatenate([loud, quiet * sine(997, 10)]), RATE)
        assert gated == pytest.approx(alone, abs=0.1)  # ungated: 3 dB less


def test_integers_and_floats_give_the_same() -> None:
    wave = (cadence(0, False) * 30_000).astype(np.int16)
    assert describe(wave, RATE) == describe(wave / 32_768, RATE)


@pytest.mark.parametrize("level", [0.0, 1e-5])
def test_nothing_is_said_of_silence(level: float) -> None:
    found = describe(level * cadence(0, False), RATE)
    assert (found.bpm, found.key, found.loudness_lufs) == (None, None, None)
    assert (found.bpm_confidence, found.key_confidence) == (0.0, 0.0)
    assert found.duration_s == pytest.approx(4.8)


@pytest.mark.parametrize("seconds", [5.0, 20.0])
@pytest.mark.parametrize("pink", [False, True])
def test_noise_has_a_loudness_but_neither_tempo_nor_key(pink: bool, seconds: float) -> None:
    found = describe(noise(seconds, pink), RATE)
    assert (found.bpm, found.key) == (None, None)
    assert found.loudness_lufs is not None


def test_a_held_tone_has_neither_tempo_nor_key() -> None:
    found = describe(0.5 * sine(440, 10), RATE)
    assert (found.bpm, found.key) == (None, None)


@pytest.mark.parametrize("samples", [0, 1, 100, 6_000, 2 * RATE])
def test_what_is_too_short_stays_unsaid(samples: int) -> None:
    found = describe(cadence(0, False)[:samples], RATE)
    assert (found.bpm, found.key) == (None, None)
    assert (found.loudness_lufs is None) == (samples < 0.4 * RATE)


def test_four_seconds_have_a_key_but_no_tempo_yet() -> None:
    found = describe(cadence(0, False)[: 4 * RATE], RATE)
    assert found.bpm is None
    assert found.key is not None


def test_values_that_are_no_numbers_count_as_silence() -> None:
    wave = clicks(120)
    wave[1_000:1_010] = np.nan
    wave[2_000] = np.inf
    found = describe(wave, RATE)
    assert found.bpm == pytest.approx(120, rel=0.005)
    assert found.loudness_lufs is not None
    assert np.isfinite(found.loudness_lufs)


def test_tempo_comes_from_the_middle_of_a_long_recording(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(descriptors, "LONGEST_ANALYSED_S", 20.0)
    found = describe(np.concatenate([clicks(70, 15), clicks(100, 20), clicks(70, 15)]), RATE)
    assert found.bpm == pytest.approx(100, rel=0.005)


def test_memory_does_not_grow_with_the_recording() -> None:
    wave = np.zeros(3_600 * 8_000, np.int16)
    wave[::4_000] = 20_000
    tracemalloc.start()
    try:
        describe(wave, 8_000)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 100e6  # as floats the recording alone would be 230 MB


def test_what_is_not_one_channel_of_numbers_is_refused() -> None:
    with pytest.raises(ValueError, match="one channel"):
        describe(np.zeros((2, RATE)), RATE)
    with pytest.raises(ValueError, match="one channel"):
        describe(np.zeros(RATE, np.complex128), RATE)
    with pytest.raises(ValueError, match="sampling rate"):
        describe(np.zeros(RATE), 2_000)


@pytest.mark.parametrize("seconds", [0.7, 9.0, 30.0, 131.0])
def test_an_open_track_is_described_as_its_samples_are(
    seconds: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In pieces of ten seconds, and from a file of which not all is held."""
    rng = np.random.default_rng(1)
    time = np.arange(round(seconds * 16_000)) / 16_000
    chord = sum(np.sin(2 * np.pi * f * time) for f in (220.0, 277.18, 329.63)) * (1.2 - np.mod(time, 0.5))
    samples = (0.1 * chord + 0.01 * rng.standard_normal(len(time))).astype(np.float32)
    soundfile.write(tmp_path / "track.wav", samples, 16_000, subtype="FLOAT")
    monkeypatch.setattr(descriptors, "PIECE_S", 10.0)
    expected = descriptors.describe(samples, 16_000)
    found = descriptors.describe_track(read_track(tmp_path / "track.wav", 16_000, held_seconds=5.0))
    assert (found.bpm, found.key, found.duration_s) == (expected.bpm, expected.key, expected.duration_s)
    assert found.loudness_lufs == pytest.approx(expected.loudness_lufs, abs=0.02)
    assert (expected.bpm is None) == (seconds < 5)


def test_a_description_reads_as_a_line_and_as_json() -> None:
    whole = descriptors.Descriptors(10.0, 92.34, 0.456, "A minor", 0.9, -14.26)
    assert str(whole) == "92 BPM, A minor, -14.3 LUFS"
    assert whole.to_dict() == {
        "bpm": 92.3, "bpm_confidence": 0.46, "key": "A minor", "key_confidence": 0.9, "loudness_lufs": -14.3
    }  # fmt: skip
    nothing = descriptors.Descriptors(1.0, None, 0.0, None, 0.0, None)
    assert str(nothing) == ""
    assert nothing.to_dict()["loudness_lufs"] is None
