"""FMA's licences: `track.license` is a title that people chose from lists which changed over the years.

Seen are `Attribution`, `Creative Commons Attribution`, `Attribution 3.0 United States`, `Attribution 2.0 UK: England`,
`Attribution-Noncommercial-No Derivative Works 3.0 Germany`, `Attribution-NonCommercial-NoDerivatives (aka Music
Sharing) 3.0 International`, `CC0 1.0 Universal`, `FMA-Limited: Download Only`, `FMA Sound Recording Common Law`, `Free
Art License`, `Public Domain Mark 1.0`. A title counts as open only where all of its words are accounted for.
"""

from __future__ import annotations

import re

_ZERO = re.compile(
    r"(?:creative commons |cc )?(?:cc ?-?0|cc zero|zero)(?: \(cc0\))?(?: 1\.0)?(?: universal)?"
    r"(?: public domain dedication)?"
)
_PLACE = r"[a-z]+(?:[ :&]+[a-z]+)*"  # of a ported licence: `International`, `UK: England & Wales`
_BY = re.compile(
    rf"(?:creative commons |cc )?(?:attribution|by)(?: licen[cs]e)?(?: v?(?P<version>\d\.\d))?(?: (?P<place>{_PLACE}))?"
)
_BY_HYPHENS = re.compile(r"cc-by(?:[- ](?P<version>\d\.\d))?")
_ADDRESS = re.compile(
    r"https?://creativecommons\.org/(?:licenses/by/(?P<version>\d\.\d)|publicdomain/zero/1\.0)(?:/.*)?"
)
_CONDITION = re.compile(
    r"\b(?:non|no|not|share|sharing|sa|nc|nd|deriv\w*|commercial\w*|noncommercial|sampling|only|limited|plus)\b"
)


def open_licence(title: str) -> str | None:
    """`CC0 1.0`, `CC BY 3.0` or `CC BY` (the title names no version) for such a licence, None for every other one.

    What forbids commercial use or changes, asks for the same licence, or is not known word for word, is not open.
    """
    text = " ".join(title.lower().split())
    if _CONDITION.search(text):
        return None
    address = _ADDRESS.fullmatch(text)
    if address:
        return f"CC BY {address['version']}" if address["version"] else "CC0 1.0"
    if _ZERO.fullmatch(text):
        return "CC0 1.0"
    match = _BY_HYPHENS.fullmatch(text) or _BY.fullmatch(text)
    if match is None:
        return None
    return f"CC BY {match['version']}" if match["version"] else "CC BY"
