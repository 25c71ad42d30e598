"""What is known of a rendered clip: all that its tags and sentences may speak of."""

from __future__ import annotations

from dataclasses import dataclass

SLOW_BELOW_BPM = 90  # andante ends about here
FAST_ABOVE_BPM = 120  # allegro begins about here


def tempo_word(bpm: float) -> str:
    """`slow tempo` below 90 BPM, `fast tempo` above 120 BPM, `medium tempo` between."""
    if bpm < SLOW_BELOW_BPM:
        return "slow tempo"
    return "fast tempo" if bpm > FAST_ABOVE_BPM else "medium tempo"


@dataclass(frozen=True)
class ClipFacts:
    """The exact facts of a clip, in the words of its tags.

    Attributes:
        instruments: what is heard, each once, in the order of the band; never empty.
        melody: which of them carries the melody; None where none does.
        bpm: beats a minute: quarter notes, in 6/8 and 12/8 dotted quarters. key: `a minor`. metre: `4/4`.
        texture: `sparse texture` and the like; None where nothing marked can be said.
        effects: what was done to the sound (`reverb`, `noisy`), in the words of a tag; may be empty.

    Nobody sings in any clip.
    """

    genre: str
    mood: str
    instruments: tuple[str, ...]
    melody: str | None
    bpm: float
    key: str
    metre: str
    texture: str | None = None
    effects: tuple[str, ...] = ()

    @property
    def tempo(self) -> str:
        """`slow tempo`, `medium tempo` or `fast tempo`."""
        return tempo_word(self.bpm)

    @property
    def tags(self) -> tuple[str, ...]:
        """The clip's tags in their fixed order."""
        texture = () if self.texture is None else (self.texture,)
        return (
            *(self.genre, self.mood, *self.instruments, self.tempo, self.key, f"{self.metre} time"),
            *(*texture, *self.effects, "instrumental"),
        )
