"""Ours against the form that a user would otherwise run; both give the same result (tests/test_bench.py)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
import torch

from .. import attacks, data, devices, metrics, models, plots, reference, train
from ..methods import METHODS
from ..methods.lfssd import importance, importances
from . import naive
from .figures import bars, provenance
from .measure import REPEATS, compare

SCORES = (40_000, 10_000)       # members and non-members of the attack row
MODEL, BATCH = "allcnn-16", 64
NOTE = (f"All but the attack on the digits, with {MODEL} in batches of {BATCH}. Ratios of medians and balanced accuracies in sample, "
        "without intervals. Both passes of LFSSD are the plain loop's own work, so they take its time: what can be gained is the pass over "
        "D, which the second row keeps.")


def one_pass(model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor) -> tuple:
    """Accuracy, entropy, loss and confidence from the same logits."""
    z = train.logits(model, images)
    return metrics.accuracy(z, labels), metrics.entropy(z), metrics.cross_entropy(z, labels), metrics.logit_confidence(z, labels)


def measure(repeats: int = REPEATS, scores: tuple[int, int] = SCORES) -> Iterator[dict]:
    """One record a row, on the digits; the attack, whose SVC takes minutes a fit, comes last."""
    d = reference.dataset("digits")
    model = models.build(MODEL, d, 0).to(devices.device()).eval()
    access, tenth = data.split(d, "class:8").access(), data.split(d, "random:0.1").access()
    everything = torch.cat([access.retain_images, access.forget_images])
    full = importance(model, everything)
    few = everything[:256]
    distil = {"rounds": 5, "batch_size": BATCH, "image_shape": (1, 8, 8), "latent": 64, "widths": (64, 32, 16)}
    vector, nabla = {"beta": 5.0, "batch_size": BATCH}, {"batch_size": BATCH, "max_epochs": 5}

    def seeded() -> dict:
        return {"generator": torch.Generator().manual_seed(0)}

    def row(name: str, ours, other, against: str, **settings) -> dict:
        return compare(name, ours, other, against, repeats, settings={"data": "digits", "model": MODEL} | settings)

    yield row("LFSSD importances, both passes", lambda: importances(model, access, kind="l2"),
              lambda: [naive.importance(model, x, BATCH) for x in (access.forget_images, everything)], "plain loop",
              scenario="class:8", batch_size=BATCH)
    yield row("LFSSD with the importance of D kept", lambda: importances(model, access, kind="l2", full_importance=full),
              lambda: importances(model, access, kind="l2"), "both passes", scenario="class:8", batch_size=BATCH)
    yield row("per-sample importance", lambda: importance(model, few, reduction="sample", chunk=32),
              lambda: importance(model, few, reduction="sample"), "one backward per image", images=len(few), chunk=32)
    yield row("evaluation, four metrics", lambda: one_pass(model, d.test_images, d.test_labels),
              lambda: naive.evaluation(model, d.test_images, d.test_labels), "one pass per metric at batch size 1",
              images=len(d.test_labels))
    yield row("ISPF, an epoch", lambda: METHODS["ispf"].run(model, access, epochs=1, warmup=0, **seeded(), **distil),
              lambda: naive.distillation_epoch(model, access.forget_classes, **seeded(), **distil), "nothing frozen, teacher twice",
              scenario="class:8", **distil)
    yield row("forget vector, an epoch", lambda: METHODS["forget_vector"].run(model, access, epochs=1, **seeded(), **vector),
              lambda: naive.vector_epoch(model, access, **seeded(), **vector), "nothing frozen, two passes", scenario="class:8", **vector)
    yield row("∇τ, five forget epochs with their target", lambda: METHODS["nabla_tau"].run(model, tenth, **seeded(), **nabla),
              lambda: naive.nabla_tau(model, tenth, **seeded(), **nabla), "image by image, three passes for τ",
              scenario="random:0.1", **nabla)
    yield attack(repeats, scores)


def attack(repeats: int, scores: tuple[int, int]) -> dict:
    """The exact threshold against an RBF SVC on the same scores, and which is stronger. Normal scores of means 1 (members) and 0."""
    rng = np.random.default_rng(0)
    members, others = rng.normal(1.0, 1.0, scores[0]), rng.normal(0.0, 1.0, scores[1])
    return compare(f"membership attack on {scores[0]:,} + {scores[1]:,} scores", lambda: attacks.best_threshold(members, others)[0],
                   lambda: naive.svc(members, others), "RBF SVC", repeats, score=float,
                   warm=lambda: naive.svc(members[:200], others[:200]),
                   settings={"scores": scores, "C": 3, "gamma": "auto", "score": "balanced accuracy, in sample"})


def stronger(row: dict) -> str:
    """Balanced accuracy of both attacks, in percent, and which is higher; "–" for rows that have none."""
    mine, theirs = row.get("ours_score", np.nan), row.get("other_score", np.nan)
    if pd.isna(mine) or pd.isna(theirs):
        return "–"
    verdict = "equal" if mine == theirs else "ours is stronger" if mine > theirs else f"{row['against']} is stronger"
    return f"{100 * mine:.2f} % / {100 * theirs:.2f} %: {verdict}"


def _times(ratio: float) -> str:
    return f"{ratio:,.0f}" if ratio > 100 else f"{ratio:.3g}"


def tables(frame: pd.DataFrame) -> list[pd.DataFrame]:
    return [pd.DataFrame([{
        "row": r["row"], "against": r["against"], "ours (s)": f"{r['ours_seconds']:.4g}", "other (s)": f"{r['other_seconds']:.4g}",
        "times faster": _times(r["ratio"]) + " (ours is slower)" * (r["ratio"] < 1), "repeats": r["repeats"],
        "balanced accuracy, ours / other": stronger(r)} for r in frame.to_dict("records")])]


def draw(frame: pd.DataFrame) -> plots.Drawn:
    """One bar a row: how many times faster ours is (left of 1: slower)."""
    drawn = frame[["row", "against", "ours_seconds", "other_seconds", "ratio", "repeats"]]
    notes = [f"{_times(r.ratio)} times, against {r.against}" for r in drawn.itertuples()]
    origin = f"digits, {MODEL}, batches of {BATCH} | {provenance(frame)}"
    return bars("ratios", drawn, drawn.row, "ratio", notes, origin=origin, xlabel="times faster (1 = equal)",
                title="Ours against the usual form")
