"""Launches jobs on Google Kubernetes Engine as a JobSet: `python -m launch.gke ACTION JOB.toml`."""

import sys
from pathlib import Path
from typing import Any

from launch.commands import Step, main, to_yaml
from launch.job import BUCKET_DIR, Job
from unloc_jax.errors import EXIT_TRY_AGAIN, EXIT_USER_ERROR, UserError

_WORKERS = "workers"  # the replicated job: one Job per slice, one pod per machine
_STOP_S = 300  # time to save a checkpoint


def submit(job: Job) -> list[Step]:
    file = Path("build/launch") / job.name / "jobset.yaml"
    return [({file: to_yaml(jobset(job))}, ["kubectl", "apply", f"--filename={file}"])]


def status(job: Job) -> list[Step]:
    pods = ["get", "pods", f"--selector=jobset.sigs.k8s.io/jobset-name={job.name}", "--output=wide"]
    return [({}, _kubectl(job, "get", "jobset", job.name)), ({}, _kubectl(job, *pods))]


def logs(job: Job) -> list[Step]:
    """Follows the log of process 0."""
    first = f"{job.name}-{_WORKERS}-0"
    selector = f"--selector=batch.kubernetes.io/job-name={first},batch.kubernetes.io/job-completion-index=0"
    return [({}, _kubectl(job, "logs", "--follow", "--tail=100", "--container=unloc", selector))]


def stop(job: Job) -> list[Step]:
    """Saves a checkpoint and releases the machines; the JobSet stays, suspended."""
    return [({}, _suspended(job, "true"))]


def resume(job: Job) -> list[Step]:
    return [({}, _suspended(job, "false"))]


def delete(job: Job) -> list[Step]:
    return [({}, _kubectl(job, "delete", "jobset", job.name))]


def jobset(job: Job) -> dict[str, Any]:
    """Returns the manifest.

    Exit status EXIT_TRY_AGAIN (preempted, saved) and the eviction of a pod restart the JobSet without counting as a
    restart; a user error ends it; other failures restart it `max_restarts` times. The first pod that fails decides: the
    others exit later, with EXIT_TRY_AGAIN.

    Raises:
      UserError: a setting is missing.
    """
    settings = _settings(job)
    if job.image is None:
        raise UserError(f"job {job.name} needs an image (docs/launch.md builds one).")
    chips = job.accelerator
    one_job_of_all = not chips.is_tpu  # GPU machines are the pods of one Job; each TPU slice is a Job
    pods = job.slices if one_job_of_all else chips.hosts
    template = {
        "metadata": {"annotations": {"gke-gcsfuse/volumes": "true"} if job.bucket else {}},
        "spec": _pod(job, settings),
    }
    metadata: dict[str, Any] = {"name": job.name, "namespace": settings["namespace"]}
    if settings["queue"]:
        metadata["labels"] = {"kueue.x-k8s.io/queue-name": settings["queue"]}
    if chips.is_tpu and job.slices > 1:  # each slice needs a separate node pool
        metadata["annotations"] = {
            "alpha.jobset.sigs.k8s.io/exclusive-topology": "cloud.google.com/gke-nodepool"
        }
    return {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": metadata,
        "spec": {
            "suspend": False,
            "failurePolicy": {
                "maxRestarts": job.max_restarts,
                "rules": [
                    {
                        "name": "mistakeOfTheUser",
                        "action": "FailJobSet",
                        "onJobFailureReasons": ["PodFailurePolicy"],
                        "onJobFailureMessagePatterns": [f"exit code {EXIT_USER_ERROR} "],
                    },
                    {
                        "name": "preempted",
                        "action": "RestartJobSetAndIgnoreMaxRestarts",
                        "onJobFailureReasons": ["PodFailurePolicy"],
                    },
                ],
            },
            "replicatedJobs": [
                {
                    "name": _WORKERS,
                    "replicas": 1 if one_job_of_all else job.slices,
                    "template": {
                        "spec": {
                            "parallelism": pods,
                            "completions": pods,
                            "completionMode": "Indexed",
                            "backoffLimit": 0,
                            "podFailurePolicy": {
                                "rules": [
                                    _fail_job({"onExitCodes": _exit_code(EXIT_USER_ERROR)}),
                                    _fail_job({"onExitCodes": _exit_code(EXIT_TRY_AGAIN)}),
                                    _fail_job(
                                        {"onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
                                    ),
                                ]
                            },
                            "template": template,
                        }
                    },
                }
            ],
        },
    }


def _pod(job: Job, settings: dict[str, Any]) -> dict[str, Any]:
    chips = job.accelerator
    if chips.is_tpu:
        selector = {
            "cloud.google.com/gke-tpu-accelerator": chips.gke_label,
            "cloud.google.com/gke-tpu-topology": chips.topology,
        }
        resource, rendezvous = "google.com/tpu", {}  # GKE informs the pods of a TPU about each other
    else:
        selector = {"cloud.google.com/gke-accelerator": chips.gke_label}
        resource = "nvidia.com/gpu"
        rendezvous = {"JOBSET_NAME": job.name, "REPLICATED_JOB_NAME": _WORKERS, "NNODES": str(job.hosts)}
    if job.spot:
        selector["cloud.google.com/gke-spot"] = "true"
    limits = {resource: str(chips.chips_per_host)}
    variables = rendezvous | job.env | {"PYTHONUNBUFFERED": "1"}
    mounts = [{"name": "memory", "mountPath": "/dev/shm"}]
    volumes: list[dict[str, Any]] = [{"name": "memory", "emptyDir": {"medium": "Memory"}}]
    if job.bucket:
        mounts.append({"name": "bucket", "mountPath": BUCKET_DIR})
        attributes = {"bucketName": job.bucket, "mountOptions": "implicit-dirs"}
        volumes.append(
            {
                "name": "bucket",
                "csi": {"driver": "gcsfuse.csi.storage.gke.io", "volumeAttributes": attributes},
            }
        )
    return {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": _STOP_S,
        "serviceAccountName": settings["service_account"],
        "nodeSelector": selector,
        "containers": [
            {
                "name": "unloc",
                "image": job.image,
                "command": list(job.command),
                "env": [{"name": name, "value": value} for name, value in variables.items()],
                "resources": {"requests": limits, "limits": dict(limits)},
                "volumeMounts": mounts,
            }
        ],
        "volumes": volumes,
    }


def _fail_job(condition: dict[str, Any]) -> dict[str, Any]:
    return {"action": "FailJob"} | condition


def _exit_code(value: int) -> dict[str, Any]:
    return {"containerName": "unloc", "operator": "In", "values": [value]}


def _suspended(job: Job, value: str) -> list[str]:
    patch = f'--patch={{"spec":{{"suspend":{value}}}}}'
    return _kubectl(job, "patch", "jobset", job.name, "--type=merge", patch)


def _kubectl(job: Job, *words: str) -> list[str]:
    return ["kubectl", f"--namespace={_settings(job)['namespace']}", *words]


def _settings(job: Job) -> dict[str, Any]:
    return job.settings("gke", (), namespace="default", service_account="default", queue="")


_ACTIONS = {action.__name__: action for action in (submit, status, logs, stop, resume, delete)}

if __name__ == "__main__":
    sys.exit(main("gke", _ACTIONS))
