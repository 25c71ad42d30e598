"""Tokenizers of captions: a named one where it can be had, else a byte-level BPE trained on the captions at hand.

The trained one keeps BART's special ids (<s> 0, <pad> 1, </s> 2, <unk> 3), so that the model's config and its way of
generating are the same with either.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from lpmc_errors import ModelError

logger = logging.getLogger(__name__)

# Ids 0 to 4; the first four lie where BART has them.
SPECIAL_TOKENS = {
    "bos_token": "<s>",
    "pad_token": "<pad>",
    "eos_token": "</s>",
    "unk_token": "<unk>",
    "mask_token": "<mask>",
}
BYTES = 256  # every byte is a token, so that any text can be written
SMALLEST_VOCABULARY = len(SPECIAL_TOKENS) + BYTES
LONGEST_CAPTION = 1024  # tokens; bart-base's max_position_embeddings


class LoadedTokenizer(NamedTuple):
    """A tokenizer and where it came from: the name or folder it was read from, or "trained"."""

    tokenizer: PreTrainedTokenizerBase
    source: str


def train_tokenizer(captions: Iterable[str], vocab_size: int = 2000) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE on `captions`; the same captions always give the same tokenizer.

    The result writes `<s> ... </s>`, and reads any text back unchanged. It may hold fewer than `vocab_size` tokens, if
    the captions have no more pairs to merge.

    Raises `ModelError` if there are no captions or the vocabulary is too small for all bytes.
    """
    if vocab_size < SMALLEST_VOCABULARY:
        problem = f"a vocabulary of {vocab_size} is too small for every byte"
        raise ModelError("tokenizer", problem, f"use {SMALLEST_VOCABULARY} or more")
    texts = [caption for caption in captions if caption.strip()]
    if not texts:
        raise ModelError("tokenizer", "there are no captions to train on", "give a table with captions")
    backend = Tokenizer(models.BPE(unk_token=None))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS.values()),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        **SPECIAL_TOKENS,
        model_max_length=LONGEST_CAPTION,
        clean_up_tokenization_spaces=False,  # "is n't" must stay what it was
        split_special_tokens=True,  # a caption that contains "</s>" is text, and ends nothing
    )


def load_tokenizer(
    name: str | Path | None = None, captions: Iterable[str] | None = None, vocab_size: int = 2000
) -> LoadedTokenizer:
    """Load the tokenizer `name` (a folder or a Hub id), or, where that is not to be had, train one on `captions`.

    The result says which of the two it is. Raises `ModelError` if neither works.
    """
    if name is not None:
        try:
            return LoadedTokenizer(_from_folder_or_hub(str(name)), str(name))
        except (OSError, ValueError) as error:  # not there and no network; or there, but no tokenizer
            reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
            if captions is None:
                problem = f"no tokenizer could be loaded ({reason})"
                raise ModelError(name, problem, "give a folder that holds one") from error
            logger.warning("tokenizer %s cannot be loaded (%s); training one on the captions instead", name, reason)
    if captions is None:
        raise ModelError("tokenizer", "neither a tokenizer nor captions to train one on were given")
    return LoadedTokenizer(train_tokenizer(captions, vocab_size), "trained")


def _from_folder_or_hub(name: str) -> PreTrainedTokenizerBase:
    # In a captioner's folder the library looks into config.json and warns that such a model is none of its own.
    warner = logging.getLogger("transformers.configuration_utils")
    before = warner.level
    warner.setLevel(logging.ERROR)
    try:  # trust_remote_code=False, as the library else asks at the keyboard
        return AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    finally:
        warner.setLevel(before)
