"""For local models of 0.1 to 3 B parameters.

With the released wording alone such a model invents titles and loops; a system message and three worked examples keep
it near the tags.
"""

from __future__ import annotations

from dataset_builder.wordings.prompts import INSTRUCTIONS, Text, Wording, texts_version

SMALL_SYSTEM = {
    "writing": "You describe music. Write one sentence that names every attribute of the list."
    " Add no instrument, no style and no name that is not in the list.",
    "summary": "You describe music. Sum the list up in one short sentence."
    " Add no instrument, no style and no name that is not in the list.",
    "paraphrase": "You describe music. Say the attributes of the list in other words, in one sentence."
    " Add no instrument, no style and no name that is not in the list.",
    "attribute_prediction": "You describe music. Answer with a dictionary that has the keys new_attribute and"
    " description. new_attribute lists two further attributes that often occur with those of the list;"
    " description is one sentence with all of them.",
}
# Three worked examples an instruction, the longest last: a small model imitates the one it read most recently, and
# with a one-tag example there it drops most of the list (seen with SmolLM2-135M). They name no artist.
_EXAMPLE_TAGS = (
    ("accordion",),
    ("techno", "synthesizer", "energetic"),
    ("blues", "harmonica", "slow tempo", "melancholic", "male vocal", "acoustic guitar", "e minor", "12/8 time"),
)
_EXAMPLE_ANSWERS = {
    "writing": (
        "The recording features an accordion.",
        "This is an energetic techno track led by a synthesizer.",
        "This is a slow tempo blues song in e minor and 12/8 time, with a melancholic male vocal, harmonica and"
        " acoustic guitar.",
    ),
    "summary": (
        "A piece for accordion.",
        "Energetic techno with synthesizer.",
        "A melancholic slow tempo blues in e minor and 12/8 time for male vocal, harmonica and acoustic guitar.",
    ),
    "paraphrase": (
        "An accordion carries the tune.",
        "Driven by a synthesizer, this techno track is energetic throughout.",
        "With harmonica and acoustic guitar behind it, a melancholic male vocal sings the blues at a slow tempo, in"
        " e minor and 12/8 time.",
    ),
    "attribute_prediction": (
        '{"new_attribute": ["folk"], "description": "A folk tune with an accordion."}',
        '{"new_attribute": ["repetitive", "danceable"], "description": "An energetic, danceable techno track with'
        ' repetitive synthesizer lines."}',
        '{"new_attribute": ["soulful", "sparse"], "description": "A soulful, sparse blues at a slow tempo in e minor'
        ' and 12/8 time, where a melancholic male vocal sings over harmonica and acoustic guitar."}',
    ),
}
_MAX_TOKENS = {"writing": 96, "summary": 96, "paraphrase": 96, "attribute_prediction": 128}  # one short sentence

SMALL = Wording(
    "small",
    texts_version([SMALL_SYSTEM, _EXAMPLE_TAGS, _EXAMPLE_ANSWERS]),
    {
        instruction: Text(
            "attributes: {tags}",
            system=SMALL_SYSTEM[instruction],
            examples=tuple(zip(_EXAMPLE_TAGS, _EXAMPLE_ANSWERS[instruction], strict=True)),
            max_tokens=_MAX_TOKENS[instruction],
        )
        for instruction in INSTRUCTIONS
    },
)
