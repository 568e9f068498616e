"""The files and commands of the launchers, checked by the tools that read them; no cloud is needed."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
import yaml

from launch import gke, local, skypilot, slurm, tpu_vm
from launch.commands import describe, main
from launch.job import Job, load
from tests.launch.test_job import write_job
from tests.tiny_runs import REPOSITORY
from unloc_jax.cli import _parser
from unloc_jax.errors import UserError
from unloc_jax.processes import scheduled

KUBERNETES = "1.33"
SCHEMA = json.loads(Path(__file__).with_name("jobset_schema.json").read_text())
WORDS = "unloc train --config=configs/charades_sta.py:B '--config.data.dir=/mnt/bucket/it is \"$(id)\"'"
TPU = f"""
name = "night"
command = {json.dumps(WORDS)}
accelerator = "v5e:4x4"
bucket = "gs://a-bucket"
image = "registry/unloc:tpu"
[env]
GREETING = "it's 100% \\"fine\\""
[tpu_vm]
project = "a-project"
zone = "us-west4-a"
"""
GPU = """
name = "night"
command = "unloc train"
accelerator = "h100:8"
slices = 2
image = "registry/unloc:cuda12"
[slurm]
partition = "gpu"
options = ["--exclusive"]
setup = "source /dev/null"
"""


@pytest.fixture
def job(tmp_path):
    def made(text: str, *changes: tuple[str, str]) -> Job:
        for change in changes:
            assert change[0] in text
            text = text.replace(*change)
        return load(write_job(tmp_path, text))

    return made


def assert_clean_shell(text: str, path: Path) -> None:
    path.write_text(text)
    # SC2016: a $ in single quotes is one of the job's own words.
    words = ["shellcheck", "--norc", "--exclude=SC2016", str(path)]
    found = subprocess.run(words, capture_output=True, text=True, env=tool_path(), check=False)
    assert found.returncode == 0, found.stdout


def tool_path() -> dict[str, str]:
    return os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


def validate(manifest: dict) -> None:
    """The JobSet by its own schema, its Jobs as Kubernetes' own."""
    jsonschema.validate(manifest, SCHEMA)
    for replicated in manifest["spec"]["replicatedJobs"]:
        one = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "one"}}
        kubernetes_validate.validate(one | replicated["template"], KUBERNETES, strict=True)


# GKE


@pytest.mark.parametrize(
    "text, changes",
    [
        (TPU, []),
        (TPU, [("v5e:4x4", "v5p:4x4x4"), ("\nbucket", "\nslices = 2\nspot = true\nbucket")]),
        (
            TPU,
            [("[tpu_vm]", '[gke]\nqueue = "q"\nnamespace = "research"\nservice_account = "unloc"\n[tpu_vm]')],
        ),
        (GPU, []),
    ],
)
def test_jobsets_are_valid(job, text, changes):
    manifest = gke.jobset(job(text, *changes))
    [(files, _)] = gke.submit(job(text, *changes))
    assert yaml.safe_load(*files.values()) == manifest
    validate(manifest)


def test_validation_would_notice(job):
    """Fields that do not exist, on both levels."""
    manifest = gke.jobset(job(TPU))
    manifest["spec"]["failurePolicy"]["maxRestart"] = 1
    with pytest.raises(jsonschema.ValidationError, match="maxRestart"):
        validate(manifest)
    manifest = gke.jobset(job(TPU))
    manifest["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]["nodeSelektor"] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match="nodeSelektor"):
        validate(manifest)


def pods_of(manifest: dict) -> tuple[int, int, dict]:
    """(Jobs, pods of each, pod's spec)"""
    [replicated] = manifest["spec"]["replicatedJobs"]
    spec = replicated["template"]["spec"]
    assert spec["parallelism"] == spec["completions"]
    return replicated["replicas"], spec["completions"], spec["template"]["spec"]


def test_a_tpu_slice_is_a_job_and_a_machine_a_pod(job):
    slices = ("\nbucket", "\nslices = 2\nspot = true\nbucket")
    jobs, pods, pod = pods_of(gke.jobset(job(TPU, ("v5e:4x4", "v5p:4x4x4"), slices)))
    assert (jobs, pods) == (2, 16)  # 64 chips per slice, 4 per machine
    assert pod["nodeSelector"] == {
        "cloud.google.com/gke-tpu-accelerator": "tpu-v5p-slice",
        "cloud.google.com/gke-tpu-topology": "4x4x4",
        "cloud.google.com/gke-spot": "true",
    }
    [container] = pod["containers"]
    assert container["resources"]["limits"] == {"google.com/tpu": "4"}
    assert container["command"] == shlex.split(WORDS)


def test_pods_with_gpus_find_each_other(job):
    """The variables in the manifest are those that unloc_jax.processes reads."""
    jobs, pods, pod = pods_of(gke.jobset(job(GPU)))
    assert (jobs, pods) == (1, 2)
    variables = {entry["name"]: entry["value"] for entry in pod["containers"][0]["env"]}
    place = scheduled(variables | {"JOB_COMPLETION_INDEX": "1"})  # which Kubernetes adds
    # JobSet's host names: <jobset>-<replicated job>-<job index>-<pod index>.<subdomain>
    assert (place.coordinator, place.num_processes, place.process_id) == (
        "night-workers-0-0.night:12321",
        2,
        1,
    )


def test_what_restarts_a_jobset(job):
    """A model of both policies' documented meaning: the first rule that matches decides."""
    spec = gke.jobset(job(TPU))["spec"]

    def action(exit_code: int | None = None, condition: str | None = None) -> str:
        reason, message = "BackoffLimitExceeded", "Job has reached the specified backoff limit"
        rules = spec["replicatedJobs"][0]["template"]["spec"]["podFailurePolicy"]["rules"]
        for i, rule in enumerate(rules):
            if exit_code is not None and exit_code in rule.get("onExitCodes", {}).get("values", []):
                reason = "PodFailurePolicy"
                message = f"Container unloc for pod default/p failed with exit code {exit_code} matching FailJob rule"
                message += f" at index {i}"
                break
            if condition in [entry["type"] for entry in rule.get("onPodConditions", [])]:
                reason, message = (
                    "PodFailurePolicy",
                    f"Pod default/p has condition {condition} matching FailJob rule",
                )
                break
        for rule in spec["failurePolicy"]["rules"]:
            patterns = rule.get("onJobFailureMessagePatterns", [""])
            if reason in rule["onJobFailureReasons"] and any(re.search(p, message) for p in patterns):
                return rule["action"]
        return "RestartJobSet"  # the default, which counts

    assert action(75) == action(condition="DisruptionTarget") == "RestartJobSetAndIgnoreMaxRestarts"
    assert action(2) == "FailJobSet"
    assert action(1) == action(134) == action(137) == "RestartJobSet"


# TPU VMs


def heredoc(script: str, end: str) -> str:
    return re.search(rf"<<'?{end}'?\n(.*?)^{end}$", script, re.S | re.M)[1]


def test_the_startup_script_is_clean(job, tmp_path):
    script = tpu_vm.startup_script(job(TPU))
    assert_clean_shell(script, tmp_path / "startup.sh")
    assert_clean_shell(heredoc(script, "END_OF_RUN"), tmp_path / "run.sh")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_understands_the_service(job, tmp_path):
    unit = heredoc(tpu_vm.startup_script(job(TPU)), "END_OF_UNIT")
    for name in ("run.sh", "ended.sh"):
        (tmp_path / name).write_text("#!/bin/bash\n")
        (tmp_path / name).chmod(0o755)
    here = unit.replace("/opt/unloc/code", str(tmp_path)).replace("/opt/unloc", str(tmp_path))

    def complaints(text: str) -> str:
        (tmp_path / "unloc.service").write_text(text)
        words = ["systemd-analyze", "verify", "--man=no", str(tmp_path / "unloc.service")]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        return "\n".join(line for line in done.stderr.splitlines() if "unloc.service" in line)

    assert complaints(here) == ""
    assert "RestartSecs" in complaints(here.replace("RestartSec", "RestartSecs"))


def test_a_worker_runs_the_command_as_it_was_written(job, tmp_path):
    program = tmp_path / "unloc"
    program.write_text('#!/bin/bash\necho "$GREETING"\nprintf "%s\\n" "$@"\n')
    program.chmod(0o755)
    run = heredoc(tpu_vm.startup_script(job(TPU)), "END_OF_RUN").replace("/opt/unloc/venv/bin", str(tmp_path))
    said = subprocess.run(["bash", "-c", run], capture_output=True, text=True, check=True).stdout.splitlines()
    assert said == ['it\'s 100% "fine"', *shlex.split(WORDS)[1:]]


def test_a_worker_leaves_word_of_how_the_run_ended(job, tmp_path):
    """The part of the startup script that writes ended.sh, run; then ended.sh as systemd would."""
    script = tpu_vm.startup_script(job(TPU)).replace("/mnt/bucket/jobs/night", str(tmp_path))
    script = script.replace("/opt/unloc/", f"{tmp_path}/")
    part = re.search(r"^cat >\S*ended\.sh.*?^END_OF_ENDED$", script, re.S | re.M)[0]
    subprocess.run(["bash", "-c", f"here={tmp_path}\n{part}"], check=True)
    assert_clean_shell((tmp_path / "ended.sh").read_text(), tmp_path / "ended.sh")
    (tmp_path / "systemctl").write_text(f'#!/bin/bash\necho "$*" >>{tmp_path}/calls\n')
    (tmp_path / "systemctl").chmod(0o755)
    state = tmp_path / "state"

    def ends(status: int | str) -> str:
        state.write_text("submitted")
        subprocess.run(
            ["bash", str(tmp_path / "ended.sh")],
            env=os.environ | {"EXIT_STATUS": str(status), "PATH": f"{tmp_path}:{os.environ['PATH']}"},
            stderr=subprocess.DEVNULL,
        )
        return state.read_text().strip().partition(":")[0]

    for status, expected in ((75, "submitted"), ("TERM", "submitted"), (2, "failed"), (0, "finished")):
        assert ends(status) == expected
    # max_restarts = 3; preemptions do not count.
    told = [ends(status) for status in (1, 75, "KILL", 134, 75, 1)]
    assert told == ["submitted"] * 5 + ["failed"]
    assert (tmp_path / "calls").read_text() == "stop --no-block unloc\n"


def test_spot_slices_are_requested_with_their_code(job):
    slices = ("\nbucket", "\nslices = 2\nspot = true\nbucket")
    archive, upload, create = [command for _, command in tpu_vm.submit(job(TPU, slices))]
    assert archive[:2] == ["git", "archive"] and upload[-1] == "gs://a-bucket/jobs/night/"
    assert {"--node-count=2", "--node-prefix=night", "--accelerator-type=v5litepod-16", "--spot"} <= set(
        create
    )
    assert len(tpu_vm.stop(job(TPU, slices))) == 2  # one ssh per slice


GCLOUD = """#!{python}
# Answers as the cloud would: a TPU that waits, runs, is taken away, comes back, and a run that then finishes.
import pathlib, sys
here = pathlib.Path(__file__).parent
words = sys.argv[1:]
with (here / "calls").open("a") as calls:
    calls.write(" ".join(words) + "\\n")
if "describe" in words:
    answers = ["WAITING_FOR_RESOURCES", "ACTIVE", "SUSPENDED", "ACTIVE"]
    asked = (here / "calls").read_text().count("describe")
    print(answers[min(asked, len(answers)) - 1])
elif "cat" in words:
    print("{end}" if (here / "calls").read_text().count(" create ") else "submitted")
"""


@pytest.mark.parametrize("end, status", [("finished", 0), ("failed", 1)])
def test_a_tpu_that_was_taken_away_is_requested_again(job, tmp_path, monkeypatch, end, status):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(tpu_vm, "_POLL_S", 0.01)
    gcloud = tmp_path / "gcloud"
    gcloud.write_text(GCLOUD.format(python=sys.executable, end=end))
    gcloud.chmod(0o755)
    assert tpu_vm.watch(job(TPU), dry_run=False) == status
    verbs = [
        next(word for word in call.split() if word in ("describe", "create", "delete", "cat"))
        for call in (tmp_path / "calls").read_text().splitlines()
    ]
    once = ["describe", "cat", "cat"]  # state and sign of life
    assert verbs == ["describe", *once, "describe", "delete", "create", *once, "delete"]


def watched(tmp_path, monkeypatch, job, answers: str) -> int:
    """Runs `watch` with a gcloud that runs `answers`, lines of shell that see its words in $*."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(tpu_vm, "_POLL_S", 0.01)
    gcloud = tmp_path / "gcloud"
    gcloud.write_text(f'#!/bin/bash\necho "$*" >>{tmp_path}/calls\n{answers}\n')
    gcloud.chmod(0o755)
    return tpu_vm.watch(job, dry_run=False)


ACTIVE = 'case "$*" in *describe*) echo ACTIVE ;; *state) echo submitted ;; *alive) echo {alive} ;; esac'


@pytest.mark.parametrize(
    "answers, settings, message",
    [
        (ACTIVE.format(alive=1_000_000), "silent_hours = 0", "max_hours = 1"),
        # This slice has been ACTIVE for less than an hour, whatever an earlier one has left in the bucket.
        ("exit 1", "", "gcloud has not answered"),
        ('case "$*" in *describe*) echo FAILED ;; esac', "", "requests in a row ended as FAILED"),
    ],
)
def test_watch_ends(job, tmp_path, monkeypatch, capfd, answers, settings, message):
    monkeypatch.setattr(tpu_vm, "_MOST_UNANSWERED", 3)
    made = job(TPU, ('"us-west4-a"', f'"us-west4-a"\nmax_hours = 1\n{settings}'))
    clock = iter(range(0, 10**9, 300))
    monkeypatch.setattr(tpu_vm.time, "time", lambda: float(next(clock)))
    assert watched(tmp_path, monkeypatch, made, answers) == 1
    assert message in capfd.readouterr().err
    calls = (tmp_path / "calls").read_text().splitlines()
    released = [call for call in calls if " delete " in call]
    assert bool(released) == ("exit 1" not in answers)
    if "max_hours" in message:
        stopped = next(i for i, call in enumerate(calls) if "systemctl stop unloc" in call)
        assert stopped < calls.index(released[-1])


def test_watch_says_when_it_last_heard_of_a_run_and_ends_a_silent_one(job, tmp_path, monkeypatch, capfd):
    clock = iter(range(1_000_000, 10**9, 600))
    monkeypatch.setattr(tpu_vm.time, "time", lambda: float(next(clock)))
    assert watched(tmp_path, monkeypatch, job(TPU), ACTIVE.format(alive=1_001_000)) == 1
    told = capfd.readouterr()
    assert "silent_hours = 6" in told.err and "heard 5." in told.out and "min ago" in told.out


# Stand-ins for the programs that the startup script calls. FAILS names one that never works, FLAKY one that works at
# its second call.
PROGRAM = """#!/bin/bash
name=$(basename "$0")
echo "$name $*" >>{calls}
[ "$name" = "$FAILS" ] && exit 9
if [ "$name" = "$FLAKY" ] && [ "$(grep -c "^$name" {calls})" -lt 2 ]; then exit 9; fi
case "$name" in
  gcsfuse) touch {root}/mounted ;;
  mountpoint) [ -e {root}/mounted ] ;;
  curl) while [ "$1" != -o ]; do shift; done; touch "$2" ;;
  gcloud) cat >{root}/uploaded ;;
  hostname) echo worker-0 ;;
esac
"""
PROGRAMS = (
    "gcsfuse",
    "mountpoint",
    "curl",
    "gcloud",
    "hostname",
    "apt-get",
    "lsb_release",
    "uv",
    "systemctl",
)
PROGRAMS += ("journalctl", "tar", "sleep", "sh")


def run_startup(script: str, root: Path, **environment: str) -> subprocess.CompletedProcess:
    """Runs the startup script with all of its absolute paths and programs below `root`."""
    for folder in (
        "mnt/bucket/jobs/night",
        "opt/unloc",
        "etc/systemd/system",
        "etc/apt/sources.list.d",
        "bin",
    ):
        (root / folder).mkdir(parents=True, exist_ok=True)
    (root / "usr/share/keyrings").mkdir(parents=True, exist_ok=True)
    for name in PROGRAMS:
        (root / "bin" / name).write_text(PROGRAM.format(calls=root / "calls", root=root))
        (root / "bin" / name).chmod(0o755)
    for place in ("/mnt/bucket", "/opt/unloc", "/etc/", "/usr/share/"):
        script = script.replace(place, f"{root}{place}")
    script = script.replace("command -v gcsfuse", "false")
    (root / "startup.sh").write_text(script)
    return subprocess.run(
        ["bash", str(root / "startup.sh")],
        env={"PATH": f"{root}/bin:{os.environ['PATH']}", "FAILS": "", "FLAKY": ""} | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_startup_script_installs_and_starts(job, tmp_path):
    done = run_startup(tpu_vm.startup_script(job(TPU)), tmp_path)
    assert done.returncode == 0, done.stderr
    calls = (tmp_path / "calls").read_text()
    assert "--constraints" in calls and calls.endswith("systemctl start unloc\n")
    assert not (tmp_path / "mnt/bucket/jobs/night/state").exists()
    for name in ("run.sh", "ended.sh", "alive.sh"):
        assert_clean_shell((tmp_path / "opt/unloc" / name).read_text(), tmp_path / "checked.sh")


@pytest.mark.parametrize("flaky", ["curl", "apt-get", "gcsfuse", "tar", "uv", "sh"])
def test_downloads_are_tried_again(job, tmp_path, flaky):
    done = run_startup(tpu_vm.startup_script(job(TPU)), tmp_path, FLAKY=flaky)
    assert done.returncode == 0, done.stderr
    assert "again in 5 s" in done.stdout


@pytest.mark.parametrize(
    "fails, step",
    [
        ("curl", "installation of gcsfuse"),
        ("apt-get", "installation of gcsfuse"),
        ("gcsfuse", "mounting the bucket"),
        ("tar", "installation of unloc_jax"),
        ("sh", "installation of unloc_jax"),
        ("uv", "installation of unloc_jax"),
        ("systemctl", "start of the services"),
    ],
)
def test_a_set_up_that_fails_is_told(job, tmp_path, fails, step):
    done = run_startup(tpu_vm.startup_script(job(TPU)), tmp_path, FAILS=fails)
    assert done.returncode == 9
    is_mounted = (tmp_path / "mounted").exists()
    state = tmp_path / ("mnt/bucket/jobs/night/state" if is_mounted else "uploaded")
    assert state.read_text() == f"failed: {step} ended with status 9 on worker-0\n"


# SLURM


# Two tasks; the largest status, as srun's. When they listen, and the file "preempt" is there, every process of the step
# is signalled, as SLURM does.
SRUN = """#!/bin/bash
while [[ "$1" == --* ]]; do shift; done
tasks=()
for i in 0 1; do
  SLURM_PROCID=$i setsid "$@" & tasks+=($!)
done
cd "$(dirname "$0")"
(until [ -e listens0 -a -e listens1 -a -e preempt ]; do sleep 0.05; done; kill -TERM -- "${tasks[@]/#/-}") &
waits=$!
worst=0
for task in "${tasks[@]}"; do
  wait "$task"; status=$?
  if [ "$status" -gt "$worst" ]; then worst=$status; fi
done
kill $waits 2>/dev/null
exit "$worst"
"""


def run_sbatch(script: str, folder: Path, *, unloc: str) -> subprocess.Popen:
    """The batch script with programs of ours in the place of SLURM's and of `unloc`."""
    programs = {
        "srun": SRUN,
        "scontrol": '#!/bin/bash\necho "scontrol $*"\n',
        "unloc": f"#!/bin/bash\n{unloc}\n",
    }
    for name, text in programs.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    path = folder / "job.sbatch"
    path.write_text(script)
    environment = os.environ | {"PATH": f"{folder}:{os.environ['PATH']}", "SLURM_JOB_ID": "4711"}
    return subprocess.Popen(
        ["bash", str(path)],
        env=environment,
        cwd=folder,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_the_batch_script_is_clean(job, tmp_path):
    script = slurm.sbatch_script(job(GPU))
    assert_clean_shell(script, tmp_path / "job.sbatch")
    options = re.findall(r"^#SBATCH (\S+)", script, re.M)
    assert {"--nodes=2", "--ntasks-per-node=1", "--gpus-per-node=8", "--requeue", "--exclusive"} <= set(
        options
    )
    assert script.index("#SBATCH --exclusive") < script.index("source /dev/null")  # sbatch reads no further


@pytest.mark.parametrize(
    "statuses, expected", [((0, 0), 0), ((75, 75), 75), ((75, 2), 2), ((1, 75), 1), ((137, 75), 137)]
)
def test_only_a_preempted_job_is_queued_again(job, tmp_path, statuses, expected):
    """A task whose partner has failed ends with 75 too."""
    ends = f'echo "ran $*"; [ $SLURM_PROCID = 0 ] && exit {statuses[0]}; exit {statuses[1]}'
    process = run_sbatch(slurm.sbatch_script(job(GPU)), tmp_path, unloc=ends)
    out, _ = process.communicate(timeout=300)
    assert process.returncode == expected
    assert out.count("ran train") == 2
    assert ("scontrol requeue 4711" in out) == (statuses == (75, 75))
    assert not list(tmp_path.glob("*failed*"))


SAVES = """trap 'sleep 0.2; exit 75' TERM
echo started
touch "$(dirname "$0")/listens$SLURM_PROCID"
sleep 600 & wait
"""


def test_before_the_time_limit_the_tasks_save_and_the_job_is_queued_again(job, tmp_path):
    (tmp_path / "preempt").touch()
    process = run_sbatch(slurm.sbatch_script(job(GPU)), tmp_path, unloc=SAVES)
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 75 and "scontrol requeue 4711" in out


def test_a_cancelled_job_is_not_queued_again(job, tmp_path):
    """scancel ends the tasks, which save and exit with 75, and the script."""
    process = run_sbatch(slurm.sbatch_script(job(GPU)), tmp_path, unloc=SAVES)
    assert process.stdout.readline() == "started\n"
    process.send_signal(signal.SIGTERM)
    (tmp_path / "preempt").touch()
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 75 and "requeue" not in out


# SkyPilot


@pytest.mark.parametrize("text", [TPU, GPU])
def test_skypilot_reads_its_file(job, text, tmp_path, monkeypatch):
    pytest.importorskip("sky", reason="SkyPilot is not installed")
    import sky

    [(files, command)] = skypilot.submit(job(text))
    monkeypatch.chdir(tmp_path)
    for path, content in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    task = sky.Task.from_yaml(command[-1])
    [resources] = task.resources
    assert resources.accelerators == ({"tpu-v5litepod-16": 1} if text is TPU else {"H100": 8})


def test_skypilot_installs_and_runs(job, tmp_path):
    task = skypilot.task(job(TPU))
    for key in ("setup", "run"):
        assert_clean_shell(f"#!/bin/bash\n{task[key]}", tmp_path / key)
    assert "[data,tensorflow,tpu]" in task["setup"]
    assert "[data,tensorflow,cuda12]" in skypilot.task(job(GPU))["setup"]
    [(files, _)] = skypilot.submit(job(TPU))
    versions = task["file_mounts"].pop("~/unloc-constraints.txt")
    assert "jax==" in files[Path(versions)]
    assert task["file_mounts"] == {"/mnt/bucket": {"source": "gs://a-bucket", "mode": "MOUNT"}}
    with pytest.raises(UserError, match="one TPU slice"):
        skypilot.task(job(TPU, ("\nbucket", "\nslices = 2\nbucket")))


# All


def test_a_dry_run_is_what_would_run(job, tmp_path, monkeypatch, capsys):
    """Its text, given to a shell, writes the same files and calls the same commands."""
    monkeypatch.chdir(tmp_path)
    path = write_job(tmp_path, TPU)
    assert main("gke", {"submit": gke.submit}, ["submit", str(path), "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert not (tmp_path / "build").exists()
    (tmp_path / "build/launch/night").mkdir(parents=True)
    (tmp_path / "kubectl").write_text('#!/bin/bash\nprintf "%s\\n" "$@"\n')
    (tmp_path / "kubectl").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    said = subprocess.run(["bash", "-c", printed], capture_output=True, text=True, check=True).stdout
    [(files, command)] = gke.submit(load(path))
    assert said.splitlines() == command[1:]
    for file, text in files.items():
        assert file.read_text() == text


@pytest.mark.parametrize(
    "launcher, text, message",
    [
        (gke.submit, TPU.replace('image = "registry/unloc:tpu"', ""), "needs an image"),
        (tpu_vm.submit, TPU.replace("zone", "zome"), "does not know zome"),
        (tpu_vm.submit, TPU.replace('zone = "us-west4-a"', ""), "needs zone"),
        (
            tpu_vm.submit,
            GPU.replace("[slurm]", '[tpu_vm]\nproject = "p"\nzone = "z"\n[slurm]'),
            "is for TPUs",
        ),
        (tpu_vm.status, GPU, "is for TPUs"),
        (tpu_vm.stop, GPU, "is for TPUs"),
        (tpu_vm.delete, GPU, "is for TPUs"),
        (slurm.submit, TPU, "GPUs, no TPUs"),
        (slurm.submit, GPU.replace("slices", 'bucket = "a-bucket"\nslices'), "bucket_dir names the folder"),
        (slurm.submit, GPU.replace('"gpu"', "3"), "partition must be a str"),
    ],
)
def test_what_a_platform_lacks_is_said(job, launcher, text, message):
    with pytest.raises(UserError, match=message):
        launcher(job(text))


@pytest.mark.parametrize("launcher", [gke, slurm, skypilot])
def test_one_file_serves_all_launchers_of_gpus(launcher):
    [(files, _)] = launcher.submit(load(REPOSITORY / "launch/examples/charades_h100.toml"))
    text = next(iter(files.values()))
    there = "/shared" if launcher is slurm else "/mnt/bucket"
    assert f"--workdir={there}/runs/charades-l" in text


def test_a_dry_run_hides_secrets(job, tmp_path, capsys):
    secrets = ("hf_abcdefghijkl", "1234-wandb", "AKIAABCDEFGHIJKL", "sk-abcdefgh1234")
    text = GPU.replace(
        'command = "unloc train"',
        f'command = "unloc train --api-key {secrets[0]} --note={secrets[3]} --config.model.text.num_tokens=77"',
    )
    text += f'[env]\nWANDB_API_KEY = "{secrets[1]}"\nOTHER = "{secrets[2]}"\nPLAIN = "seen"\n'
    path = write_job(tmp_path, text)
    for name, launcher in (("gke", gke), ("slurm", slurm), ("skypilot", skypilot)):
        assert main(name, {"submit": launcher.submit}, ["submit", str(path), "--dry-run"]) == 0
        printed = capsys.readouterr().out
        assert not any(secret in printed for secret in secrets) and "[hidden]" in printed
        assert "seen" in printed and "num_tokens=77" in printed
        files = launcher.submit(load(path))[0][0]  # what is written has them
        assert all(secret in next(iter(files.values())) for secret in secrets)


def test_no_text_ends_the_file_of_a_dry_run():
    file = {Path("a b"): "x\nEND_OF_FILE\ny\n"}
    text = describe(file, ["true"]).replace("cat > 'a b'", "cat")
    assert subprocess.run(["bash", "-c", text], capture_output=True, text=True).stdout == file[Path("a b")]


def assert_accepted(words: list[str]) -> None:
    """By `unloc`'s own parser."""
    _, rest = _parser().parse_known_args(words)
    assert all(word.startswith("--config.") for word in rest), words


def test_documented_commands_work(monkeypatch, capsys):
    """Every `python -m launch.…` in docs/launch.md, printed instead of run."""
    monkeypatch.chdir(REPOSITORY)
    page = (REPOSITORY / "docs/launch.md").read_text()
    lines = "\n".join(re.findall(r"^```\w*\n(.*?)^```", page, re.M | re.S)).replace("\\\n", " ").splitlines()
    commands = [shlex.split(line, comments=True) for line in lines if line.startswith("python -m launch.")]
    modules = {"tpu_vm": (tpu_vm._ACTIONS, {"watch": tpu_vm.watch})}
    modules |= {
        module.__name__.rpartition(".")[2]: (module._ACTIONS, {}) for module in (gke, slurm, skypilot)
    }
    seen = set()
    for words in commands:
        name = words[2].removeprefix("launch.")
        if name == "local":
            assert local.main(["--dry-run", *words[3:]]) == 0
            assert_accepted(words[words.index("--") + 2 :])
            continue
        actions, loops = modules[name]
        assert main(name, actions, [*words[3:], "--dry-run"], loops) == 0, words
        seen.add((name, words[3]))
    expected = {(name, action) for name, (actions, loops) in modules.items() for action in (*actions, *loops)}
    assert seen == expected  # and everything there is, is documented
    capsys.readouterr()


def test_the_image_gets_what_it_copies():
    """Paths in the Dockerfile exist and are not ignored."""
    dockerfile = (REPOSITORY / "launch/Dockerfile").read_text()
    kept = {
        line[1:] for line in (REPOSITORY / ".dockerignore").read_text().splitlines() if line.startswith("!")
    }
    copied = [word for line in re.findall(r"^COPY (.*)$", dockerfile, re.M) for word in line.split()[:-1]]
    optional = {"constraints.txt"}  # which a pattern names, so that it may be missing
    assert {name.replace("[t]", "t") for name in copied} - {"."} <= kept
    assert all((REPOSITORY / name).exists() for name in kept - optional)
