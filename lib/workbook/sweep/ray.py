"""The runs of a sweep as Ray tasks: on this machine, or on every node of a cluster that sees the same outputs folder.

A task whose node is lost is started elsewhere by Ray; there the run is taken over, and goes on from its checkpoint.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any

from workbook.data.catalog import data_root
from workbook.files import outputs_root
from workbook.sweep.local import SAVING, check_all, train_one, use_threads
from workbook.sweep.plan import Entry, Known, Resolved, SweepError, in_parts, joined, resolve_all
from workbook.training.parameters import Parameters

LOST_NODES = 5  # how often a run is started again when its node or its process is lost
# where weights are found and figures are tracked; keys are not passed on: Ray would show them in its lists of tasks
PASSED_ON = ("WORKBOOK_REMEDIES", "TORCH_HOME", "HF_HOME", "HF_HUB_OFFLINE", "WANDB_PROJECT", "WANDB_BASE_URL", "MLFLOW_EXPERIMENT_NAME")
NEEDED = "--on ray needs Ray, the extra `cluster`: `make setup` brings it, or `uv pip install -e '.[cluster]'`"


class RayExecutor:
    """So many runs at once; without a number one a GPU, or one a node where there are none. Each asks for its share of its node."""

    def __init__(self, slots: int | None, address: str = "", cpu_only: bool = False) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            import ray
        except ImportError:
            raise SweepError(NEEDED) from None
        self.ray, self.asked_slots, self.cpu_only = ray, slots, cpu_only
        self.running: dict[Any, Entry] = {}
        variables = {"WORKBOOK_OUTPUTS": str(outputs_root()), "WORKBOOK_DATA": str(data_root())}
        variables |= {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "runtime_env": {"env_vars": variables}}
        _require_reachable(address)
        try:
            if address:
                ray.init(address=address, **options)
            else:
                ray.init(address="local", include_dashboard=False, _node_ip_address="127.0.0.1", **options)
        except Exception as error:  # Ray raises many kinds, a bare Exception among them
            advice = ("start one with `ray start --head`, and call this on one of its nodes with --address auto" if address else
                      "on a busy machine it may come too late for itself: try again, or use --on local")
            raise SweepError(f"--on ray --address '{address}': no Ray answers ({type(error).__name__}: {error}); {advice}") from error

    @property
    def slots(self) -> int:
        """How many runs train at once; nodes that join or leave change it."""
        return self.asked_slots or sum(max(1, int(node.get("GPU", 0))) for node in self._nodes()) or 1

    def resolve(self, asked: Sequence[Parameters]) -> list[Resolved]:
        """What weights and precision became on one of the nodes, of each."""
        return self.ask(resolve_all, list(asked))

    def check(self, asked: Sequence[Parameters]) -> list[Known | str]:
        """Prepare each of these on one of the nodes, without training it."""
        return self.ask(check_all, list(asked)) if asked else []

    def ask(self, task: Callable[[list[Any]], Any], asked: list[Any]) -> Any:
        """The task's answer, from one of the nodes."""
        return self.ray.get(self._remote(task).remote(asked))

    def ask_at_once(self, task: Callable[[list[Any]], list[Any]], asked: list[Any]) -> list[Any]:
        """The same from as many processes as there are slots, each with its part; in the order of `asked`."""
        remote = self._remote(task)
        return joined(self.ray.get([remote.remote(part) for part in in_parts(asked, self.slots)]))

    def start(self, entry: Entry) -> None:
        """Hand this run to Ray, with the precision that its name stands for: a node that lacks it refuses, and
        computes no other."""
        parameters = entry.parameters.model_copy(update={"precision": entry.resolved["precision"]})
        task = self._remote(_train, max_retries=LOST_NODES, max_calls=1)  # a process a run: its memory ends with it
        self.running[task.remote(parameters, entry.run.name, self._share()["num_cpus"])] = entry

    def ended(self, seconds: float) -> list[tuple[Entry, str, str]]:
        """The runs that have ended, with state and reason; waits so long for the first."""
        if not self.running:
            time.sleep(seconds)
            return []
        ready, _ = self.ray.wait(list(self.running), num_returns=len(self.running), timeout=seconds)
        return [self._outcome(task) for task in ready]

    def stop(self) -> None:
        """Ask every run to save and leave (Ray raises KeyboardInterrupt in it), and wait until it has."""
        for task in self.running:
            self.ray.cancel(task, force=False)
        if self.running:
            self.ray.wait(list(self.running), num_returns=len(self.running), timeout=SAVING)

    def _outcome(self, task: Any) -> tuple[Entry, str, str]:
        entry = self.running.pop(task)
        try:
            return entry, *self.ray.get(task)
        except self.ray.exceptions.TaskCancelledError:
            return entry, "stopped", ""
        except self.ray.exceptions.RayError as error:
            lines = str(error).strip().splitlines()
            return entry, "failed", f"lost {LOST_NODES + 1} times: {lines[0] if lines else type(error).__name__}"

    def _remote(self, function: Any, **options: Any) -> Any:
        asked: dict[str, Any] = {**self._share(), **options}
        return self.ray.remote(**asked)(function)

    def _nodes(self) -> list[dict[str, float]]:
        """What each node that can train has: those with a GPU, else those with a CPU."""
        alive = [node["Resources"] for node in self.ray.nodes() if node["Alive"]]
        gpu = [node for node in alive if node.get("GPU") and not self.cpu_only]
        return gpu or [{key: value for key, value in node.items() if key != "GPU"} for node in alive if node.get("CPU")]

    def _share(self) -> dict[str, float]:
        """The CPUs and GPUs of one run: a node's, shared by as many runs as come to it."""
        nodes = self._nodes()
        if not nodes:
            raise SweepError("no node of this Ray cluster has a CPU to train on")
        on_a_node = -(-self.slots // len(nodes))
        cpus = max(1, int(min(node.get("CPU", 1) for node in nodes)) // on_a_node)
        return {"num_cpus": cpus, "num_gpus": int(all("GPU" in node for node in nodes))}


def _require_reachable(address: str) -> None:
    """Raises SweepError when nothing listens at `host:port` or `ray://host:port`. Ray itself would try for minutes."""
    host, _, port = address.rpartition("//")[2].rpartition(":")
    if host and port.isdigit():
        try:
            socket.create_connection((host, int(port)), timeout=10).close()
        except OSError as error:
            raise SweepError(f"--on ray --address '{address}': nothing answers there ({error}); start a cluster with `ray start --head`, "
                             "and give the address that it prints, or call this on one of its nodes with --address auto") from None


def _train(parameters: Parameters, name: str, threads: int) -> tuple[str, str]:
    use_threads(threads)
    return train_one(parameters, name)
