"""Launches jobs on SLURM: `python -m launch.slurm ACTION JOB.toml`, in the clone and environment of the job."""

import dataclasses
import shlex
import sys
from pathlib import Path
from typing import Any

from launch.commands import Step, main
from launch.job import BUCKET_DIR, Job
from unloc_jax.errors import EXIT_TRY_AGAIN, UserError

_SAVE_S = 120  # before the time limit, to save a checkpoint


def submit(job: Job) -> list[Step]:
    file = Path("build/launch") / job.name / "job.sbatch"
    return [({file: sbatch_script(job)}, ["sbatch", str(file)])]


def status(job: Job) -> list[Step]:
    return [({}, ["squeue", "--me", f"--name={job.name}"])]


def logs(job: Job) -> list[Step]:
    return [({}, ["tail", "-n", "100", "-F", f"{job.name}.log"])]


def stop(job: Job) -> list[Step]:
    """Saves a checkpoint and ends, if the cluster's KillWait is long enough; `submit` continues from there."""
    return [({}, ["scancel", "--me", f"--name={job.name}"])]


def sbatch_script(job: Job) -> str:
    """Returns the batch script: one task per machine, with all of its GPUs.

    Raises:
      UserError: the job needs TPUs, or a bucket that no folder stands for, or a setting is missing.
    """
    settings: dict[str, Any] = job.settings(
        "slurm", (), partition="", account="", time="24:00:00", setup="", options=[], bucket_dir=""
    )
    if job.accelerator.is_tpu:
        raise UserError(f"job {job.name} wants {job.accelerator.name}: SLURM here has GPUs, no TPUs.")
    if job.bucket and not settings["bucket_dir"].startswith("/"):
        raise UserError(
            f"job {job.name}: SLURM mounts no bucket. [slurm] bucket_dir names the folder of the cluster's shared "
            f'file system takes the place of {BUCKET_DIR} (bucket_dir = "/shared").'
        )
    if job.bucket:
        job = _with_paths_below(settings["bucket_dir"].rstrip("/"), job)
    options = [
        f"--job-name={job.name}",
        f"--nodes={job.slices}",
        "--ntasks-per-node=1",
        f"--gpus-per-node={job.accelerator.chips}",
        f"--time={settings['time']}",
        f"--signal=TERM@{_SAVE_S}",
        "--requeue",
        f"--output={job.name}.log",
        "--open-mode=append",
        *(f"--{name}={settings[name]}" for name in ("partition", "account") if settings[name]),
        *settings["options"],
    ]
    exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in job.env.items())
    setup = settings["setup"].strip() + "\n" if settings["setup"].strip() else ""
    return f"""\
#!/bin/bash
{"".join(f"#SBATCH {option}{chr(10)}" for option in options)}
{setup}set -u
{exports}export PYTHONUNBUFFERED=1

# scancel reaches this script; the warning before the time limit reaches only the tasks.
cancelled=0
trap 'cancelled=1' TERM

# When one task fails, the others end with {EXIT_TRY_AGAIN}, and srun tells only the largest status: a task that
# failed by itself leaves its own in a file. None is killed while another still writes its part of a checkpoint.
failed={job.name}.failed-$SLURM_JOB_ID
rm -f "$failed"
srun --kill-on-bad-exit=0 --wait=60 bash -c '
  trap : TERM
  "$@"
  status=$?
  case "$status" in
    0 | {EXIT_TRY_AGAIN}) ;;
    *) echo "$status" >"$0" ;;
  esac
  exit "$status"' "$failed" {job.shell_command}
status=$?
if [ -e "$failed" ]; then
  status=$(cat "$failed")
  rm "$failed"
fi
if [ "$status" -eq {EXIT_TRY_AGAIN} ] && [ "$cancelled" -eq 0 ]; then
  echo "preempted, saved: queued again"
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
"""


def _with_paths_below(folder: str, job: Job) -> Job:
    """Returns the job with `folder` in place of the bucket's folder, in its command and its variables."""
    return dataclasses.replace(
        job,
        command=tuple(word.replace(BUCKET_DIR, folder) for word in job.command),
        env={name: value.replace(BUCKET_DIR, folder) for name, value in job.env.items()},
    )


_ACTIONS = {"submit": submit, "status": status, "logs": logs, "stop": stop, "resume": submit}

if __name__ == "__main__":
    sys.exit(main("slurm", _ACTIONS))
