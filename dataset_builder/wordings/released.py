"""What the authors' generator sent, byte for byte (code of arXiv 2307.16372, commit 12fcb31).

The paper's and the README's texts differ from it in places. One user message, no system message:
`{instruction} \\n {tags joined by ", "}`.
"""

from __future__ import annotations

from dataset_builder.wordings.prompts import INSTRUCTIONS, MAX_TOKENS, Text, Wording, texts_version

RELEASED_PLURAL = {
    "writing": "write a song description sentence including the following attributes.",
    "summary": "write a single sentence that summarize a song with the following attributes."
    " Don't write artist name or album name.",
    "paraphrase": "write a song description sentence including the following attributes."
    " creative paraphrasing is acceptable.",
    "attribute_prediction": "write the answer as a python dictionary with new_attribute and description as keys."
    " for new_attribute, write new attributes with high co-occurrence with the following attributes."
    " for description, write a song description sentence including the following attributes and new attributes.",
}
RELEASED_SINGULAR = {
    "writing": "write a song description sentence including the following single attribute.",
    "summary": "write a single sentence that summarize a song with the following single attribute."
    " Don't write artist name or album name.",
    "paraphrase": "write a song description sentence including the following single attribute."
    " creative paraphrasing is acceptable.",
    "attribute_prediction": "write the answer as a python dictionary with new_attribute and description as keys."
    " for new_attribute, write new attributes with high co-occurrence with the following single attribute."
    " for description, write a song description sentence including the single attribute and new attribute.",
}

RELEASED = Wording(
    "released",
    texts_version([RELEASED_PLURAL, RELEASED_SINGULAR]),
    {
        instruction: Text(
            f"{RELEASED_PLURAL[instruction]} \n {{tags}}",
            f"{RELEASED_SINGULAR[instruction]} \n {{tags}}",
            max_tokens=MAX_TOKENS[instruction],
        )
        for instruction in INSTRUCTIONS
    },
)
