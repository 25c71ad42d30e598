"""BERTScore: each token of a caption matched to the nearest token of its reference, by cosine, in one layer of a model.

The values are those of the package bert_score 0.3.13 as the paper used it (transformers 4, no idf, no rescaling). What
is taken from it is its table of the best layer for each model; the computation is this file's, since with
transformers 5 that package leaves out the space before the first word that RoBERTa was trained with (no error, other
values), fails on an empty text and on a tokenizer without a limit, loads a T5 for any path with "t5" in it, lets the
padding of a batch into the maximum where a cosine is negative, and keeps the token embeddings of all texts in memory
(1.4 GB for 2,839 pairs of 62 tokens and roberta-large).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caption_metrics.model_source import (
    ModelSource,
    Progress,
    count_truncated,
    find_model,
    load_tokenizer,
    load_weights,
    loading,
    model_library,
    pick_device,
    token_limit,
)
from lpmc_errors import MissingExtraError, ModelError

Numbers = NDArray[np.float64]

BERTSCORE_MODEL = "roberta-large"  # what bert_score's lang="en" stands for, the paper's; its layer is 17
BATCH_TOKENS = 8192  # tokens with padding in one pass through the model; 0.3 GB of activations for roberta-large
GROUP_CHARACTERS = 2**17  # characters whose token embeddings are held at once; about 30,000 tokens, 0.13 GB
_PURPOSE = "BERTScore"


@dataclass(frozen=True)
class BertscoreModel:
    """A model made ready by `load_bertscore_model`; `signature` names it, its revision, layer and limit."""

    source: ModelSource
    layer: int
    limit: int  # tokens; longer texts are cut
    prefix_space: bool  # a space goes before the first word
    cut: bool  # the layers above are gone, so that the last output is the wanted one
    tokenizer: Any
    model: Any
    device: str

    @property
    def signature(self) -> str:
        """`model`, `layer`, `revision` and the settings of the values that this model gives."""
        space = "yes" if self.prefix_space else "no"
        return (
            f"model:{self.source.name}|layer:{self.layer}|revision:{self.source.revision}|tokens:{self.limit}"
            f"|prefix_space:{space}|idf:no|rescaled:no|refs:best"
        )

    def truncated(self, texts: Sequence[str]) -> int:
        """How many texts are longer than the model reads."""
        return count_truncated([self._prepared(text) for text in texts], self.tokenizer, self.limit)

    def _prepared(self, text: str) -> str:
        return f" {text.strip()}" if self.prefix_space else text.strip()


def load_bertscore_model(
    model: str = BERTSCORE_MODEL, *, layer: int | None = None, device: str | None = None
) -> BertscoreModel:
    """Load a folder or a model of the Hub for BERTScore, once for many calls of `bertscore_values`.

    `layer` is by default the one that bert_score recommends for a model of that name, else the last. `device` is by
    default `cuda` where there is one. Raises `ModelError`, and `MissingExtraError` without bert_score.
    """
    transformers = model_library()
    source = find_model(model)
    tokenizer = load_tokenizer(source, _PURPOSE)
    network = load_weights(transformers.AutoModel, source, _PURPOSE, unused=("pooler",))
    with loading(source.name, _PURPOSE):
        if network.config.is_encoder_decoder:
            network = network.get_encoder()
        layers = int(network.config.num_hidden_layers)
    if layer is None:
        recommended = _recommended_layer(source.name)
        layer = recommended if recommended is not None and recommended <= layers else layers
    if not 1 <= layer <= layers:
        raise ModelError(source.name, f"has layers 1 to {layers}, not {layer}", "choose one of these")
    limit = token_limit(tokenizer, network)
    cut = _drop_layers(network, layer, layers)
    chosen = pick_device(device)
    return BertscoreModel(
        source, layer, limit, _takes_prefix_space(tokenizer), cut, tokenizer, network.to(chosen), chosen
    )


def bertscore_values(
    predictions: Sequence[str],
    references: Sequence[Sequence[str]],
    model: str | BertscoreModel = BERTSCORE_MODEL,
    *,
    progress: Progress | None = None,
) -> tuple[Numbers, Numbers, Numbers]:
    """Precision, recall and F1 of every caption, each (n,), without idf weights or rescaling.

    With several references each of the three is its best over them, as in bert_score. An empty caption counts 0, as
    does one whose references are all empty; an empty reference beside others is passed over. Special tokens can be
    matched but do not count. Longer texts than the model reads are cut (`BertscoreModel.truncated`). Nothing is
    random, and a value does not depend on the other captions. Raises `ModelError`.
    """
    ready = model if isinstance(model, BertscoreModel) else load_bertscore_model(model)
    values = np.zeros((len(predictions), 3))
    pairs = [
        (prediction, [stated] if isinstance(stated, str) else stated)  # one text, whose letters are no references
        for prediction, stated in zip(predictions, references, strict=True)
    ]
    done = 0
    for group in _groups(pairs):
        texts = {text for index in group for text in (pairs[index][0], *pairs[index][1]) if text.strip()}
        embedded = _embed(sorted(texts), ready)
        for index in group:
            prediction, candidates = pairs[index]
            if prediction.strip():
                scores = [_match(embedded[prediction], embedded[text]) for text in candidates if text.strip()]
                values[index] = np.max(scores, axis=0) if scores else 0.0
        done += len(group)
        if progress is not None:
            progress(done, len(pairs))
    precision, recall, f1 = values.T
    return precision, recall, f1


def _groups(pairs: Sequence[tuple[str, Sequence[str]]]) -> Iterator[list[int]]:
    """Rows of like length together (less padding), as many as may be held in memory."""
    sizes = [max(map(len, (prediction, *texts))) for prediction, texts in pairs]
    totals = [sum(map(len, (prediction, *texts))) for prediction, texts in pairs]
    group: list[int] = []
    held = 0
    for index in sorted(range(len(pairs)), key=sizes.__getitem__):
        if group and held + totals[index] > GROUP_CHARACTERS:
            yield group
            group, held = [], 0
        group.append(index)
        held += totals[index]
    if group:
        yield group


def _embed(texts: Sequence[str], ready: BertscoreModel) -> dict[str, tuple[Any, Any]]:
    """Of each text the unit vectors of its tokens (tokens, width) and which tokens count (tokens,)."""
    import torch

    tokenizer = ready.tokenizer
    tokens = [
        tokenizer.encode(ready._prepared(text), truncation=True, max_length=ready.limit, verbose=False)
        for text in texts
    ]
    special = torch.tensor([token for token in (tokenizer.cls_token_id, tokenizer.sep_token_id) if token is not None])
    embedded: dict[str, tuple[Any, Any]] = {}
    for batch in _batches(tokens):
        width = max(len(tokens[place]) for place in batch)
        ids = torch.full((len(batch), width), tokenizer.pad_token_id or 0)
        mask = torch.zeros((len(batch), width), dtype=torch.long)
        for row, place in enumerate(batch):
            ids[row, : len(tokens[place])] = torch.tensor(tokens[place])
            mask[row, : len(tokens[place])] = 1
        with torch.inference_mode():
            output = ready.model(
                input_ids=ids.to(ready.device), attention_mask=mask.to(ready.device), output_hidden_states=not ready.cut
            )
            hidden = output.last_hidden_state if ready.cut else output.hidden_states[ready.layer]
            vectors = torch.nn.functional.normalize(hidden.float(), dim=-1)
        for row, place in enumerate(batch):
            length = len(tokens[place])
            counts = ~torch.isin(ids[row, :length], special)
            embedded[texts[place]] = (vectors[row, :length].clone(), counts.to(ready.device))
    return embedded


def _batches(tokens: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    """Places of texts of like length, at most `BATCH_TOKENS` with the padding."""
    batch: list[int] = []
    for place in sorted(range(len(tokens)), key=lambda place: len(tokens[place])):
        if batch and (len(batch) + 1) * len(tokens[place]) > BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


def _match(prediction: tuple[Any, Any], reference: tuple[Any, Any]) -> tuple[float, float, float]:
    (claimed, claimed_counts), (stated, stated_counts) = prediction, reference
    if not claimed_counts.any() or not stated_counts.any():
        return 0.0, 0.0, 0.0  # nothing but special tokens: characters that the tokenizer drops
    cosines = claimed @ stated.T
    precision = float(cosines.max(dim=1).values[claimed_counts].mean())
    recall = float(cosines.max(dim=0).values[stated_counts].mean())
    total = precision + recall
    return precision, recall, 2 * precision * recall / total if total else 0.0


def _drop_layers(network: Any, layer: int, layers: int) -> bool:
    """Take away the layers above `layer` where the network holds them in one list; False where it does not."""
    import torch

    if layer == layers:
        return True
    stacks = [module for module in network.modules() if isinstance(module, torch.nn.ModuleList)]
    stacks = [stack for stack in stacks if len(stack) == layers]
    if len(stacks) != 1:
        return False
    del stacks[0][layer:]
    return True


def _takes_prefix_space(tokenizer: Any) -> bool:
    from transformers import GPT2Tokenizer, RobertaTokenizer

    return isinstance(tokenizer, (GPT2Tokenizer, RobertaTokenizer))  # bert_score's own list


def _recommended_layer(name: str) -> int | None:
    try:
        from bert_score.utils import model2layers
    except ImportError as error:
        raise MissingExtraError("bert-score", extra="meaning") from error

    # Models have moved into organisations since the table was made (roberta-large is FacebookAI/roberta-large now).
    return {known.split("/")[-1]: int(layer) for known, layer in model2layers.items()}.get(name.split("/")[-1])
