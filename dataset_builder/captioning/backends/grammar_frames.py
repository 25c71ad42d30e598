"""The sentence frames of the `grammar` backend: what each instruction's captions are put together from.

Slots: `{np}` a noun phrase without article ("wistful waltz"), `{a_np}` with it, `{band}` the instruments and voices
with their articles, `{tempo}` "a slow tempo", `{tone}` key and metre, `{sound}` what was done to the sound, `{moods}`
adjectives, `{noun}` "piece". `[has|have]` is one or the other, by the number of the band. No frame may hold a word of
the fact lexicon: a caption says what its tags say.
"""

from __future__ import annotations

NOUNS = ("track", "piece", "tune", "composition", "number")
PRONOUNS = ("It", "The music", "The piece", "The track", "The tune", "The composition")

# --- the first sentence, by instruction; a frame with {band} is for tracks with an instrument or a voice ------------

OPENERS: dict[str, tuple[str, ...]] = {
    "writing": (
        "This {np} features {band}",
        "This is {a_np} featuring {band}",
        "{Band} [shapes|shape] this {np}",
        "{Band} [forms|form] the core of this {np}",
        "{A_np} built around {band}",
        "{A_np} unfolds with {band}",
        "The {np} brings together {band}",
        "With {band}, this {np} takes shape step by step",
        "Here is {a_np} with {band}",
        "In this {np}, {band} can be heard",
        "{A_np} that combines {band}",
        "{Band} [comes|come] to the fore in {a_np}",
        "This {np} is carried by {band}",
        "What stands out in this {np} [is|are] {band}",
        "{A_np} with {band} woven together",
        "What we hear is {a_np} with {band}",
        "On this {np}, {band} [sets|set] the scene",
        "Built on {band}, this {np} develops with ease",
        "{Band} [runs|run] through this {np}",
        "Throughout this {np}, {band} [stays|stay] in view",
        "One hears {a_np} with {band}",
        "{A_np} centred on {band}",
        "At the centre of this {np} [is|are] {band}",
        "This {np} relies on {band}",
    ),
    "summary": (
        "{A_np} with {band}",
        "{A_np} for {band}",
        "{A_np} featuring {band}",
        "{A_np} built on {band}",
        "{A_np} based on {band}",
        "{A_np} around {band}",
        "{A_np} carried by {band}",
        "{A_np} that rests on {band}",
        "{Band} in {a_np}",
        "{Band} [makes|make] up {a_np}",
        "{Band} [marks|mark] {a_np}",
        "This {np} has {band}",
        "This {np} pairs its theme with {band}",
        "The {np} uses {band}",
        "The {np} is made of {band}",
        "{A_np} presenting {band}",
        "{A_np}, played with {band}",
        "{A_np} relying on {band}",
        "{A_np} made of {band}",
        "{A_np} drawing on {band}",
        "Overall {a_np} with {band}",
        "Essentially {a_np} for {band}",
        "With {band}, {a_np}",
        "Featuring {band}, {a_np}",
    ),
    "paraphrase": (
        "{Band} [weaves|weave] {a_np}",
        "{Band} [paints|paint] {a_np} in sound",
        "{Band} [tells|tell] the story of this {np}",
        "{Band} [meets|meet] in {a_np}",
        "Woven from {band}, this {np} opens like a picture",
        "Out of {band} grows {a_np}",
        "Somewhere between thought and motion, {band} [turns|turn] into {a_np}",
        "Like a scene in changing light, {a_np} takes form around {band}",
        "{A_np} where {band} [trades|trade] ideas",
        "{A_np} in which {band} [finds|find] common ground",
        "{A_np}, painted with {band}",
        "{A_np} that lets {band} speak",
        "A tapestry of {band} makes up this {np}",
        "A canvas for {band}, this {np} keeps its colours clear",
        "Threads of sound from {band} run through this {np}",
        "Every corner of this {np} is filled by {band}",
        "Nothing is left to chance in this {np}, where {band} [shares|share] the stage",
        "Line by line, {band} [draws|draw] {a_np}",
        "From the first moment {band} [colours|colour] this {np}",
        "There is {a_np} here, sketched by {band}",
        "Colours of {band} blend into {a_np}",
        "Side by side, {band} [brings|bring] {a_np} to life",
        "Traced by {band}, this {np} follows its own path",
        "{Band} [sketches|sketch] the outline of {a_np}",
        "{Band} [lights|light] up this {np}",
        "Think of {a_np} drawn by {band}",
        "Shades of {band} lie over this {np}",
        "What begins with {band} becomes {a_np}",
        "Here {band} [becomes|become] {a_np}",
        "Guided by {band}, {a_np} finds its way",
        "Lit by {band}, {a_np} opens up",
    ),
    "attribute_prediction": (
        "This {np} features {band}",
        "This is {a_np} that features {band}",
        "{A_np} in which {band} can be heard together",
        "{Band} [is|are] central to this {np}",
        "{Band} [plays|play] an important part in this {np}",
        "The {np} makes use of {band}",
        "The {np} includes {band}",
        "The {np} blends {band}",
        "{A_np} that draws on {band}",
        "{A_np} with {band} at its heart",
        "{A_np} shaped by {band}",
        "In this {np}, {band} [comes|come] together",
        "Drawing on {band}, this {np} unfolds at length",
        "With {band} in the arrangement, this {np} unfolds in full",
        "Combining {band}, this {np} covers much ground",
        "A closer look at this {np} reveals {band}",
        "{Band} [gives|give] this {np} its character",
        "{Band} [lends|lend] this {np} its colour",
        "Marked by {band}, this {np} keeps the attention",
        "Typical of its kind, this {np} relies on {band}",
        "The ingredients of this {np} are {band}",
        "Together {band} [makes|make] this {np} what it is",
        "{A_np} whose sound is defined by {band}",
        "{A_np} resting on {band}",
        "This {np} gathers {band} into one arrangement",
        "{Band} [stands|stand] out in this {np}",
        "Arranged for {band}, this {np} unfolds part by part",
        "As in many a {np}, {band} can be heard",
        "The arrangement of this {np} consists of {band}",
        "{Band} [makes|make] this {np} easy to recognise",
    ),
}

BARE_OPENERS: tuple[str, ...] = (  # for tracks without an instrument or a voice
    "This is {a_np}",
    "{A_np}",
    "{A_np} with a clear idea behind it",
    "The recording presents {a_np}",
    "Here is {a_np}",
    "What unfolds is {a_np}",
    "One hears {a_np}",
    "{A_np} takes shape here",
    "{A_np} from the first bar on",
    "The result is {a_np}",
    "At its heart this is {a_np}",
    "In essence this is {a_np}",
)

# --- what follows: as a tail of the first sentence, or as the predicate of a further one -----------------------------

TEMPO_TAILS = ("at {tempo}", "moving at {tempo}", "taken at {tempo}", "played at {tempo}", "flowing at {tempo}")
TEMPO_PREDICATES = (
    "moves at {tempo}",
    "unfolds at {tempo}",
    "runs at {tempo}",
    "proceeds at {tempo}",
    "is played at {tempo}",
    "is taken at {tempo}",
    "travels at {tempo}",
    "goes along at {tempo}",
)
PACE_TAILS = ("{paces} in its motion", "with motion that is {paces}")
PACE_PREDICATES = ("is {paces}", "remains {paces}", "comes across as {paces}")

TONE_TAILS = ("in {tone}", "set in {tone}", "written in {tone}", "cast in {tone}", "composed in {tone}")
TONE_PREDICATES = (
    "is set in {tone}",
    "is written in {tone}",
    "is composed in {tone}",
    "stands in {tone}",
    "stays in {tone}",
    "sits in {tone}",
    "rests in {tone}",
    "is cast in {tone}",
)

VOCAL_TAILS = ("purely instrumental", "entirely instrumental", "instrumental throughout", "all instrumental")
VOCAL_PREDICATES = (
    "is purely instrumental",
    "is entirely instrumental",
    "remains instrumental throughout",
    "stays instrumental from start to finish",
    "is instrumental through and through",
    "keeps to instrumental means",
)

SOUND_TAILS = ("coloured by {sound}", "touched by {sound}", "with {sound}", "marked by {sound}", "along with {sound}")
SOUND_PREDICATES = ("is coloured by {sound}", "is touched by {sound}", "is shaped by {sound}", "carries {sound}")
SOUND_WORD_TAILS = ("with {a_sounds} sound", "in {a_sounds} rendering", "with {a_sounds} finish")
SOUND_WORD_PREDICATES = ("has {a_sounds} sound", "sounds {sounds}", "comes across as {sounds}", "has {a_sounds} finish")

MOOD_TAILS = (
    "creating {a_moods} mood",
    "evoking {a_moods} mood",
    "carrying {a_moods} feeling",
    "with {a_moods} character",
    "setting {a_moods} tone",
    "in {a_moods} spirit",
)
MOOD_PREDICATES = (
    "has {a_moods} mood",
    "conveys {a_moods} feeling",
    "creates {a_moods} mood",
    "leaves {a_moods} impression",
    "keeps {a_moods} character",
    "sounds {moods}",
    "feels {moods}",
    "comes across as {moods}",
)
MOOD_NOUN_TAILS = ("full of {mood_nouns}", "filled with {mood_nouns}", "with a sense of {mood_nouns}")
MOOD_NOUN_PREDICATES = ("is full of {mood_nouns}", "conveys {mood_nouns}", "carries a sense of {mood_nouns}")

REST_TAILS = ("with {rest}", "along with {rest}", "marked by {rest}", "and with {rest}")
REST_PREDICATES = ("has {rest}", "is marked by {rest}", "shows {rest}", "is rounded off by {rest}", "offers {rest}")
REST_WORD_TAILS = ("{rest_words} in character", "{rest_words} by nature")
REST_WORD_PREDICATES = ("is {rest_words}", "comes across as {rest_words}", "remains {rest_words}")

DENIALS = ("Noted as well: {denials}.", "To be noted: {denials}.", "Also noted: {denials}.")

# --- what says nothing about the music, for captions that are wordier by their instruction ---------------------------

ADVERBIALS = (  # after the last predicate of a sentence
    "from the first moment to the last",
    "from beginning to end",
    "all the way through",
    "without ever losing the thread",
    "as the arrangement unfolds",
    "while each part keeps its place",
    "as one idea leads to the next",
    "with a clear sense of direction",
    "and every part has its place",
    "while the ideas develop little by little",
    "as the parts answer one another",
    "with an ear for detail",
)
CLOSERS: dict[str, tuple[str, ...]] = {
    "paraphrase": (
        "Nothing feels out of place, and the ideas follow one another as if in conversation.",
        "It is the kind of {noun} that tells its story without a single word of explanation.",
        "The colours shift a little with every turn, yet the picture stays whole.",
        "Each phrase leans on the one before, like steps on a familiar path.",
        "Small details come and go at the edges, like light on water.",
        "What remains is an image that takes its time to fade.",
        "The parts circle around each other until the picture is complete.",
        "By the end, every thread has found its way back home.",
    ),
    "attribute_prediction": (
        "The arrangement leaves room for every part, and the result holds together from start to finish.",
        "The parts are balanced against each other, so that the character of the {noun} stays clear.",
        "Taken together, these elements give the {noun} an identity of its own.",
        "All of this adds up to a {noun} with a character of its own.",
        "The elements support one another, and the whole keeps its shape until the end.",
        "Each element has its place in the arrangement, which makes the {noun} easy to recognise.",
        "As the {noun} goes on, the parts come forward one after another and then step back again.",
        "It is this combination that sets the {noun} apart from others of its kind.",
    ),
}
