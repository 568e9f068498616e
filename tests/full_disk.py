"""A disk that is full, as far as this process goes."""

import contextlib
import resource


@contextlib.contextmanager
def full_disk(size: int = 30_000):
    """No file can grow beyond `size` bytes: writing fails with a real OSError, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
