"""Seconds, ratios, FLOP, and the rate that this machine reaches in one large product."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from .. import devices

REPEATS = 5
FLOOR = 276e12          # FLOP/s that good code gets from an H100: 35 % of 790e12 in bfloat16, which is what airbench reaches on an A100


def seconds(call: Callable[[], object]) -> float:
    devices.synchronise()
    started = time.perf_counter()
    call()
    devices.synchronise()
    return time.perf_counter() - started


def in_turn(calls: dict[str, Callable], repeats: int = REPEATS) -> dict[str, float]:
    """Median seconds of each call: all in turn, ``repeats`` times, after one unmeasured call each."""
    for call in calls.values():
        call()
    times = [[seconds(call) for call in calls.values()] for _ in range(repeats)]
    return dict(zip(calls, np.median(times, axis=0).tolist(), strict=True))


def compare(row: str, ours: Callable, other: Callable, against: str, repeats: int = REPEATS, *, settings: dict | None = None,
            warm: Callable | None = None, score: Callable[[object], float] | None = None) -> dict:
    """The record of a row: both forms in turn, after one unmeasured call each; the ratio is of medians, above 1 where ours is faster.

    ``warm`` takes the place of the unmeasured call of a slow ``other``. ``score``, of what a form returns, is kept as ``ours_score`` and
    ``other_score``.
    """
    ours(), (warm or other)()
    kept = {}

    def keep(name: str, call: Callable) -> None:
        kept[name] = call()

    times = [[seconds(lambda: keep("ours", ours)), seconds(lambda: keep("other", other))] for _ in range(repeats)]
    mine, theirs = np.median(times, axis=0).tolist()
    scores = {f"{name}_score": float(score(value)) for name, value in kept.items()} if score else {}
    return {"row": row, "against": against, "ours_seconds": mine, "other_seconds": theirs, "ratio": theirs / mine, "repeats": repeats,
            "settings": settings or {}} | scores


def flop(call: Callable[[], object]) -> int:
    """Floating-point operations of the products and convolutions of a call, forward and backward, as torch counts them (not timed)."""
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


def matmul(dtype: torch.dtype, size: int | None = None) -> tuple[Callable[[], torch.Tensor], int]:
    """The product of two large square matrices and its FLOP: the usual yardstick of a machine, though a convolution can be faster.

    To be measured in turn with what is compared with it. On a GPU float32 means what :func:`unlearnlib.devices.precision` says.
    """
    size = size or (8192 if devices.on_gpu() else 2048)
    a = torch.randn(size, size, device=devices.device()).to(dtype)
    return lambda: a @ a, 2 * size ** 3


def machine() -> dict:
    """What the environment of a record lacks: the processor's name, and how many processes want to run right now (1: this one alone)."""
    known = Path("/proc/cpuinfo")
    lines = known.read_text().splitlines() if known.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")] or [platform.processor() or "unknown"]
    return {"processor": names[0], "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None}


def against_floor(operations: float, elapsed: float) -> float:
    """How many times longer than the floor of ``FLOOR`` FLOP/s; NaN without a GPU, for which the floor does not hold."""
    return elapsed * FLOOR / operations if devices.on_gpu() else float("nan")
