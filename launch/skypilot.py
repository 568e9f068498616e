"""Launches jobs with SkyPilot, on any cloud that has the chips: `python -m launch.skypilot ACTION JOB.toml`."""

import sys
from pathlib import Path
from typing import Any

from launch.commands import Step, main, to_yaml
from launch.constraints import PYTHON
from launch.job import BUCKET_DIR, Job
from unloc_jax.errors import EXIT_TRY_AGAIN, UserError

_CONSTRAINTS = "~/unloc-constraints.txt"  # on the machines


def submit(job: Job) -> list[Step]:
    """Submits a managed job, which restarts elsewhere when its machines are taken away."""
    file = _local(job) / "sky.yaml"
    command = ["sky", "jobs", "launch", f"--name={job.name}", "--yes", "--detach-run", str(file)]
    return [({file: to_yaml(task(job)), _local(job) / "constraints.txt": job.constraints}, command)]


def status(job: Job) -> list[Step]:
    return [({}, ["sky", "jobs", "queue"])]


def logs(job: Job) -> list[Step]:
    return [({}, ["sky", "jobs", "logs", f"--name={job.name}"])]


def stop(job: Job) -> list[Step]:
    """Ends the job and releases the machines; `submit` continues from the last checkpoint."""
    return [({}, ["sky", "jobs", "cancel", f"--name={job.name}", "--yes"])]


def task(job: Job) -> dict[str, Any]:
    """Returns the task's YAML document.

    Raises:
      UserError: the job has several TPU slices, which SkyPilot cannot connect.
    """
    settings = job.settings("skypilot", (), infra="")
    chips = job.accelerator
    if chips.is_tpu and job.slices > 1:
        raise UserError(f"job {job.name}: SkyPilot starts one TPU slice; use launch.gke or launch.tpu_vm.")
    resources: dict[str, Any] = {
        "accelerators": chips.sky,
        "use_spot": job.spot,
        "job_recovery": {
            "strategy": "EAGER_NEXT_REGION" if job.spot else "FAILOVER",
            "max_restarts_on_errors": job.max_restarts,
        },
    }
    if job.hosts == 1:  # with several processes, the others also exit with this status when one fails
        resources["job_recovery"]["recover_on_exit_codes"] = [EXIT_TRY_AGAIN]
    if settings["infra"]:
        resources["infra"] = settings["infra"]
    if chips.is_tpu:
        resources["accelerator_args"] = {"runtime_version": chips.runtime, "tpu_vm": True}
    extra = "tpu" if chips.is_tpu else "cuda12"
    made: dict[str, Any] = {"name": job.name, "resources": resources, "num_nodes": job.slices, "workdir": "."}
    # The working folder travels without what git ignores, so the versions travel by themselves.
    made["file_mounts"] = {_CONSTRAINTS: str(_local(job) / "constraints.txt")}
    if job.bucket:
        made["file_mounts"][BUCKET_DIR] = {"source": f"gs://{job.bucket}", "mode": "MOUNT"}
    install = [
        "set -e",
        "curl -LsSf --retry 5 https://astral.sh/uv/install.sh -o ~/install-uv.sh",
        "sh ~/install-uv.sh",
        f"~/.local/bin/uv venv --clear --python {PYTHON} ~/unloc-venv",
        f"~/.local/bin/uv pip install --python ~/unloc-venv/bin/python --constraints {_CONSTRAINTS} "
        f"-e '.[data,tensorflow,{extra}]'",
    ]
    return made | {
        "envs": job.env | {"PYTHONUNBUFFERED": "1"},
        "setup": "\n".join(install) + "\n",
        "run": f'export PATH="$HOME/unloc-venv/bin:$PATH"\n{job.shell_command}\n',
    }


def _local(job: Job) -> Path:
    return Path("build/launch") / job.name


_ACTIONS = {"submit": submit, "status": status, "logs": logs, "stop": stop, "resume": submit}

if __name__ == "__main__":
    sys.exit(main("skypilot", _ACTIONS))
