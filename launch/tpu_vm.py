"""Launches jobs on TPU VMs as queued resources: `python -m launch.tpu_vm ACTION JOB.toml`.

The startup script holds everything that a worker needs, so nobody has to wait until the TPU becomes available: the
script mounts the bucket, installs the code that `submit` put there, and starts a systemd service that restarts after
failures. `watch` requests a spot TPU again after it was taken away.
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
from unloc_jax.errors import EXIT_USER_ERROR, UserError

_POLL_S = 60.0
_STOP_S = 300  # time to save a checkpoint
_GONE = ("SUSPENDING", "SUSPENDED", "FAILED")  # final states of a queued resource


def submit(job: Job) -> list[Step]:
    """Copies the committed code to the bucket, and queues a resource that runs it once TPUs are available."""
    if not job.accelerator.is_tpu:
        raise UserError(f"job {job.name} wants {job.accelerator.name}: launch.tpu_vm is for TPUs.")
    code = _local(job) / "code.tar.gz"
    state = _local(job) / "state"
    return [
        ({state: "submitted\n"}, ["git", "archive", "--format=tar.gz", f"--output={code}", "HEAD"]),
        ({}, ["gcloud", "storage", "cp", str(code), str(state), _in_bucket(job, "")]),
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
    again = "sudo systemctl reset-failed unloc; sudo systemctl start unloc"
    return [({}, _ssh(job, node, "all", again)) for node in _nodes(job)]


def delete(job: Job) -> list[Step]:
    """Releases the TPU; the bucket stays."""
    return [({}, [*_resources(job, "delete"), "--force", "--quiet"])]


def watch(job: Job, dry_run: bool) -> int:
    """Watches a run until it ends: requests a lost TPU again, and releases it at the end.

    Returns:
      0 if the run has finished, 1 if it has failed.
    """
    if dry_run:
        print(f"# every {_POLL_S:.0f} s:")
        for _, command in status(job):
            print(describe({}, command))
        print(f"# when the first says {' or '.join(_GONE)}:")
        for files, command in [*delete(job), _create(job)]:
            print(describe(files, command))
        print("# when the second says finished or failed:")
        print(describe(*delete(job)[0]))
        return 0
    while True:
        resource = _output(_state_of_resource(job))
        ended = _output(_state_of_run(job)) if resource == "ACTIVE" else None
        print(
            f"{time.strftime('%H:%M:%S')} {job.name}: {resource or 'no answer'}, {ended or '-'}", flush=True
        )
        if resource in _GONE:
            for files, command in [*delete(job), _create(job)]:
                if run(files, command):
                    return 1
        elif ended in ("finished", "failed"):
            for files, command in delete(job):
                run(files, command)
            return int(ended == "failed")
        time.sleep(_POLL_S)


def startup_script(job: Job) -> str:
    """Returns the script that every worker runs as root whenever it boots."""
    if job.bucket is None:
        raise UserError(f"job {job.name} needs a bucket: for its code, data and checkpoints.")
    exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in job.env.items())
    return f"""\
#!/bin/bash
set -euo pipefail
export HOME=/root DEBIAN_FRONTEND=noninteractive
here={BUCKET_DIR}/jobs/{job.name}

# The bucket, as a folder.
if ! command -v gcsfuse >/dev/null; then
  curl -fsSL https://packages.cloud.google.com/apt/doc/apt-key.gpg -o /usr/share/keyrings/cloud.google.asc
  echo "deb [signed-by=/usr/share/keyrings/cloud.google.asc] https://packages.cloud.google.com/apt" \\
    "gcsfuse-$(lsb_release -cs) main" >/etc/apt/sources.list.d/gcsfuse.list
  apt-get -o DPkg::Lock::Timeout=600 update
  apt-get -o DPkg::Lock::Timeout=600 install -y gcsfuse
fi
mkdir -p {BUCKET_DIR} /opt/unloc/code
mountpoint -q {BUCKET_DIR} || gcsfuse --implicit-dirs {job.bucket} {BUCKET_DIR}

# The code, and a Python that is new enough for it.
if [ ! -e /opt/unloc/installed ]; then
  tar -xzf "$here/code.tar.gz" -C /opt/unloc/code
  curl -LsSf https://astral.sh/uv/install.sh | env UV_INSTALL_DIR=/usr/local/bin sh
  uv venv --clear --python 3.12 /opt/unloc/venv
  uv pip install --python /opt/unloc/venv/bin/python -e '/opt/unloc/code[data,tensorflow,tpu]'
  touch /opt/unloc/installed
fi

cat >/opt/unloc/run.sh <<'END_OF_RUN'
#!/bin/bash
{exports}export PATH="/opt/unloc/venv/bin:$PATH" PYTHONUNBUFFERED=1
exec {job.shell_command}
END_OF_RUN

# systemd tells how the run ended in EXIT_STATUS.
cat >/opt/unloc/ended.sh <<END_OF_ENDED
#!/bin/bash
journalctl --unit=unloc --boot --output=cat >"$here/log-\\$(hostname).txt"
case "\\$EXIT_STATUS" in
  0) echo finished >"$here/state" ;;
  {EXIT_USER_ERROR}) echo failed >"$here/state" ;;
esac
END_OF_ENDED
chmod +x /opt/unloc/run.sh /opt/unloc/ended.sh

cat >/etc/systemd/system/unloc.service <<'END_OF_UNIT'
[Unit]
Description=unloc: {job.name}
StartLimitIntervalSec=6h
StartLimitBurst={job.max_restarts + 1}
# At a shutdown the checkpoint is saved before the bucket and the network go.
RequiresMountsFor={BUCKET_DIR}
After=network-online.target

[Service]
WorkingDirectory=/opt/unloc/code
ExecStart=/opt/unloc/run.sh
ExecStopPost=/opt/unloc/ended.sh
KillMode=mixed
TimeoutStopSec={_STOP_S}
Restart=on-failure
RestartSec=20
RestartPreventExitStatus={EXIT_USER_ERROR}
END_OF_UNIT
systemctl daemon-reload
systemctl start unloc
"""


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
    return job.settings("tpu_vm", ("project", "zone"), runtime_version="", service_account="")


def _resources(job: Job, verb: str) -> list[str]:
    settings = _settings(job)
    where = [f"--project={settings['project']}", f"--zone={settings['zone']}"]
    return ["gcloud", "compute", "tpus", "queued-resources", verb, job.name, *where]


def _state_of_resource(job: Job) -> list[str]:
    return [*_resources(job, "describe"), "--format=value(state.state)"]


def _state_of_run(job: Job) -> list[str]:
    return ["gcloud", "storage", "cat", _in_bucket(job, "state")]


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
