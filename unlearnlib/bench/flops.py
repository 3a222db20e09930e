"""FLOP/s that each method reaches: share of this machine's rate in one large product, and on a GPU the distance to the floor."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
import torch

from .. import devices, plots
from ..tables import MISSING
from .cells import EPOCH, job, settings_of
from .figures import bars, provenance
from .measure import FLOOR, REPEATS, against_floor, flop, in_turn, matmul

CPU, GPU = ("resnet18-16", 512), ("resnet18-64", 10_000)      # network and |D|


def measure(network: str | None = None, images: int | None = None, repeats: int = REPEATS) -> Iterator[dict]:
    """One record a method: an epoch (see :func:`cells.settings_of`) on random images, its FLOP counted in a call that is not timed."""
    gpu = devices.on_gpu()
    network, images = network or (GPU if gpu else CPU)[0], images or (GPU if gpu else CPU)[1]
    product, product_flop = matmul(torch.float32)
    for method in EPOCH:
        call = job(method, images, network)
        operations = flop(call)
        times = in_turn({"method": call, "matmul": product}, repeats)
        yield record(method, operations, times["method"], product_flop / times["matmul"]) | {
            "repeats": repeats, "settings": {"model": network, "images": images, "data": "random uint8 (3, 32, 32)"} | settings_of(method)}


def record(method: str, operations: float, elapsed: float, rate: float) -> dict:
    """What follows from counted FLOP and measured seconds, for a machine of ``rate`` FLOP/s in a float32 product."""
    return {"row": method, "method": method, "flop": operations, "seconds": elapsed, "flop_per_second": operations / elapsed,
            "matmul_flop_per_second": rate, "fraction": operations / elapsed / rate, "times_floor": against_floor(operations, elapsed)}


def tables(frame: pd.DataFrame) -> list[pd.DataFrame]:
    return [pd.DataFrame([{
        "method": plots.label(r.method), "network": r.settings["model"], "|D|": f"{r.settings['images']:,}",
        "TFLOP an epoch": f"{r.flop / 1e12:.3g}", "epoch (s)": f"{r.seconds:.3g}", "GFLOP/s": f"{r.flop_per_second / 1e9:,.1f}",
        "of the matmul rate": f"{100 * r.fraction:.0f} %",
        f"times the floor ({FLOOR / 1e12:.0f} TFLOP/s)": MISSING if pd.isna(r.times_floor) else f"{r.times_floor:.1f}",
        "repeats": r.repeats} for r in frame.itertuples()])]


def draw(frame: pd.DataFrame) -> plots.Drawn:
    """One bar a method: percent of the rate of a large product."""
    drawn = frame[["method", "flop", "seconds", "flop_per_second", "fraction", "times_floor", "repeats"]]
    drawn = drawn.assign(percent=100 * frame.fraction)
    notes = [f"{r.flop_per_second / 1e9:,.0f} GFLOP/s, {r.percent:.0f} %"
             + ("" if pd.isna(r.times_floor) else f", {r.times_floor:.1f} times the floor") for r in drawn.itertuples()]
    return bars("flops", drawn, [plots.label(m) for m in drawn.method], "percent", notes, origin=provenance(frame), ratio=False,
                xlabel="FLOP/s of an epoch, in percent of this machine's float32 matmul rate",
                title="FLOP/s of the methods, against one large product")
