"""Runs what a sweep lacks, several runs at once, and writes its results."""

import os
import time
from collections.abc import Mapping, Sequence, Set
from pathlib import Path

from unloc_jax import sigterm
from unloc_jax.console import show
from unloc_jax.errors import TryAgain, UserError
from unloc_jax.sweep.description import Sweep
from unloc_jax.sweep.job import Job
from unloc_jax.sweep.results import Run, to_json, to_markdown
from unloc_jax.whole_writes import write_result

RESULTS_FILE, TABLE_FILE, PLOT_FILE = "results.json", "table.md", "plot.svg"
_POLL_S = 0.2

# Variables and processors of the runs at one place.
Place = tuple[Mapping[str, str], Set[int]]


def run_sweep(sweep: Sweep, out: Path, places: Sequence[Place], command: str) -> str:
    """Trains and evaluates what is not finished yet; returns the table.

    A run that fails does not stop the others. Prints a line, and writes the results, after every run.

    Args:
      sweep: the rows and seeds.
      out: folder of the runs and of results.json, table.md and plot.svg.
      places: as many runs are made at once; see `places_of`. Empty = none: only what has finished is read.
      command: is stored with the results.

    Raises:
      UserError: a folder holds another run; or, after all others have finished, runs have failed.
      TryAgain: SIGTERM came; the runs have saved their checkpoints.
    """
    jobs = [Job(row, seed, sweep.split, out) for seed in sweep.seeds for row in sweep.rows]
    for job in jobs:
        job.check()
    out.mkdir(parents=True, exist_ok=True)
    waiting = [job for job in jobs if not job.finished] if places else []
    free, running, failed = list(places), dict[Job, Place](), list[str]()
    table = _write(sweep, out, jobs, command)
    with sigterm.remembered():
        try:
            while (waiting or running) and not sigterm.arrived():
                while waiting and free:
                    job, place = waiting.pop(0), free.pop(0)
                    running[job] = place
                    job.start(*place)
                for job in list(running):
                    status = job.poll()
                    if status is None:
                        continue
                    free.append(running.pop(job))
                    if status:
                        failed.append(job.name)
                        show(
                            f"{job.name}: ended with {status}: {job.last_line()} (all of it: {job.log_file})"
                        )
                        continue
                    table = _write(sweep, out, jobs, command)
                    num_finished = sum(job.finished for job in jobs)
                    show(f"{num_finished} of {len(jobs)}: {job.name}: {_shown(job.result(sweep))}")
                time.sleep(_POLL_S)
        finally:
            for job in running:
                job.stop()
    if sigterm.arrived():
        raise TryAgain(
            f"stopped by SIGTERM; {sum(job.finished for job in jobs)} of {len(jobs)} runs have finished"
        )
    if failed:
        raise UserError(
            f"{len(failed)} of {len(jobs)} runs failed, see above; the table lacks them: {out / TABLE_FILE}"
        )
    return table


def places_of(at_once: int, devices: Sequence[str] = ()) -> list[Place]:
    """Divides the machine: each run has its own GPU, or a share of the processors.

    Args:
      at_once: runs at once, on the CPU; more than there are processors share them.
      devices: GPUs, as CUDA_VISIBLE_DEVICES numbers them; one run each. Then `at_once` is not used.
    """
    if devices:
        return [({**os.environ, "CUDA_VISIBLE_DEVICES": device}, frozenset()) for device in devices]
    cpus = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if at_once == 1 or len(cpus) < at_once:
        return [(os.environ, frozenset())] * at_once
    return [(os.environ, frozenset(cpus[place::at_once])) for place in range(at_once)]


def _write(sweep: Sweep, out: Path, jobs: Sequence[Job], command: str) -> str:
    """Writes results.json, table.md and, where matplotlib is there, plot.svg; returns the table."""
    runs = [job.result(sweep) for job in jobs if job.finished]
    table = to_markdown(sweep, runs)
    write_result(out / RESULTS_FILE, to_json(sweep, runs, command))
    write_result(out / TABLE_FILE, table + "\n")
    if runs:
        try:
            from unloc_jax.sweep.plot import save_plot

            save_plot(sweep, runs, out / PLOT_FILE)
        except ModuleNotFoundError:
            return f"{table}\n\n(no plot: pip install 'unloc_jax[plots]')"
    return table


def _shown(run: Run) -> str:
    numbers = ", ".join(f"{path.rpartition('/')[2]} {value:.1f}" for path, value in run.metrics.items())
    return numbers if run.minutes is None else f"{numbers} ({run.minutes:.1f} min)"
