"""NeMo Data Designer's run for `generation_faults.py`: a seed file, one text column, `resume`.

Settings: `resume=ResumeMode.IF_POSSIBLE` (default: never); early shutdown at an error rate of 0.5 (its default);
`max_parallel_requests` as the others (default 4); `buffer_size`, the rows that are checkpointed together, from the
command line, 1,000 when left out (its default). The driver turns telemetry off.
"""

import argparse
import json
from pathlib import Path

import data_designer.config as dd
from data_designer.engine.storage.artifact_storage import ResumeMode
from data_designer.interface import DataDesigner


def main() -> None:
    """Ask every prompt and write the rows of the data set that Data Designer returns."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--prompts", type=Path, required=True)
    parser.add_argument("--base-url", required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--concurrency", type=int, default=8)
    parser.add_argument("--batch", type=int, default=1000)
    arguments = parser.parse_args()
    rows = len(arguments.prompts.read_text().splitlines())

    designer = DataDesigner(
        artifact_path=arguments.work / "artifacts",
        model_providers=[dd.ModelProvider(name="server", endpoint=arguments.base_url, api_key="benchmark")],
    )
    designer.set_run_config(dd.RunConfig(buffer_size=arguments.batch, otel_metrics_port=None))
    builder = dd.DataDesignerConfigBuilder(
        model_configs=[
            dd.ModelConfig(
                alias="writer",
                model="fault-server",
                provider="server",
                inference_parameters=dd.ChatCompletionInferenceParams(
                    max_parallel_requests=arguments.concurrency, max_tokens=256, timeout=120
                ),
            )
        ]
    )
    builder.with_seed_dataset(dd.LocalFileSeedSource(path=str(arguments.prompts)))
    builder.add_column(dd.LLMTextColumnConfig(name="caption", prompt="{{ prompt }}", model_alias="writer"))
    results = designer.create(builder, num_records=rows, dataset_name="captions", resume=ResumeMode.IF_POSSIBLE)
    with (arguments.work / "rows.jsonl").open("w") as out:
        for row in results.load_dataset().to_dict("records"):
            if isinstance(row["caption"], str):
                out.write(json.dumps({"id": row["id"], "caption": row["caption"]}) + "\n")


if __name__ == "__main__":
    main()
