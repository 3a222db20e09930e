"""How the benchmark is drawn: bars with what they mean beside them."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from .. import plots


def provenance(frame: pd.DataFrame) -> str:
    """Repeats and origin of the records of a frame, and how many processes wanted to run while they were made."""
    kinds = list(dict.fromkeys((e["device"], e.get("processor", ""), e["threads"], e["torch"], e["commit"]) for e in frame.environment))
    where = "; ".join(f"{f'{device} {processor}'.strip()}, {threads} thread{'s' * (threads > 1)} | torch {torch} | commit {commit}"
                      for device, processor, threads, torch, commit in kinds)
    loads = [e["load"] for e in frame.environment if e.get("load") is not None]
    busy = f" | load {span(min(loads), max(loads), '.1f')}" if loads else ""
    return f"medians of {span(frame.repeats.min(), frame.repeats.max(), 'g')} | {where}{busy}"


def span(low: float, high: float, digits: str) -> str:
    """A number, or two that differ as printed: "5", "1 to 5"."""
    return " to ".join(dict.fromkeys(format(value, digits) for value in (low, high)))


def bars(name: str, drawn: pd.DataFrame, labels: Sequence[str], value: str, notes: Sequence[str], *, origin: str, xlabel: str,
         title: str, ratio: bool = True) -> plots.Drawn:
    """One bar a row of ``drawn``, as long as ``value``, with a note at its end.

    A ratio has a logarithmic axis and bars that start at 1, where nothing is gained; all else bars from 0 on a linear one.
    """
    figure, axes = plots.panels(1, width=10, height=1.3 + 0.3 * len(drawn))
    ax = axes[0, 0]
    values, start = drawn[value].astype(float), float(ratio)
    ax.barh(range(len(drawn)), values - start, left=start, color=plots.STYLE["lfssd"][1], alpha=0.85)
    for y, (number, note) in enumerate(zip(values, notes, strict=True)):
        ax.annotate(note, (max(number, start), y), (5, 0), textcoords="offset points", va="center", fontsize=9)
    ax.set_yticks(range(len(drawn)), labels, fontsize=9)
    ax.invert_yaxis()
    ax.set(xlabel=xlabel, title=title)
    if ratio:
        low, high = min(values.min(), 1) / 1.5, max(values.max(), 1.5)
        ax.set(xscale="log", xlim=(low, high * (high / low) ** 0.85))
        ax.axvline(1, color="black", linewidth=1)
    else:
        ax.set_xlim(0, 2.2 * values.max())
    plots.stamp(figure, origin)
    return plots.Drawn(name, figure, drawn)
