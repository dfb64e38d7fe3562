"""Where a run's figures go besides its `log.jsonl`: TensorBoard, Weights & Biases, MLflow, or nowhere.

Each backend is imported only when it is asked for. Files go under `<log_dir_root>/<backend>/`, never into the run folder,
and a run that is resumed goes on in the same tracker run.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from workbook.errors import WorkbookError

PROJECT = "backbone-workbook"  # in W&B and MLflow, unless WANDB_PROJECT or MLFLOW_EXPERIMENT_NAME says otherwise


class TrackerError(WorkbookError):
    """A tracker cannot be opened; the message says why and what to do. Raised before anything is trained."""


class Tracker:
    """Takes one dict of figures a step. This one stores nothing (`none`); its subclasses write to a backend."""

    def __init__(self) -> None:
        self._last_step = -1
        self._closed = False

    def log(self, step: int, values: Mapping[str, float | None]) -> None:
        """Hand over all figures of a step at once, keys like `val/bbox_mAP`. None (an empty bucket) is left out.

        The step must be above the last one, else ValueError. W&B takes a step once: a second call for it, or for an
        earlier one, is dropped with the mere warning "Step must only increase". That is how the stock `val` workflow of
        mmdet loses its figures: it logs them at a step that the training has already used. So the training and the
        validation figures of a step come in one call.
        """
        if step <= self._last_step:
            raise ValueError(f"step {step} comes after step {self._last_step}: steps must increase, one call a step")
        self._last_step = step
        known = {key: float(value) for key, value in values.items() if value is not None}
        if known:
            self._write(step, known)

    def flush(self) -> None:
        """Hand over what is buffered: a kill after this call loses none of the figures before it."""

    def close(self, status: str = "done") -> None:
        """Flush and leave the backend. `status` is the run's, `done` or `failed`; a second call does nothing."""
        if not self._closed:
            self._closed = True
            self._finish(done=status == "done")

    def _write(self, step: int, values: dict[str, float]) -> None:
        pass

    def _finish(self, done: bool) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close("failed" if kind else "done")


class _TensorBoard(Tracker):
    def __init__(self, run_name: str, config: dict[str, Any], root: Path) -> None:
        super().__init__()
        from torch.utils.tensorboard import SummaryWriter

        # Resumed, it adds a second file to the folder; TensorBoard shows the files of a folder as one run, a step that came twice once.
        self._writer = SummaryWriter(str(root / "tensorboard" / run_name), flush_secs=10)
        self._writer.add_text("parameters", "    " + json.dumps(config, indent=1, default=str).replace("\n", "\n    "))

    def flush(self) -> None:
        self._writer.flush()

    def _write(self, step: int, values: dict[str, float]) -> None:
        for key, value in values.items():  # the usual scalar is float32, which would change the figures
            self._writer.add_scalar(key, value, step, new_style=True, double_precision=True)

    def _finish(self, done: bool) -> None:
        self._writer.close()


_WANDB_ELSE = "use tracker=wandb-offline"


def _require_key() -> None:
    import wandb

    if not wandb.login(prompt=False, verify=True):
        raise TrackerError(f"tracker=wandb: no key of W&B is known. Set WANDB_API_KEY, or {_WANDB_ELSE}")


def _wandb_words(error: Exception) -> TrackerError:
    return TrackerError(f"tracker=wandb: {error}. Check the network and WANDB_API_KEY, or {_WANDB_ELSE}")


class _Wandb(Tracker):
    def __init__(self, run_name: str, config: dict[str, Any], root: Path, online: bool) -> None:
        super().__init__()
        import wandb

        root.mkdir(parents=True, exist_ok=True)  # W&B would go to the system's temporary folder without a word
        try:
            # Asked before init(), which would prompt for a key wherever it sees a terminal or a notebook.
            if online:
                _require_key()
            self._run = wandb.init(
                project=os.environ.get("WANDB_PROJECT", PROJECT), id=run_name, name=run_name, resume="allow",
                config=config, dir=str(root), mode="online" if online else "offline", reinit="finish_previous",
                # Console, git remote, command line and code are not taken: they may hold keys or private paths.
                settings=wandb.Settings(
                    init_timeout=30, quiet=True, console="off", disable_git=True, disable_code=True,
                    x_disable_meta=True, x_save_requirements=False,
                ),
            )
        except BaseException as error:
            wandb.teardown()
            if isinstance(error, wandb.Error):
                raise _wandb_words(error) from error
            raise

    def _write(self, step: int, values: dict[str, float]) -> None:
        # After a resume, W&B leaves out the steps that it had before the break; it has their figures already.
        self._run.log(values, step=step)

    def _finish(self, done: bool) -> None:
        import wandb

        self._run.finish(exit_code=0 if done else 1)
        wandb.teardown()  # ends the service process, which would live on in a notebook


class _Mlflow(Tracker):
    def __init__(self, run_name: str, config: dict[str, Any], root: Path) -> None:
        super().__init__()
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        from mlflow.entities import Param
        from mlflow.tracking import MlflowClient

        uri = os.environ.get("MLFLOW_TRACKING_URI") or _local_store(root / "mlflow")
        _require_reachable(uri)
        self._uri = uri
        with _in_own_words(uri):
            self._client = MlflowClient(tracking_uri=uri)
            name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
            known = self._client.get_experiment_by_name(name)
            experiment = known.experiment_id if known else self._client.create_experiment(name)
            earlier = self._client.search_runs([experiment], f"tags.workbook_run = '{run_name}'", max_results=1)
            self._stored = -1  # the last step that an earlier part of this run has stored
            if earlier:
                self._id = earlier[0].info.run_id
                self._client.update_run(self._id, status="RUNNING")
                self._stored = self._last_stored_step(list(earlier[0].data.metrics))
            else:
                run = self._client.create_run(experiment, tags={"workbook_run": run_name}, run_name=run_name)
                self._id = run.info.run_id
                self._client.log_batch(self._id, params=[Param(key, str(value)) for key, value in config.items()])

    def _last_stored_step(self, keys: Sequence[str]) -> int:
        histories = (self._client.get_metric_history(self._id, key) for key in keys)
        return max((metric.step for history in histories for metric in history), default=-1)

    def _write(self, step: int, values: dict[str, float]) -> None:
        from mlflow.entities import Metric

        if step <= self._stored:  # after a resume: MLflow would store the step a second time
            return
        now = int(time.time() * 1000)
        with _in_own_words(self._uri):
            self._client.log_batch(self._id, metrics=[Metric(key, value, now, step) for key, value in values.items()])

    def _finish(self, done: bool) -> None:
        with _in_own_words(self._uri):
            self._client.set_terminated(self._id, "FINISHED" if done else "FAILED")


@contextmanager
def _in_own_words(uri: str) -> Iterator[None]:
    """MLflow's errors as TrackerError, without the login that the address may carry: messages are stored with the run."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        login = urlsplit(uri).netloc.rpartition("@")[0]
        words = str(error).replace(f"{login}@", "") if login else str(error)
        raise TrackerError(f"tracker=mlflow: cannot use {_without_login(uri)}: {words}. "
                           "Correct MLFLOW_TRACKING_URI, or unset it to use a local folder") from None  # its trace would show the login


def _local_store(folder: Path) -> str:
    """The folder as MLflow's store. mlflow-skinny brings no database, and needs a switch for plain files."""
    os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
    folder.mkdir(parents=True, exist_ok=True)
    return folder.resolve().as_uri()


def _require_reachable(uri: str) -> None:
    """Raises TrackerError when no server answers at an http(s) address. MLflow itself would try for four minutes."""
    parts = urlsplit(uri)
    if parts.scheme in ("http", "https"):
        try:
            address = parts.hostname or "", parts.port or {"http": 80, "https": 443}[parts.scheme]
            socket.create_connection(address, timeout=10).close()
        except OSError as error:
            raise TrackerError(f"tracker=mlflow: no server at {_without_login(uri)} ({error}). "
                               "Start it, correct MLFLOW_TRACKING_URI, or unset it to use a local folder") from None


def _without_login(uri: str) -> str:
    """The address without user and password, which it may carry, for a message that is stored with the run."""
    parts = urlsplit(uri)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()


_OPENERS: dict[str, Callable[[str, dict[str, Any], Path], Tracker]] = {
    "none": lambda run_name, config, root: Tracker(),
    "tensorboard": _TensorBoard,
    "wandb": lambda run_name, config, root: _Wandb(run_name, config, root, online=True),
    "wandb-offline": lambda run_name, config, root: _Wandb(run_name, config, root, online=False),
    "mlflow": _Mlflow,
}
TRACKERS = tuple(_OPENERS)


def check_tracker(kind: str) -> None:
    """Raises TrackerError when this kind could not be opened now (no key, no network), without opening it."""
    if kind == "wandb":
        import wandb

        try:
            _require_key()
        except wandb.Error as error:
            raise _wandb_words(error) from error
    if kind == "mlflow":
        _require_reachable(os.environ.get("MLFLOW_TRACKING_URI", ""))


def open_tracker(kind: str, run_name: str, folder: Path, parameters: Mapping[str, Any], log_dir_root: Path) -> Tracker:
    """The tracker of this kind, one of TRACKERS, for one run; use it in a `with`, or close it.

    run_name: the name of the run folder; the same name goes on in the same tracker run.
    parameters: go to the tracker's config, with `run_folder`, the path `folder`, in which nothing is written.
    log_dir_root: the tracker's files go under it, in `tensorboard/`, `wandb/` or `mlflow/`.
    Raises TrackerError for an unknown kind, or when the backend cannot be used (no key, no network). It never asks for input.
    """
    if kind not in TRACKERS:
        raise TrackerError(f"unknown tracker '{kind}'. Known: {', '.join(TRACKERS)}")
    return _OPENERS[kind](run_name, {**parameters, "run_folder": str(folder)}, log_dir_root)
