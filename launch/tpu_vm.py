"""Launches jobs on TPU VMs as queued resources: `python -m launch.tpu_vm ACTION JOB.toml`.

The startup script (tpu_vm_startup.py) holds everything that a worker needs, so nobody has to wait until the TPU becomes
available. `watch` requests a spot TPU again after it was taken away, and releases it however the run ends.
"""

import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from launch.commands import Step, describe, main, run
from launch.job import BUCKET_DIR, Job
from launch.tpu_vm_startup import FAILURES, startup_script
from unloc_jax.console import show
from unloc_jax.errors import UserError

_POLL_S = 60.0
_GONE = ("SUSPENDING", "SUSPENDED", "FAILED")  # final states of a queued resource
_MOST_UNANSWERED = 60  # polls
_MOST_REFUSED = 20  # a spot slice may be taken away before it was seen ACTIVE


def submit(job: Job) -> list[Step]:
    """Copies the committed code and the versions to the bucket, and queues a resource that runs it."""
    _settings(job)  # refuses GPUs before anything else is missed
    code, state, versions = (_local(job) / name for name in ("code.tar.gz", "state", "constraints.txt"))
    upload = ["gcloud", "storage", "cp", str(code), str(state), str(versions), _in_bucket(job, "")]
    return [
        (
            {state: "submitted\n", versions: job.constraints},
            ["git", "archive", "--format=tar.gz", f"--output={code}", "HEAD"],
        ),
        ({}, upload),
        _create(job),
    ]


def status(job: Job) -> list[Step]:
    return [({}, _state_of_resource(job)), ({}, _state_of_run(job))]


def logs(job: Job) -> list[Step]:
    """Follows the log of worker 0: its installation, then the run's output."""
    follow = "sudo journalctl --unit=google-startup-scripts --unit=unloc --lines=100 --follow --output=cat"
    return [({}, _ssh(job, _nodes(job)[0], "0", follow))]


def stop(job: Job) -> list[Step]:
    """Saves a checkpoint and stops; the TPU stays allocated and billed."""
    return [({}, _ssh(job, node, "all", "sudo systemctl stop unloc")) for node in _nodes(job)]


def resume(job: Job) -> list[Step]:
    again = (
        f"sudo rm -f {FAILURES}; echo submitted | sudo tee {BUCKET_DIR}/jobs/{job.name}/state; "
        "sudo systemctl reset-failed unloc; sudo systemctl start unloc"
    )
    return [({}, _ssh(job, node, "all", again)) for node in _nodes(job)]


def delete(job: Job) -> list[Step]:
    """Releases the TPU; the bucket stays."""
    return [({}, [*_resources(job, "delete"), "--force", "--quiet"])]


def watch(job: Job, dry_run: bool) -> int:
    """Watches a run until it ends: requests a lost TPU again, and releases it at the end, however the run ends.

    Returns:
      0 if the run has finished, 1 if it has failed, has been silent or has cost more hours than allowed, or if the
      cloud does not answer.
    """
    if dry_run:
        show(f"# every {_POLL_S:.0f} s:")
        for _, command in status(job):
            show(describe({}, command))
        show(f"# when the first answers {' or '.join(_GONE)}:")
        for files, command in [*delete(job), _create(job)]:
            show(describe(files, command))
        show("# when the second answers finished or failed, when the run is silent or too long:")
        show(describe(*delete(job)[0]))
        return 0
    return _Watch(job).until_done()


class _Watch:
    """State of a run that is watched."""

    def __init__(self, job: Job):
        self._job = job
        settings = _settings(job)
        self._max_hours, self._silent_hours = settings["max_hours"], settings["silent_hours"]
        self._active_s = 0.0
        self._active_since: float | None = None  # of this slice; time.time()
        self._seen: float | None = None  # the last time that it was ACTIVE
        self._heard: float | None = None  # time.time() of the run's last sign of life
        self._unanswered = 0  # polls in a row
        self._refused = 0  # requests in a row that ended before they were ACTIVE

    def until_done(self) -> int:
        while True:
            status = self._look()
            if status is not None:
                return status
            time.sleep(_POLL_S)

    def _look(self) -> int | None:
        """Asks once, and acts; returns the exit status at the end."""
        job = self._job
        resource = _output(_state_of_resource(job))
        state = alive = None
        if resource == "ACTIVE":
            state = _output(_state_of_run(job))
            alive = _output(_in_bucket_cat(job, "alive"))
        self._note(resource, alive)
        heard = "" if self._heard is None else f", heard {_age(time.time() - self._heard)} ago"
        show(
            f"{time.strftime('%H:%M:%S')} {job.name}: {resource or 'no answer'}, {state or '-'}{heard}",
        )
        if resource is None:
            self._unanswered += 1
            if self._unanswered >= _MOST_UNANSWERED:
                return self._give_up("gcloud has not answered; the slice may still cost: see `delete`", False)
            return None
        self._unanswered = 0
        if resource in _GONE:
            self._refused += 1
            if self._refused > _MOST_REFUSED:
                return self._give_up(f"{self._refused} requests in a row ended as {resource}")
            for files, command in [*delete(job), _create(job)]:
                if run(files, command):
                    return self._give_up("the slice could not be requested again")
            return None
        if state and state.startswith(("finished", "failed")):
            self._release()
            return int(state.startswith("failed"))
        if self._max_hours and self._active_s > 3600 * self._max_hours:
            return self._give_up(f"it has run for max_hours = {self._max_hours}", stop_first=True)
        if self._silent_hours and self._heard and time.time() - self._heard > 3600 * self._silent_hours:
            return self._give_up(f"nothing was heard of it for silent_hours = {self._silent_hours}")
        return None

    def _note(self, resource: str | None, alive: str | None) -> None:
        """Keeps the time for which the slice has cost, and when the run was last heard of."""
        now = time.time()
        if resource != "ACTIVE":
            self._active_since, self._seen, self._heard = None, None, None
            return
        if self._active_since is None or self._seen is None:
            self._active_since = self._seen = now
        self._active_s += now - self._seen
        self._seen = now
        self._refused = 0
        # Before its first sign of life a slice is silent since it became ACTIVE: a worker may never boot.
        told = float(alive) if alive and alive.isdecimal() else 0.0
        self._heard = max(told, self._active_since)

    def _give_up(self, why: str, release: bool = True, stop_first: bool = False) -> int:
        show(f"launch.tpu_vm: {self._job.name}: {why}", file=sys.stderr)
        if stop_first:
            for files, command in stop(self._job):
                run(files, command)
        if release:
            self._release()
        return 1

    def _release(self) -> None:
        """Deletes the slice; tries for an hour, because it costs."""
        [(files, command)] = delete(self._job)
        for _ in range(_MOST_UNANSWERED):
            if not run(files, command):
                return
            time.sleep(_POLL_S)
        show(
            f"launch.tpu_vm: {self._job.name} could not be deleted and still costs: {shlex.join(command)}",
            file=sys.stderr,
        )


def _age(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _create(job: Job) -> Step:
    settings = _settings(job)
    script = _local(job) / "startup.sh"
    chips = job.accelerator
    nodes = [f"--node-id={job.name}"]
    if job.slices > 1:
        nodes = [f"--node-count={job.slices}", f"--node-prefix={job.name}"]
    command = [
        *_resources(job, "create"),
        *nodes,
        f"--accelerator-type={chips.gcloud_type}",
        f"--runtime-version={settings['runtime_version'] or chips.runtime}",
        f"--metadata-from-file=startup-script={script}",
        "--scopes=https://www.googleapis.com/auth/cloud-platform",
    ]
    if settings["service_account"]:
        command.append(f"--service-account={settings['service_account']}")
    if job.spot:
        command.append("--spot")
    return {script: startup_script(job)}, command


def _settings(job: Job) -> dict[str, Any]:
    if not job.accelerator.is_tpu:
        raise UserError(f"job {job.name} wants {job.accelerator.name}: launch.tpu_vm is for TPUs.")
    return job.settings(
        "tpu_vm",
        ("project", "zone"),
        runtime_version="",
        service_account="",
        max_hours=168,
        silent_hours=6,
    )


def _resources(job: Job, verb: str) -> list[str]:
    settings = _settings(job)
    where = [f"--project={settings['project']}", f"--zone={settings['zone']}"]
    return ["gcloud", "compute", "tpus", "queued-resources", verb, job.name, *where]


def _state_of_resource(job: Job) -> list[str]:
    return [*_resources(job, "describe"), "--format=value(state.state)"]


def _state_of_run(job: Job) -> list[str]:
    return _in_bucket_cat(job, "state")


def _in_bucket_cat(job: Job, file: str) -> list[str]:
    return ["gcloud", "storage", "cat", _in_bucket(job, file)]


def _ssh(job: Job, node: str, worker: str, command: str) -> list[str]:
    settings = _settings(job)
    where = [f"--project={settings['project']}", f"--zone={settings['zone']}"]
    words = ["gcloud", "compute", "tpus", "tpu-vm", "ssh", node, *where]
    return [*words, f"--worker={worker}", f"--command={command}"]


def _nodes(job: Job) -> list[str]:
    return [job.name] if job.slices == 1 else [f"{job.name}-{i}" for i in range(job.slices)]


def _local(job: Job) -> Path:
    return Path("build/launch") / job.name


def _in_bucket(job: Job, file: str) -> str:
    if job.bucket is None:
        raise UserError(f"job {job.name} needs a bucket: for its code, data and checkpoints.")
    return f"gs://{job.bucket}/jobs/{job.name}/{file}"


def _output(command: Sequence[str]) -> str | None:
    """Returns what a command prints; None if it fails, which may be temporary."""
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


_ACTIONS = {action.__name__: action for action in (submit, status, logs, stop, resume, delete)}

if __name__ == "__main__":
    sys.exit(main("tpu_vm", _ACTIONS, loops={"watch": watch}))
