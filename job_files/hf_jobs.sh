#!/usr/bin/env bash
# Hugging Face Jobs: one shard and one vLLM server a job, answers kept in a storage bucket of yours.
#
#   hf buckets create me/captions && hf buckets cp tracks.parquet hf://buckets/me/captions/tracks.parquet
#   BUCKET=me/captions MODEL=Qwen/Qwen3-4B SHARDS=4 PACKAGE=lp-musiccaps job_files/hf_jobs.sh [options of lpmc pseudo-caption]
#
# PACKAGE is what pip installs in the job: a name, or git+https://... of your copy. A job that was ended is started again
# by the same command with ONLY=its number, once it has ended. DRY_RUN=1 prints what would be submitted. You pay for the
# time that the jobs run.
set -euo pipefail
: "${BUCKET:?ORG/NAME of a storage bucket that holds tracks.parquet}" "${MODEL:?the model that vLLM serves}"
: "${SHARDS:?number of shards}" "${PACKAGE:?what pip installs, e.g. lp-musiccaps}"
FLAVOR=${FLAVOR:-a10g-large}
TIMEOUT=${TIMEOUT:-6h}
IMAGE=${IMAGE:-vllm/vllm-openai:latest}
VLLM_OPTIONS=${VLLM_OPTIONS:-} # e.g. --max-model-len 2048
here=$(cd "$(dirname "$0")" && pwd)
options=(--detach --flavor "$FLAVOR" --timeout "$TIMEOUT" --secrets HF_TOKEN --volume "hf://buckets/$BUCKET:/data")
if [ -n "${DRY_RUN:-}" ]; then options+=(--dry-run); fi

# In the job: lpmc gets an environment of its own, as its packages are not those that vLLM was tested with. A mounted
# bucket keeps a file when it is closed and has no locks, so the store lies on the job's disk and copies go to the bucket.
# shellcheck disable=SC2016  # the job expands it
inside='set -e
place=$(mktemp -d)
python3 -m venv "$place/lpmc"
"$place/lpmc/bin/python" -m pip install --quiet "$PACKAGE"
export PATH="$PATH:$place/lpmc/bin" OUTPUT="$place/captions"
echo "$SCRIPT" | base64 -d >"$place/caption_shard.sh"
exec bash "$place/caption_shard.sh" "$@"'

for shard in $(seq 0 $((SHARDS - 1))); do
    if [ -n "${ONLY:-}" ] && [ "$ONLY" != "$shard" ]; then continue; fi
    # The `--` keeps hf from taking options of lpmc for its own (both have a --timeout).
    hf jobs run "${options[@]}" --name "lpmc-captions-$shard-of-$SHARDS" \
        --env "MODEL=$MODEL" --env "SHARD=$shard" --env "SHARDS=$SHARDS" --env "PACKAGE=$PACKAGE" \
        --env "VLLM_OPTIONS=$VLLM_OPTIONS" --env TRACKS=/data/tracks.parquet --env KEEP=/data/captions \
        --env "SCRIPT=$(base64 <"$here/caption_shard.sh" | tr -d '\n')" \
        -- "$IMAGE" bash -c "$inside" caption_shard "$@"
done
