"""Sentences and small tables that every notebook prints from records: predictions and their scores, readings under figures."""

from __future__ import annotations

import math
from collections.abc import Callable

import pandas as pd

from ..attacks import anamnesis_index
from ..claims import Interval, interval
from ..data import DataError
from ..tables import Markdown, Table
from ..tables import predictions as scored
from . import NotAvailable

Quantities = dict[str, tuple[str, str]]         # key: (what it is, with its unit; why the band was chosen)
Bands = dict[str, list[float]]                  # key: [low, high]


def scaled(value: Interval, factor: float) -> Interval:
    return Interval(value.mean * factor, value.half * factor, value.n)


def of_method(frame: pd.DataFrame, method: str, metric: str, digits: int = 1, scale: float = 100) -> str:
    """Mean and interval of one method's runs."""
    return interval(frame[frame.method == method][metric]).text(digits, scale)


def box(quantities: Quantities, bands: Bands) -> Table:
    """The prediction box before the run."""
    return Table(pd.DataFrame([{"quantity": quantities[k][0], "our band": f"{low:g} to {high:g}", "reason": quantities[k][1]}
                               for k, (low, high) in bands.items()]))


def predictions(values: dict[str, Interval], quantities: Quantities, bands: Bands) -> Table:
    """The prediction box, scored; quantities whose study the preset lacks (n = 0) are left out."""
    return scored([(quantities[k][0], values[k], tuple(band)) for k, band in bands.items() if values[k].n], digits=2)


def misses(values: dict[str, Interval], quantities: Quantities, reasons: dict[tuple[str, str], str], bands: Bands,
           notes: dict[str, str] | None = None) -> Markdown:
    """What we think about each band that was missed ("below", "above"), with a note where there is one; says so where none was.

    No reason is given for a mean outside the band whose interval reaches into it: that may be chance.
    """
    out, unsure = [], []
    for k, (low, high) in bands.items():
        if values[k].n and not low <= values[k].mean <= high:
            side = "below" if values[k].mean < low else "above"
            if values[k].low <= high and values[k].high >= low:
                unsure.append(f"*{quantities[k][0]}*")
                continue
            out.append(f"*{quantities[k][0]}* came out {side} the band: {reasons[k, side]}.")
            out += [notes[k]] if notes and k in notes else []
    if unsure:
        out.append(f"Outside by their mean alone, which may be chance: {', '.join(unsure)}.")
    return Markdown(" ".join(out) or "No mean missed its band this time.")


def reading(session, sentence: Callable) -> Markdown:
    """One sentence under a figure: its main numbers, each "we measured"."""
    try:
        return Markdown("*We measured:* " + sentence(session))
    except (NotAvailable, DataError) as error:
        return Markdown(f"*Not available:* {error}")


def relearning(frame: pd.DataFrame, method: str) -> list[float]:
    """Anamnesis index, seed by seed, from the runs of a relearning study: a model that never relearned counts as infinitely slow."""
    batches = frame.fillna({"batches": math.inf}).pivot(index="seed", columns="method", values="batches")
    return [anamnesis_index(u, r) for u, r in zip(batches[method], batches["retrain"], strict=True)]
