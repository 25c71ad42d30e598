"""The twelve genres of the rendered corpus, in the order in which its clips take turns."""

from __future__ import annotations

from .rendered_composer import Genre
from .rendered_genres_acoustic import BALLAD, BOSSA_NOVA, CLASSICAL, COUNTRY, JAZZ, MARCH
from .rendered_genres_electric import AMBIENT, HIP_HOP, METAL, REGGAE, ROCK, TECHNO

GENRES: tuple[Genre, ...] = (
    TECHNO,
    AMBIENT,
    JAZZ,
    BOSSA_NOVA,
    ROCK,
    METAL,
    CLASSICAL,
    BALLAD,
    REGGAE,
    HIP_HOP,
    COUNTRY,
    MARCH,
)
