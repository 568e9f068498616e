"""A process pool whose memory stays flat and which survives a video that kills its decoder."""

import collections
import multiprocessing
import os
import signal
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool

from data_pipelines.builders.encoded_videos import EncodedVideos
from data_pipelines.builders.frames import EncodeTask, UnusableVideo, encode_video
from unloc_jax.errors import UserError
from unloc_jax.worker_process import start_worker

Result = tuple[EncodeTask, UnusableVideo | None]

_MAX_CRASHES_IN_A_ROW = 10
# A decoder that yields no frame for this long is stuck; its process is ended.
_STUCK_S = 600


def encode_videos(tasks: Iterable[EncodeTask], encoded: EncodedVideos, workers: int) -> Iterator[Result]:
    """Encodes videos into `encoded` in `workers` processes; yields them as they finish, in no particular order.

    At most 2 × workers videos are in flight. FFmpeg is C code: a malicious or damaged file can crash the process that
    decodes it, or keep it busy forever. The videos that were in flight are then tried again one by one, and only the
    one that ends its process again is reported as unusable.

    Yields:
      Each task with None if its frames are in `encoded`, else with the reason why it has none.

    Raises:
      UserError: process after process dies, so the videos are not the cause.
      OSError: a result cannot be written.
    """
    queue = collections.deque(tasks)
    crashes = 0
    while queue:
        lost = yield from _run(queue, encoded, workers, in_flight=2 * workers)
        for task in lost:
            if not (yield from _run(collections.deque([task]), encoded, workers=1, in_flight=1)):
                crashes = 0
                continue
            crashes += 1
            if crashes == 1:
                _check_that_processes_start()
            if crashes == _MAX_CRASHES_IN_A_ROW:
                raise UserError(
                    f"{crashes} decoding processes in a row have died, the last at {task.path}. Is memory short? "
                    "Fewer --workers need less. The same command continues where this one stopped."
                )
            yield (
                task,
                UnusableVideo(
                    "decoder crashed",
                    f"{task.path}: decoding it ended the process, or brought no frame for {_STUCK_S // 60} minutes.",
                ),
            )


def _encode(task: EncodeTask, encoded: EncodedVideos) -> UnusableVideo | None:
    """Encodes a video in a worker; the frames stay there, only the outcome is returned."""
    if encoded.known(task):  # finished just before another worker died
        known = encoded.load(task)
        if known is not None:
            return known if isinstance(known, UnusableVideo) else None
    # The signal ends the process even within FFmpeg; a Python handler would have to wait for it.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    try:
        result = encode_video(task, on_frame=lambda: signal.alarm(_STUCK_S))
    finally:
        signal.alarm(0)
    encoded.save(task, result)
    return result if isinstance(result, UnusableVideo) else None


def _run(
    queue: collections.deque[EncodeTask], encoded: EncodedVideos, workers: int, in_flight: int
) -> Generator[Result, None, list[EncodeTask]]:
    """Processes `queue`, yielding results; returns the tasks in flight when a worker died, or []."""
    others = set(multiprocessing.active_children())
    pool = _new_pool(min(workers, len(queue)))
    running: dict[Future, EncodeTask] = {}
    try:
        while queue or running:
            while queue and len(running) < in_flight:
                task = queue.popleft()
                try:
                    running[pool.submit(_encode, task, encoded)] = task
                except BrokenProcessPool:
                    return [task, *running.values()]
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                try:
                    result = future.result()
                except BrokenProcessPool:
                    return list(running.values())
                yield running.pop(future), result
        return []
    except BaseException:  # Ctrl-C or a full disk: do not wait for the videos in flight
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _new_pool(workers: int) -> ProcessPoolExecutor:
    # "spawn": a forked child would inherit TensorFlow's threads and locks, and may hang.
    return ProcessPoolExecutor(
        workers, mp_context=multiprocessing.get_context("spawn"), initializer=start_worker
    )


def _check_that_processes_start() -> None:
    """Raises UserError if even an idle process dies."""
    with _new_pool(1) as pool:
        try:
            pool.submit(os.getpid).result()
        except BrokenProcessPool as error:
            raise UserError(
                'Worker processes die before they do anything: does your script lack `if __name__ == "__main__":`?'
            ) from error
