"""Runs as an array job of Slurm, one for each index: a script that Slurm queues, and that has itself queued again."""

import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from dreamer.run import formats
from dreamer.run.files import replacing
from dreamer.start import UsageError

SCRIPT = "sweep.sbatch"
WARNING = 120  # seconds before the end of its time at which a run is told to save

_TEXT = """\
#!/bin/bash
# {count} of `dreamer {words}`, one for each index.
# Options of your cluster, such as --partition, --gres and --time, come from --sbatch, or from you here.
#SBATCH --job-name=dreamer
#SBATCH --array={array}
#SBATCH --requeue
#SBATCH --signal=B:USR1@{warning}
#SBATCH --open-mode=append
#SBATCH --output={output}
{options}
cd {folder} || exit 1
late=false early=false run=
stop() {{ if [ -n "$run" ]; then kill -TERM "$run"; else early=true; fi; }}
trap 'late=true; stop' USR1 # the time is nearly over: it saves, and goes on in the next
trap stop TERM              # cancelled, or preempted, after which Slurm queues it again by itself
{command} --index="$SLURM_ARRAY_TASK_ID" &
run=$!
$early && kill -TERM "$run" # a signal that came before the number of the process was known
wait "$run"
code=$?
while kill -0 "$run" 2>/dev/null; do # a signal ends a wait
    wait "$run"
    code=$?
done

case $code in
    0 | 2) again=false ;; # finished; or a command that cannot be meant so
    75) again=true ;;     # in use by another process
    129 | 130 | 143) again=$late ;;
    *) [ "${{SLURM_RESTART_COUNT:-0}}" -lt {retries} ] && again=true || again=false ;;
esac
$again && scontrol requeue "${{SLURM_ARRAY_JOB_ID}}_$SLURM_ARRAY_TASK_ID"
exit $code
"""


def write(
    words: Sequence[str],
    numbers: Sequence[int],
    *,
    workers: int | None,
    retries: int,
    options: str | None,
    out: Path,
    logs: Path,
) -> Path:
    """Write the script of an array job into `out`; returns its path.

    words: of the sweep, without `dreamer`; numbers: of its runs that are to be started; workers: at most so many at
    once; retries: after a fault a run is started again if it was not as often already, for whichever reason; options:
    of sbatch.
    """
    logs.mkdir(parents=True, exist_ok=True)
    text = _TEXT.format(
        count=f"{len(numbers)} run{'s' if len(numbers) != 1 else ''}",
        words=shlex.join(words),
        array=_ranges(numbers) + (f"%{workers}" if workers else ""),
        warning=WARNING,
        output=shlex.quote(str(logs.resolve()).replace("%", "%%") + "/slurm-%a.log"),
        options=f"#SBATCH {formats.one_line(options)}\n" if options else "",
        folder=shlex.quote(os.getcwd()),
        command=shlex.join([sys.executable, "-m", "dreamer", *words]),
        retries=retries,
    )
    path = out / SCRIPT
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")
    return path


def submit(script: Path) -> str:
    """Hand the script to Slurm; returns what that says. Raises UsageError where it cannot be."""
    try:
        done = subprocess.run(["sbatch", str(script)], capture_output=True, text=True)
    except FileNotFoundError:
        raise UsageError(f"--submit: there is no sbatch here; {script} is written, submit it where there is") from None
    if done.returncode:
        raise UsageError(f"sbatch {script}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout.strip()


def _ranges(numbers: Sequence[int]) -> str:
    """Numbers in increasing order as Slurm takes them: "0-3,7"."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1] = [parts[-1][0], number]
        else:
            parts.append([number])
    return ",".join("-".join(map(str, part)) for part in parts)
