"""A process pool whose memory stays flat and which survives a video that kills its decoder."""

import collections
import multiprocessing
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool

from data_pipelines.builders.frames import EncodedVideo, EncodeTask, UnusableVideo, encode_video
from data_pipelines.worker_process import start_worker
from unloc_jax.errors import UserError

Result = tuple[EncodeTask, EncodedVideo | UnusableVideo]

_MAX_CRASHES_IN_A_ROW = 3


def encode_videos(tasks: Iterable[EncodeTask], workers: int) -> Iterator[Result]:
    """Encodes videos in `workers` processes and yields them as they finish, in no particular order.

    At most 2 × workers videos are in flight, so memory does not grow with the number of videos. FFmpeg is C
    code: a malicious or damaged file can end the process that decodes it. The videos that were in flight are
    then tried again one by one, and only the one that ends its process again is called unusable.

    Raises:
      UserError: process after process dies, so it is not the videos' fault.
    """
    queue = collections.deque(tasks)
    crashes = 0
    while queue:
        lost = yield from _run(queue, workers, in_flight=2 * workers)
        for task in lost:
            if not (yield from _run(collections.deque([task]), workers=1, in_flight=1)):
                crashes = 0
                continue
            crashes += 1
            if crashes == _MAX_CRASHES_IN_A_ROW:
                raise UserError(
                    f"{crashes} decoding processes in a row have died, the last at {task.path}. Is memory "
                    'short (fewer workers need less), or does your script lack `if __name__ == "__main__":`?'
                )
            yield task, UnusableVideo("decoder crashed", f"{task.path}: decoding it ended the process.")


def _run(
    queue: collections.deque[EncodeTask], workers: int, in_flight: int
) -> Generator[Result, None, list[EncodeTask]]:
    """Works through `queue`; yields results. Returns the tasks in flight when a worker died, or []."""
    # "spawn": a forked child would inherit TensorFlow's threads and locks, and may hang.
    pool = ProcessPoolExecutor(
        min(workers, len(queue)), mp_context=multiprocessing.get_context("spawn"), initializer=start_worker
    )
    running: dict[Future, EncodeTask] = {}
    try:
        while queue or running:
            while queue and len(running) < in_flight:
                task = queue.popleft()
                try:
                    running[pool.submit(encode_video, task)] = task
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
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
