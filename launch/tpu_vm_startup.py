"""Writes the script that every worker of a TPU slice runs as root whenever it boots.

It mounts the bucket, installs the code that `submit` put there, and starts the systemd service `unloc`, which restarts
after failures. Every way to end leaves word in the bucket's file `state`, so that nobody pays for a slice that waits.
"""

import shlex

from launch.constraints import PYTHON
from launch.job import BUCKET_DIR, Job
from unloc_jax.errors import EXIT_TRY_AGAIN, EXIT_USER_ERROR, UserError

STOP_S = 300  # time to save a checkpoint
ALIVE_S = 300  # between two signs of life
FAILURES = "/opt/unloc/failures"  # a worker's count


def startup_script(job: Job) -> str:
    """Returns the script.

    Raises:
      UserError: the job has no bucket.
    """
    if job.bucket is None:
        raise UserError(f"job {job.name} needs a bucket: for its code, data and checkpoints.")
    exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in job.env.items())
    return f"""\
#!/bin/bash
set -Eeuo pipefail
export HOME=/root DEBIAN_FRONTEND=noninteractive
here={BUCKET_DIR}/jobs/{job.name}

# A set-up that fails is told to `watch`, which then releases the slice.
step="start of the worker"
tell() {{
  if mountpoint -q {BUCKET_DIR}; then
    echo "$1" >"$here/state"
  else
    echo "$1" | gcloud storage cp - gs://{job.bucket}/jobs/{job.name}/state
  fi
}}
ended() {{
  status=$?
  if [ "$status" -ne 0 ]; then
    tell "failed: $step ended with status $status on $(hostname)" || true
  fi
}}
trap ended EXIT

retry() {{
  local wait
  for wait in 5 10 20 40 80; do
    "$@" && return
    echo "again in $wait s: $*"
    sleep "$wait"
  done
  "$@"
}}

step="installation of gcsfuse"
if ! command -v gcsfuse >/dev/null; then
  key=/usr/share/keyrings/cloud.google.asc
  retry curl -fsSL https://packages.cloud.google.com/apt/doc/apt-key.gpg -o "$key"
  echo "deb [signed-by=$key] https://packages.cloud.google.com/apt gcsfuse-$(lsb_release -cs) main" \\
    >/etc/apt/sources.list.d/gcsfuse.list
  retry apt-get -o DPkg::Lock::Timeout=600 update
  retry apt-get -o DPkg::Lock::Timeout=600 install -y gcsfuse
fi

step="mounting the bucket"
mkdir -p {BUCKET_DIR} /opt/unloc/code
mountpoint -q {BUCKET_DIR} || retry gcsfuse --implicit-dirs {job.bucket} {BUCKET_DIR}

# The code, and the Python and versions of the environment that submitted it.
step="installation of unloc_jax"
if [ ! -e /opt/unloc/installed ]; then
  retry tar -xzf "$here/code.tar.gz" -C /opt/unloc/code
  retry curl -LsSf https://astral.sh/uv/install.sh -o /opt/unloc/install-uv.sh
  retry env UV_INSTALL_DIR=/usr/local/bin sh /opt/unloc/install-uv.sh
  retry uv venv --clear --python {PYTHON} /opt/unloc/venv
  retry uv pip install --python /opt/unloc/venv/bin/python --constraints "$here/constraints.txt" \\
    -e '/opt/unloc/code[data,tensorflow,tpu]'
  touch /opt/unloc/installed
fi

step="start of the services"
cat >/opt/unloc/run.sh <<'END_OF_RUN'
#!/bin/bash
{exports}export PATH="/opt/unloc/venv/bin:$PATH" PYTHONUNBUFFERED=1
exec {job.shell_command}
END_OF_RUN

# systemd tells how the run ended in EXIT_STATUS. What was preempted, or whose partner has failed, does not count.
cat >/opt/unloc/ended.sh <<END_OF_ENDED
#!/bin/bash
journalctl --unit=unloc --boot --output=cat >"$here/log-\\$(hostname).txt"
case "\\$EXIT_STATUS" in
  0) echo finished >"$here/state" ;;
  {EXIT_TRY_AGAIN} | TERM) ;;
  {EXIT_USER_ERROR}) echo "failed: status {EXIT_USER_ERROR} on \\$(hostname), see its log" >"$here/state" ;;
  *)
    echo "\\$EXIT_STATUS" >>{FAILURES}
    if [ "\\$(wc -l <{FAILURES})" -gt {job.max_restarts} ]; then
      echo "failed: status \\$EXIT_STATUS on \\$(hostname) after {job.max_restarts} restarts" >"$here/state"
      systemctl stop --no-block unloc
    fi
    ;;
esac
END_OF_ENDED

# The time of the run's last line, in seconds since 1970, and its log.
cat >/opt/unloc/alive.sh <<END_OF_ALIVE
#!/bin/bash
while true; do
  heard=\\$(journalctl --unit=unloc --lines=1 --output=short-unix | grep -oE '^[0-9]+' || date +%s)
  echo "\\$heard" >"$here/alive"
  journalctl --unit=unloc --boot --output=cat >"$here/log-\\$(hostname).txt"
  sleep {ALIVE_S}
done
END_OF_ALIVE
chmod +x /opt/unloc/run.sh /opt/unloc/ended.sh /opt/unloc/alive.sh

cat >/etc/systemd/system/unloc.service <<'END_OF_UNIT'
[Unit]
Description=unloc: {job.name}
StartLimitIntervalSec=0
# At a shutdown the checkpoint is saved before the bucket and the network go.
RequiresMountsFor={BUCKET_DIR}
After=network-online.target

[Service]
WorkingDirectory=/opt/unloc/code
ExecStart=/opt/unloc/run.sh
ExecStopPost=/opt/unloc/ended.sh
KillMode=mixed
TimeoutStopSec={STOP_S}
Restart=on-failure
RestartSec=20
RestartPreventExitStatus={EXIT_USER_ERROR}
END_OF_UNIT
cat >/etc/systemd/system/unloc-alive.service <<'END_OF_UNIT_ALIVE'
[Unit]
Description=unloc: signs of life of {job.name}
RequiresMountsFor={BUCKET_DIR}

[Service]
ExecStart=/opt/unloc/alive.sh
Restart=always
END_OF_UNIT_ALIVE
systemctl daemon-reload
systemctl start unloc-alive
systemctl start unloc
"""
