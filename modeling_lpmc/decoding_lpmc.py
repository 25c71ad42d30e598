# Copyright 2026 The LP-MusicCaps port authors. Licensed under the Apache License, Version 2.0.
"""The decoder as captioning runs it: a few new tokens a clip and step, on weights laid out for that.

The numbers are those of `BartDecoder` and the head. What differs is where the time goes:

- The beams of a clip are queries of one attention over one *tree* of tokens, under a mask of ancestors. Beams share
  what they have in common, nothing is copied when beams are chosen anew, and keys and values of the encoder exist once
  a clip.
- On a CPU in float32, weights lie transposed, in narrow blocks, in huge pages: a few rows times a large matrix take two
  thirds of the time that they take as `nn.Linear` keeps them. The three products of self-attention are one.
- On request, on a CPU, the products run in int8 (weights scaled by output channel, activations by row).

This file travels to the Hub as remote code: it imports torch and its neighbours, nothing else.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

from .head_scores_lpmc import Head
from .memory_lpmc import FastMemory
from .products_lpmc import Product, check_int8, packs, product_with

PRECISIONS = ("native", "int8")  # native: as the weights are
NODE_BUCKET = 64  # nodes; caches of compiled steps have multiples of it
LOOKED_THROUGH = 2**16  # numbers; smaller tensors are read whole to see whether they have changed


@dataclass(frozen=True)
class LayerWeights:
    """One decoder layer: its products, and the layer itself for norms, activation and the encoder's keys and values."""

    self_qkv: Product
    self_out: Product
    cross_query: Product
    cross_out: Product
    widen: Product
    narrow: Product
    layer: Any


@dataclass(frozen=True)
class DecoderWeights:
    """The weights of a decoder with its head, laid out for generating."""

    decoder: Any
    num_heads: int
    layers: tuple[LayerWeights, ...]
    head: Head

    @property
    def dtype(self) -> torch.dtype:
        """Of hidden states."""
        return self.decoder.layernorm_embedding.weight.dtype


Cache = list[tuple[torch.Tensor, torch.Tensor]]  # keys and values a layer, each (clips, heads, nodes, head size)


class TokenTree:
    """The tokens of a batch of clips that the decoder has read, with its keys and values.

    Tokens are nodes. Every step adds the same number of nodes to each clip, and a mask says which nodes are the
    ancestors of which new one. `keep` throws away nodes that have no living descendants, and clips that are done.
    """

    def __init__(self, weights: DecoderWeights, encoder_states: torch.Tensor, *, compiled: bool = False) -> None:
        """Begin with no tokens and `encoder_states` (clips, positions, width).

        `compiled`: steps after the first run through `torch.compile`, on a cache of few different sizes.
        """
        self.weights = weights
        self.compiled = compiled
        self.nodes = 0
        states = encoder_states.to(weights.dtype)
        heads = weights.num_heads
        axes = (0, 1, 3, 2) if packs(states) else (0, 1, 2, 3)  # see `_listen`
        self.cross: Cache = [
            (
                _by_head(own.layer.encoder_attn.k_proj(states), heads).permute(axes).contiguous(),
                _by_head(own.layer.encoder_attn.v_proj(states), heads).contiguous(),
            )
            for own in weights.layers
        ]
        self.cache: Cache = [(values[:, :, :0], values[:, :, :0]) for _, values in self.cross]

    @property
    def num_clips(self) -> int:
        """Clips in the batch."""
        return self.cross[0][0].shape[0]

    @property
    def device(self) -> torch.device:
        """Where tokens are expected."""
        return self.cross[0][0].device

    def read(self, tokens: torch.Tensor, position: int, ancestors: torch.Tensor, spare: int = 0) -> torch.Tensor:
        """Add `tokens` (clips, n), return their last hidden states (clips, n, width).

        `ancestors` (clips, n, nodes + n) is true where a new token sees a node, itself included. The tokens stand at
        `position` all of them, or, before any other, one behind the other from there on. Where the cache has to grow it
        takes `spare` nodes more.
        """
        first, count = self.nodes == 0, tokens.shape[1]
        table = self.weights.decoder.embed_positions
        begin = position + table.offset
        positions = table.weight[begin : begin + (count if first else 1)]
        self._make_room(count, spare)
        at = torch.arange(self.nodes, self.nodes + count, device=tokens.device)
        self.nodes += count
        size = self.cache[0][0].shape[2] if self.compiled else self.nodes
        seen = nn.functional.pad(ancestors, (0, size - self.nodes))
        mask = torch.zeros(seen.shape, dtype=self.weights.dtype, device=seen.device)
        mask = mask.masked_fill_(~seen, -torch.inf).unsqueeze(1)
        cache = [(keys[:, :, :size], values[:, :, :size]) for keys, values in self.cache]
        decode = _compiled_decode(*seen.shape) if self.compiled and not first else _decode
        return decode(self.weights, tokens, positions, at, mask, cache, self.cross)

    def keep(self, nodes: torch.Tensor | None, clips: torch.Tensor | None, spare: int = 0) -> None:
        """Reduce every clip to `nodes` (clips, n), and then the batch to `clips` (m,); None keeps all.

        Room for `spare` more nodes is made on the way.
        """
        if clips is not None:
            self.cross = [(keys[clips], values[clips]) for keys, values in self.cross]
            self.cache = [(keys[clips], values[clips]) for keys, values in self.cache]
            nodes = None if nodes is None else nodes[clips]
        if nodes is not None:
            self.nodes = nodes.shape[1]
            clip_count, heads, room, head_size = self.cache[0][0].shape
            first_rows = torch.arange(clip_count * heads, device=nodes.device).view(clip_count, heads, 1) * room
            wanted = nn.functional.pad(nodes, (0, self._room(spare)))  # what lies in the room is never looked at
            rows = (first_rows + wanted.unsqueeze(1)).flatten()

            def kept(old: torch.Tensor) -> torch.Tensor:
                return old.reshape(-1, head_size).index_select(0, rows).view(clip_count, heads, -1, head_size)

            self.cache = [(kept(keys), kept(values)) for keys, values in self.cache]

    def _room(self, wanted: int) -> int:
        """How many nodes to make room for, if it is to be for `wanted`."""
        return wanted if not self.compiled else -(-(self.nodes + wanted) // NODE_BUCKET) * NODE_BUCKET - self.nodes

    def _make_room(self, count: int, spare: int) -> None:
        if self.nodes + count <= self.cache[0][0].shape[2]:
            return
        missing = (0, 0, 0, self._room(count + spare))
        self.cache = [
            (
                nn.functional.pad(keys[:, :, : self.nodes], missing),
                nn.functional.pad(values[:, :, : self.nodes], missing),
            )
            for keys, values in self.cache
        ]


def _decode(
    weights: DecoderWeights,
    tokens: torch.Tensor,
    positions: torch.Tensor,
    at: torch.Tensor,
    mask: torch.Tensor,
    cache: Cache,
    cross: Cache,
) -> torch.Tensor:
    """Last hidden states (clips, n, width) of `tokens` (clips, n).

    Their keys and values go into `cache`, at the nodes `at` (n,).
    """
    decoder = weights.decoder
    hidden = decoder.layernorm_embedding(decoder.embed_tokens(tokens) + positions)
    clips, count, width = hidden.shape
    hidden = hidden.reshape(clips * count, width)
    for own, (keys, values), (cross_keys, cross_values) in zip(weights.layers, cache, cross, strict=True):
        query, key, value = own.self_qkv(hidden).view(clips, count, -1).split(width, dim=-1)
        keys.index_copy_(2, at, _by_head(key, weights.num_heads))
        values.index_copy_(2, at, _by_head(value, weights.num_heads))
        heard = _attend(_by_head(query, weights.num_heads), keys, values, mask)
        hidden = own.layer.self_attn_layer_norm(hidden + own.self_out(heard))
        query = own.cross_query(hidden).view(clips, count, -1)
        heard = _listen(_by_head(query, weights.num_heads), cross_keys, cross_values)
        hidden = own.layer.encoder_attn_layer_norm(hidden + own.cross_out(heard))
        widened = own.layer.activation_fn(own.widen(hidden))
        hidden = own.layer.final_layer_norm(hidden + own.narrow(widened))
    return hidden.view(clips, count, width)


@functools.cache
def _compiled_decode(clips: int, count: int, nodes: int) -> Any:
    """`_decode` compiled for `count` new tokens in each of `clips` clips and a cache of `nodes`.

    Each is a function with code of its own: PyTorch compiles one code eight times at most (`recompile_limit`), and
    sizes would use that up in two or three batches. What is left of it is for other models.
    """
    code = _decode.__code__.replace(co_name=f"_decode_{clips}_{count}_{nodes}")
    return torch.compile(types.FunctionType(code, _decode.__globals__), dynamic=False)


def _by_head(rows: torch.Tensor, num_heads: int) -> torch.Tensor:
    """(clips, n, width) to (clips, heads, n, head size)."""
    return rows.unflatten(-1, (num_heads, -1)).transpose(1, 2)


def _attend(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor | None = None
) -> torch.Tensor:
    """What `query` (clips, heads, n, head size) finds in `keys` and `values`, as rows (clips * n, width)."""
    found = nn.functional.scaled_dot_product_attention(query, keys, values, attn_mask=mask)
    return found.transpose(1, 2).flatten(2).flatten(0, 1)


def _listen(query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """As `_attend`, to all positions of the encoder.

    On a CPU in float32 their `keys` lie transposed (clips, heads, head size, positions): as two products of all heads
    this takes four fifths of the time of the library's function, which multiplies head by head.
    """
    if not packs(query):
        return _attend(query, keys, values)
    clips, heads, count, size = query.shape
    weights = torch.bmm((query * size**-0.5).reshape(-1, count, size), keys.flatten(0, 1)).softmax(-1)
    found = torch.bmm(weights, values.flatten(0, 1)).view(clips, heads, count, size)
    return found.transpose(1, 2).flatten(2).flatten(0, 1)


_LAID_OUT: WeakKeyDictionary[nn.Module, dict[str, tuple[Any, DecoderWeights]]] = WeakKeyDictionary()


def decoder_weights(captioner: Any, precision: str = "native") -> DecoderWeights:
    """The decoder and head of `captioner` laid out for generating.

    Copies of the weights are kept between calls where making them takes long, and made again when the weights have
    changed. Raises `ValueError` for an unknown precision, and `RuntimeError` where int8 can't be computed.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision {precision!r} is unknown; use one of {', '.join(PRECISIONS)}")
    if precision == "native" and not packs(captioner.lm_head.weight):
        forget_decoder_weights(captioner)  # of the time before it was moved or rounded
        return _lay_out(captioner, precision)  # refers to the weights themselves, nearly all of them
    kept, state = _LAID_OUT.setdefault(captioner, {}), _fingerprint(captioner)
    found = kept.get(precision)
    if found is None or found[0] != state:
        kept.pop(precision, None)  # the old ones go before the new ones come
        found = kept[precision] = state, _lay_out(captioner, precision)
    return found[1]


def forget_decoder_weights(captioner: Any) -> None:
    """Give the memory of laid out weights back, as when training begins."""
    _LAID_OUT.pop(captioner, None)


@torch.no_grad()
def _lay_out(captioner: Any, precision: str) -> DecoderWeights:
    if precision == "int8":
        check_int8(captioner.lm_head.weight)
    decoder, memory = captioner.model.decoder, FastMemory()
    layers = tuple(_layer_weights(layer, precision, memory) for layer in decoder.layers)
    head = Head(captioner.lm_head.weight, captioner.final_logits_bias, precision, memory)
    return DecoderWeights(decoder, int(captioner.config.decoder_attention_heads), layers, head)


def _layer_weights(layer: Any, precision: str, memory: FastMemory) -> LayerWeights:
    own, cross = layer.self_attn, layer.encoder_attn

    def of(*linears: nn.Linear) -> Product:
        weight = linears[0].weight if len(linears) == 1 else torch.cat([linear.weight for linear in linears])
        bias = linears[0].bias if len(linears) == 1 else torch.cat([linear.bias for linear in linears])
        return product_with(weight.detach(), bias.detach(), precision, memory)

    return LayerWeights(
        self_qkv=of(own.q_proj, own.k_proj, own.v_proj),
        self_out=of(own.out_proj),
        cross_query=of(cross.q_proj),
        cross_out=of(cross.out_proj),
        widen=of(layer.fc1),
        narrow=of(layer.fc2),
        layer=layer,
    )


def _tensors(captioner: Any) -> Iterator[torch.Tensor]:
    yield from captioner.model.decoder.layers.parameters()
    yield captioner.lm_head.weight
    yield captioner.final_logits_bias


def _fingerprint(captioner: Any) -> tuple[Any, ...]:
    """What changes when a weight that was copied changes: where it lies, how often torch saw it written, samples.

    The samples are for code that writes through `.data`, which torch does not count. They are taken from every row and
    column, of vectors it is all: 4 ms, where reading all weights takes 40. Their bits are summed up, so that no change
    is too small, and NaN equals itself.
    """
    found: list[Any] = []
    for tensor in _tensors(captioner):
        whole = tensor.detach()
        parts = (whole,) if whole.numel() <= LOOKED_THROUGH else (whole[0], whole[:, 0])
        sums = tuple(int(part.float().view(torch.int32).sum()) for part in parts)
        version = None if tensor.is_inference() else tensor._version
        found.append((tensor.data_ptr(), version, tuple(tensor.shape), sums))
    return tuple(found)


__all__ = ["PRECISIONS", "DecoderWeights", "TokenTree", "decoder_weights", "forget_decoder_weights"]
