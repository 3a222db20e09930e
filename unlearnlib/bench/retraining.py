"""Unlearning against retraining, evaluation excluded: the committed records of each paper's own method and of retrained models."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from .. import papers, plots, records
from ..tables import MISSING
from .figures import bars

OWN = {"lfssd": "lfssd", "ispf": "ispf", "nabla_tau": "nabla_tau", "forget_vectors": "forget_vector"}
PLACE = ["commit", "device", "precision", "torch", "python", "threads"]        # the environment of a record, or of its training
NOTE = ("Cost alone: whether the method forgot is another question, and what choosing its settings cost is not in it. Every number is the "
        "median over pairs of one scenario and seed, all fractions of a kind together; in brackets the least and the largest ratio. Below "
        "1 the method is dearer than retraining.")
UNEVEN = 1.5        # a training epoch of two networks may differ so much before the machine's load must have


def committed() -> pd.DataFrame:
    """One row for each committed record of the study ``unlearn``, with its preset and its environment."""
    out = []
    for preset in papers.PRESETS:
        for name in papers.PAPERS:
            found = [r for r in records.Store.reference(preset, name).read().values() if r.spec.study == "unlearn"]
            if found:
                places = [r.environment.get("training", r.environment) for r in found]
                place = {k: [p.get(k, "") for p in places] for k in PLACE}                 # early records lack the precision
                out.append(records.frame(found).drop(columns="commit").assign(preset=preset, **place))
    return pd.concat(out, ignore_index=True)


def speedups(frame: pd.DataFrame) -> Iterator[dict]:
    """One record for each preset, paper, data set and kind of scenario: what retraining costs, divided by what the paper's method costs.

    Ratios are medians over pairs of the same scenario and seed. ``epochs``: training-epoch equivalents, which no device changes.
    ``seconds_low`` and ``seconds_high`` are the least and the largest ratio of seconds. ``seconds_ratio``, their median, is NaN where
    seconds cannot be compared, and ``note`` says why: another environment (commit, library versions, device, threads), a training whose
    seconds are not known, or a load of the machine that changed, seen in a training epoch of original and retrained networks.
    """
    frame = frame.assign(kind=frame.scenario.str.split(":").str[0])
    for (preset, paper, data, kind), part in frame.groupby(["preset", "paper", "data", "kind"], sort=False):
        own, retrained, original = (part[part.method == m] for m in (OWN[paper], "retrain", "original"))
        pairs = own.merge(retrained, on=["scenario", "seed"], suffixes=("", "_retrain"))
        pairs = pairs[(pairs.epochs > 0) & pairs.epochs_retrain.notna()]
        if pairs.empty:
            continue
        why, faster = _incomparable(pairs, pd.concat([original, retrained])), pairs.seconds_retrain / pairs.seconds
        yield {"row": f"{preset}, {paper}, {data}, {kind}", "preset": preset, "paper": paper, "data": data, "scenarios": kind,
               "method": OWN[paper], "repeats": len(pairs), "epochs": pairs.epochs.median(),
               "retrain_epochs": pairs.epochs_retrain.median(),
               "ratio": (pairs.epochs_retrain / pairs.epochs).median(), "seconds": pairs.seconds.median(),
               "retrain_seconds": pairs.seconds_retrain.median(),
               "seconds_ratio": float("nan") if why else faster.median(), "seconds_low": faster.min(),
               "seconds_high": faster.max(), "note": why,
               "settings": {"model": ", ".join(sorted(set(part.model))), "seeds": sorted(set(pairs.seed)),
                            "scenarios": sorted(set(pairs.scenario))},
               "environment": {k: sorted({str(v) for v in [*pairs[k], *pairs[f"{k}_retrain"]] if v != ""}) for k in PLACE}}


def _incomparable(pairs: pd.DataFrame, trained: pd.DataFrame) -> str:
    """Why seconds cannot be compared; empty where they can."""
    odd = [k for k in PLACE if pairs[k].nunique() > 1 or (pairs[k].astype(str) != pairs[f"{k}_retrain"].astype(str)).any()]
    if odd:
        return f"records of another {', '.join(odd)}"
    if pairs.seconds_retrain.isna().any():
        return "seconds of a training that was interrupted are not known"
    pace = (trained.seconds / trained.epochs).groupby(trained.method).median()
    if pace.max() > UNEVEN * pace.min():
        return "uneven load: an epoch of training took " + ", ".join(f"{s:.3g} s ({m})" for m, s in pace.items())
    return ""


def measure() -> Iterator[dict]:
    """The records of :func:`speedups`; nothing is run."""
    return speedups(committed())


def _range(row) -> str:
    return f" ({row.seconds_low:.2g} to {row.seconds_high:.2g})" if row.repeats > 1 else ""


def tables(frame: pd.DataFrame) -> list[pd.DataFrame]:
    return [pd.DataFrame([{
        "preset": r.preset, "paper": r.paper, "data": r.data, "network": r.settings["model"],
        "scenarios": f"{r.scenarios} ({r.repeats} run{'s' * (r.repeats > 1)})",
        "retrain (epochs)": f"{r.retrain_epochs:.1f}", "unlearn (epochs)": f"{r.epochs:.2f}", "times fewer epochs": f"{r.ratio:.2f}",
        "retrain (s)": "–" if pd.isna(r.retrain_seconds) else f"{r.retrain_seconds:.3g}", "unlearn (s)": f"{r.seconds:.3g}",
        "times faster": f"{MISSING}: {r.note}" if pd.isna(r.seconds_ratio) else f"{r.seconds_ratio:.2f}{_range(r)}",
        "commit": ", ".join(r.environment["commit"])} for r in frame.itertuples()])]


def draw(frame: pd.DataFrame) -> plots.Drawn:
    """One bar for each paper, data set and kind of scenario: retraining's epochs over the method's."""
    drawn = frame[["preset", "paper", "data", "scenarios", "method", "repeats", "epochs", "retrain_epochs", "ratio", "seconds_ratio",
                   "seconds_low", "seconds_high"]]
    labels = [f"{plots.label(r.method)}, {r.data}, {r.scenarios}" for r in drawn.itertuples()]
    seconds = ["" if pd.isna(r.seconds_ratio) else f", {r.seconds_ratio:.2g} times the seconds{_range(r)}" for r in drawn.itertuples()]
    notes = [f"{r.ratio:.2g} times the epochs{tail}" for r, tail in zip(drawn.itertuples(), seconds, strict=True)]
    commits = ", ".join(sorted({c for e in frame.environment for c in e["commit"]}))
    return bars("retraining", drawn, labels, "ratio", notes, origin=f"committed records, medians of runs | commits {commits}",
                xlabel="training epochs of retraining / those of the method (1 = equal)", title="What retraining costs, against unlearning")
