#!/usr/bin/env bash
# Train on this machine, alone or as one of several: turns environment variables into `accelerate launch`.
#
#   DATA=data/shards OUTPUT=runs/faces256 CONFIG=faces256 bash launch/node.sh --seed 1
#
#   DATA             the shards; required
#   OUTPUT           the run's folder, which every machine must see; required
#   CONFIG           a preset's name, or a file; without it the trainer's defaults
#   NUM_PROCESSES    of all machines together; default: one for each GPU, one where there is none
#   NUM_MACHINES     default 1; on more, run this on each of them with its own MACHINE_RANK
#   MACHINE_RANK     0 to NUM_MACHINES - 1; default 0
#   MAIN_ADDRESS     address of the machine of rank 0; required on several machines
#   MAIN_PORT        a port that is open on it; default 29500
#   MIXED_PRECISION  bf16, fp16 or no; default: bf16 on GPUs, no elsewhere
#
# Arguments go to the trainer and win over CONFIG. SIGTERM, SIGUSR1 and Ctrl-C reach the trainer, which finishes its
# step and saves: exit code 143, of Ctrl-C 130. A second Ctrl-C leaves at once. Run the same command again to resume.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"

fail() {
    echo "launch/node.sh: error: $1" >&2
    exit 2
}

require_whole_number() {
    [[ "${!1}" =~ ^[0-9]+$ ]] && [ "${!1}" -ge "$2" ] || fail "$1 '${!1}' must be a whole number, $2 at least"
}

[ -n "${DATA:-}" ] || fail "DATA is not set; give the folder of shards: DATA=data/shards"
[ -n "${OUTPUT:-}" ] || fail "OUTPUT is not set; give the run's folder: OUTPUT=runs/faces"
[ -z "${CONFIG:-}" ] || [ -f "$CONFIG" ] || [ -f "$here/../configs/$CONFIG.yaml" ] ||
    fail "CONFIG $CONFIG: no such file or preset; presets: $(basename -s .yaml "$here"/../configs/*.yaml | xargs)"
command -v accelerate >/dev/null || source "$here/environment.sh"

NUM_MACHINES="${NUM_MACHINES:-1}"
require_whole_number NUM_MACHINES 1
MACHINE_RANK="${MACHINE_RANK:-0}"
require_whole_number MACHINE_RANK 0
[ "$MACHINE_RANK" -lt "$NUM_MACHINES" ] || fail "MACHINE_RANK $MACHINE_RANK must be below NUM_MACHINES $NUM_MACHINES"
MAIN_PORT="${MAIN_PORT:-29500}"
require_whole_number MAIN_PORT 1

count_gpus() {
    case "${CUDA_VISIBLE_DEVICES-all}" in
    all) nvidia-smi -L 2>/dev/null | grep -c '^GPU ' || true ;;
    "" | -1) echo 0 ;;
    *) tr ',' '\n' <<<"$CUDA_VISIBLE_DEVICES" | wc -l ;;
    esac
}

gpus="$(count_gpus)"
NUM_PROCESSES="${NUM_PROCESSES:-$((NUM_MACHINES * (gpus > 0 ? gpus : 1)))}"
require_whole_number NUM_PROCESSES 1
[ $((NUM_PROCESSES % NUM_MACHINES)) -eq 0 ] ||
    fail "NUM_PROCESSES $NUM_PROCESSES (of all machines together) must be a multiple of NUM_MACHINES $NUM_MACHINES"
MIXED_PRECISION="${MIXED_PRECISION:-$([ "$gpus" -gt 0 ] && echo bf16 || echo no)}"

flags=(--quiet --num_processes "$NUM_PROCESSES" --num_machines "$NUM_MACHINES" --machine_rank "$MACHINE_RANK")
flags+=(--mixed_precision "$MIXED_PRECISION" --dynamo_backend no)
presets="$here/../configs/accelerate"
if [ "$NUM_MACHINES" -gt 1 ]; then
    [ -n "${MAIN_ADDRESS:-}" ] || fail "MAIN_ADDRESS is not set; give the address of the machine of rank 0"
    flags+=(--config_file "$presets/multi_node.yaml" --rdzv_backend c10d)
    flags+=(--main_process_ip "$MAIN_ADDRESS" --main_process_port "$MAIN_PORT")
elif [ "$NUM_PROCESSES" -gt 1 ]; then
    flags+=(--config_file "$presets/multi_gpu.yaml" --main_process_port 0)  # 0: any free port
elif [ "$gpus" -gt 0 ]; then
    flags+=(--config_file "$presets/one_gpu.yaml")
else
    flags+=(--config_file "$presets/cpu.yaml")
fi
trainer=(-m launch.train ${CONFIG:+--config "$CONFIG"} --data "$DATA" --output "$OUTPUT" "$@")

# With several processes accelerate passes a SIGTERM on and then kills whatever lives on after this many seconds: too
# few by default for a step and a checkpoint.
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT="${TORCH_ELASTIC_SHUTDOWN_TIMEOUT:-120}"

last_checkpoint() {
    find "$OUTPUT/checkpoints" -maxdepth 1 -name 'nimg*' 2>/dev/null | sort | tail -n 1 || true  # none yet
}

asked=""
saved_before=""
ask_to_stop() {
    if [ "$1" = INT ] && [ -n "$asked" ]; then
        kill -KILL -- "-$launcher"
        exit 130
    fi
    [ -n "$asked" ] || saved_before="$(last_checkpoint)"
    asked="$1"
}

# accelerate starts the trainers as its children. They are asked themselves, because it passes SIGTERM on only where
# there are several of them, and dies of the SIGUSR1 that the trainers listen to as to SIGTERM.
forward() {
    pkill -TERM -P "$launcher" || kill -TERM "$launcher" 2>/dev/null || true
}

launcher=""
set -m  # a process group of its own: a signal to this one's must not reach the trainers twice
(
    # A single trainer's launcher would die of a SIGTERM to everything in a container and leave the trainer behind.
    [ "$NUM_PROCESSES" -gt 1 ] || trap '' TERM
    exec accelerate launch "${flags[@]}" "${trainer[@]}"
) &
launcher=$!
trap 'kill -TERM -- "-$launcher" 2>/dev/null || true' EXIT  # whatever ends this script, no trainer outlives it
trap 'ask_to_stop TERM' TERM USR1
trap 'ask_to_stop INT' INT
while kill -0 "$launcher" 2>/dev/null; do
    [ -z "$asked" ] || forward  # again and again: while it starts, a trainer does not listen yet
    sleep 1 &
    wait $! || true
done
status=0
wait "$launcher" || status=$?
# accelerate turns every failure into exit code 1; a newer checkpoint tells a stop that was asked for from a failure.
if [ -n "$asked" ] && [ "$status" -ne 0 ] && [ "$(last_checkpoint)" != "$saved_before" ]; then
    [ "$asked" != INT ] || exit 130
    exit 143
fi
exit "$status"
