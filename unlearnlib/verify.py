"""Does it reproduce on this machine? Fresh records against the reference, record by record and verdict by verdict."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pandas as pd

from . import claims
from .papers import Session, settings
from .papers import paper as module
from .records import Record, Store

FLOOR = 0.02            # differences below this (2 points of accuracy; 2 % of values above 1) are never counted
SPREADS = 5.0           # otherwise: so many standard deviations of the reference's own seeds
ALLOWED = 0.05          # share of all values that may lie outside: seeds are few and their spread is itself uncertain
ALLOWED_EACH = 0.15     # of a method's values in a study, and one value more: with another seed in place of each, it is 0.09 at most


@dataclass(frozen=True)
class Report:
    """``values``: one row a compared number; ``missing``: reference records that were not computed here; ``verdicts``: one row a claim,
    none where records are missing."""

    values: pd.DataFrame
    verdicts: pd.DataFrame
    missing: int

    @property
    def outside(self) -> float:
        return float(self.values.outside.mean()) if len(self.values) else 0.0

    @property
    def by(self) -> pd.DataFrame:
        """One row a study and method: its numbers, those outside, the largest difference, and whether too many are outside."""
        out = self.values.groupby(["study", "method"]).agg(numbers=("outside", "size"), outside=("outside", "sum"),
                                                           largest=("difference", "max")).reset_index()
        return out.assign(failed=out.outside > ALLOWED_EACH * out.numbers + 1)

    @property
    def passed(self) -> bool:
        """Every reference record computed; at most 5 % of all values outside, and 15 % and one of any method in a study; no verdict turned
        into its opposite."""
        return not (self.missing or self.outside > ALLOWED or self.by.failed.any() or self.verdicts.opposite.any())


def verify(paper: str, preset: str, seeds: int | None = None) -> Report:
    """Compare this machine's records of a paper with the committed reference, all seeds of it or the first ``seeds``; nothing is computed.

    Raises ValueError, in one sentence, where one of the two has no records to compare.
    """
    wanted = {s.key for s in module(paper).plan(settings(paper, preset, seeds=seeds))}
    store, here = Store.reference(preset, paper), Store.fresh(preset, paper)
    reference, fresh = store.read(), here.read()
    if not reference:
        raise ValueError(f"{store.path.name} of preset {preset} holds no reference records; there must be some to compare with: "
                         f"compute them and run 'make records PRESET={preset}'.")
    if not fresh:
        raise ValueError(f"{here.path} holds no records; this machine's must be there to compare: run "
                         f"'make figures PRESET={preset}' first.")
    spread = spreads(reference.values())
    reference = {k: r for k, r in reference.items() if k in wanted}
    pairs = [(r, fresh[k]) for k, r in reference.items() if k in fresh]
    if not pairs:
        raise ValueError(f"{here.path} holds {len(fresh)} records, none of them of a run of the reference; they must be of this version "
                         f"and preset: run 'make figures PRESET={preset}' first.")
    missing = len(reference) - len(pairs)
    verdicts = pd.DataFrame({"opposite": []}) if missing else _verdicts(paper, preset, reference, fresh)
    return Report(_values(pairs, spread), verdicts, missing)


def measured(record: Record) -> dict[str, float]:
    """Every number of a record: its metrics, and of its rows the mean of each column, kind by kind (``"loss of curve rows"``)."""
    if not record.rows:
        return record.metrics
    rows = pd.DataFrame(record.rows)
    numbers = list(rows.select_dtypes("number").columns)
    kinds = [c for c in rows.columns if c not in numbers]
    named = rows[kinds].fillna("").astype(str).agg(" ".join, axis=1) if kinds else pd.Series("all", rows.index)
    means = rows[numbers].groupby(named).mean()
    return record.metrics | {f"{column} of {kind} rows": float(value) for kind, row in means.iterrows() for column, value in row.items()}


def spreads(records) -> dict:
    """Standard deviation over seeds of each number of each (study, method, scenario, parameters)."""
    groups: dict = {}
    for r in records:
        for metric, value in measured(r).items():
            if not math.isnan(value):
                groups.setdefault((_group(r), metric), []).append(value)
    return {k: float(pd.Series(v).std()) if len(v) > 1 else 0.0 for k, v in groups.items()}


def _group(record: Record) -> tuple:
    s = record.spec
    return s.study, s.method, s.data, s.scenario, s.params, s.options


def _values(pairs: list[tuple[Record, Record]], spread: dict) -> pd.DataFrame:
    out = []
    for old, new in pairs:
        there = measured(new)
        for metric, value in measured(old).items():
            other = there.get(metric, math.nan)
            if math.isnan(value) and math.isnan(other):
                continue
            tolerance = max(FLOOR * max(1.0, abs(value)), SPREADS * spread.get((_group(old), metric), 0.0))
            difference = math.inf if math.isnan(value - other) else abs(value - other)
            out.append({"run": str(old.spec), "study": old.spec.study, "method": old.spec.method, "metric": metric, "reference": value,
                        "here": other, "difference": difference, "tolerance": tolerance, "outside": difference > tolerance})
    return pd.DataFrame(out)


def _verdicts(paper: str, preset: str, reference: dict[str, Record], fresh: dict[str, Record]) -> pd.DataFrame:
    tables = [Session(paper, preset, found=found).verdicts() for found in (reference, fresh)]
    both = tables[0][["claim", "verdict"]].merge(tables[1][["claim", "verdict"]], on="claim", suffixes=(" (reference)", " (here)"))
    opposite = {claims.HOLDS, claims.FAILS}
    both["opposite"] = [a != b and {a, b} == opposite for a, b in zip(both.iloc[:, 1], both.iloc[:, 2], strict=True)]
    return both
