"""The genres of the rendered corpus, in the order in which its clips take turns."""

from __future__ import annotations

from .rendered_composer import Genre
from .rendered_genres_acoustic import BALLAD, BOSSA_NOVA, COUNTRY, JAZZ, MARCH
from .rendered_genres_bands import FUNK, PUNK_ROCK, SKA, SOUL, SURF_ROCK
from .rendered_genres_concert import BAROQUE, CLASSICAL, MINIMALISM, NEW_AGE, SOUNDTRACK
from .rendered_genres_dance import CHIPTUNE, DISCO, DRUM_AND_BASS, DUBSTEP, HOUSE, SYNTHWAVE, TRANCE, TRAP
from .rendered_genres_electric import AMBIENT, HIP_HOP, METAL, REGGAE, ROCK, TECHNO
from .rendered_genres_latin import AFROBEAT, CALYPSO, FLAMENCO, SALSA, SAMBA, TANGO
from .rendered_genres_parlour import LULLABY, POLKA, RAGTIME, SWING, WALTZ
from .rendered_genres_roots import BLUEGRASS, BLUES, FOLK, GOSPEL
from .rendered_genres_traditions import BALKAN, CELTIC, CHINESE, INDIAN, JAPANESE, KLEZMER

_FIRST = (TECHNO, AMBIENT, JAZZ, BOSSA_NOVA, ROCK, METAL, CLASSICAL, BALLAD, REGGAE, HIP_HOP, COUNTRY, MARCH)
_DANCE = (HOUSE, DISCO, TRANCE, DRUM_AND_BASS, DUBSTEP, TRAP, SYNTHWAVE, CHIPTUNE)
_ROOTS = (BLUES, FUNK, SOUL, GOSPEL, SKA, SURF_ROCK, PUNK_ROCK, FOLK, BLUEGRASS)
_PARLOUR = (RAGTIME, SWING, WALTZ, POLKA, BAROQUE, MINIMALISM, NEW_AGE, LULLABY, SOUNDTRACK)
_WORLD = (SALSA, SAMBA, TANGO, FLAMENCO, CELTIC, KLEZMER, AFROBEAT, CALYPSO, CHINESE, JAPANESE, INDIAN, BALKAN)

GENRES: tuple[Genre, ...] = _FIRST + _DANCE + _ROOTS + _PARLOUR + _WORLD
