#!/usr/bin/env bash
# Usage: image.sh [FOLDER]. Builds the CPU image of the Dockerfile without Docker, in FOLDER (build/image), and tries it
# as users do: tasks, a training, signals, the report; as the image's user, as another one and as root.
#
# Buildah and Podman do what Docker does. What the Dockerfile begins with, an image of Python, is made of Debian's own
# packages, so that nothing is fetched but what a registry of Debian and one of Python packages have. 12 minutes, 10 GB.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

for program in buildah podman debootstrap runc; do
    command -v "$program" >/dev/null || {
        echo "image.sh: $program is missing: apt-get install buildah podman debootstrap runc" >&2
        exit 2
    }
done
[ "$(id -u)" -eq 0 ] || {
    echo "image.sh: debootstrap needs root" >&2
    exit 2
}

folder=$(realpath -m "${1:-build/image}")
runs=$folder/runs
rm -rf "$runs"
mkdir -p "$runs"
# Limits of open files as they are here: setting them is not for everyone.
printf '[containers]\ndefault_ulimits = []\n' >"$folder/containers.conf"
export CONTAINERS_CONF=$folder/containers.conf
storage=(--root "$folder/storage" --runroot "$folder/run" --storage-driver overlay)
buildah() { command buildah "${storage[@]}" "$@"; }
podman() { command podman "${storage[@]}" --runtime runc --cgroup-manager cgroupfs --events-backend none "$@"; }
# run [OPTION ...] IMAGE WORD ...: as `docker run -v "$PWD/runs:/app/runs"`
run() { podman run --rm --network host -v "$runs:/app/runs" "$@"; }
say() { printf '\n== %s\n' "$*"; }
fail() {
    echo "image.sh: $*" >&2
    exit 1
}
# expect CODE COMMAND ...: fails unless the command ends so
expect() {
    local wanted=$1 code=0
    shift
    "$@" || code=$?
    [ "$code" -eq "$wanted" ] || fail "exit code $code instead of $wanted of: $*"
}

python=docker.io/library/python:3.11-slim-bookworm
if ! buildah inspect --type image "$python" >/dev/null 2>&1; then
    say "An image of Python, $python"
    rm -rf "$folder/base"
    debootstrap --variant=minbase --include=ca-certificates,python3,python3-pip bookworm "$folder/base"
    # How this machine reaches a registry of packages.
    cp -a /etc/ssl/certs/. "$folder/base/etc/ssl/certs/"
    [ ! -e /etc/pip.conf ] || cp -L /etc/pip.conf "$folder/base/etc/"
    ln -s /usr/bin/python3 "$folder/base/usr/local/bin/python"
    rm -f "$folder"/base/usr/lib/python3*/EXTERNALLY-MANAGED
    container=$(buildah from scratch)
    buildah add "$container" "$folder/base" / >/dev/null
    buildah commit --rm "$container" "$python"
    rm -rf "$folder/base"
fi

say "The image"
commit=$(git rev-parse HEAD)
buildah bud --isolation chroot --pull-never --layers --target cpu --build-arg "COMMIT=$commit" -t dreamer:cpu .
[ "$(podman inspect --format '{{index .Labels "org.opencontainers.image.revision"}}' dreamer:cpu)" = "$commit" ] ||
    fail "the image has no label with the commit"
# What a change of the code makes anew, the topmost copy: kilobytes, not packages.
podman history --format '{{.CreatedBy}} {{.Size}}' dreamer:cpu | awk '/COPY/ && !code {code = $NF} END {exit code != "kB"}' ||
    fail "the code takes megabytes of the image"

say "Tasks"
run dreamer:cpu tasks --suite dmc | grep walker_walk
for user in 1000 4321; do
    podman run --rm --user "$user" --entrypoint sh dreamer:cpu -c 'touch "$HOME/file" /app/runs/file' ||
        fail "the user $user cannot write the home and the runs"
done
[ "$(podman run --rm --entrypoint id dreamer:cpu -u)" = 1000 ] || fail "the image does not work as its user"

say "A training that renders, and a report: as the image's user, as another one, and as root"
for user in 1000 4321:4321 0; do
    chown "${user%:*}:${user%:*}" "$runs"
    words=(--configs dmc debug --task cartpole_balance --steps 400 --loop.prefill 200 --loop.eval_every 200)
    run --user "$user" dreamer:cpu "${words[@]}" --env.time_limit 100 --logdir "runs/$user"
    run --user "$user" dreamer:cpu report "runs/$user" --out "runs/$user.html"
    [ "$(stat -c %u "$runs/$user.html")" = "${user%:*}" ] || fail "the report belongs to somebody else"
done

say "Signals"
chown 1000:1000 "$runs"
# stop NAME SECONDS: as `docker stop`, which kills after 10 seconds; prints the exit code
stop() {
    podman stop -t 10 "$1" >/dev/null
    podman wait "$1"
}
podman run -d --network host -v "$runs:/app/runs" --name first dreamer:cpu doctor >/dev/null
[ "$(stop first)" = 143 ] || fail "a command that has just begun does not end by SIGTERM"
podman run -d --network host -v "$runs:/app/runs" --name second dreamer:cpu --configs toy debug --steps 1e6 >/dev/null
while [ ! -e "$runs/toy_dot/dreamer/0/scores.json" ]; do
    [ "$(podman inspect --format '{{.State.Running}}' second)" = true ] || fail "the training has ended"
    sleep 1
done
[ "$(stop second)" = 143 ] || fail "a training does not end by SIGTERM"
podman logs second 2>&1 | grep "Stopped and saved" || fail "a training does not save upon SIGTERM"
podman rm first second >/dev/null
frames=$(sed 's/.*"frames": \([0-9]*\).*/\1/' "$(ls -d "$runs"/toy_dot/dreamer/0/checkpoints/[0-9]*/state.json | tail -1)")
run dreamer:cpu --configs toy debug --steps "$((frames + 50))" | grep "Finished at"
expect 2 run dreamer:cpu --configs toy debug --step 3

say "The image works. $folder holds it; rm -rf removes it."
