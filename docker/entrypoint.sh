#!/usr/bin/env bash
# What the container starts.
#
#   docker run … dinogen:0.1.0                     trains, with launch/node.sh's environment variables: DATA, OUTPUT,
#                                                  CONFIG, NUM_PROCESSES, NUM_MACHINES, MACHINE_RANK, MAIN_ADDRESS,
#                                                  MAIN_PORT, MIXED_PRECISION
#   docker run … dinogen:0.1.0 --seed 1            the same; arguments that begin with a dash go to the trainer
#   docker run … dinogen:0.1.0 sample --count 8    dinogen sample --count 8; likewise every other verb
#
# Every branch ends in exec: the process that gets Docker's signals is the one that understands them.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if [ $# -gt 0 ] && [[ "$1" != -* ]]; then
    exec dinogen "$@"
fi

# A forgotten volume looks like an empty folder: say so before minutes of start-up.
if [[ "${DATA:-}" != *://* ]] && [ ! -f "${DATA:-}/manifest.json" ]; then
    echo "docker/entrypoint.sh: error: no manifest.json in DATA ${DATA:-(not set)}; mount the shards there:" \
        "--volume /path/to/shards:/data:ro" >&2
    exit 2
fi
if ! mkdir -p "${OUTPUT:?OUTPUT is not set; give the folder of the run}" 2>/dev/null || [ ! -w "$OUTPUT" ]; then
    echo "docker/entrypoint.sh: error: user $(id -u) may not write to OUTPUT $OUTPUT; give the mounted folder to that" \
        "user (chown) or run as its owner (--user)" >&2
    exit 2
fi
exec launch/node.sh "$@"
