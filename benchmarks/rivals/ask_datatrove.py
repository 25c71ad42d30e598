"""datatrove's run for `generation_faults.py`: `InferenceRunner` against an endpoint, with checkpoints.

Settings: `skip_bad_requests` on and `checkpoints_local_dir` set, so that it resumes and survives a 400 (both are off by
default); `records_per_chunk` 50 instead of 6,000, finer than 400 rows need. Its answers land in its own JSON lines
while it runs, so they count even when it aborts.

datatrove asks a plain-http endpoint on localhost or 127.0.0.1 through a socket helper of its own and every other one,
so every hosted API, through the openai client. The driver passes an address that takes the second way. The client is
pinned to 2.x: 3.x leaves the error's type out of the exception's text, in which `skip_bad_requests` looks for it.
"""

import argparse
import json
from pathlib import Path

from datatrove.data import Document
from datatrove.executor.local import LocalPipelineExecutor
from datatrove.pipeline.inference.run_inference import InferenceConfig, InferenceRunner
from datatrove.pipeline.inference.types import InferenceError
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers import JsonlWriter


async def write_caption(document: Document, generate):  # type: ignore[no-untyped-def]  # datatrove's own types
    """One request a document; what it raises is left to the runner."""
    return await generate({"messages": [{"role": "user", "content": document.text}], "max_tokens": 256})


async def write_caption_or_none(document: Document, generate):  # type: ignore[no-untyped-def]
    """The same, but a failed document is given up: None removes it from the output."""
    try:
        return await write_caption(document, generate)
    except InferenceError:
        return None


def main() -> None:
    """Ask every prompt; raises what the executor raises."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--prompts", type=Path, required=True)
    parser.add_argument("--base-url", required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--concurrency", type=int, default=8)
    parser.add_argument("--tolerant", action="store_true", help="give a failed document up instead of the run")
    arguments = parser.parse_args()
    output = arguments.work / "output"
    try:
        LocalPipelineExecutor(
            pipeline=[
                JsonlReader(str(arguments.prompts.parent), glob_pattern=arguments.prompts.name, text_key="prompt"),
                InferenceRunner(
                    rollout_fn=write_caption_or_none if arguments.tolerant else write_caption,
                    config=InferenceConfig(
                        server_type="endpoint",
                        model_name_or_path="fault-server",
                        endpoint_url=arguments.base_url,
                        api_key="benchmark",
                        max_concurrent_generations=arguments.concurrency,
                        request_timeout=120,
                    ),
                    output_writer=JsonlWriter(
                        str(output), output_filename="${rank}_chunk_${chunk_index}.jsonl", compression=None
                    ),
                    checkpoints_local_dir=str(arguments.work / "checkpoints"),
                    records_per_chunk=50,
                    skip_bad_requests=True,
                ),
            ],
            logging_dir=str(arguments.work / "logs"),
            tasks=1,
        ).run()
    finally:
        with (arguments.work / "rows.jsonl").open("w") as out:
            for file in sorted(output.glob("*.jsonl")):
                for line in file.read_text().splitlines():
                    row = json.loads(line)
                    out.write(
                        json.dumps({"id": row["id"], "caption": row["metadata"]["rollout_results"][0]["text"]}) + "\n"
                    )


if __name__ == "__main__":
    main()
