"""How each method grows: seconds and peak memory of one epoch over |D| and over the network's width, each cell in a process of its own.

The data lie in memory in every cell, also for ISPF, which reads none of them: its time does not grow with |D|.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pandas as pd
from matplotlib.ticker import LogLocator

from .. import devices, plots
from ..records import ROOT
from .cells import EPOCH, FORGET, settings_of
from .figures import provenance

IMAGES, WIDTHS = (1_000, 4_000, 16_000, 50_000), (8, 16, 32, 64)
NETWORK = "resnet18im"          # the cheapest network of the papers at CIFAR's size
AXES = {"images": "training images |D|", "width": "width of the network"}


def cells(images=IMAGES, widths=WIDTHS) -> Iterator[tuple[str, str, int, int]]:
    """``(method, axis, images, width)`` of every cell: |D| at the least width (on a GPU the largest), and widths at the least |D|."""
    width = widths[-1] if devices.on_gpu() else widths[0]
    for method in EPOCH:
        yield from ((method, "images", n, width) for n in images)
        yield from ((method, "width", images[0], w) for w in widths)


def measure(images=IMAGES, widths=WIDTHS) -> Iterator[dict]:
    """One record a cell; a cell that is on both axes is measured once, and there twice."""
    known: dict[tuple, dict] = {}
    for method, axis, n, width in cells(images, widths):
        architecture = f"{NETWORK}-{width}"
        at = method, n, architecture
        if at not in known:
            done = subprocess.run([sys.executable, "-m", "unlearnlib.bench.cells", *map(str, at)], stdout=subprocess.PIPE, text=True,
                                  check=True, cwd=ROOT)                         # what goes wrong there is said there
            known[at] = json.loads(done.stdout)
        yield {"row": f"{method}, |D| = {n:,}, width {width}", "method": method, "axis": axis, "images": n, "width": width,
               "settings": {"model": architecture, "forget": FORGET, "data": "random uint8 (3, 32, 32)"} | settings_of(method)} | known[at]


def exponents(frame: pd.DataFrame, axis: str, value: str) -> dict[str, float]:
    """``b`` of each method in value ~ size**b, between the two largest sizes of an axis, where constants weigh least; NaN for one size."""
    out = {}
    for method, part in frame[frame.axis == axis].groupby("method", sort=False):
        last = part.sort_values(axis).tail(2)
        gained = np.log(last[value].clip(lower=1e-9)).diff().iloc[-1] / np.log(last[axis]).diff().iloc[-1]
        out[method] = float(gained)
    return out


def _memory(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(memory_mib=frame.peak_mib - frame.idle_mib)


def tables(frame: pd.DataFrame) -> list[pd.DataFrame]:
    """Every cell, then the exponents."""
    frame = _memory(frame)
    every = pd.DataFrame([{
        "method": plots.label(r.method), "over": AXES[r.axis], "|D|": f"{r.images:,}", "width": r.width, "epoch (s)": f"{r.seconds:.3g}",
        "repeats": r.repeats, "work (passes over D)": f"{r.epochs:.2f}", "peak memory (MiB)": f"{r.peak_mib:,.0f}",
        "of it data, network, method (MiB)": f"{r.memory_mib:,.0f}"} for r in frame.itertuples()])
    grown = {f"{what} over the {AXES[axis]}": exponents(frame, axis, value) for axis in AXES if (frame.axis == axis).any()
             for what, value in (("seconds", "seconds"), ("memory", "memory_mib"))}
    methods = list(dict.fromkeys(frame.method))
    return [every, pd.DataFrame([{"exponent between the two largest sizes": plots.label(m)}
                                 | {k: f"{v.get(m, np.nan):.2f}" for k, v in grown.items()} for m in methods])]


def draw(frame: pd.DataFrame) -> plots.Drawn:
    """Time above, memory below; over |D| on the left, over the width on the right; all axes logarithmic, one line a method."""
    drawn = _memory(frame)[["method", "axis", "images", "width", "seconds", "repeats", "epochs", "peak_mib", "idle_mib", "memory_mib"]]
    cut = {r.method for r in frame.itertuples() if "rounds" in r.settings}     # less than an epoch
    figure, axes = plots.panels(2, 2, width=10, height=7, sharex="col", sharey="row")
    for column, (axis, text) in enumerate(AXES.items()):
        for row, (value, unit) in enumerate((("seconds", "seconds an epoch"), ("memory_mib", "peak memory (MiB)"))):
            ax = axes[row, column]
            for method in dict.fromkeys(drawn.method):
                part = drawn[(drawn.method == method) & (drawn.axis == axis)].sort_values(axis)
                label, colour, marker = plots.STYLE[method]
                ax.plot(part[axis], part[value], color=colour, marker=marker, label=label + " (one round, batch 64)" * (method in cut),
                        alpha=0.85, linestyle="--" if method in cut else "-", **plots.mark(method, 7))
            ax.set(yscale="log", xscale="log", ylabel=unit if column == 0 else "", xlabel=text if row else "")
            sizes = sorted(drawn[drawn.axis == axis][axis].unique())
            ax.set_xticks(sizes, [f"{s:,}" for s in sizes])
            ax.minorticks_off()
            ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            ax.yaxis.set_major_formatter("{x:,g}")
    plots.legend_above(figure, axes[0, 0], len(EPOCH))
    for ax, (axis, other, name) in zip(axes[0], (("images", "width", "width"), ("width", "images", "|D| =")), strict=True):
        ax.set_title(f"at {name} " + ", ".join(f"{v:,}" for v in sorted(drawn[drawn.axis == axis][other].unique())))
    plots.stamp(figure, f"{NETWORK}; memory without the {drawn.idle_mib.median():,.0f} MiB of an idle process | {provenance(frame)}")
    return plots.Drawn("growth", figure, drawn)
