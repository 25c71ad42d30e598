"""Licences as the Hub names them, and what is known about the licences of each source corpus."""

from __future__ import annotations

import re
from dataclasses import dataclass

_CREATIVE_COMMONS = (
    "cc cc0-1.0 cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 "
    "cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0"
)
_OTHERS = (
    "apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0 bigcode-openrail-m "
    "afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear c-uda cdla-sharing-1.0 "
    "cdla-permissive-1.0 cdla-permissive-2.0 wtfpl ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2 agpl-3.0 gfdl "
    "gpl gpl-2.0 gpl-3.0 lgpl lgpl-2.1 lgpl-3.0 isc h-research intel-research lppl-1.3c ms-pl apple-ascl apple-amlr "
    "mpl-2.0 odc-by odbl openmdw-1.0 openrail++ osl-3.0 postgresql ofl-1.1 ncsa unlicense zlib pddl lgpl-lr "
    "deepfloyd-if-license fair-noncommercial-research-license llama2 llama3 llama3.1 llama3.2 llama3.3 llama4 "
    "grok2-community gemma unknown other"
)
HUB_LICENCES = frozenset(f"{_CREATIVE_COMMONS} {_OTHERS}".split())
"""The identifiers that `license:` may have (https://huggingface.co/docs/hub/repositories-licenses, read in 2026)."""

# Ports of a licence to one country, as tracks name them; the Hub tells versions apart, not countries.
_COUNTRIES = (
    "argentina australia austria belgium brazil bulgaria canada chile china china-mainland colombia costa-rica croatia "
    "czech-republic denmark ecuador egypt estonia finland france germany greece guatemala hong-kong hungary igo india "
    "ireland israel italy japan korea south-korea luxembourg macedonia malaysia malta mexico netherlands new-zealand "
    "norway peru philippines poland portugal puerto-rico romania scotland serbia singapore slovenia south-africa spain "
    "sweden switzerland taiwan thailand uganda uk england-and-wales england-wales uk-england-and-wales "
    "uk-england-wales uk-scotland united-kingdom united-states us usa vietnam"
)
_PORTED = rf"(?:{'|'.join(_COUNTRIES.split())}|[a-z]{{2}})"
_PUBLIC_DOMAIN_MARK = "cc-mark"


def _name(text: str) -> str:
    """A licence in the Hub's spelling, whether the Hub knows it or not: `cc-by-nc-nd-2.0`; any other text as it is."""
    name = re.sub(r"\([^)]*\)", " ", text).strip().lower()  # `CC BY-SA 4.0 (text)`
    if name in HUB_LICENCES:
        return name
    if "creativecommons.org/" in name:
        name = re.sub(r".*creativecommons\.org/(licenses|publicdomain)/", "", name)
        kind, _, version = name.strip("/").partition("/")
        name = f"{'cc0' if kind == 'zero' else 'cc-' + kind}-{version.partition('/')[0]}"
    words = (
        name.replace("attribution", "by").replace("noncommercial", "nc").replace("non-commercial", "nc")
    )  # the long names of FMA's tracks.csv
    words = re.sub(r"share[ -]?alike", "sa", words)
    words = re.sub(r"no[ -]?deriv(ative)?s?( works)?", "nd", words)
    words = re.sub(r"\b(creative commons|international|unported|generic|license|licence|universal)\b", " ", words)
    words = re.sub(r"[^a-z0-9.]+", "-", words).strip("-")
    if re.fullmatch(r"(cc-?)?(0|zero)(-1.0)?", words) or words in {"cc0", "cc0-1.0"}:
        return "cc0-1.0"
    words = re.sub(rf"(?<=\d)-{_PORTED}$", "", words)
    words = words.replace("public-domain-mark", _PUBLIC_DOMAIN_MARK)
    return words if words.startswith("cc") else f"cc-{words}"


def hub_licence(text: str) -> str | None:
    """The Hub's identifier of a licence that a corpus names in its own way, None when there is none.

    Understands `CC BY-NC-SA 4.0`, `Attribution-NonCommercial 3.0 International`, CC0 and creativecommons.org addresses.
    The Public Domain Mark has none: it is no licence but somebody's statement that nobody owns the work.
    """
    name = _name(text)
    return name if name in HUB_LICENCES else None


@dataclass(frozen=True)
class SourceLicence:
    """What a corpus says about the use of its audio and of its annotations (tags and captions)."""

    title: str
    audio: str
    annotations: str
    annotations_id: str | None  # the Hub's identifier, None when there is no single one
    audio_redistributable: bool  # whether a public data set may carry the audio at all
    gate: str = ""  # why readers should agree to terms before they download; empty when there is no reason
    evaluation_only: bool = False  # whether its authors ask that nothing be trained on it


# From the corpora's own pages; a field says `unknown` where they say nothing.
SOURCES = {
    "fma": SourceLicence("FMA", "Creative Commons, per track", "CC BY 4.0", "cc-by-4.0", True),
    "slakh": SourceLicence("Slakh2100", "CC BY 4.0", "CC BY 4.0", "cc-by-4.0", True),
    "mtg_jamendo": SourceLicence(
        "MTG-Jamendo",
        "Creative Commons, per track",
        "CC BY-NC-SA 4.0",
        "cc-by-nc-sa-4.0",
        True,
        gate="its tags are CC BY-NC-SA 4.0: no commercial use, and what is made from them is shared alike",
    ),
    "song_describer": SourceLicence(
        "Song Describer (evaluation only)",
        "Creative Commons, per track",
        "CC BY-SA 4.0",
        "cc-by-sa-4.0",
        True,
        gate="its authors ask that it be used for evaluation only, never for training",
        evaluation_only=True,
    ),
    "magnatagatune": SourceLicence(
        "MagnaTagATune",
        "CC BY-NC-SA 3.0",
        "CC BY-NC-SA 3.0 (research only)",
        "cc-by-nc-sa-3.0",
        True,
        gate="audio and tags are CC BY-NC-SA 3.0 and given out for research only",
    ),
    "musiccaps": SourceLicence(
        "MusicCaps",
        "YouTube, may not be redistributed",
        "CC BY-SA 4.0",
        "cc-by-sa-4.0",
        False,
        gate="its audio lies on YouTube and may not be passed on",
    ),
    "msd_ecals": SourceLicence(
        "Million Song Dataset, ECALS tags",
        "7digital previews, may not be redistributed",
        "unknown",
        None,
        False,
        gate="the licence of its tags is not stated, and the audio previews may not be passed on",
    ),
    "jamendo_max_caps": SourceLicence(
        "JamendoMaxCaps",
        "Creative Commons, per track",
        "machine captions, CC BY-SA 3.0",
        "cc-by-sa-3.0",
        True,
        gate="its stated licence has changed from non-commercial to CC BY-SA 3.0, so that what holds is unclear",
    ),
    "rendered": SourceLicence(
        "Rendered scores", "rendered for this data set", "exact, from the score; as its rows state", None, True
    ),
}


_TERMS_PER_TRACK = ("fma", "mtg_jamendo", "song_describer", "jamendo_max_caps")
_NO_TERMS = frozenset({"unknown", "other"})
# The conditions of the six licences that Creative Commons has now and of the first ones, which went without BY.
_COPY_AND_PASS_ON = re.compile(r"cc(?P<conditions>(?:-(?:by|nc|nd|sa))+)(?:-[1-4]\.\d)?")
_RESERVED = re.compile(r"\b(?:only|reserved|not|without|except|permission|sampling)\b", re.IGNORECASE)


def audio_publishable(source: str, licence: str | None) -> bool:
    """Whether a public data set may carry the audio of a row of `source` that states `licence`.

    Corpora with one licence for all their audio answer for themselves. Where each track has its own, and in a user's
    own corpus, the row must state one: silence, `unknown` or terms of the owner's are no permission. What the Hub has
    an identifier for will do, and so does any other Creative Commons licence, of every version and country, as all let
    unchanged copies be passed on (their sampling licences are no such ones). So does the Public Domain Mark: by it
    nobody is left whose permission could be asked.
    """
    known = SOURCES.get(source)
    if known is not None and source not in _TERMS_PER_TRACK:
        return known.audio_redistributable
    if _RESERVED.search(licence or ""):  # also in brackets: `CC BY 4.0 (annotations only)`
        return False
    name = _name(licence or "")
    if name in HUB_LICENCES:
        return name not in _NO_TERMS
    if re.fullmatch(rf"{_PUBLIC_DOMAIN_MARK}(-1\.0)?", name):
        return True
    match = _COPY_AND_PASS_ON.fullmatch(name)
    return match is not None and not {"nd", "sa"} <= set(match["conditions"].split("-"))


def source_licence(source: str) -> SourceLicence:
    """What is known about `source`; for a corpus of the user's own, that nothing is."""
    own = SourceLicence(source or "unnamed", "as the user states it", "as the user states it", None, True)
    return SOURCES.get(source, own)
