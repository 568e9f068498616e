"""Rehearses on one machine: `python -m launch.local --processes 2 --devices-per-process 4 -- unloc train …`.

Starts the command several times; the processes find each other as they would on several machines, each with separate
CPU devices. Ctrl-C and SIGTERM are forwarded to all of them, so that a preemption can be rehearsed. If one fails, the
others are stopped, and its exit status becomes that of this program.
"""

import argparse
import contextlib
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from types import FrameType

from unloc_jax.errors import EXIT_TRY_AGAIN

_GRACE_S = 30.0  # for processes to stop, or to save first
_POLL_S = 0.1


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status of the first process that failed (128 + signal if one ended it), else 0."""
    parser = argparse.ArgumentParser(
        prog="python -m launch.local", description="several processes on this machine"
    )
    parser.add_argument("--processes", type=_count, default=2, metavar="N", help="(default 2)")
    parser.add_argument(
        "--devices-per-process", type=_count, default=1, metavar="N", help="of CPU (default 1)"
    )
    parser.add_argument(
        "--max-restarts",
        type=int,
        default=0,
        metavar="N",
        help=f"start all again when they end with {EXIT_TRY_AGAIN}: preempted, saved (default 0)",
    )
    parser.add_argument("--dry-run", action="store_true", help="print what would run")
    parser.add_argument("command", nargs="+", metavar="COMMAND", help="after --, such as: -- unloc train …")
    arguments = parser.parse_args(argv)
    for attempt in range(arguments.max_restarts + 1):
        run = _Run(_commands(arguments.command, arguments.processes, arguments.devices_per_process))
        if arguments.dry_run:
            print("\n".join(run.shell_lines()))
            return 0
        status = run.until_done()
        if status != EXIT_TRY_AGAIN or run.stopped_by_us or attempt == arguments.max_restarts:
            return status
        print(f"launch.local: preempted; restart {attempt + 1} of {arguments.max_restarts}", flush=True)
    raise AssertionError("unreachable")


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1, got {text}")
    return int(text)


def _commands(words: Sequence[str], processes: int, devices: int) -> list[tuple[dict[str, str], list[str]]]:
    """Returns, for each process, the variables that differ from this environment, and the command."""
    if words[0] == "unloc":  # use the Python that runs this, whether unloc is installed or not
        words = [sys.executable, "-m", "unloc_jax.cli", *words[1:]]
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    flags = re.sub(r"--xla_force_host_platform_device_count=\d+", "", os.environ.get("XLA_FLAGS", ""))
    shared = {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"{flags} --xla_force_host_platform_device_count={devices}".strip(),
        "PYTHONUNBUFFERED": "1",
    }
    if processes == 1:
        return [(shared, list(words))]
    rendezvous = {"UNLOC_COORDINATOR": f"localhost:{port}", "UNLOC_NUM_PROCESSES": str(processes)}
    return [(shared | rendezvous | {"UNLOC_PROCESS_ID": str(i)}, list(words)) for i in range(processes)]


class _Run:
    """The processes of one attempt."""

    def __init__(self, commands: list[tuple[dict[str, str], list[str]]]) -> None:
        self._commands = commands
        self._started: list[subprocess.Popen[bytes]] = []
        self._signals = 0
        self.stopped_by_us = False

    def shell_lines(self) -> list[str]:
        return [
            " ".join(
                [
                    "env",
                    *(f"{name}={shlex.quote(value)}" for name, value in variables.items()),
                    shlex.join(words),
                ]
            )
            + " &"
            for variables, words in self._commands
        ] + ["wait"]

    def until_done(self) -> int:
        for signal_number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signal_number, self._pass_on)
        readers = []
        for i, (variables, words) in enumerate(self._commands):
            # Separate groups: Ctrl-C reaches them only once, from here, and their children can be ended with them.
            process = subprocess.Popen(
                words,
                env=os.environ | variables,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            self._started.append(process)
            readers.append(threading.Thread(target=_copy_lines, args=(i, process), daemon=True))
            readers[-1].start()
        status = self._wait()
        for process in self._started:  # ends children that are left
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        for reader in readers:
            reader.join(timeout=5)
        return status

    def _wait(self) -> int:
        """Waits until all have ended, at most _GRACE_S after the first failure; returns the exit status."""
        culprit, failed_at, killed = 0, 0.0, False
        while True:
            statuses = [process.poll() for process in self._started]
            failed = [(i, status) for i, status in enumerate(statuses) if status]
            if failed and not failed_at:
                failed_at = time.monotonic()
            if not culprit and not killed:  # a process whose partner has failed ends with EXIT_TRY_AGAIN
                i, culprit = next(((i, status) for i, status in failed if status != EXIT_TRY_AGAIN), (0, 0))
                if culprit and not self.stopped_by_us:
                    print(f"launch.local: process {i} {_ended(culprit)}; stopping the others", flush=True)
                    self._send(signal.SIGTERM)
            if None not in statuses:
                status = culprit or (failed[0][1] if failed else 0)
                return 128 - status if status < 0 else status
            if failed_at and time.monotonic() - failed_at > _GRACE_S:
                killed = True
                self._send(signal.SIGKILL)
            time.sleep(_POLL_S)

    def _pass_on(self, signal_number: int, frame: FrameType | None) -> None:
        """Forwards a signal; kills the processes on the third one, because they may be stuck."""
        self._signals += 1
        self.stopped_by_us = True
        self._send(signal_number if self._signals < 3 else signal.SIGKILL)

    def _send(self, signal_number: int) -> None:
        for process in self._started:
            if process.poll() is None:
                os.killpg(process.pid, signal_number)


def _ended(returncode: int) -> str:
    return f"was ended by signal {-returncode}" if returncode < 0 else f"failed with status {returncode}"


def _copy_lines(i: int, process: subprocess.Popen[bytes]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        # Progress bars overwrite their line: prints only the last state.
        text = line.decode(errors="replace").rstrip("\r\n").rpartition("\r")[2]
        # In one write: the other threads print too.
        print(f"[{i}] {text}\n", end="", flush=True)


if __name__ == "__main__":
    sys.exit(main())
