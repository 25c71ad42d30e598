"""For capable models: strict about what may be said, and an answer with a schema where one is asked for.

Why each rule: with the released wording 8 to 11 % of the published writing and paraphrase captions start with "Get
ready to", a quarter speaks of lyrics or to the listener, and half of the attribute_prediction captions name an
instrument that no tag supports.
"""

from __future__ import annotations

import json

from dataset_builder.wordings.prompts import MAX_TOKENS, Text, make_wording

_RULES = """\
You write captions for a music data set. You get a list of attributes of one recording and know nothing else about it: \
you have not heard it.

Content:
- {content}
- Do not state an instrument, a voice, a tempo, a key, a metre, an era, a genre, a mood, a use or a place that {limit}.
- Keep contradictory or odd attributes as they are; do not correct or explain them.
- Name no artist, song title, album or record label, not even a made-up one.
- Say nothing about what lyrics are about. Say nothing about the list, the attributes as such, or this request.

Style:
- Plain present-tense English about the recording, as a neutral observer would put it.
- Do not address anyone: no "you", "your", "listener" or "audience", and no commands.
- Vary how you begin. Do not open with advertising such as "Get ready to", "Immerse yourself", "Experience", \
"Introducing", "Prepare", "Let", "Discover" or "Step into".
- No praise such as "amazing", "masterpiece" or "unforgettable", unless an attribute says so.
- {form}"""
_ONLY_LISTED = "Use every attribute of the list, and only those. Wording may change, meaning may not."
_NOT_LISTED = "is not in the list"
_PROSE = "Answer with the caption alone: one paragraph, without quotation marks, markdown, a title or a label."

_PREDICTION_KEYS = """\
Answer with one JSON object and nothing around it, no markdown. It has exactly two keys, in this order: \
"new_attribute", a list of 2 to 4 short strings, and "description", a string that holds the caption without \
quotation marks or markdown inside."""


def _system(form: str, *, content: str = _ONLY_LISTED, limit: str = _NOT_LISTED) -> str:
    return _RULES.replace("{content}", content).replace("{limit}", limit).replace("{form}", form)


PREDICTION_SCHEMA = {
    "type": "object",
    "properties": {
        "new_attribute": {"type": "array", "items": {"type": "string"}, "minItems": 2, "maxItems": 4},
        "description": {"type": "string"},
    },
    "required": ["new_attribute", "description"],
    "additionalProperties": False,
}
"""The attributes come first: a model writes the keys in this order, and the description builds on them."""

GROUNDED = make_wording(
    "grounded",
    {
        "writing": Text(
            "Describe the recording in one or two sentences, about 25 to 60 words.\nAttributes: {tags}",
            "Describe the recording in one short sentence, about 6 to 15 words.\nThe only attribute: {tags}",
            _system(_PROSE),
            max_tokens=MAX_TOKENS["writing"],
        ),
        "summary": Text(
            "Sum the recording up in a single sentence of at most 30 words.\nAttributes: {tags}",
            "Sum the recording up in a single sentence of at most 12 words.\nThe only attribute: {tags}",
            _system(_PROSE),
            max_tokens=MAX_TOKENS["summary"],
        ),
        "paraphrase": Text(
            "Describe the recording in one or two sentences, about 25 to 60 words. Say the attributes in other words"
            " where a synonym says exactly the same; keep the names of instruments and genres.\nAttributes: {tags}",
            "Describe the recording in one short sentence, about 6 to 15 words. Say the attribute in other words where"
            " a synonym says exactly the same; keep the name of an instrument or a genre.\nThe only attribute: {tags}",
            _system(_PROSE),
            max_tokens=MAX_TOKENS["paraphrase"],
        ),
        "attribute_prediction": Text(
            "First choose new_attribute: 2 to 4 further attributes that very often occur together with the listed ones"
            " and contradict none of them. Then write description: one or two sentences, about 25 to 70 words, with"
            " every listed attribute and every new one.\nAttributes: {tags}",
            "First choose new_attribute: 2 to 4 further attributes that very often occur together with the listed one"
            " and do not contradict it. Then write description: one sentence, about 10 to 30 words, with the listed"
            " attribute and every new one.\nThe only attribute: {tags}",
            _system(
                _PREDICTION_KEYS,
                content="Use every attribute of the list and every one of new_attribute, and only those. Wording may"
                " change, meaning may not.",
                limit="is neither in the list nor in new_attribute",
            ),
            schema=json.dumps(PREDICTION_SCHEMA, separators=(",", ":")),
            max_tokens=MAX_TOKENS["attribute_prediction"],
        ),
    },
)
