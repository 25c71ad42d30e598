"""distilabel's run for `generation_faults.py`: its own pipeline with the OpenAI model class, cache on.

Settings: `max_retries` 6, `timeout` 120 s, `use_cache` True (its defaults); `input_batch_size` from the command line,
50 when left out (its default).
"""

import argparse
import json
from pathlib import Path

from distilabel.models import OpenAILLM
from distilabel.pipeline import Pipeline
from distilabel.steps import LoadDataFromDicts
from distilabel.steps.tasks import TextGeneration


def main() -> None:
    """Ask every prompt and write the rows that have a caption; nothing is written when the pipeline fails."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--prompts", type=Path, required=True)
    parser.add_argument("--base-url", required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--concurrency", type=int, default=8)  # distilabel has none: a batch is under way at once
    parser.add_argument("--batch", type=int, default=50)
    arguments = parser.parse_args()
    prompts = [json.loads(line) for line in arguments.prompts.read_text().splitlines()]

    with Pipeline(name="captions", cache_dir=arguments.work / "cache") as pipeline:
        load = LoadDataFromDicts(data=[{"id": row["id"], "instruction": row["prompt"]} for row in prompts])
        write = TextGeneration(
            llm=OpenAILLM(model="fault-server", base_url=arguments.base_url, api_key="benchmark"),
            input_batch_size=arguments.batch,
        )
        load >> write
    distiset = pipeline.run(use_cache=True)

    with (arguments.work / "rows.jsonl").open("w") as out:
        for row in distiset["default"]["train"]:
            if row["generation"] is not None:
                out.write(json.dumps({"id": row["id"], "caption": row["generation"]}) + "\n")


if __name__ == "__main__":
    main()
