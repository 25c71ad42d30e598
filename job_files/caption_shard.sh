#!/usr/bin/env bash
# Captions one shard with a vLLM server of its own on this machine: start the server, wait for it, ask, stop it.
#
#   TRACKS=tracks.parquet MODEL=Qwen/Qwen3-4B OUTPUT=captions SHARD=0 SHARDS=8 job_files/caption_shard.sh [options of lpmc pseudo-caption]
#
# Writes $OUTPUT/captions-0-of-8.parquet and, beside it, the store that makes the shard resumable: run the same command
# again after any end of the job. When all shards are done:
#   lpmc merge-shards captions/captions-*-of-8.parquet --tracks tracks.parquet --output captions.parquet
#
# KEEP names a folder that outlives this machine but is no place for a store under way (a mounted bucket): the store is
# fetched from there at the start and copied there every KEEP_SECONDS and at the end, the table at the end. OUTPUT is
# then a folder on the machine's own disk.
#
# Exit status: that of lpmc (75: interrupted, run again), or 1 when the server did not start.
# shellcheck disable=SC2317  # what a trap runs is reached, whatever shellcheck thinks
set -euo pipefail
: "${TRACKS:?the tracks table of lpmc tracks}" "${MODEL:?the model that vLLM serves}" "${OUTPUT:?a folder}"
: "${SHARD:?number of this shard, from 0}" "${SHARDS:?number of shards}"
START_SECONDS=${START_SECONDS:-1800} # how long a cold server may take to load the model
STOP_SECONDS=${STOP_SECONDS:-30}     # how long it may take to end
VLLM_OPTIONS=${VLLM_OPTIONS:-}       # e.g. --max-model-len 2048 --tensor-parallel-size 2
KEEP=${KEEP:-}
KEEP_SECONDS=${KEEP_SECONDS:-600}

fail() {
    echo "caption_shard: $1" >&2
    exit 1
}
# What lpmc would refuse is refused here, before a model is loaded for it.
for program in python3 vllm lpmc; do
    command -v "$program" >/dev/null || fail "$program: there is no such program; install it or extend PATH"
done
[ -f "$TRACKS" ] || fail "$TRACKS: there is no such tracks table; make one with lpmc tracks"
[[ "$SHARD" =~ ^[0-9]+$ && "$SHARDS" =~ ^[0-9]+$ && "$SHARD" -lt "$SHARDS" ]] || fail "SHARD=$SHARD: is not one of 0 to SHARDS - 1 (SHARDS=$SHARDS)"

mkdir -p "$OUTPUT"
base=captions-$SHARD-of-$SHARDS
name=$OUTPUT/$base
store=$name.store.sqlite
if [ -n "$KEEP" ]; then
    mkdir -p "$KEEP"
    export LPMC_STORE=sqlite # one file, of which a copy can be made while it is written to
    if [ -f "$KEEP/$base.store.sqlite" ] && [ ! -f "$store" ]; then cp "$KEEP/$base.store.sqlite" "$store"; fi
fi
port=${PORT:-$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')}

signals=0
caption=
server=
keeper=
own_cache=
stop() { # pass the signal on: lpmc waits for what is under way, stores it and exits with 75
    signals=$((signals + 1))
    if [ -n "$caption" ]; then kill -TERM "$caption" 2>/dev/null || true; fi
}
keep_store() { # one whole file, also while lpmc is writing to it
    [ -f "$store" ] || return 0
    python3 - "$store" "$store.copy" <<'PYTHON' && cp "$store.copy" "$KEEP/$base.store.sqlite.part" && mv -f "$KEEP/$base.store.sqlite.part" "$KEEP/$base.store.sqlite"
import pathlib, sqlite3, sys
pathlib.Path(sys.argv[2]).unlink(missing_ok=True)
source, copy = (sqlite3.connect(path) for path in sys.argv[1:])
source.backup(copy)
copy.execute("PRAGMA journal_mode=DELETE")
copy.close()
PYTHON
}
finish() {
    set +e
    trap '' TERM INT HUP
    if [ -n "$server" ]; then
        kill -TERM "$server" 2>/dev/null
        for _ in $(seq $((STOP_SECONDS * 5))); do
            kill -0 "$server" 2>/dev/null || break
            sleep 0.2
        done
        kill -KILL -- "-$server" 2>/dev/null # it or workers that it left behind
        wait "$server" 2>/dev/null
    fi
    if [ -n "$own_cache" ]; then rm -rf "$own_cache"; fi
    if [ -n "$KEEP" ]; then
        if [ -n "$keeper" ]; then
            kill -KILL -- "-$keeper" 2>/dev/null
            wait "$keeper" 2>/dev/null
        fi
        keep_store || echo "caption_shard: $KEEP: the store could not be copied there" >&2
        rm -f "$store.copy"
        for file in "$name.parquet" "$name.pipeline.json" "$name.vllm.log"; do
            if [ -f "$file" ]; then cp "$file" "$KEEP/" || echo "caption_shard: $KEEP: $file could not be copied there" >&2; fi
        done
    fi
}
trap stop TERM INT HUP
trap finish EXIT

# Servers that start together on one file system spoil each other's compile cache: one cache a job.
if [ -z "${VLLM_CACHE_ROOT:-}" ]; then
    own_cache=$(mktemp -d)
    export VLLM_CACHE_ROOT=$own_cache
fi
# Ctrl-C reaches every process of a group: in groups of their own, server and captioner hear of it from `stop` alone.
# shellcheck disable=SC2086  # the options are words
setsid vllm serve "$MODEL" --host 127.0.0.1 --port "$port" $VLLM_OPTIONS >"$name.vllm.log" 2>&1 &
server=$!

healthy() { # without the proxy of the cluster
    python3 -c 'import sys, urllib.request as web; web.build_opener(web.ProxyHandler({})).open(sys.argv[1], timeout=5)' \
        "http://127.0.0.1:$port/health" 2>/dev/null
}
SECONDS=0
until healthy; do
    [ "$signals" -eq 0 ] || exit 75
    if ! kill -0 "$server" 2>/dev/null || [ "$SECONDS" -ge "$START_SECONDS" ]; then
        fail "the vLLM server did not start; see $name.vllm.log"
    fi
    sleep 0.5
done
[ "$signals" -eq 0 ] || exit 75

if [ -n "$KEEP" ]; then
    set -m # a group of its own, so that it can be ended with the copy under way
    while sleep "$KEEP_SECONDS"; do keep_store || echo "caption_shard: $KEEP: the store could not be copied there" >&2; done &
    keeper=$!
    set +m
fi

setsid lpmc pseudo-caption "$TRACKS" --output "$name.parquet" --store "$store" --backend openai \
    --base-url "http://127.0.0.1:$port/v1" --model "$MODEL" --shard "$SHARD/$SHARDS" "$@" &
caption=$!
if [ "$signals" -gt 0 ]; then kill -TERM "$caption"; fi # it came before there was a `caption` to pass it on to
status=0
while true; do
    heard=$signals
    status=0
    wait "$caption" || status=$?
    if [ "$signals" -eq "$heard" ]; then break; fi # a signal ends `wait` early, while the captioner is still storing
done
if [ "$signals" -gt 0 ] && [ "$status" -eq 143 ]; then status=75; fi # it ended while lpmc was still reading its tables
exit "$status"
