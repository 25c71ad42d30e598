"""SoundFonts of the rendered corpus: good ones, compressed ones, damaged ones, held-out ones."""

from __future__ import annotations

import io
import struct
import tracemalloc
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest
import soundfile

pytest.importorskip("pretty_midi", reason="the SoundFont comes with the extra `render`")

from dataset_builder.sources import rendered, rendered_player
from dataset_builder.sources.rendered import arrange, read_rendered
from dataset_builder.sources.rendered_composer import Part
from dataset_builder.sources.rendered_effects import draw_effects
from dataset_builder.sources.rendered_fonts import (
    KNOWN,
    check_held_out,
    find_soundfont,
    licence_of,
    related,
)
from dataset_builder.sources.rendered_instruments import INSTRUMENTS
from dataset_builder.sources.rendered_parts import Note
from dataset_builder.sources.rendered_player import perform
from dataset_builder.sources.rendered_soundfont import SoundFont
from lpmc_errors import AudioError, LpmcError, UsageError

RATE = 16_000
Zone = dict[int, int]  # generator -> amount


def soundfont(
    path: Path,
    presets: dict[tuple[int, int], list[Zone]],
    waves: list[np.ndarray],
    *,
    vorbis: bool = False,
    modulators: tuple[tuple[int, int, int, int, int], ...] = (),
) -> Path:
    """Write a SoundFont: `presets` by bank and program, each zone a dictionary of generators with 53, its wave."""
    pool, headers = bytearray(), b""
    for number, wave in enumerate(waves):
        start = len(pool) if vorbis else len(pool) // 2
        if vorbis:
            blob = io.BytesIO()
            soundfile.write(blob, wave, RATE, format="OGG", subtype="VORBIS")
            pool += blob.getvalue()
            end, loop = len(pool), 0
        else:
            pool += np.rint(wave * 32_767).astype("<i2").tobytes() + bytes(92)
            end, loop = start + wave.size, start
        headers += struct.pack(
            "<20s5IBb2H",
            b"w%d" % number,
            start,
            end,
            loop,
            loop + wave.size,
            RATE,
            69,
            0,
            0,
            1 | (0x10 if vorbis else 0),
        )
    headers += struct.pack("<20s5IBb2H", b"EOS", *[0] * 9)
    phdr = pbag = pgen = inst = ibag = igen = b""
    bags = gens = 0
    for number, ((bank, program), zones) in enumerate(presets.items()):
        phdr += struct.pack("<20s3H3I", b"p", program, bank, number, 0, 0, 0)
        pbag += struct.pack("<HH", number, 0)
        pgen += struct.pack("<Hh", 41, number)
        inst += struct.pack("<20sH", b"i", bags)
        for zone in zones:
            ibag += struct.pack("<HH", gens, 0)
            for generator, amount in sorted(zone.items()):
                igen += struct.pack("<Hh", generator, amount)
            bags, gens = bags + 1, gens + len(zone)
    last = len(presets)
    phdr += struct.pack("<20s3H3I", b"EOP", 0, 0, last, 0, 0, 0)
    imod = b"".join(struct.pack("<HHhHH", *each) for each in modulators)
    parts = {
        "phdr": phdr,
        "pbag": pbag + struct.pack("<HH", last, 0),
        "pmod": bytes(10),
        "pgen": pgen + bytes(4),
        "inst": inst + struct.pack("<20sH", b"EOI", bags),
        "ibag": ibag + struct.pack("<HH", gens, len(modulators)),
        "imod": imod + bytes(10),
        "igen": igen + bytes(4),
        "shdr": headers,
    }

    def chunk(name: str, body: bytes) -> bytes:
        return name.encode() + struct.pack("<I", len(body)) + body

    pdta = chunk("LIST", b"pdta" + b"".join(chunk(*each) for each in parts.items()))
    body = b"sfbk" + chunk("LIST", b"sdta" + chunk("smpl", bytes(pool))) + pdta
    path.write_bytes(chunk("RIFF", body))
    return path


def _tone(hertz: float = 440.0, seconds: float = 0.5, level: float = 0.5) -> np.ndarray:
    return level * np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE)


@pytest.fixture
def small(tmp_path) -> Path:
    """A font of one preset: a looped tone at key 69."""
    return soundfont(tmp_path / "small.sf2", {(0, 0): [{53: 0, 54: 1}]}, [_tone()])


def _pitch(wave: np.ndarray) -> float:
    spectrum = np.abs(np.fft.rfft(wave * np.hanning(wave.size), 8 * wave.size))
    return float(np.argmax(spectrum)) * RATE / (8 * wave.size)


def test_a_font_made_here_plays_the_key_that_is_asked_and_loops_beyond_its_wave(small):
    font = SoundFont(small)
    for key, hertz in ((69, 440.0), (57, 220.0), (81, 880.0), (76, 659.26)):
        note = font.note(0, 0, key, 90, 2.0, RATE)
        assert _pitch(note[: 2 * RATE]) == pytest.approx(hertz, rel=0.003)
        assert np.abs(note[RATE : 2 * RATE]).max() == pytest.approx(np.abs(note[: RATE // 2]).max(), rel=0.05)


@pytest.mark.parametrize("vorbis", [False, True])
def test_a_compressed_font_sounds_like_the_one_it_was_made_of(tmp_path, vorbis):
    path = soundfont(tmp_path / "font.sf3", {(0, 5): [{53: 1}]}, [_tone(900), _tone(440)], vorbis=vorbis)
    note = SoundFont(path).note(0, 5, 69, 90, 0.4, RATE)
    assert _pitch(note) == pytest.approx(440, rel=0.005)


def test_a_broken_wave_of_a_compressed_font_is_named_and_not_where_it_lay_in_memory(tmp_path):
    path = soundfont(tmp_path / "font.sf3", {(0, 5): [{53: 0}]}, [_tone(440)], vorbis=True)
    path.write_bytes(path.read_bytes().replace(b"OggS", b"Oggs"))
    with pytest.raises(AudioError, match=r"its sample 'w0' cannot be decoded \([^<>]*\)") as caught:
        SoundFont(path).note(0, 5, 69, 90, 0.4, RATE)
    assert "0x" not in str(caught.value)


def test_layers_are_chosen_by_velocity_and_cost_nothing_where_there_are_none(tmp_path, small):
    layers = {(0, 0): [{44: 0 | (63 << 8), 53: 0}, {44: 64 | (100 << 8), 53: 1}, {44: 101 | (127 << 8), 53: 2}]}
    font = SoundFont(soundfont(tmp_path / "layers.sf2", layers, [_tone(300), _tone(500), _tone(700)]))
    assert [font.layer(0, 0, velocity) for velocity in (1, 63, 64, 100, 101, 127)] == [63, 63, 90, 90, 101, 101]
    for velocity, hertz in ((40, 300), (80, 500), (120, 700)):
        assert _pitch(font.note(0, 0, 69, font.layer(0, 0, velocity), 0.4, RATE)) == pytest.approx(hertz, rel=0.01)
    assert {SoundFont(small).layer(0, 0, velocity) for velocity in range(128)} == {90}


def test_velocity_closes_the_filter_where_the_font_says_so(tmp_path):
    bright = np.random.default_rng(0).uniform(-0.5, 0.5, RATE // 2)
    zones = {(0, 0): [{8: 9_000, 44: 0 | (63 << 8), 53: 0}, {8: 9_000, 44: 64 | (127 << 8), 53: 0}]}
    closing = ((0x102, 8, -4_000, 0, 0),)  # velocity, falling: 4,000 cents lower when struck softest
    plain = SoundFont(soundfont(tmp_path / "plain.sf2", zones, [bright]))
    moved = SoundFont(soundfont(tmp_path / "moved.sf2", zones, [bright], modulators=closing))
    assert moved.zones(0, 0, 127)[1].bright_cents == plain.zones(0, 0, 127)[1].bright_cents == 9_000
    # The modulator belongs to the last zone alone, which velocity 20 does not reach.
    assert moved.zones(0, 0, 20)[1].bright_cents == pytest.approx(9_000 - 4_000 * 107 / 127, abs=1)


def test_an_open_hihat_is_silenced_by_the_closed_one():
    strokes = (Note(0.0, 0.1, 46, 100), Note(0.1, 0.1, 36, 100), Note(0.25, 0.1, 42, 100))
    part = Part("drums", INSTRUMENTS["drums"], 0.0, strokes)
    font, stem = SoundFont(find_soundfont("default")), np.zeros(RATE, np.float32)
    rendered_player._play_notes(stem, font, 128, 0, replace(part, notes=strokes[:1]), RATE)
    assert np.abs(stem[5_000:6_000]).max() > 0.01  # it rings on
    stem.fill(0.0)
    rendered_player._play_notes(stem, font, 128, 0, replace(part, notes=strokes), RATE)
    alone = np.zeros(RATE, np.float32)
    rendered_player._play_notes(alone, font, 128, 0, replace(part, notes=strokes[1:]), RATE)
    assert np.abs(stem[:4_000] - alone[:4_000]).max() > 0.01
    assert np.array_equal(stem[4_200:], alone[4_200:])


def test_every_cut_and_every_turned_byte_of_a_font_is_an_error_in_one_line_or_a_font(small):
    whole, rng = small.read_bytes(), Random(0)
    variants = [whole[: rng.randrange(len(whole))] for _ in range(60)]
    tables = len(whole) - 800  # where presets, zones and headers lie
    for _ in range(400):
        damaged = bytearray(whole)
        for _ in range(rng.choice((1, 4, 30))):
            damaged[rng.randrange(tables, len(whole))] = rng.randrange(256)
        variants.append(bytes(damaged))
    variants += [b"", b"RIFF", rng.randbytes(5_000), b"RIFF\xff\xff\xff\xffsfbk" + b"LIST\0\0\0\0sdta" * 300]
    path = small.with_name("damaged.sf2")
    refused: list[str] = []
    tracemalloc.start()
    for content in variants:
        path.write_bytes(content)
        try:
            font = SoundFont(path)
            for bank, program in list(font.file.presets)[:3]:
                wave = font.note(bank, program, 60, 90, 0.5, RATE)
                assert np.isfinite(wave).all()
        except AudioError as error:
            refused.append(str(error))
    assert len(refused) > 60
    assert all(each.startswith(str(path)) and "SoundFont" in each and "\n" not in each for each in refused)
    assert tracemalloc.get_traced_memory()[1] < 200 << 20
    tracemalloc.stop()


def test_a_font_of_gigabytes_on_paper_asks_for_no_memory(small):
    data = bytearray(small.read_bytes())
    place = data.index(b"smpl")
    struct.pack_into("<I", data, place + 4, 0xFFFFFFF0)
    small.write_bytes(data)
    tracemalloc.start()
    with pytest.raises(AudioError, match="cut short"):
        SoundFont(small)
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()


def test_tables_that_point_out_of_the_file_are_refused_and_waves_out_of_it_are_silent(small):
    whole = small.read_bytes()
    terminator = whole.index(b"EOP") + 24  # of the presets: where the first zone behind the last one would be
    small.write_bytes(whole[:terminator] + struct.pack("<H", 9) + whole[terminator + 2 :])
    with pytest.raises(AudioError, match="phdr points out of its table"):
        SoundFont(small)
    wave = whole.index(b"w0\0") + 20
    small.write_bytes(whole[:wave] + struct.pack("<II", 0, 1_000_000) + whole[wave + 8 :])
    font = SoundFont(small)
    assert not font.covers(0, 0, [69])
    assert font.note(0, 0, 69, 90, 1.0, RATE).size == 0


def test_known_fonts_have_licences_and_others_say_that_theirs_is_not_stated():
    assert licence_of("TimGM6mb.sf2").startswith("GPL-2.0")
    assert licence_of("FluidR3_GM.sf2").startswith("MIT")
    assert licence_of("mine.sf2") == "licence not stated"
    assert all(font.licence and font.package for font in KNOWN)


def test_a_font_that_is_not_installed_is_named_with_its_package(monkeypatch, tmp_path):
    monkeypatch.setattr("dataset_builder.sources.rendered_fonts.PLACES", (tmp_path,))
    with pytest.raises(UsageError, match="install the Debian package fluid-soundfont-gm"):
        find_soundfont("fluid")
    (tmp_path / "FluidR3_GM.sf2").touch()
    assert find_soundfont("fluid") == tmp_path / "FluidR3_GM.sf2"


def _many(path: Path, seeds: range) -> Path:
    """A font of ten waves of noise; fonts of overlapping seeds share some."""
    waves = [0.3 * np.random.default_rng(seed).standard_normal(2_000).clip(-3, 3) for seed in seeds]
    zones = [{43: number | (number << 8), 53: number} for number in range(len(waves))]
    return soundfont(path, {(0, 0): zones}, waves)


def test_a_held_out_font_that_shares_waves_is_refused(tmp_path):
    ours, cousin, stranger = (
        _many(tmp_path / f"{name}.sf2", seeds)
        for name, seeds in (("ours", range(10)), ("cousin", range(7, 17)), ("stranger", range(20, 30)))
    )
    assert related(ours, cousin) == pytest.approx(0.3)
    assert related(ours, stranger) == 0.0
    assert related(ours, ours) == 1.0
    check_held_out([ours], stranger)
    with pytest.raises(UsageError, match=r"shares 30 % of its waves with ours\.sf2"):
        check_held_out([stranger, ours], cousin)


INSTALLED = {}
for known in KNOWN:
    try:
        INSTALLED[known.name] = find_soundfont(known.name)
    except LpmcError:
        continue


@pytest.mark.skipif(len(INSTALLED) < 3, reason="needs Debian's SoundFonts (fluid-soundfont-gm, csound-soundfont, ...)")
def test_the_families_of_the_known_fonts_are_those_that_were_measured():
    families = ({"fluid", "musescore", "musescore-lite"}, {"default", "csound"}, {"opl3"})
    for one in INSTALLED:
        for other in INSTALLED:
            same = any({one, other} <= family for family in families)
            assert (related(INSTALLED[one], INSTALLED[other]) >= 0.15) == same, (one, other)


def _band(path: Path) -> Path:
    """The package's font under another name: a stranger by its file, with every preset there is."""
    path.write_bytes(find_soundfont("default").read_bytes())
    return path


def test_clips_draw_a_font_or_one_a_part_and_say_so(tmp_path):
    second = _band(tmp_path / "second.sf2")
    fonts = [find_soundfont("default"), second]
    drawn = [perform(arrange(index, 0, 1.0), RATE, 1.0, fonts=fonts, key=f"0:{index}") for index in range(40)]
    files = [set(performance.fonts.values()) for performance in drawn]
    assert {frozenset(each) for each in files} >= {frozenset({"TimGM6mb.sf2"}), frozenset({"second.sf2"})}
    assert 1 <= sum(len(each) == 2 for each in files) <= 20
    for index in (3, 20):  # whatever else is rendered
        again = perform(arrange(index, 0, 1.0), RATE, 1.0, fonts=fonts, key=f"0:{index}")
        assert again.fonts == drawn[index].fonts
        assert np.array_equal(again.wave, drawn[index].wave)


def test_what_a_font_lacks_another_one_plays_and_the_clip_says_so(tmp_path, small):
    arrangement = next(
        a for a in (arrange(index, 0, 2.0) for index in range(60)) if any(p.instrument.drum for p in a.parts)
    )
    performance = perform(arrangement, RATE, 2.0, fonts=[small], key="0:0")
    assert np.abs(performance.wave).max() > 1_000
    assert any("by TimGM6mb.sf2, as small.sf2 has none" in each for each in performance.substitutions)
    assert set(performance.fonts) == set(arrangement.instruments)
    low = soundfont(tmp_path / "low.sf2", {(0, number): [{43: 20 << 8, 53: 0}] for number in range(128)}, [_tone()])
    pitched = replace(arrangement, parts=tuple(part for part in arrangement.parts if not part.instrument.drum))
    assert set(perform(pitched, RATE, 2.0, fonts=[low]).fonts.values()) == {"TimGM6mb.sf2"}  # no key above 20


def test_the_held_out_font_plays_the_test_clips_and_no_others(tmp_path, monkeypatch):
    second = _band(tmp_path / "second.sf2")
    monkeypatch.setattr(rendered, "check_held_out", lambda fonts, held_out: None)  # these two are the same by design
    tracks = list(read_rendered(tmp_path / "corpus", clips=40, duration_s=1.0, held_out_soundfont=str(second)))
    test = {track.track_id: track for track in tracks if track.split == "test"}
    ood = {track.track_id: track for track in tracks if track.split == "ood"}
    assert set(ood) == {f"{name}-ood" for name in test}
    assert len(test) == 4
    for name, track in test.items():
        held_out = ood[f"{name}-ood"]
        assert held_out.extra["soundfonts"] == ["second.sf2"]
        assert held_out.tags == track.tags
        assert held_out.reference_captions == track.reference_captions
        assert "second.sf2, itself licence not stated" in held_out.licence
    assert all(track.extra["soundfonts"] == ["TimGM6mb.sf2"] for track in tracks if track.split != "ood")
    assert len(list((tmp_path / "corpus/audio").iterdir())) == len(tracks) == 44
    monkeypatch.undo()
    with pytest.raises(UsageError, match=r"shares 100 % of its waves with TimGM6mb\.sf2"):
        list(read_rendered(tmp_path / "refused", clips=40, duration_s=1.0, held_out_soundfont=str(second)))
    assert not (tmp_path / "refused").exists()


def test_ten_minutes_are_played_in_a_hundred_megabytes():
    arrangement = arrange(3, 0, 600.0)
    perform(arrange(3, 0, 2.0), RATE, 2.0, fonts=[find_soundfont("default")])  # the font and what it decodes
    key = next(key for key in "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ" if "chorus effect" in _drawn(key))
    tracemalloc.start()
    performance = perform(arrangement, RATE, 600.0, fonts=[find_soundfont("default")], key=key, effects=True)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert performance.wave.shape == (600 * RATE,)
    assert np.abs(performance.wave.reshape(-1, 10 * RATE)).max(axis=1).min() > 100
    assert performance.effects[0] == "chorus effect"
    assert peak < 110 << 20


def _drawn(key: str) -> set[str]:
    return {effect.tag for effect in draw_effects(Random(f"{key}:effects"))}


def test_an_offset_is_taken_out_alike_whatever_the_blocks_are(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = np.arange(5 * RATE) / RATE
    tone = 0.3 * np.sin(2 * np.pi * 220 * seconds).astype(np.float32)
    whole = tone + np.float32(0.2) * (seconds > 1)
    parts = whole.copy()
    rendered_player._remove_offset(whole, RATE)
    monkeypatch.setattr(rendered_player, "OFFSET_BLOCK", 1_000)
    rendered_player._remove_offset(parts, RATE)
    np.testing.assert_allclose(parts, whole, atol=1e-6)
    settled = slice(2 * RATE, 4 * RATE)
    np.testing.assert_allclose(whole[settled], tone[settled], atol=2e-3)
