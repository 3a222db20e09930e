"""Does it reproduce on this machine? Fresh records against the reference, record by record and verdict by verdict."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pandas as pd

from . import claims
from .papers import Session, settings
from .records import Record, Store

FLOOR = 0.02            # differences below this (2 points of accuracy) are never counted
SPREADS = 5.0           # otherwise: so many standard deviations of the reference's own seeds
ALLOWED = 0.05          # share of values that may lie outside: seeds are few and their spread is itself uncertain


@dataclass(frozen=True)
class Report:
    """``values``: one row a compared number; ``verdicts``: one row a claim; ``missing``: reference records that were not computed here."""

    values: pd.DataFrame
    verdicts: pd.DataFrame
    missing: int

    @property
    def outside(self) -> float:
        return float(self.values.outside.mean()) if len(self.values) else 0.0

    @property
    def passed(self) -> bool:
        """Every reference record computed, at most 5 % of the values outside, no verdict turned into its opposite."""
        return not self.missing and self.outside <= ALLOWED and not self.verdicts.opposite.any()


def verify(paper: str, preset: str) -> Report:
    """Compare this machine's records of a paper with the committed reference. Raises ValueError if there is none."""
    settings(paper, preset)                                                     # refuses an unknown name
    store, here = Store.reference(preset, paper), Store.fresh(preset, paper)
    reference, fresh = store.read(), here.read()
    if not reference:
        raise ValueError(f"{store.path.name} of preset {preset} holds no reference records; there must be some to compare with: "
                         f"compute them and run 'make records PRESET={preset}'.")
    if not fresh:
        raise ValueError(f"{here.path} holds no records; this machine's must be there to compare: run "
                         f"'make figures PRESET={preset}' first.")
    pairs = [(r, fresh[k]) for k, r in reference.items() if k in fresh]
    return Report(_values(pairs, spreads(reference.values())), _verdicts(paper, preset), len(reference) - len(pairs))


def spreads(records) -> dict:
    """Standard deviation over seeds of each metric of each (study, method, scenario, parameters)."""
    groups: dict = {}
    for r in records:
        for metric, value in r.metrics.items():
            if not math.isnan(value):
                groups.setdefault((_group(r), metric), []).append(value)
    return {k: float(pd.Series(v).std()) if len(v) > 1 else 0.0 for k, v in groups.items()}


def _group(record: Record) -> tuple:
    s = record.spec
    return s.study, s.method, s.data, s.scenario, s.params, s.options


def _values(pairs: list[tuple[Record, Record]], spread: dict) -> pd.DataFrame:
    out = []
    for old, new in pairs:
        for metric, value in old.metrics.items():
            other = new.metrics.get(metric, math.nan)
            if math.isnan(value) and math.isnan(other):
                continue
            tolerance = max(FLOOR, SPREADS * spread.get((_group(old), metric), 0.0))
            difference = math.inf if math.isnan(value - other) else abs(value - other)
            out.append({"run": str(old.spec), "study": old.spec.study, "method": old.spec.method, "metric": metric, "reference": value,
                        "here": other, "difference": difference, "tolerance": tolerance, "outside": difference > tolerance})
    return pd.DataFrame(out)


def _verdicts(paper: str, preset: str) -> pd.DataFrame:
    tables = [Session(paper, preset, recompute=recompute).verdicts() for recompute in (False, True)]
    both = tables[0][["claim", "verdict"]].merge(tables[1][["claim", "verdict"]], on="claim", suffixes=(" (reference)", " (here)"))
    opposite = {claims.HOLDS, claims.FAILS}
    both["opposite"] = [a != b and {a, b} == opposite for a, b in zip(both.iloc[:, 1], both.iloc[:, 2], strict=True)]
    return both
