"""How the benchmark is drawn: bars with what they mean beside them."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from .. import plots


def provenance(frame: pd.DataFrame) -> str:
    """Repeats and origin of the records of a frame."""
    kinds = list(dict.fromkeys((e["device"], e.get("processor", ""), e["threads"], e["torch"], e["commit"]) for e in frame.environment))
    where = "; ".join(f"{device} {processor}, {threads} thread{'s' * (threads > 1)} | torch {torch} | commit {commit}"
                      for device, processor, threads, torch, commit in kinds)
    low, high = int(frame.repeats.min()), int(frame.repeats.max())
    return f"medians of {low if low == high else f'{low} to {high}'} | {where}"


def bars(name: str, drawn: pd.DataFrame, labels: Sequence[str], value: str, notes: Sequence[str], *, origin: str, xlabel: str,
         title: str, one: bool = True, room: float = 1.2) -> plots.Drawn:
    """One bar a row of ``drawn``, as long as ``value`` on a logarithmic axis (none where it is NaN), with a note at its end.

    ``one``: bars start at 1, a ratio where nothing is gained. ``room``: for the notes, in widths of the bars' own range.
    """
    figure, axes = plots.panels(1, width=10, height=1.3 + 0.3 * len(drawn))
    ax = axes[0, 0]
    values = drawn[value].astype(float)
    low, high = (min(values.min(), 1) / 1.5, max(values.max(), 1)) if one else (values.min() / 1.5, values.max())
    start = 1 if one else low
    ax.barh(range(len(drawn)), values - start, left=start, color=plots.STYLE["lfssd"][1], alpha=0.85)
    for y, (number, note) in enumerate(zip(values, notes, strict=True)):
        end = start if pd.isna(number) else max(number, start)
        ax.annotate(note, (end, y), (5, 0), textcoords="offset points", va="center", fontsize=9)
    ax.set_yticks(range(len(drawn)), labels, fontsize=9)
    ax.invert_yaxis()
    ax.set(xscale="log", xlim=(low, high * (high / low) ** room), xlabel=xlabel, title=title)
    if one:
        ax.axvline(1, color="black", linewidth=1)
    plots.stamp(figure, origin)
    return plots.Drawn(name, figure, drawn)
