"""What the reference captions of rendered clips are put together from: the notes of a musician who listens.

Slots: `{n}` the name of the music ("slow waltz in A minor"), `{a_n}` with its article, `{M}` who has the tune and `{O}`
the others, with their articles, `{m}` and `{o}` without. `[m:has|have]` and `[o:has|have]` follow their number.
Frames begin in lower case, as a semicolon may stand before them.
Words of the fact lexicon stand here only where their fact is told. The grammar of the pseudo captions
(`captioning/backends/grammar_frames.py`) speaks in other words on purpose: references are a second style.
"""

from __future__ import annotations

NOUNS = ("tune", "piece", "number", "composition", "track")

OPENINGS = (
    "{n}",
    "{n}",
    "{a_n}",
    "excerpt from {a_n}",
    "snippet of {a_n}",
    "a bit of {a_n}",
    "first impression: {a_n}",
    "halfway through {a_n}",
    "clearly {a_n}",
    "nicely played {n}",
    "I hear {a_n}",
    "to me it's {a_n}",
    "we get {a_n}",
    "they play {a_n}",
    "sounds as if somebody plays {a_n}",
    "my note says {a_n}",
    "call it {a_n}",
    "must be {a_n}",
    "so, {a_n}",
    "another {n}",
    "some sort of {n}",
    "it's {a_n}",
)

LEADS = (  # who has the tune, and the others
    "{M} [m:carries|carry] the tune over {O}",
    "{M} [m:has|have] the tune, with {O} underneath",
    "{M} up front, {O} behind",
    "{M} with the tune, backed by {O}",
    "tune on {M}, backing from {O}",
    "{O} [o:backs|back] {M}, which [m:has|have] the tune",
    "{O} [o:lays|lay] the ground for {M}",
    "{M} [m:gets|get] the tune, {O} the rest",
    "{M} on top of {O}",
    "{O} [o:supports|support] {M} out in front",
    "out in front {M}, and under that {O}",
    "the lead goes to {M}, the backing to {O}",
    "{M} [m:plays|play] the theme and {O} [o:answers|answer]",
    "{M} over {O}",
    "{O} [o:sits|sit] behind {M}, where the theme is",
    "someone gives the theme to {M}; {O} [o:fills|fill] in",
    "{M} [m:takes|take] the theme, {O} [o:follows|follow]",
    "{M} [m:handles|handle] the tune while {O} [o:looks|look] after the rest",
    "my ear goes to {M} first, then to {O}",
    "{O} [o:leaves|leave] plenty of room for {M}, which [m:has|have] the theme",
)
LEAD_ALONE = (  # the first of two sentences
    "{M} [m:has|have] the tune",
    "{M} [m:carries|carry] it",
    "the theme belongs to {M}",
    "{M} out in front",
    "{M} [m:takes|take] the theme",
    "{M} [m:gets|get] most of the attention",
)
OTHERS_ALONE = (  # the second
    "{O} underneath",
    "{O} [o:backs|back] that up",
    "behind that {O}",
    "{O} for company",
    "the others: {o}",
    "{O} [o:fills|fill] in the rest",
    "then there [o:is|are] {O}",
)
TOGETHER = (  # nobody has the tune, or it is not told who
    "{O} between them",
    "{O} [o:shares|share] the work",
    "players: {o}",
    "in the mix: {o}",
    "{O}, and they lock together",
    "heard: {o}",
    "{O} side by side",
    "they use {O}",
    "instruments are {O}",
    "{O}, more or less level in the mix",
)
ALONE = (
    "{M} and that's all",
    "just {M} by [m:itself|themselves]",
    "{M} alone",
    "{M} on [m:its|their] own",
    "solo {m}",
    "{M} [m:plays|play] alone",
    "one player, {M}",
)

TEMPO_WORDS = {
    "slow tempo": ("slow", "slow-paced", "unhurried"),
    "medium tempo": ("mid-tempo", "medium-paced", "moderately paced"),
    "fast tempo": ("fast", "quick", "up-tempo", "brisk"),
}
TEMPO_CLAUSES = {
    "slow tempo": ("the tempo is slow", "it goes at a slow tempo", "taken at a leisurely pace", "rather slow"),
    "medium tempo": ("the tempo is moderate", "it goes at a medium tempo", "taken at a moderate pace", "middle tempo"),
    "fast tempo": ("the tempo is fast", "it goes at a brisk tempo", "taken at a quick tempo", "pretty fast"),
}
KEY_CLAUSES = ("the key is {key}", "it lives in {key}", "{key} is home", "we're in {key}", "I make it {key}")
METRE_WORDS = {
    "4/4": ("4/4", "four-four", "common time"),
    "3/4": ("3/4", "three-four"),
    "2/4": ("2/4", "two-four"),
    "6/8": ("6/8", "six-eight"),
    "5/4": ("5/4", "five-four"),
    "7/8": ("7/8", "seven-eight"),
    "12/8": ("12/8", "twelve-eight"),
}
METRE_CLAUSES = ("counted in {metre}", "the bars are in {metre}", "{metre} on paper", "it's in {metre}")
MOOD_CLAUSES = (
    "the mood is {mood}",
    "it feels {mood}",
    "{mood} in mood",
    "comes over as {mood}",
    "{a_mood} mood hangs over it",
    "somebody meant it to be {mood}",
)
TEXTURE_CLAUSES = (
    "the texture is {texture}",
    "{texture} in texture",
    "{a_texture} texture",
    "kept {texture}",
    "the scoring is {texture}",
)
EFFECT_CLAUSES = {
    "distortion": ("the sound is distorted", "everything distorted a little", "distortion on the whole mix"),
    "chorus effect": ("a chorus effect widens the sound", "somebody put a chorus effect on it", "chorus effect on top"),
    "echo": ("there's an echo on it", "every note echoes", "the echo is hard to miss"),
    "delay": ("a delay repeats the notes", "there's a delay on it"),
    "reverb": ("there's a lot of reverb", "drenched in reverb", "reverb everywhere", "long reverb on it"),
    "tremolo": ("a tremolo makes the level waver", "the level wobbles with tremolo", "tremolo on the mix"),
    "compressed": ("the recording is heavily compressed", "compressed to one level", "sounds compressed"),
    "muffled": ("the recording is muffled", "it comes through muffled", "muffled, as if from next door"),
    "lo-fi": ("the sound is lo-fi", "recorded in a lo-fi way", "a lo-fi sound overall"),
    "noisy": ("there's hiss on the recording", "the recording is noisy", "a layer of hiss on it", "noisy tape"),
}
OTHER_EFFECT = "on the sound: {effect}"
VOICELESS = (  # always the last clause of a sentence: a denial reaches what follows it
    "nobody sings",
    "no vocals",
    "no singing on it",
    "there are no vocals",
    "instrumental, all of it",
    "no singer",
    "strictly instrumental",
    "it stays instrumental",
    "no voices",
)
