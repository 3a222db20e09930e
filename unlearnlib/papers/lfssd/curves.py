"""LFSSD against its threshold alpha: the curve of a scenario, and the window in which it is as good as retraining."""

from __future__ import annotations

import pandas as pd

from .claims import with_paper_metrics


def swept(session, scenario: str) -> pd.DataFrame:
    """Rows of the alpha study in a scenario: official batch reduction, every method and lambda."""
    rows = session.rows("alpha")
    rows = rows[rows.scenario == scenario]
    return rows[rows.hp_reduction.isna()] if "hp_reduction" in rows else rows


def curve(session, scenario: str) -> pd.DataFrame:
    """Those of LFSSD at lambda 1."""
    rows = swept(session, scenario)
    return rows[(rows.method == "lfssd") & (rows.lam == 1)]


def window(session, scenario: str, points: float = 0.02) -> list[float]:
    """The alphas of the curve at which mean acc D_r is at most 2 points below, and mean acc D_f within 2 of, the retrained model's."""
    f = with_paper_metrics(session.frame())
    retrained = f[(f.scenario == scenario) & (f.method == "retrain")]
    means = curve(session, scenario).groupby("alpha")[["D_r", "D_f"]].mean()
    good = (means.D_r >= retrained.D_r.mean() - points) & ((means.D_f - retrained.D_f.mean()).abs() <= points)
    return means.index[good].tolist()


def alphas_in_words(good: list[float]) -> str:
    """A window in a title or a cell: "2 to 6", "3", "none"."""
    return "none" if not good else f"{good[0]:g}" if len(good) == 1 else f"{good[0]:g} to {good[-1]:g}"
