"""The processes of a run find each other: real processes add up their numbers."""

import http.server
import os
import re
import signal
import socket
import subprocess
import sys
import threading

import pytest

from tests.tiny_runs import REPOSITORY, wait_until_heard
from unloc_jax.errors import EXIT_TRY_AGAIN, UserError
from unloc_jax.processes import join, scheduled

# Joins and gathers every process's number from all.
PROGRAM = """
import os
import sys
from unloc_jax import sigterm
remembered = sigterm.remembered()
remembered.__enter__()
import jax
os.environ.pop("TPU_SKIP_MDS_QUERY", None)  # JAX sees no TPU chip
from unloc_jax import processes
from unloc_jax.errors import UserError
initialize = jax.distributed.initialize
def and_leave_tpus_alone(**arguments):
    initialize(**arguments)
    jax.config.update("jax_platforms", "cpu")
jax.distributed.initialize = and_leave_tpus_alone
try:
    processes.join(timeout_s=int(sys.argv[1]), heartbeat_timeout_s=20)
except UserError as error:
    sys.exit(f"refused: {error}")
import numpy as np
from jax.experimental.multihost_utils import process_allgather
numbers = process_allgather(np.array([10 + jax.process_index()]))
print("process", jax.process_index(), "gathered", numbers.ravel().tolist(), file=sys.stderr)
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


def start(variables: dict[str, object], timeout_s: int = 200) -> subprocess.Popen:
    foreign = ("SLURM_", "SKYPILOT_", "JOBSET_", "JAX_", "TPU_", "XLA_")
    quiet = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    fixed = {"PYTHONPATH": str(REPOSITORY), "JAX_PLATFORMS": "cpu"}
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(timeout_s)],
        env=quiet | fixed | {name: str(value) for name, value in variables.items()},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def gathered_by(*environments: dict[str, object]) -> str:
    """Returns the output of process 0, after all have gathered everybody's numbers."""
    started = [start(variables) for variables in environments]
    try:
        outputs = [process.communicate(timeout=300) for process in started]
    finally:
        for process in started:
            process.kill()
    everybody = str([10 + i for i in range(len(environments))])
    for i, (_, err) in enumerate(outputs):
        assert f"process {i} gathered {everybody}" in err, outputs
    # gloo writes to stdout too, also over the ends of lines.
    said = [re.findall(r"\d+ processes \(from .*", out) for out, _ in outputs]
    assert said[1:] == [[]] * (len(said) - 1)  # only process 0 speaks
    [line] = said[0]
    return line


def slurm(i: int, count: int = 2) -> dict[str, str]:
    """Of `srun --nodes=1 --ntasks=COUNT`, in a job for as many."""
    variables = {
        "SLURM_JOB_ID": 4711,
        "SLURM_NTASKS": count,
        "SLURM_STEP_NUM_TASKS": count,
        "SLURM_STEP_NUM_NODES": 1,
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_PROCID": i,
        "SLURM_LOCALID": i,
    }
    return {name: str(value) for name, value in variables.items()}


@pytest.mark.slow
def test_tasks_of_slurm_find_each_other():
    port = {"JAX_COORDINATOR_PORT": free_port()}
    said = gathered_by(*(slurm(i) | port for i in range(2)))
    assert said.startswith(
        f"2 processes (from SLURM; process 0 at localhost:{port['JAX_COORDINATOR_PORT']}), "
    )


@pytest.mark.slow
def test_four_pods_of_a_jobset_find_each_other():
    address = f"localhost:{free_port()}"  # here no pod has a name
    pods = [
        {
            "JOBSET_NAME": "night",
            "REPLICATED_JOB_NAME": "workers",
            "NNODES": 4,
            "JOB_COMPLETION_INDEX": i,
            "JAX_COORDINATOR_ADDRESS": address,
        }
        for i in range(4)
    ]
    assert gathered_by(*pods).startswith(f"4 processes (from JobSet; process 0 at {address}), ")


@pytest.mark.slow
def test_workers_of_a_tpu_vm_find_each_other():
    """By JAX's own detection, from a metadata server as Google's virtual machines have one."""
    attributes = {
        "worker-network-endpoints": "unknown:unknown:localhost,unknown:unknown:localhost",
        "tpu-env": "",
    }
    servers = [metadata_server(attributes | {"agent-worker-number": str(i)}) for i in range(2)]
    shared = {"JAX_PLATFORMS": "tpu,cpu", "JAX_FORCE_TPU_INIT": 1, "JAX_COORDINATOR_PORT": free_port()}
    workers = [shared | {"GCE_METADATA_IP": f"localhost:{server.server_port}"} for server in servers]
    try:
        assert gathered_by(*workers).startswith("2 processes (from Cloud TPU metadata), ")
        # Only CPUs are wanted: one worker of a TPU can evaluate without the others.
        assert alone(workers[0] | {"JAX_PLATFORMS": "cpu"})
    finally:
        for server in servers:
            server.shutdown()


def metadata_server(attributes: dict[str, str]) -> http.server.HTTPServer:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            text = attributes.get(self.path.removeprefix("/computeMetadata/v1/instance/attributes/"))
            self.send_response(404 if text is None else 200)
            self.end_headers()
            self.wfile.write((text or "").encode())

        def log_message(self, *_):
            pass

    server = http.server.HTTPServer(("localhost", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def alone(variables: dict[str, object]) -> bool:
    out, err = start(variables, timeout_s=5).communicate(timeout=300)
    return "process 0 gathered [10]" in err and out == ""


@pytest.mark.slow
def test_a_process_that_waits_in_vain_says_so():
    where = {"UNLOC_COORDINATOR": f"localhost:{free_port()}", "UNLOC_NUM_PROCESSES": 2}
    waiting = [start(where | {"UNLOC_PROCESS_ID": 0}, timeout_s=3)]
    nobody_listens = where | {"UNLOC_COORDINATOR": f"localhost:{free_port()}", "UNLOC_PROCESS_ID": 1}
    waiting.append(start(nobody_listens, timeout_s=3))
    for process in waiting:
        _, err = process.communicate(timeout=300)
        assert (
            process.returncode == 1 and "did not come within 3 s (UNLOC_COORDINATOR; process 0 at" in err
        ), err
    told_to_stop = start(nobody_listens, timeout_s=3)
    wait_until_heard(told_to_stop)
    told_to_stop.send_signal(signal.SIGTERM)
    _, err = told_to_stop.communicate(timeout=300)
    assert told_to_stop.returncode == EXIT_TRY_AGAIN
    assert "unloc: stopped by SIGTERM while waiting for the other processes of this run (UNLOC_" in err


def test_a_port_in_use_is_a_mistake_of_the_user():
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"process 0 cannot listen at port {port} .the command line"):
            join(f"localhost:{port}", 2, 0)


def test_a_single_process_waits_for_nobody():
    assert scheduled({}) is None
    assert scheduled(slurm(0, count=1)) is None
    assert scheduled(slurm(1)) is not None
    # The script of sbatch and a shell of salloc: many tasks are allocated, this is not one of them.
    assert scheduled({"SLURM_JOB_ID": "4711", "SLURM_NTASKS": "8", "SLURM_PROCID": "0"}) is None
    assert scheduled(slurm(0, count=1) | {"SLURM_NTASKS": "8"}) is None
    sky = {"SKYPILOT_NODE_RANK": "0", "SKYPILOT_NODE_IPS": "10.0.0.1", "SKYPILOT_NUM_NODES": "1"}
    assert scheduled(sky) is None


@pytest.mark.parametrize(
    "nodes, first",
    [
        ("node7", "node7"),
        ("node7,node9", "node7"),
        ("node[001-004,007]", "node001"),
        ("node[12,14],other3", "node12"),
        ("node[1-2]-ib", "node1-ib"),
        ("rack[0-1]node[03-12]", "rack0node03"),
        ("rack[0,2]-[1-2],other", "rack0-1"),
        ("a-b.c[7]", "a-b.c7"),
        ("tux[2-10:2]", "tux2"),
        ("bgl[000x133]", "bgl000"),
        ("[01-02]x", "01x"),
    ],
)
def test_the_first_node_of_slurm_coordinates(nodes, first):
    place = scheduled(slurm(1) | {"SLURM_STEP_NODELIST": nodes})
    assert re.fullmatch(rf"{first}:6\d{{4}}", place.coordinator)


@pytest.mark.parametrize("nodes", ["", ",", "node[", "node[1-2", "node]", "[]"])
def test_what_is_no_list_of_nodes_is_said(nodes):
    with pytest.raises(UserError, match="names no node"):
        scheduled(slurm(1) | {"SLURM_STEP_NODELIST": nodes})


def test_gpus_are_shared_out_only_between_tasks_of_one_machine():
    several = slurm(1)
    assert scheduled(several).local_devices == (1,)
    assert scheduled(several | {"CUDA_VISIBLE_DEVICES": "0,1"}).local_devices == (1,)
    assert scheduled(several | {"CUDA_VISIBLE_DEVICES": "1"}).local_devices is None  # --gpus-per-task did
    one_per_node = several | {"SLURM_STEP_NUM_NODES": "2", "SLURM_LOCALID": "0"}
    assert scheduled(one_per_node | {"CUDA_VISIBLE_DEVICES": "0,1"}).local_devices is None


def test_skypilot_names_the_first_machine_first():
    sky = {
        "SKYPILOT_NODE_RANK": "1",
        "SKYPILOT_NODE_IPS": "10.0.0.5\n10.0.0.9",
        "SKYPILOT_NUM_NODES": "2",
    }
    place = scheduled(sky)
    assert (place.coordinator, place.num_processes, place.process_id) == ("10.0.0.5:12321", 2, 1)


@pytest.mark.parametrize(
    "variables, coordinator",
    [
        ({}, "10.0.0.5:12321"),
        ({"JAX_COORDINATOR_PORT": "99"}, "10.0.0.5:99"),
        ({"JAX_COORDINATOR_ADDRESS": "head"}, "head:12321"),
        ({"JAX_COORDINATOR_ADDRESS": "[fe80::1]:77"}, "[fe80::1]:77"),
        ({"JAX_COORDINATOR_ADDRESS": "head:77", "JAX_COORDINATOR_PORT": "99"}, "head:99"),
    ],
)
def test_the_address_can_be_changed(variables, coordinator):
    sky = {"SKYPILOT_NODE_RANK": "1", "SKYPILOT_NODE_IPS": "10.0.0.5\n10.0.0.9", "SKYPILOT_NUM_NODES": "2"}
    assert scheduled(sky | variables).coordinator == coordinator


@pytest.mark.parametrize(
    "variables, message",
    [
        ({"JOBSET_NAME": "night", "REPLICATED_JOB_NAME": "workers"}, "NNODES is missing"),
        ({**slurm(0), "SLURM_PROCID": "x"}, "SLURM_PROCID=x is not a whole number"),
        ({**slurm(5)}, "process 5 of 2"),
    ],
)
def test_variables_that_say_nothing_sensible_are_named(variables, message):
    with pytest.raises(UserError, match=message):
        scheduled(variables)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("localhost:1", 2, None), "belong together"),
        (("localhost", 2, 0), "give HOST:PORT"),
        (("localhost:1", 2, 2), "must be from 0 to 1"),
    ],
)
def test_wrong_flags_are_named(arguments, message):
    with pytest.raises(UserError, match=message):
        join(*arguments)
    with pytest.raises(UserError, match="exclude each other"):
        join(*arguments, single_process=True)
