"""Expectations as rows: what was expected, what was measured, the verdict, and a sentence that is printed on a miss alone."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pandas as pd

from ...claims import FAILS, HOLDS, OPEN, UNTESTED, Interval, comparison, interval, within

YES, NO, UNSURE, ALONE = "yes", "no", "inconclusive", "one seed: no interval"
WORDS = {HOLDS: YES, FAILS: NO, OPEN: UNSURE, UNTESTED: ALONE}


@dataclass(frozen=True)
class Row:
    """One expectation; ``why`` is printed only where the verdict is "no"."""

    expected: str
    measured: str
    verdict: str
    why: str = ""


def judged(value: Interval, low: float = -math.inf, high: float = math.inf) -> str:
    """Yes if the whole interval lies in [low, high], no if none of it does; one seed has no interval."""
    return WORDS[within(value, low, high, "").status]


def moved(gap: Interval, word: str) -> str:
    """Was a paired difference "higher" or "lower", as expected? A difference of exactly 0 in every seed is a miss."""
    said = comparison(gap)
    if gap.n < 2:
        return ALONE
    if said == word:
        return YES
    return NO if said in ("higher", "lower") or gap.low == gap.high == 0 else UNSURE


def not_above(gap: Interval) -> str:
    """Expected: not more than the other. "Lower" is a yes, "higher" a no, no shown difference neither."""
    return {"higher": NO, "lower": YES}.get(comparison(gap), UNSURE if gap.n > 1 else ALONE)


def met(expected: bool) -> str:
    """The verdict of a count or of a mean, which needs no interval."""
    return YES if expected else NO


def page(rows: list[Row], *sentences: str) -> str:
    """The rows as a Markdown table, then the reasons of those that missed, then what else is to be said."""
    cells = (f"| {r.expected} | {r.measured} | **{r.verdict}** |" for r in rows)
    lines = ["| expected | measured | as expected |", "|:--|:--|:--|", *cells]
    after = [*dict.fromkeys(r.why for r in rows if r.verdict == NO and r.why), *(s for s in sentences if s)]
    return "\n\n" + "\n".join(lines) + ("\n\n" + " ".join(after) if after else "")


def with_ua(rows: pd.DataFrame) -> pd.DataFrame:
    """Add ``ua``, the share of forget images that are read wrong."""
    return rows.assign(ua=1 - rows.acc_forget)


def wide_of(rows: pd.DataFrame, column: str, metric: str) -> pd.DataFrame:
    """One line a seed, one column a value of ``column``."""
    return rows.pivot_table(index="seed", columns=column, values=metric)


def versus(wide: pd.DataFrame, one, other, digits: int = 1) -> str:
    """Two means, and the word that their paired difference allows."""
    return (f"{interval(wide[one]).text(digits)} against {interval(wide[other]).text(digits)}: "
            f"{comparison(interval(wide[one] - wide[other]))}")


def scenarios(rows: pd.DataFrame):
    """(scenario, its rows), in the order of the rows."""
    return rows.groupby("scenario", sort=False)
