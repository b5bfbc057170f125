#!/usr/bin/env bash
# Usage: ray_nodes.sh [PYTHON]. Two machines of a Ray cluster, in two network namespaces of this one: a sweep of two runs
# has one on each, the raylet of the second is killed by kill -9, and its run goes on at the first. Root, some minutes.
set -euo pipefail
python=$(realpath -s "${1:-.venv/bin/python}")
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PYTHONPATH=$PWD RAY_raylet_start_wait_time_s=300 RAY_kill_child_processes_on_worker_exit=false
# A cluster of a minute's life in a network of its own.
export RAY_AUTH_MODE=disabled

folder=$(mktemp -d)
names=(dreamer-a dreamer-b)
clean_up() {
    for name in "${names[@]}"; do
        ip netns pids "$name" 2>/dev/null | xargs -r kill -9 2>/dev/null || true
        ip netns delete "$name" 2>/dev/null || true
    done
    rm -rf "$folder"
}
trap clean_up EXIT
fail() {
    echo "ray_nodes.sh: $*" >&2
    exit 1
}

for name in "${names[@]}"; do ip netns add "$name"; done
ip link add va netns dreamer-a type veth peer name vb netns dreamer-b
address=1
for name in "${names[@]}"; do
    ip -n "$name" link set lo up
    ip -n "$name" address add "10.77.0.$address/24" dev "v${name: -1}"
    ip -n "$name" link set "v${name: -1}" up
    address=$((address + 1))
done

ray() { ip netns exec "$1" "$python" -m ray.scripts.scripts start "${@:2}" --num-cpus=1 --temp-dir="$folder/ray" >/dev/null; }
ray dreamer-a --head --node-ip-address=10.77.0.1 --port=6379 --include-dashboard=false
ray dreamer-b --address=10.77.0.1:6379 --node-ip-address=10.77.0.2

cd "$folder"
ip netns exec dreamer-a "$python" -m dreamer sweep --engine ray --address 10.77.0.1:6379 --configs toy debug \
    --method random --steps 30000 --loop.eval_every 10000 --seeds 0..1 &
sweep=$!

# held_in NAME: the run whose process is in a namespace
held_in() {
    local run
    for run in runs/toy_dot/random/*; do
        pid=$(cut -d " " -f 3 "$run/.lock" 2>/dev/null) || continue
        [ -z "$pid" ] || ! ip netns pids "$1" | grep -qx "$pid" || echo "$run"
    done
}
starts() { wc -l <"$1/machines.jsonl" 2>/dev/null || echo 0; }
until lost=$(held_in dreamer-b) && [ -n "$lost" ] && [ "$(starts "$lost")" -gt 0 ]; do
    kill -0 "$sweep" || fail "the sweep has ended"
    sleep 0.2
done
kept=$(held_in dreamer-a)
echo "On the second machine: $lost, on the first: ${kept:-none yet}. The second one is lost."
ip netns pids dreamer-b | while read -r pid; do
    [ "$(cat "/proc/$pid/comm" 2>/dev/null)" != raylet ] || kill -9 "$pid"
done
wait "$sweep" || fail "the sweep ended with exit code $?"
[ "$(starts "$lost")" = 2 ] || fail "$lost was started $(starts "$lost") times"
[ "$(starts runs/toy_dot/random/0)$(starts runs/toy_dot/random/1)" != 22 ] || fail "the other run was started again too"
echo "Both runs are finished; $lost was started twice, the other one once."
