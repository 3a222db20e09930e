"""Files that survive interruption: atomic writes, locks between processes, damage reported in one sentence."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


class DamagedFile(RuntimeError):
    """A record or checkpoint is truncated or altered."""


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def write(path: Path, data: bytes) -> None:
    """Write a file so that other processes, and a later start, see either the old one or the whole new one."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
        part.write_bytes(data)
        part.replace(path)
    except OSError as error:
        raise PermissionError(f"{path} could not be written ({error.strerror}); its folder must exist, be writable and have room: "
                              "change its permissions or choose another with UNLEARNLIB_FIGURES or UNLEARNLIB_CACHE.") from error


def ensure_writable(folder: Path) -> None:
    """Raise PermissionError, in one sentence, if no file can be written in a folder; creates the folder."""
    probe = folder / f"probe.{os.getpid()}.part"
    write(probe, b"")
    probe.unlink()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock between processes. The system releases it when the process ends, however it ends."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = open(path, "a")
    except OSError as error:
        raise PermissionError(f"{path} could not be opened ({error.strerror}); the cache folder must be writable: change its "
                              "permissions or choose another with UNLEARNLIB_CACHE.") from error
    with handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


SHARED = "UNLEARNLIB_SHARED"                # the folder that the processes of one run have in common, while it lasts


def once(name: str, make: Callable[[], bytes]) -> bytes:
    """``make()``, but called by one process of a run only: the others wait and are given the same. A process on its own just calls it.

    Nothing outlives the run, so nothing can be out of date: results that are to be kept belong into records or the cache.
    """
    folder = os.environ.get(SHARED)
    if not folder:
        return make()
    path = Path(folder) / name
    with locked(path.with_suffix(".lock")):
        if not path.exists():
            write(path, make())
        return path.read_bytes()


def set_aside(path: Path) -> Path:
    """Rename a damaged file so that the next start makes it anew."""
    aside = path.with_name(path.name + ".damaged")
    path.replace(aside)
    return aside
