"""Claims as functions of records: intervals, verdicts, and the words that may be used for them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from .files import write

HOLDS, FAILS, OPEN, UNTESTED = "holds", "does not hold", "inconclusive", "not testable at this preset"


@dataclass(frozen=True)
class Interval:
    """Mean and 95 % interval over n seeds: ``mean ± t_{0.975, n-1} s / sqrt(n)``; without width for n < 2."""

    mean: float
    half: float
    n: int

    @property
    def low(self) -> float:
        return self.mean - self.half

    @property
    def high(self) -> float:
        return self.mean + self.half

    def text(self, digits: int = 1, scale: float = 100.0) -> str:
        """For example "93.2 ± 1.1"; the mean alone for one seed, "not available" for none."""
        if self.n == 0:
            return "not available"
        width = "" if math.isnan(self.half) else f" ± {scale * self.half:.{digits}f}"
        return f"{scale * self.mean:.{digits}f}{width}"


def interval(values: Sequence[float]) -> Interval:
    """The t interval of the finite values."""
    x = np.asarray(values, dtype=float)
    x = x[np.isfinite(x)]
    if len(x) < 2:
        return Interval(float(x.mean()) if len(x) else math.nan, math.nan, len(x))
    return Interval(float(x.mean()), float(stats.t.ppf(0.975, len(x) - 1) * x.std(ddof=1) / math.sqrt(len(x))), len(x))


def paired(frame: pd.DataFrame, metric: str, a: str, b: str) -> Interval:
    """Interval of ``metric(a) - metric(b)`` over the runs (scenario, seed) that both methods have."""
    wide = frame.pivot_table(index=["scenario", "seed"], columns="method", values=metric)
    if a not in wide or b not in wide:
        return interval([])
    return interval((wide[a] - wide[b]).groupby("seed").mean())                 # seeds are the unit: scenarios share models


def comparison(difference: Interval, larger: str = "higher", smaller: str = "lower") -> str:
    """The word that a paired difference allows: ``larger`` or ``smaller`` only if its 95 % interval excludes 0."""
    if difference.n < 2:
        return "one seed: no interval"
    if difference.low > 0:
        return larger
    return smaller if difference.high < 0 else "no difference shown"


@dataclass(frozen=True)
class Verdict:
    status: str
    evidence: str


@dataclass(frozen=True)
class Claim:
    """A sentence of a paper as a test. ``test(session)`` returns a :class:`Verdict`; ``source`` says where the claim stands."""

    number: int
    text: str
    source: str
    test: Callable[..., Verdict]


NO_RUN = "no run of this preset tests it"


def untested(why: str) -> Verdict:
    return Verdict(UNTESTED, why)


def within(value: Interval, low: float, high: float, evidence: str) -> Verdict:
    """Holds if the whole interval lies in [low, high], does not hold if none of it does, else inconclusive; needs 2 seeds."""
    if value.n < 2:
        return untested(f"{evidence} (n = {value.n}: an interval needs at least two seeds)")
    if value.low >= low and value.high <= high:
        return Verdict(HOLDS, evidence)
    return Verdict(FAILS if value.high < low or value.low > high else OPEN, evidence)


def always(values: Sequence[float], ok: Callable[[float], bool], evidence: str) -> Verdict:
    """Holds if ``ok`` is true of every value, does not hold if it is false of any."""
    values = list(values)
    if not values:
        return untested(NO_RUN)
    passed = sum(bool(ok(v)) for v in values)
    return Verdict(HOLDS if passed == len(values) else FAILS, f"{evidence}: {passed} of {len(values)} models")


def weakest(*verdicts: Verdict) -> Verdict:
    """All parts of a compound claim: it holds if all hold, fails if one fails; the evidence of every part is kept. Without any part,
    nothing was tested."""
    if not verdicts:
        return untested(NO_RUN)
    order = (FAILS, UNTESTED, OPEN, HOLDS)
    status = min((v.status for v in verdicts), key=order.index)
    return Verdict(status, "; ".join(v.evidence for v in verdicts))


def judge(claims: Sequence[Claim], session) -> pd.DataFrame:
    """One row a claim: number, claim, verdict, evidence."""
    table = []
    for claim in claims:
        verdict = claim.test(session)
        table.append({"claim": claim.number, "what it says": claim.text, "source": claim.source, "verdict": verdict.status,
                      "evidence": verdict.evidence})
    return pd.DataFrame(table)


def save(table: pd.DataFrame, provenance: str, path: Path) -> None:
    write(path, f"{table.to_markdown(index=False)}\n\n{provenance}\n".encode())
