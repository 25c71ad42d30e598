"""Curator's run for `generation_faults.py`: an `LLM` subclass over a data set, working directory kept.

Settings: `max_retries` 10, `request_timeout` 600 s, `seconds_to_pause_on_rate_limit` 10 (its defaults);
`require_all_responses=False` (default True fails the run for one lost row); its buckets of 200 requests a minute
lifted, as the server has no limit of its own. The driver turns telemetry off and points `TIKTOKEN_CACHE_DIR` at the
table that litellm ships, without which Curator downloads one.
"""

import argparse
import json
from pathlib import Path

from bespokelabs import curator
from datasets import load_dataset


class Captioner(curator.LLM):
    """Sends the prompt column, keeps the id beside the answer."""

    def prompt(self, input):  # type: ignore[no-untyped-def]  # Curator hashes the bare function
        """The user message."""
        return input["prompt"]

    def parse(self, input, response):  # type: ignore[no-untyped-def]
        """The output row."""
        return {"id": input["id"], "caption": response}


def main() -> None:
    """Ask every prompt and write the rows of the data set that Curator returns."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--prompts", type=Path, required=True)
    parser.add_argument("--base-url", required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--concurrency", type=int, default=8)
    arguments = parser.parse_args()
    captioner = Captioner(
        model_name="fault-server",
        backend="openai",
        backend_params={
            "base_url": arguments.base_url,
            "api_key": "benchmark",
            "require_all_responses": False,
            "max_concurrent_requests": arguments.concurrency,
            "max_requests_per_minute": 100_000,
            "max_tokens_per_minute": 1_000_000_000,
        },
    )
    prompts = load_dataset("json", data_files=str(arguments.prompts), split="train")
    answered = captioner(prompts, working_dir=str(arguments.work / "cache"))
    with (arguments.work / "rows.jsonl").open("w") as out:
        for row in answered.dataset:
            out.write(json.dumps({"id": row["id"], "caption": row["caption"]}) + "\n")


if __name__ == "__main__":
    main()
