"""Writing captions on a CPU: this model's `generate` beside the library's BART fed with the same encoder states.

    OMP_NUM_THREADS=1 python benchmarks/captioning.py [--clips 8] [--beams 5] [--tokens 60] [--rounds 5]

Full-size random weights (149 M), the released decoding (no repeated trigrams, forced first and last token), every
caption as long as it may get. One round runs each candidate once, in turn, so that a slower minute of the machine
meets all of them; compared are medians. They stand beside their floor: counted operations and bytes at the rates which
the same processor reaches on one large product and on reading memory.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
import transformers
from captioning_work import decoding_work
from transformers import BartConfig, BartForConditionalGeneration, GenerationMixin
from transformers.modeling_outputs import BaseModelOutput

from modeling_lpmc import LpmcConfig, LpmcForConditionalGeneration
from modeling_lpmc.decoding_lpmc import decoder_weights

PRODUCT_SIDE = 1024  # of the matrices whose product gives the arithmetic ceiling
READ_BYTES = 2**28  # far more than the caches hold
SMALL = {"vocab_size": 500, "d_model": 96, "encoder_ffn_dim": 128, "decoder_ffn_dim": 128}  # to try the script
STOCK = "BART's generate (transformers)"


def settings(beams: int, tokens: int) -> dict[str, Any]:
    """The released decoding, with every caption `tokens` tokens long behind the start token."""
    return {
        "num_beams": beams,
        "early_stopping": beams > 1,
        "max_length": tokens + 1,
        "min_length": tokens + 1,
        "no_repeat_ngram_size": 3,
        "forced_bos_token_id": 0,
        "forced_eos_token_id": 2,
        "do_sample": False,
    }


def stock_bart(model: LpmcForConditionalGeneration) -> BartForConditionalGeneration:
    """transformers' own BART with the decoder and head of `model`."""
    known = BartConfig().to_dict().keys() - {
        "model_type",
        "architectures",
        "transformers_version",
        "torch_dtype",
        "dtype",
    }
    config = BartConfig(**{name: getattr(model.config, name) for name in known})
    bart = BartForConditionalGeneration(config).eval()
    weights = {name: value for name, value in model.state_dict().items() if "conv_stem" not in name}
    bart.load_state_dict(weights, strict=True)
    return bart


def rates() -> tuple[float, float]:
    """FLOP/s of a large float32 product and bytes/s of reading memory, on the threads that torch uses."""
    one, other = (torch.randn(PRODUCT_SIDE, PRODUCT_SIDE) for _ in range(2))
    data = torch.randn(READ_BYTES // 4)

    def best(work: Callable[[], Any]) -> float:
        times = []
        for _ in range(7):
            start = time.perf_counter()
            work()
            times.append(time.perf_counter() - start)
        return min(times)

    return 2 * PRODUCT_SIDE**3 / best(lambda: one @ other), READ_BYTES / best(data.sum)


def main() -> int:
    """Run the rounds and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--beams", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--compiled", action="store_true", help="also run compiled steps (compiles for a minute or two)"
    )
    parser.add_argument("--small", action="store_true", help="a tiny model, to try the script")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    model: Any = LpmcForConditionalGeneration(LpmcConfig(**(SMALL if arguments.small else {}))).eval()
    bart: Any = stock_bart(model)
    config = model.config
    heard = torch.randn(arguments.clips, config.max_source_frames, config.d_model)
    asked = settings(arguments.beams, arguments.tokens)
    for precision in ("native", "int8"):  # laying out is done once a model, not once a batch
        decoder_weights(model, precision)

    def ours(precision: str = "native", compiled: bool = False) -> torch.Tensor:
        model.set_decoding(precision, compiled=compiled)
        return model.generate(encoder_outputs=BaseModelOutput(heard), **asked)

    candidates: dict[str, Callable[[], torch.Tensor]] = {
        STOCK: lambda: bart.generate(encoder_outputs=BaseModelOutput(heard), **asked),
        "this model, the library's search": lambda: GenerationMixin.generate(
            model, encoder_outputs=BaseModelOutput(heard), **asked
        ),
        "this model, float32": ours,
        "this model, int8": lambda: ours("int8"),
    }
    if arguments.compiled:
        candidates["this model, float32, compiled"] = lambda: ours(compiled=True)
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    written = {}
    with torch.inference_mode():
        for round_number in range(arguments.rounds + 1):  # the first warms up
            for name, work in candidates.items():
                start = time.perf_counter()
                written[name] = work()
                if round_number:
                    seconds[name].append(time.perf_counter() - start)
    print_table(arguments, config, seconds, written)
    return 0


def print_table(
    arguments: argparse.Namespace, config: LpmcConfig, seconds: dict[str, list[float]], written: dict[str, torch.Tensor]
) -> None:
    """The ceilings and one row a candidate."""
    flops_a_second, bytes_a_second = rates()
    work = decoding_work(config, arguments.clips, arguments.beams, arguments.tokens)
    floor, limit = work.floor_seconds(flops_a_second, bytes_a_second)
    print(f"{platform.machine()}, torch {torch.__version__}, transformers {transformers.__version__}")
    print(
        f"{arguments.threads} thread(s): float32 product {flops_a_second / 1e9:.0f} GFLOP/s, "
        f"memory read at {bytes_a_second / 1e9:.1f} GB/s"
    )
    print(
        f"{arguments.clips} clips, {arguments.beams} beams, {arguments.tokens} tokens: {work.flops / 1e9:.0f} GFLOP, "
        f"{work.bytes / 1e9:.1f} GB (weights {work.weight_bytes / 1e9:.1f}, keys and values "
        f"{work.cache_bytes / 1e9:.1f}, scores {work.score_bytes / 1e9:.1f}); float32 floor {floor:.2f} s ({limit})\n"
    )
    print(
        "| decoding | s a batch | lowest to highest | ms a step | clips/s | GFLOP/s | of the product's rate | faster "
        "| tokens changed | captions changed |\n|---|---|---|---|---|---|---|---|---|---|"
    )
    base, reference = statistics.median(seconds[STOCK]), written[STOCK]
    for name, times in seconds.items():
        median, rate = statistics.median(times), work.flops / statistics.median(times)
        differs = written[name] != reference
        print(
            f"| {name} | {median:.2f} | {min(times):.2f} to {max(times):.2f} | {median / arguments.tokens * 1e3:.1f} "
            f"| {arguments.clips / median:.2f} | {rate / 1e9:.0f} | {rate / flops_a_second:.0%} "
            f"| {base / median:.2f} x "
            f"| {differs.float().mean():.1%} | {int(differs.any(1).sum())} of {arguments.clips} |"
        )


if __name__ == "__main__":
    sys.exit(main())
