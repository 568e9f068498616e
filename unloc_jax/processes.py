"""Connects several processes to one run."""

import concurrent.futures
import dataclasses
import os
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import jax

from unloc_jax import sigterm
from unloc_jax.console import show
from unloc_jax.errors import EXIT_INTERRUPTED, EXIT_TRY_AGAIN, UserError

T = TypeVar("T")

_TIME_TO_TELL_S = 60  # after SIGTERM, so that processes that are still starting also receive it
_PORT = 12_321  # of process 0 if a scheduler gives only host names; JAX_COORDINATOR_PORT overrides it
_FLAGS = {
    "UNLOC_COORDINATOR": "--coordinator",
    "UNLOC_NUM_PROCESSES": "--num-processes",
    "UNLOC_PROCESS_ID": "--process-id",
}


@dataclasses.dataclass(frozen=True)
class Rendezvous:
    """The coordinator of a run's processes, and the place of this one."""

    source: str  # where the information comes from, for messages
    coordinator: str  # "HOST:PORT" of process 0
    num_processes: int
    process_id: int
    local_devices: tuple[int, ...] | None = None  # GPUs of this machine for this process; None: all


def join(
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    *,
    single_process: bool = False,
    timeout_s: int = 300,
    heartbeat_timeout_s: int = 60,
) -> None:
    """Connects this process with the others of a run; does nothing for a run of one process.

    Must run before anything else asks JAX for devices; afterwards `jax.devices()` are those of all processes. The other
    processes are found through, in this order: the arguments, the environment variables UNLOC_COORDINATOR,
    UNLOC_NUM_PROCESSES and UNLOC_PROCESS_ID, a Cloud TPU's metadata, JobSet, SLURM, SkyPilot.

    Args:
      coordinator: "HOST:PORT" of process 0.
      num_processes: number of processes.
      process_id: index of this one, from 0.
      single_process: run alone, whatever the environment contains.
      timeout_s: how long to wait for the others.
      heartbeat_timeout_s: silence after which a process counts as dead, which ends all the others.

    Raises:
      UserError: only some of the first three are given, or process 0 cannot listen there. If the others do not arrive
        in time, prints an error and ends the process with status 1.

    An earlier SIGTERM is passed to JAX afterwards, so that all processes receive it; if the others do not arrive within
    a minute, this process ends with EXIT_TRY_AGAIN.
    """
    if single_process:
        if coordinator is not None or num_processes is not None or process_id is not None:
            raise UserError(
                "--single-process and --coordinator, --num-processes, --process-id exclude each other."
            )
        return
    given = _given(coordinator, num_processes, process_id, os.environ)
    platforms = jax.config.jax_platforms or ""  # type: ignore[attr-defined]  # jax defines it by name
    on_tpu = given is None and "tpu" in platforms.split(",")
    place = None if on_tpu else given or scheduled(os.environ)
    if place is None and not on_tpu:
        return
    found_by = "Cloud TPU metadata" if place is None else f"{place.source}; process 0 at {place.coordinator}"
    count = _within(timeout_s, found_by, lambda: _initialize(place, found_by, timeout_s, heartbeat_timeout_s))
    # JAX has replaced our signal handler with one that informs the other processes.
    if count == 1:
        sigterm.listen_again()
    elif sigterm.arrived():
        signal.raise_signal(signal.SIGTERM)
    if not is_main():
        # Only process 0 prints regular output; any process prints its errors.
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  until the process ends
    if count > 1:
        show(f"{count} processes (from {found_by}), {jax.device_count()} devices")


def is_main() -> bool:
    """Returns whether this process is the one that reports and writes files."""
    return jax.process_index() == 0


def scheduled(environment: Mapping[str, str]) -> Rendezvous | None:
    """Reads the environment variables of Kubernetes, SLURM or SkyPilot; returns None for a single process.

    JAX_COORDINATOR_ADDRESS and JAX_COORDINATOR_PORT, if set, override the resulting address.

    Raises:
      UserError: a variable is missing or not a number.
    """
    place = _jobset(environment) or _slurm(environment) or _skypilot(environment)
    if place is None or place.num_processes == 1:
        return None
    if not 0 <= place.process_id < place.num_processes:
        raise UserError(
            f"{place.source} says that this is process {place.process_id} of {place.num_processes} (from 0)."
        )
    address = environment.get("JAX_COORDINATOR_ADDRESS") or place.coordinator
    host, port = re.fullmatch(r"(.*?)(?::(\d+))?", address).groups()  # type: ignore[union-attr]  # matches any
    port = environment.get("JAX_COORDINATOR_PORT") or port or _PORT
    return dataclasses.replace(place, coordinator=f"{host}:{port}")


def _given(
    coordinator: str | None, num_processes: int | None, process_id: int | None, environment: Mapping[str, str]
) -> Rendezvous | None:
    """Reads the arguments, or the variables UNLOC_COORDINATOR, UNLOC_NUM_PROCESSES and UNLOC_PROCESS_ID."""
    source, names = "the command line", list(_FLAGS.values())
    if coordinator is None and num_processes is None and process_id is None:
        source, names = "UNLOC_COORDINATOR", list(_FLAGS)
        coordinator = environment.get("UNLOC_COORDINATOR")
        num_processes, process_id = (
            _number(environment, name) if name in environment else None
            for name in ("UNLOC_NUM_PROCESSES", "UNLOC_PROCESS_ID")
        )
        if coordinator is None and num_processes is None and process_id is None:
            return None
    if coordinator is None or num_processes is None or process_id is None:
        raise UserError(f"{names[0]}, {names[1]} and {names[2]} belong together: give all three or none.")
    if not re.fullmatch(r".+:\d+", coordinator):
        raise UserError(f"{names[0]}={coordinator}: give HOST:PORT of process 0, such as localhost:12321.")
    if not 0 <= process_id < num_processes:
        raise UserError(f"{names[2]}={process_id} must be from 0 to {num_processes - 1}.")
    return Rendezvous(source, coordinator, num_processes, process_id)


def _jobset(environment: Mapping[str, str]) -> Rendezvous | None:
    """Reads the variables of a pod of a Kubernetes JobSet with one replicated job.

    NNODES is its number of pods; launch/gke.py sets these variables as xpk does."""
    if "JOBSET_NAME" not in environment:
        return None
    name, job = environment["JOBSET_NAME"], _text(environment, "REPLICATED_JOB_NAME")
    return Rendezvous(
        "JobSet",
        f"{name}-{job}-0-0.{name}",
        _number(environment, "NNODES"),
        _number(environment, "JOB_COMPLETION_INDEX"),
    )


def _slurm(environment: Mapping[str, str]) -> Rendezvous | None:
    """Reads the variables of a task that `srun` started; `sbatch`'s script and `salloc`'s shell run alone."""
    if "SLURM_STEP_NODELIST" not in environment:
        return None
    tasks = _number(environment, "SLURM_STEP_NUM_TASKS")
    nodes = _number(environment, "SLURM_STEP_NUM_NODES")
    node = _first_node(environment["SLURM_STEP_NODELIST"])
    if node is None:
        raise UserError(f"SLURM_STEP_NODELIST={environment['SLURM_STEP_NODELIST']} names no node.")
    port = 61_440 + _number(environment, "SLURM_JOB_ID") % 4096  # two jobs may share a node
    visible = environment.get("CUDA_VISIBLE_DEVICES", "").split(",")
    one_gpu_each = tasks > nodes and len([gpu for gpu in visible if gpu]) != 1  # else SLURM has bound them
    return Rendezvous(
        "SLURM",
        f"{node}:{port}",
        tasks,
        _number(environment, "SLURM_PROCID"),
        (_number(environment, "SLURM_LOCALID"),) if one_gpu_each else None,
    )


def _first_node(nodes: str) -> str | None:
    """Returns the first line of `scontrol show hostnames NODES`; None if NODES is not a list of SLURM's.

    Such as node7,node9 | node[001-004,007] | node[1-2]-ib | rack[0-1]node[0-3] | bgl[000x133].
    """
    whole = re.match(r"(?:[^,\[\]\s]|\[[\w,-]+(?::\d+)?\])+(?=,|$)", nodes.strip())
    if whole is None:
        return None
    # The first of each pair of brackets; of a grid (000x133) its first corner.
    return re.sub(r"\[([0-9A-Za-z]+?)(?:x[0-9A-Za-z]+)?(?:[-,:][^\]]*)?\]", r"\1", whole[0])


def _skypilot(environment: Mapping[str, str]) -> Rendezvous | None:
    if "SKYPILOT_NODE_RANK" not in environment:
        return None
    return Rendezvous(
        "SkyPilot",
        _text(environment, "SKYPILOT_NODE_IPS").split()[0],
        _number(environment, "SKYPILOT_NUM_NODES"),
        _number(environment, "SKYPILOT_NODE_RANK"),
    )


def _initialize(place: Rendezvous | None, found_by: str, timeout_s: int, heartbeat_timeout_s: int) -> int:
    """Initialises jax.distributed; returns the number of processes."""
    arguments: dict[str, Any] = {}  # on a Cloud TPU JAX reads the metadata itself
    if place is not None:
        arguments = {
            "coordinator_address": place.coordinator,
            "num_processes": place.num_processes,
            "process_id": place.process_id,
            "local_device_ids": place.local_devices,
            "cluster_detection_method": "deactivate",  # it would give a SLURM task only one of its GPUs
        }
        if place.process_id == 0:
            _check_port(place)
    try:
        jax.distributed.initialize(
            **arguments,
            initialization_timeout=timeout_s + 60,  # JAX would abort without a helpful message
            heartbeat_timeout_seconds=heartbeat_timeout_s,
        )
    except (RuntimeError, ValueError, OSError) as error:  # OSError: no metadata server answers
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"the processes of this run do not find each other ({found_by}): {reason}") from error
    return jax.process_count()  # starts the devices, which also waits for the others


def _check_port(place: Rendezvous) -> None:
    """Raises UserError if process 0 cannot listen, in which case jaxlib would end in a segmentation fault."""
    port = int(place.coordinator.rpartition(":")[2])
    family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
    try:
        socket.create_server(("", port), family=family, dualstack_ipv6=family == socket.AF_INET6).close()
    except (OSError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no such port"
        raise UserError(
            f"process 0 cannot listen at port {port} ({place.source}): {reason}. Another run on this machine? "
            "Choose another port with --coordinator or JAX_COORDINATOR_PORT."
        ) from error


def share_of_batch(data: int) -> tuple[int, int]:
    """Returns (index, number of shares) of a batch's rows that this process feeds to its devices.

    If the mesh axis `data` is smaller than the number of processes, several processes hold the same videos and read the
    same rows.

    Args:
      data: size of the mesh axis; it divides the number of processes or is a multiple of it (see `make_mesh`).
    """
    shares = min(jax.process_count(), data)
    return jax.process_index() * shares // jax.process_count(), shares


def _within(timeout_s: float, found_by: str, work: Callable[[], T]) -> T:
    """Returns the result of `work`; ends this process if the others do not arrive in time.

    `work` runs in a thread, because JAX waits for the others in C++, where neither signals nor exceptions reach it.
    """
    outcome: concurrent.futures.Future[T] = concurrent.futures.Future()

    def run() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:
            outcome.set_exception(error)

    threading.Thread(target=run, name="unloc-join", daemon=True).start()
    deadline, stopping = time.monotonic() + timeout_s, False
    try:
        while not outcome.done() and time.monotonic() < deadline:
            concurrent.futures.wait([outcome], timeout=0.1)
            if sigterm.arrived() and not stopping:
                deadline, stopping = min(deadline, time.monotonic() + _TIME_TO_TELL_S), True
    except KeyboardInterrupt:
        show("\nunloc: interrupted while waiting for the other processes", file=sys.stderr)
        os._exit(EXIT_INTERRUPTED)
    if outcome.done():
        return outcome.result()
    if stopping:
        show(
            f"unloc: stopped by SIGTERM while waiting for the other processes of this run ({found_by})",
            file=sys.stderr,
        )
        os._exit(EXIT_TRY_AGAIN)
    show(
        f"unloc: error: the other processes of this run did not come within {timeout_s} s ({found_by}). "
        "Start the same command in every one of them (on every worker of a TPU), or here alone with "
        "--single-process.",
        file=sys.stderr,
    )
    os._exit(1)


def _text(environment: Mapping[str, str], name: str) -> str:
    if not environment.get(name):
        raise UserError(f"the environment variable {name} is missing; run alone with --single-process.")
    return environment[name]


def _number(environment: Mapping[str, str], name: str) -> int:
    text = _text(environment, name)
    if not text.isdecimal():
        raise UserError(f"the environment variable {name}={text} is not a whole number.")
    return int(text)
