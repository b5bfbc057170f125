"""Runs as trials of Ray Tune, on one machine or on a cluster whose machines share the folder of the runs.

Tune queues them, gives them cores and GPUs, and starts again what failed or was lost with its machine. What is finished
the folders of the runs tell, and not Tune: a sweep that is started again gives it those that are not.
"""

import logging
import os
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dreamer import DISTRIBUTION
from dreamer.run import formats
from dreamer.run.lock import IN_USE
from dreamer.start import UsageError
from dreamer.stops import SIGNALS, Stops
from dreamer.sweep import status
from dreamer.sweep.engines import BUSY, FAILED, WAITING, Outcome, Show, after_stop, may_retry, reason, start
from dreamer.sweep.plan import Job

NOTES = ".ray"  # folder beside the runs: what Tune writes, and nobody reads again
LOOK = 1.0  # seconds between two looks at a process
# Of Ray, before it is imported. A machine that is busy may take minutes to start its processes; the files that Tune
# would write for each result; its handler of Ctrl-C, which would not wait for the runs; and that the end of a worker
# is a kill -9 of its run, where it is to save.
VARIABLES = {
    "RAY_raylet_start_wait_time_s": "300",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "RAY_kill_child_processes_on_worker_exit": "false",
    "RAY_AIR_NEW_OUTPUT": "0",
}
_STATES = {"RUNNING": status.RUNNING, "ERROR": FAILED}  # of trials that have not come to an end of their own


def work(
    jobs: Sequence[Job],
    *,
    retries: int,
    stops: Stops,
    show: Show,
    logs: Path,
    address: str | None,
    workers: int | None,
    cpus: int,
    per_gpu: int,
) -> dict[int, Outcome]:
    """See `engines`. address: of a cluster that runs, None to start one here; workers: runs at once, None for as many
    as there are cores and GPUs for, cpus of the ones and 1/per_gpu of the others each."""
    outcomes = {job.number: Outcome(_state_before(job)) for job in jobs}
    left = {job.number: job for job in jobs if outcomes[job.number].state == WAITING}
    if not left:
        return outcomes
    ray, tune = _connect(address, workers * cpus if workers else None)
    notes = (logs.parent / NOTES).resolve()
    shutil.rmtree(notes, ignore_errors=True)
    notes.mkdir(parents=True)
    status.write_planned(logs.parent, jobs)
    stop = notes / "stop"
    watch, stopper = _watch(tune, stop, outcomes, stops, show)
    gpu = 1 / per_gpu if ray.cluster_resources().get("GPU") else 0
    train = tune.with_parameters(_train, jobs=left, logs=logs, folder=Path.cwd(), stop=stop)
    tuner = tune.Tuner(
        tune.with_resources(train, {"cpu": cpus, "gpu": gpu}),
        param_space={"number": tune.grid_search(list(left))},
        tune_config=tune.TuneConfig(max_concurrent_trials=workers),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(notes),
            failure_config=tune.FailureConfig(max_failures=retries),
            callbacks=[watch],
            stop=stopper,
            verbose=0,
        ),
    )
    try:
        tuner.fit()
    finally:
        ray.shutdown()
    return outcomes


def _watch(tune: Any, stop: Path, outcomes: dict[int, Outcome], stops: Stops, show: Show) -> tuple[Any, Any]:
    """What Tune calls after each of its steps: shows the trials, and after a signal makes the file `stop` for them."""
    callback: Any = tune.Callback
    base: Any = tune.Stopper
    asked: list[Any] = []  # trials that ran when the stop came

    def look(trials: list) -> None:
        if stops.signal and not stop.exists():
            asked.extend(trial for trial in trials if trial.status == "RUNNING")
            stop.touch()
        before = dict(outcomes)
        outcomes.update({trial.config["number"]: _outcome(trial) for trial in trials})
        show(outcomes, outcomes != before)

    def have_saved() -> bool:
        return stop.exists() and all(trial.status != "RUNNING" for trial in asked)

    class Watch(callback):
        def __init__(self, look: Callable[[list], None]):
            self._look = look

        def on_step_end(self, iteration: int, trials: list, **info: Any) -> None:
            self._look(trials)

        def __getstate__(self) -> dict:
            return {}  # Tune writes down what it has, from which nobody will restore it.

    class Stopper(base):
        def __init__(self, have_saved: Callable[[], bool]):
            self._have_saved = have_saved

        def __call__(self, trial_id: str, result: dict) -> bool:
            return False

        def stop_all(self) -> bool:
            """Tune kills what it stops after some seconds: it is told when the runs have saved, and ended by that."""
            return self._have_saved()

        def __getstate__(self) -> dict:
            return {}

    return Watch(look), Stopper(have_saved)


def _train(config: dict, jobs: dict[int, Job], logs: Path, folder: Path, stop: Path) -> dict[str, str]:
    """A trial: the run's process from its start to its end. Raises RuntimeError where Tune should try again."""
    job = jobs[config["number"]]
    os.chdir(folder)
    while not stop.exists():
        process = start(job, logs, {}, folder)
        asked = False
        while (code := process.poll()) is None:
            if stop.exists() and not asked:
                process.send_signal(signal.SIGTERM)
                asked = True
            time.sleep(LOOK)
        if code == 0:
            return {"state": status.FINISHED, "reason": ""}
        if asked:
            return after_stop(code, job, logs)._asdict()
        if may_retry(code):
            raise RuntimeError(reason(code, job, logs))
        if code != IN_USE:
            return {"state": FAILED, "reason": reason(code, job, logs)}
        time.sleep(BUSY)
    return {"state": status.STOPPED, "reason": ""}


def _state_before(job: Job) -> str:
    return status.FINISHED if status.is_finished(job.logdir, job.config.steps) else WAITING


def _outcome(trial: Any) -> Outcome:
    told = trial.last_result or {}
    if trial.status == "TERMINATED" and "state" in told:  # else it had not begun when all was stopped
        return Outcome(told["state"], told["reason"])
    return Outcome(_STATES.get(trial.status, WAITING), _last_line(trial.error_file) if trial.error_file else "")


def _last_line(file: str) -> str:
    """What a traceback comes to, as `_train` has raised it or Ray: without the class of the error."""
    line = Path(file).read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1]
    return formats.one_line(line).removeprefix("RuntimeError: ")


def _connect(address: str | None, cores: int | None) -> tuple[Any, Any]:
    """Ray and Ray Tune, connected to a cluster. Raises UsageError."""
    for name, value in VARIABLES.items():
        os.environ.setdefault(name, value)
    try:
        import ray
        from ray import tune
    except ModuleNotFoundError as error:
        raise UsageError(f'--engine ray needs the package ray: pip install "{DISTRIBUTION}[ray]"') from error

    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # of failed runs the table tells
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    options: dict[str, Any] = {"address": address} if address else {"num_cpus": cores, "include_dashboard": False}
    try:
        ray.init(logging_level=logging.ERROR, log_to_driver=False, **options)
    except (ConnectionError, ValueError) as error:
        raise UsageError(f"--address {address}: {error}") from error
    finally:
        for number, handler in handlers.items():  # of which Ray takes SIGTERM
            signal.signal(number, handler)
    return ray, tune
