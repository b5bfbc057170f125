"""Weights & Biases and MLflow beside TensorBoard: the same scalars, animations and settings (logger.also).

Each keeps the id of its run in the log directory, so that a run that goes on is the same run there. Points that a run
writes again after it was killed are there twice. Nothing of this can end a run: where one of them fails, a line says
so, and the run goes on without it until it is started again.
"""

import importlib
import io
import json
import math
import re
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from dreamer.keys import Logger as Keys
from dreamer.run import formats, layout
from dreamer.run.files import replacing

CLOSING = 60  # seconds that what is yet to be sent may take when a run ends


class Service(Protocol):
    """One of them, with a run of its own open. What its methods raise is none of the caller's business."""

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Values by name, which are finite."""

    def gif(self, name: str, image: bytes, step: int) -> None:
        """An animation, as the bytes of a GIF."""

    def close(self) -> None:
        """The run ends here for now."""


class Wandb:
    """Weights & Biases. Where it writes and whether it sends is what its own variables say, WANDB_MODE among them."""

    def __init__(self, logdir: Path, project: str, run: str | None, settings: Mapping[str, Any]):
        self._wandb = importlib.import_module("wandb")
        self.run = run or uuid.uuid4().hex[:8]
        self._run = self._wandb.init(
            project=project,
            id=self.run,
            resume="allow",
            name=str(logdir),
            dir=str(logdir),
            config=dict(settings),
            settings=self._wandb.Settings(console="off", silent=True),
        )
        # Else it would drop what a run writes again that goes on from an earlier state.
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """See Service."""
        self._run.log({**values, "step": step})

    def gif(self, name: str, image: bytes, step: int) -> None:
        """See Service."""
        self._run.log({name: self._wandb.Video(io.BytesIO(image), format="gif"), "step": step})

    def close(self) -> None:
        """See Service."""
        self._run.finish()


class MLflow:
    """MLflow. Where its server or folder is, MLFLOW_TRACKING_URI says."""

    def __init__(self, logdir: Path, project: str, run: str | None, settings: Mapping[str, Any]):
        entities = importlib.import_module("mlflow.entities")
        self._metric = entities.Metric
        self._client = importlib.import_module("mlflow").MlflowClient()
        if run is None:
            experiment = self._client.get_experiment_by_name(project)
            number = experiment.experiment_id if experiment else self._client.create_experiment(project)
            run = self._client.create_run(number, run_name=str(logdir)).info.run_id
            params = [entities.Param(key, str(value)) for key, value in settings.items()]
            for begin in range(0, len(params), 100):  # as many as it takes at once
                self._client.log_batch(run, params=params[begin : begin + 100])
        else:  # What a resume has changed cannot be told: parameters stay what they were.
            self._client.update_run(run, status="RUNNING")
        self.run = run

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """See Service."""
        now = int(time.time() * 1000)
        # Vectors have names of the environment's, and MLflow takes no other characters.
        named = {re.sub(r"[^\w/.\- ]", "_", key): value for key, value in values.items()}
        self._client.log_batch(self.run, metrics=[self._metric(key, value, now, step) for key, value in named.items()])

    def gif(self, name: str, image: bytes, step: int) -> None:
        """See Service."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"{step:010d}-{name.rpartition('/')[2]}.gif"
            path.write_bytes(image)
            self._client.log_artifact(self.run, str(path), "videos")

    def close(self) -> None:
        """See Service."""
        self._client.set_terminated(self.run)


SERVICES: dict[str, Callable[..., Any]] = {"wandb": Wandb, "mlflow": MLflow}


class Also:
    """All that logger.also names; a failing one is left out from there on."""

    def __init__(self, keys: Keys, logdir: Path, settings: Mapping[str, Any], report: Callable[[str], None]):
        self._report, self._services = report, dict[str, Service]()
        names = [] if keys.also == "none" else keys.also.split(",")
        path = logdir / layout.LOGGERS
        runs = _runs(path) if names else {}
        for name in names:
            self._try(name, partial(self._open, name, logdir, keys.project, runs, settings))
        if names:
            with replacing(path) as temporary:
                temporary.write_text(json.dumps(runs) + "\n", encoding="utf-8")

    def _open(self, name: str, logdir: Path, project: str, runs: dict[str, str], settings: Mapping[str, Any]) -> None:
        service = SERVICES[name](logdir, project, runs.get(name), settings)
        self._services[name], runs[name] = service, service.run

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Write scalars; what is not finite is left out."""
        finite = {name: float(value) for name, value in values.items() if math.isfinite(value)}
        for name, service in list(self._services.items()):
            self._try(name, partial(service.scalars, step, finite))

    def gif(self, tag: str, image: bytes, step: int) -> None:
        """Write an animation."""
        for name, service in list(self._services.items()):
            self._try(name, partial(service.gif, tag, image, step))

    def close(self) -> None:
        """End the runs for now; what one has not sent after CLOSING seconds, its network being gone, is left."""
        for name, service in list(self._services.items()):
            closing = threading.Thread(target=self._try, args=(name, service.close), daemon=True)
            closing.start()
            closing.join(CLOSING)
        self._services.clear()

    def _try(self, name: str, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as error:
            self._services.pop(name, None)
            reason = formats.one_line(str(error) or type(error).__name__)
            self._report(f"{name} failed ({reason[:300]}): the run goes on without it.")


def _runs(path: Path) -> dict[str, str]:
    """The ids of an earlier start; none where there was none, or the file cannot be read: new runs begin there then."""
    try:
        runs = formats.document(path)
    except formats.FormatError:
        return {}
    return {name: run for name, run in runs.items() if isinstance(run, str)} if isinstance(runs, dict) else {}
