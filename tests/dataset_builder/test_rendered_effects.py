"""Effects of rendered clips: a tag is true of the sound, and what cannot be heard gets none."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest

from caption_metrics.facts import extract_facts
from dataset_builder.sources import rendered_effects
from dataset_builder.sources.rendered_effects import (
    EFFECT_TAGS,
    Effect,
    apply_effects,
    change_db,
    convolve,
    draw_effects,
    is_reverb,
    level_spread_db,
    tilt,
    treble_db,
)

RATE = 16_000
SEEDS = [f"{number}" for number in range(12)]


def _music(seconds: float = 6.0, *, gaps: bool = True) -> np.ndarray:
    """A plucked line with overtones up to 7 kHz, two notes a second: 0.35 s of sound, then a rest."""
    rng, time = np.random.default_rng(1), np.arange(round(0.5 * RATE)) / RATE
    decay = np.exp(-6 * time) * (time < 0.35 if gaps else 1.0)
    notes = []
    for _ in range(round(2 * seconds)):
        pitch = 110 * 2 ** (rng.integers(0, 24) / 12)
        level = 10 ** (-rng.uniform(0, 20) / 20)
        partials = np.arange(1, int(7_000 / pitch))
        notes.append(level * decay * (np.sin(2 * np.pi * pitch * np.outer(time, partials)) / partials).sum(axis=1))
    wave = np.concatenate(notes)
    return (0.3 * wave / np.abs(wave).max()).astype(np.float32)


def _with(tag: str, seed: str, wave: np.ndarray) -> np.ndarray:
    changed = wave.copy()
    assert apply_effects(changed, (Effect(tag, seed),), RATE) == (tag,)
    return changed


def _decibels(ratio: float) -> float:
    return 20 * float(np.log10(max(ratio, 1e-9)))


def _rms(wave: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(wave, dtype=np.float64))))


def test_the_metrics_lexicon_knows_each_effect_by_its_tag():
    for tag in EFFECT_TAGS:
        assert ("production", tag) in {(fact.category, fact.value) for fact in extract_facts(tag)}


@pytest.mark.parametrize("seed", SEEDS)
def test_reverb_rings_on_where_the_music_has_ended(seed):
    wave = np.zeros(4 * RATE, np.float32)
    wave[: RATE // 2] = _music(0.5, gaps=False)
    wet = _with("reverb", seed, wave)
    level = [_decibels(_rms(wet[start : start + RATE // 4])) for start in range(RATE // 2, 7 * RATE // 4, RATE // 4)]
    falls = np.polyfit(0.25 * np.arange(len(level)), level, 1)[0]  # dB a second
    assert 60 / 4.0 < -falls < 60 / 1.5  # a decay by 60 dB in 1.5 to 4 seconds
    assert level[0] > _decibels(_rms(wet[: RATE // 2])) - 25


@pytest.mark.parametrize("seed", SEEDS)
def test_echo_repeats_a_click_at_equal_distances(seed):
    click = np.zeros(3 * RATE, np.float32)
    click[100] = 0.5
    peaks = np.flatnonzero(np.abs(_with("echo", seed, click)) > 0.02)
    steps = np.diff(peaks)
    assert len(peaks) >= 4
    assert steps.max() == steps.min()
    assert 0.25 <= steps[0] / RATE <= 0.55


@pytest.mark.parametrize("seed", SEEDS)
def test_muffled_music_has_no_treble_left(seed):
    wave = _music()
    muffled = _with("muffled", seed, wave)
    assert treble_db(muffled, 2_600, RATE) < treble_db(wave, 2_600, RATE) - 20
    low = np.abs(np.fft.rfft(muffled) / np.fft.rfft(wave))[: int(0.01 * wave.size)]  # below 160 Hz
    assert 0.8 < np.median(low) < 1.2


@pytest.mark.parametrize("seed", SEEDS)
def test_noise_lies_4_to_14_decibels_below_the_music_and_in_its_rests(seed):
    wave = _music()
    noise = _with("noisy", seed, wave) - wave
    assert 3.5 < _decibels(_rms(wave) / _rms(noise)) < 14.5
    rests = noise.reshape(-1, RATE // 2)[:, round(0.36 * RATE) :]
    assert _rms(rests) == pytest.approx(_rms(noise), rel=0.1)


@pytest.mark.parametrize("seed", SEEDS)
def test_distortion_gives_a_pure_tone_overtones(seed):
    tone = (0.3 * np.sin(2 * np.pi * 250 * np.arange(4 * RATE) / RATE)).astype(np.float32)
    distorted = _with("distortion", seed, tone)
    spectrum = np.abs(np.fft.rfft(distorted))
    overtones = np.sqrt((spectrum[[4 * 750, 4 * 1_250, 4 * 1_750]] ** 2).sum()) / spectrum[4 * 250]
    assert overtones > 0.1  # of the fundamental
    assert _rms(distorted) == pytest.approx(_rms(tone), rel=0.02)


@pytest.mark.parametrize("seed", SEEDS)
def test_tremolo_moves_the_level_of_a_held_tone_4_to_7_times_a_second(seed):
    tone = (0.3 * np.sin(2 * np.pi * 400 * np.arange(4 * RATE) / RATE)).astype(np.float32)
    level = np.abs(_with("tremolo", seed, tone)).reshape(-1, 160).max(axis=1)  # in steps of 10 ms
    assert level.min() < 0.45 * level.max()
    beats = np.abs(np.fft.rfft(level - level.mean()))
    assert 4.0 <= np.argmax(beats) / 4 <= 7.5


@pytest.mark.parametrize("seed", SEEDS)
def test_compressed_music_has_less_between_loud_and_soft(seed):
    wave = _music(gaps=False)
    assert level_spread_db(_with("compressed", seed, wave), RATE) < level_spread_db(wave, RATE) - 4


@pytest.mark.parametrize("seed", SEEDS)
def test_chorus_spreads_a_partial_into_a_moving_band(seed):
    tone = (0.3 * np.sin(2 * np.pi * 1_000 * np.arange(4 * RATE) / RATE)).astype(np.float32)
    power = np.abs(np.fft.rfft(_with("chorus effect", seed, tone) * np.hanning(tone.size))) ** 2
    beside = np.r_[power[3_900:3_990].sum(), power[4_011:4_100].sum()].sum()  # 2.5 Hz and more from the tone
    assert beside > 0.05 * power[3_900:4_100].sum()
    assert power[3_900:4_100].sum() > 0.99 * power.sum()  # no new overtones


@pytest.mark.parametrize("seed", SEEDS)
def test_lofi_is_narrow_wavers_and_crackles(seed):
    wave = _music()
    lofi = _with("lo-fi", seed, wave)
    assert treble_db(lofi, 4_500, RATE) < -13
    rests = lofi.reshape(-1, RATE // 2)[:, round(0.40 * RATE) :].ravel()
    assert np.abs(rests).max() > 6 * np.median(np.abs(rests))  # ticks stand out of the hiss
    assert change_db(wave, lofi) > -10


def test_what_cannot_be_heard_is_not_applied():
    bass = (0.3 * np.sin(2 * np.pi * 55 * np.arange(4 * RATE) / RATE)).astype(np.float32)
    for tag in ("muffled", "compressed"):
        same = bass.copy()
        assert apply_effects(same, (Effect(tag, "1"),), RATE) == ()
        assert np.array_equal(same, bass)


def test_half_of_the_clips_are_left_alone_and_few_get_two():
    drawn = [draw_effects(Random(f"{number}")) for number in range(2_000)]
    counts = np.bincount([len(effects) for effects in drawn]) / len(drawn)
    assert 0.4 < counts[0] < 0.6
    assert 0.05 < counts[2] < 0.15
    assert len(counts) == 3
    assert {effect.tag for effects in drawn for effect in effects} == set(EFFECT_TAGS)
    assert all(
        list(EFFECT_TAGS).index(a.tag) < list(EFFECT_TAGS).index(b.tag) for a, b in filter(lambda e: len(e) == 2, drawn)
    )


@pytest.mark.parametrize("tag", EFFECT_TAGS)
def test_a_long_track_sounds_as_if_it_were_worked_on_at_once(tag, monkeypatch):
    """In blocks of two seconds and in one: the same, so no seam can be heard."""
    wave = _music(9.3)
    monkeypatch.setattr(rendered_effects, "TRIAL_S", 4.0)
    at_once, in_blocks = wave.copy(), wave.copy()
    apply_effects(at_once, (Effect(tag, "7"),), RATE)
    monkeypatch.setattr(rendered_effects, "BLOCK", 2 * RATE + 1_500)  # within a note
    apply_effects(in_blocks, (Effect(tag, "7"),), RATE)
    if tag in ("noisy", "lo-fi"):  # the filter of the noise begins anew with each block
        assert change_db(at_once, in_blocks) < -25
    else:
        assert np.abs(at_once - in_blocks).max() < 1e-5


@pytest.mark.parametrize("length", [1, 2, 700, 40_000])
def test_convolution_in_place_is_that_of_numpy(length):
    rng = np.random.default_rng(0)
    wave, response = rng.standard_normal(70_000).astype(np.float32), rng.standard_normal(length)
    ahead = length // 2
    expected = np.convolve(wave, response)[ahead : ahead + wave.size]
    convolve(wave, response, ahead)
    assert np.abs(wave - expected).max() < 1e-4 * np.abs(expected).max()


def test_a_tilt_lifts_the_treble_and_lowers_the_bass():
    taps = tilt(3.0, RATE)
    gain = 20 * np.log10(np.abs(np.fft.rfft(taps, RATE)))
    assert gain[7_000] == pytest.approx(1.4, abs=0.3)
    assert gain[1_000] == pytest.approx(0.0, abs=0.3)
    assert gain[250] < -0.5


def test_a_large_loud_room_is_reverb_and_a_small_or_faint_one_is_not():
    assert is_reverb(2.8, 0.5)
    assert not is_reverb(0.5, 0.5)
    assert not is_reverb(2.8, 0.12)
