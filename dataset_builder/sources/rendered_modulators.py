"""What velocity and key do to the generators of a SoundFont's note (specification 2.04, sections 8.2 and 9.5)."""

from __future__ import annotations

import math

from .rendered_soundfont_file import Modulator

_VELOCITY, _KEY, _NO_CONTROLLER, _CONTROLLER = 2, 3, 0, 0x80  # sources of modulators (section 8.2.1)
_AT_REST = {7: 100, 8: 64, 10: 64, 11: 127}  # what MIDI controllers stand at when nobody moves them; others at 0
_WHEEL, _WHEEL_AT_REST = 14, 64
# Generators 0 to 57 but 48: velocity to attenuation is the law by which all notes here are scaled, whatever its amount.
MOVABLE = frozenset(range(58)) - {48}


def moved_by(modulator: Modulator, velocity: int, key: int) -> int:
    """What a modulator adds to its generator for a note of this velocity and key, all controllers at rest."""
    return round(
        modulator.amount
        * _source_value(modulator.source, velocity, key)
        * _source_value(modulator.amount_source, velocity, key)
    )


def _source_value(source: int, velocity: int, key: int) -> float:
    """Where a source stands between 0 and 1 (bipolar: -1 and 1) after its curve (section 8.2.1)."""
    index, curve = source & 0x7F, source >> 10
    if source & _CONTROLLER:
        value = _AT_REST.get(index, 0)
    elif index == _NO_CONTROLLER:
        return 1.0
    else:
        value = {_VELOCITY: velocity, _KEY: key, _WHEEL: _WHEEL_AT_REST}.get(index, 0)
    share = value / 127
    if source & 0x100:
        share = 1.0 - share
    if curve == 1:
        share = _concave(share)
    elif curve == 2:
        share = 1.0 - _concave(1.0 - share)
    elif curve == 3:
        share = float(share >= 0.5)
    return 2.0 * share - 1.0 if source & 0x200 else share


def _concave(share: float) -> float:
    return 1.0 if share >= 1.0 else min(1.0, -40 / 96 * math.log10(1.0 - share))
