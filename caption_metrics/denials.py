"""What a text denies ("no drums, bass or vocals", "the piano is absent"), and what it only seems to.

Words alone decide, from left to right: a cue ("no", "without", "instead of") reaches the words after it up to a stop
("but", "with", a full stop), a few phrases reach the claim before them ("drums are missing"), and two denials that
touch take each other back ("isn't without drums").
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from caption_metrics.lexicon import load_lexicon


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_PUNCTUATION = frozenset(".,;:!?()[]/|—–")
_CUES = _set(
    "no not without never neither nor lacks lacking lack lacked minus sans non isnt arent wasnt werent devoid absence "
    "excluding nothing nobody unlike avoids avoiding omits omitting zero missing"
)
_VERB_CUES = _set("dont doesnt didnt cannot cant wont")  # deny a claim only before one of _HAVING
_HAVING = _set("have feature include contain use need sound feel rely hear")
_PAIR_CUES = frozenset({("instead", "of"), ("rather", "than"), ("free", "of"), ("free", "from"), ("opposed", "to")}) | {
    *((word, "any") for word in ("hardly", "scarcely", "barely")),
    ("far", "from"),
    ("anything", "but"),
    ("few", "if"),
    *((word, second) for word in ("hasnt", "havent", "hadnt") for second in ("any", "got")),
    *((word, "of") for word in ("void", "bereft", "stripped")),
    ("unaccompanied", "by"),
}
# What has these is not without it: "isn't without drums", "no lack of bass", "never lacks energy".
_LACKING = _set("without lack lacks lacking absence devoid unlike missing shortage free")
_DENYING = _set("no not never isnt arent wasnt werent doesnt dont didnt without")
_EMPTY_PHRASES = _set("doubt question fail exception")  # "without a doubt", "beyond"
_NO_ONE_MAY = _set("can could will would should might must")  # "no one can resist this guitar"
_NO_DENIAL_AFTER = _set(
    "only just merely simply to mention doubt matter wonder time less more fewer lost uncommon unusual surprise "
    "surprisingly stranger secret exception question end limit ending ceasing stops fails nonsense frills"
)
_UNSURE = _set("clear sure certain known")  # "not clear whether", but "no clear vocals"
_EVERYTHING, _BUT = _set("everything all every"), _set("except but besides")
_ANY_CUE = _CUES | _VERB_CUES | {first for first, _ in _PAIR_CUES} | _BUT
_STOPS = _set(
    "but just only however yet while though although which because instead rather except besides apart with "
    "accompanied featuring features making make makes creating create creates allowing allow allows adding add adds "
    "letting let lets giving give gives leaving leave leaves to that so"
)
_CARRIED = _set("features featuring accompanied used played so")  # "never features drums", "isn't played on a guitar"
_ENDS_LATER = _set("in behind over under beneath throughout during while")  # "no vocals throughout this techno track"
_NOUN_CUES = _set("absence lack")  # their clause goes on: "the absence of drums is made up for by a tambourine"
_NO_OBJECT = _PUNCTUATION | _STOPS | _set("and or from in here")  # "vocals are missing and"
_NEW_CLAUSE = _set("a an the it its is has are there this features uses contains includes sounds plays")
_LEFT_OUT = _set("omitted excluded removed")
_DENIED_AFTER = _LEFT_OUT | _set("absent missing lacking gone")
_DO, _DONT = _set("do does did"), _set("dont doesnt didnt")
_ACTING = _set("appear play enter feature occur sound")  # "the drums do not appear"
_BE = _set("is are was were be")
_NOT_BE = _set("isnt arent wasnt werent")
_AFTER_CUES = _BE | _NOT_BE | _DO | _DONT | _LEFT_OUT | {"free", "less", ":", "have", "has", "off"}
_WHOLLY = _set("entirely completely totally quite wholly really exactly a any")
_PRESENT = _set("present used featured heard included there audible part detected played")
_REACH = 6  # words after a cue that it may deny
_SHORT_REACH = {"non": 1, "except": 2, "but": 2, "besides": 2}  # "non vocal piano music" has a piano
_LONGEST_ITEM = 3  # words, in "no drums, bass guitar, or vocals"


# "nothing other than piano" does claim a piano, "instead of drums there is clapping" the clapping
_RESUMES = frozenset({("other", "than"), ("there", "is"), ("there", "are")})


def denied_words(tokens: Sequence[str]) -> list[bool]:
    """For every token whether a negation before it reaches it ("no drums, bass or vocals", "instead of a piano")."""
    denied = [False] * len(tokens)
    if _ANY_CUE.isdisjoint(tokens):
        return denied
    for index, word in enumerate(tokens):
        start = _denial_start(tokens, index) if word in _ANY_CUE else 0
        if not start:
            continue
        reach = _SHORT_REACH.get(word, _REACH)
        for position in _denied_positions(tokens, start, reach, listed=word not in ("no", "not")):
            denied[position] = True
    return denied


def _denial_start(tokens: Sequence[str], index: int) -> int:
    """Where the words begin that the cue at `index` may deny; 0 where there is none."""
    word = tokens[index]
    following, third = (*tokens[index + 1 : index + 3], "", "")[:2]
    if word in _BUT:
        whole = "all" if word == "but" else None  # "all but drums"; "nothing but" and "but" alone deny nothing
        before = tokens[max(0, index - (1 if whole else 4)) : index]
        if not _EVERYTHING.isdisjoint(before) and _PUNCTUATION.isdisjoint(before):
            return index + 1 + (following == "for")
        return 0
    if word in _CUES:
        if _says_otherwise(tokens, index):
            return 0
        if following in _PRESENT:  # "vocals are not present in ..." denies what stands before, not so "not played on a"
            return index + 3 if third in ("on", "by", "with") else 0
        if word == "missing":  # "is missing drums", "what is missing is a guitar", but "vocals are missing and"
            if following in _BE:
                return index + 2
            return index + 1 if index and tokens[index - 1] in _BE and following not in _NO_OBJECT else 0
        return index + 1
    if (word, following) in _PAIR_CUES:
        return 0 if _taken_back(tokens, index) else index + 2
    if word in _VERB_CUES and following in _HAVING:
        return index + 1
    return 0


def _taken_back(tokens: Sequence[str], index: int) -> bool:
    """Whether a denial before this one takes it back: "isn't entirely free of drums"."""
    before = tokens[max(0, index - 2) : index]
    return bool(before) and (before[-1] in _DENYING or (before[0] in _DENYING and before[-1] in _WHOLLY))


def _says_otherwise(tokens: Sequence[str], index: int) -> bool:
    """Whether a cue denies nothing here: "no doubt", "not only", "isn't without drums", "no one can resist"."""
    word = tokens[index]
    following, third = (*tokens[index + 1 : index + 3], "", "")[:2]
    if following in _NO_DENIAL_AFTER or (word in _LACKING and _taken_back(tokens, index)):
        return True
    if word in _DENYING and (following in _LACKING or (following in _WHOLLY and third in _LACKING)):
        return following != "free" or third == "of"
    if word == "without" and (following in _EMPTY_PHRASES or third in _EMPTY_PHRASES):
        return True
    if word == "nobody":
        return following in _NO_ONE_MAY
    if (word, following) == ("no", "one"):
        return third in _NO_ONE_MAY
    return word != "no" and following in _UNSURE


def _denied_positions(tokens: Sequence[str], start: int, reach: int, listed: bool) -> Iterator[int]:
    position, left = start, reach
    ends = _ENDS_LATER | _BE if tokens[start - 1] in _NOUN_CUES else _ENDS_LATER
    compared = tokens[start : start + 2] == ("so", "much")  # "not so much jazz as blues"
    if position < len(tokens) and tokens[position] in _CARRIED:
        position += 1
    while position < len(tokens) and left:
        word = tokens[position]
        following = tokens[position + 1] if position + 1 < len(tokens) else ""
        if word == ",":
            if not _list_goes_on(tokens, position + 1, listed):
                return
            left = reach
        elif _ends_denial(word, following) or (
            position > start and (word in ends or _is_aside(word, following, compared))
        ):
            return
        yield position
        position, left = position + 1, left - 1


def _ends_denial(word: str, following: str) -> bool:
    if word in _STOPS or (word in _PUNCTUATION and word != "/"):
        return True
    if (word, following) in _RESUMES:
        return True
    return word == "and" and following in _NEW_CLAUSE | _STOPS | _VERB_CUES


def _is_aside(word: str, following: str, compared: bool) -> bool:
    """Whether "as" begins something new: "no drums as the guitar plays alone"; after "not so much" also "as blues"."""
    return word == "as" and (compared or following in _NEW_CLAUSE)


def _list_goes_on(tokens: Sequence[str], start: int, listed: bool) -> bool:
    """Whether ", bass, or vocals" follows: short items up to an "or", so that "no drums, bass or vocals" denies all.

    After "without" or "lacks" (`listed`) an "and" will do, where all items are instruments or voices and the clause
    ends with them: "without guitars, drums and vocals", but "without drums, the piano and the cello stand out".
    """
    item: list[str] = []
    joined = False
    for word in (*tokens[start:], "."):
        if word in ("or", "nor"):
            return True
        if word == "," or (word == "and" and listed) or (joined and word in _PUNCTUATION):
            if joined and word != "and":
                return _sounds(item)
            if listed and word == "and" and item and not _sounds(item):
                return False
            joined |= word == "and"
            item = []
            continue
        item.append(word)
        if len(item) > _LONGEST_ITEM or word == "and" or word in _NEW_CLAUSE | _STOPS | _PUNCTUATION:
            return False
    return False


def _sounds(item: Sequence[str]) -> bool:
    """Whether the item ends with an instrument or a voice and holds no other words than its form and one before it."""
    forms = load_lexicon().forms
    return any(
        fact.category in ("instrument", "vocals")
        for first in range(min(2, len(item)))
        for fact in forms.get(tuple(item[first:]), ())
    )


def denied_after(tokens: Sequence[str], end: int) -> bool:
    """Whether the words after a claim deny it: "drums are absent", "vocals are not present", "drum-free"."""
    if end >= len(tokens) or tokens[end] not in _AFTER_CUES:
        return False
    first, second, third = (*tokens[end : end + 3], "", "")[:3]
    if first == "free":
        return second not in ("jazz", "flowing", "spirited", "form")
    if first == "less":
        return second != "than"
    if first in _LEFT_OUT:  # "vocals removed"
        return True
    if first == ":":  # "drums: none", but "drums: no reverb"
        return second in ("none", "absent") or (second == "no" and (not third or third in _PUNCTUATION))
    if first in ("have", "has"):  # "the vocals have been removed"
        return second == "been" and third in _DENIED_AFTER
    if first == "off":  # "drums off, guitar on"
        return not second or second in _PUNCTUATION
    if first in _BE and second == "nowhere":
        return not third or third in _PUNCTUATION | {"to", "in"}
    if first in _DONT:
        return second in _ACTING
    if first in _DO:
        return second == "not" and third in _ACTING
    if first in _BE and second in _DENIED_AFTER:
        # not "the guitars are lacking volume"
        return not third or third in _PUNCTUATION | {"and", "from", "in", "here", "but", "so", "yet", "while"}
    if first in _BE:
        return second in ("not", "never") and third in _PRESENT
    return first in _NOT_BE and second in _PRESENT
