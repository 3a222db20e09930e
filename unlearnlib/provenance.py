"""Where and with what this process computes: the environment of every record and of every reference model."""

from __future__ import annotations

import platform
import subprocess
from functools import lru_cache
from pathlib import Path

import torch

from . import devices


@lru_cache(maxsize=1)
def environment() -> dict:
    """Commit, library versions, device, precision, threads, as they were at the first call: a process begins with it."""
    return {"commit": commit(), "torch": torch.__version__.split("+")[0], "python": platform.python_version(),
            "device": torch.cuda.get_device_name() if devices.on_gpu() else f"CPU {platform.machine()}", "precision": devices.precision(),
            "threads": torch.get_num_threads()}


def commit() -> str:
    """Short hash of the checked-out commit, "-dirty" if library files differ from it; "unknown" outside a clone."""
    def git(*arguments: str) -> str:
        folder = str(Path(__file__).parent)
        return subprocess.run(["git", "-C", folder, *arguments], capture_output=True, text=True, check=True).stdout.strip()
    try:
        return git("rev-parse", "--short=7", "HEAD") + ("-dirty" if git("status", "--porcelain", "--", ".") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
