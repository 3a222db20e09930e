"""What everything runs on: which device, with which precision, and how much memory it took."""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import torch
from torch import nn

PRECISIONS = ("float32", "tf32")
WORTH_IT = 1.2              # TF32 is taken where it multiplies matrices at least this much faster
PROBE = 4096                # rows and columns of the matrices that are multiplied to find out
STATUS, PEAKS = Path("/proc/self/status"), Path("/proc/self/clear_refs")        # Linux


def device() -> torch.device:
    """``UNLEARNLIB_DEVICE``, else a GPU where there is one, else the CPU."""
    return torch.device(os.environ.get("UNLEARNLIB_DEVICE") or ("cuda" if torch.cuda.is_available() else "cpu"))


def on_gpu() -> bool:
    return device().type == "cuda"


def synchronise() -> None:
    """Wait until the device has done what it was given: before every reading of a clock."""
    if on_gpu():
        torch.cuda.synchronize()


def layout() -> torch.memory_format:
    """Memory format of models: channels last on a GPU, whose convolutions are made for it, contiguous elsewhere."""
    return torch.channels_last if on_gpu() else torch.contiguous_format


@lru_cache(maxsize=1)
def precision() -> str:
    """How float32 is multiplied: "float32", or "tf32" (10 bits of mantissa) on a GPU where a short probe finds that it is worth it.

    ``UNLEARNLIB_PRECISION`` overrules the probe. It is part of the environment of every record. Training in bfloat16 is a matter of the
    recipe (``bf16: true``), not of the device. Raises ValueError for any other value, and for tf32 without a GPU.
    """
    asked = os.environ.get("UNLEARNLIB_PRECISION")
    if asked and asked not in PRECISIONS:
        raise ValueError(f"UNLEARNLIB_PRECISION is {asked!r}; it must be one of {', '.join(PRECISIONS)}: leave it out for a probe.")
    if asked == "tf32" and not on_gpu():
        raise ValueError("UNLEARNLIB_PRECISION is 'tf32', but the device is a CPU; it must be float32 there: leave it out.")
    return asked or (_probe() if on_gpu() else "float32")


def _probe() -> str:
    x = torch.randn(PROBE, PROBE, device=device())
    slow, fast = (_product_seconds(x, name) for name in PRECISIONS)
    return "tf32" if slow > WORTH_IT * fast else "float32"


def _product_seconds(x: torch.Tensor, name: str) -> float:
    _multiply(name)
    times = []
    for _ in range(4):                                                          # the first one warms up
        synchronise()
        started = time.perf_counter()
        x @ x
        synchronise()
        times.append(time.perf_counter() - started)
    return min(times[1:])


def _multiply(name: str) -> None:
    mode = "tf32" if name == "tf32" else "ieee"
    torch.backends.cuda.matmul.fp32_precision = mode
    torch.backends.cudnn.conv.fp32_precision = mode


def prepare() -> None:
    """Bring this process's GPU, if it uses one, to the settings that it will compute with; one of several becomes the current one."""
    if on_gpu():
        if device().index is not None:
            torch.cuda.set_device(device())                                     # clock, memory and name are those of the current one
        _multiply(precision())
        torch.backends.cudnn.benchmark = True


def compiled(model: nn.Module) -> Callable:
    """The model, or with ``UNLEARNLIB_COMPILE=1`` its form by ``torch.compile``, with the same weights.

    It takes minutes once, so it pays for many trainings of one shape on a GPU; on a CPU hardly ever.
    """
    return torch.compile(model) if os.environ.get("UNLEARNLIB_COMPILE") == "1" else model


def reset_peak() -> None:
    """Start to measure :func:`peak_memory` anew, where the system can."""
    if on_gpu():
        torch.cuda.reset_peak_memory_stats()
    elif os.access(PEAKS, os.W_OK):
        PEAKS.write_text("5")


def peak_memory() -> float:
    """MiB: the most that tensors took on the GPU, or that this process took of main memory, since :func:`reset_peak`.

    Where the system cannot start anew (other systems than Linux), since the process began.
    """
    if on_gpu():
        return torch.cuda.max_memory_allocated() / 2 ** 20
    lines = STATUS.read_text().splitlines() if STATUS.exists() else []
    for line in lines:
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 2 ** 10                               # kB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2 ** (20 if sys.platform == "darwin" else 10)
