"""The prediction box of the ∇τ notebook: what we expected and why, what was measured, what we think about each miss."""

from __future__ import annotations

import pandas as pd

from ...claims import Interval, comparison, interval, paired
from ...tables import Markdown, Table
from .. import prose
from ..figures import focus
from ..prose import scaled
from .claims import largest, of_domain, runs_of


def closed(frame: pd.DataFrame, metric: str = "mia_l") -> Interval:
    """Share of the gap from original to retrained that ∇τ closes, seed by seed: 0 is the original, 1 the retrained model."""
    if not {"original", "nabla_tau", "retrain"} <= set(frame.method):
        return interval([])
    wide = frame.pivot_table(index="seed", columns="method", values=metric)
    return interval((wide.original - wide.nabla_tau) / (wide.original - wide.retrain))


def measured(session) -> dict[str, Interval]:
    """The quantities of the prediction box, in the units that its bands use; those that the preset lacks have n = 0."""
    frame, words = (largest(runs_of(session, text=text)) for text in (False, True))
    wide = frame.pivot_table(index="seed", columns="method", values="epochs")
    return {
        "closed": scaled(closed(frame), 100),
        "settles": scaled(_settles(session), 100),
        "lost": scaled(paired(frame, "acc_test", "original", "nabla_tau"), 100),
        "fine-tuning": scaled(paired(frame, "mia_l", "finetune", "nabla_tau"), 100),
        "text": scaled(closed(words), 100) if len(words) else interval([]),
        "cost": scaled(interval(wide.nabla_tau / wide.retrain), 100),
        "relearning": interval(_relearning(session)),
    }


def _settles(session) -> Interval:
    """Mean forget loss at the end over the last target, on the image data of the detailed scenario."""
    if not session.has("curve"):
        return interval([])
    rows = of_domain(session, session.rows("curve"))
    rows = rows[rows.method == "nabla_tau"]
    last = rows[rows.row == "curve"].groupby("seed").loss_forget.last()
    return interval(last / rows[rows.row == "epoch"].groupby("seed").tau.last())


def _relearning(session) -> list[float]:
    return prose.relearning(focus(session, session.frame("relearn")), "nabla_tau") if session.has("relearn") else []


QUANTITIES = {
    "closed": ("MIA_L gap from original to retrained that is closed, images (%)",
               "an earlier trial of ours closed about three quarters (one seed, no record kept)"),
    "settles": ("forget loss at the end, as a share of the target (%)", "it stops by itself, a little below"),
    "lost": ("test accuracy lost, images (points)", "forget and test samples look alike"),
    "fine-tuning": ("fine-tuned minus ∇τ in MIA_L, images (points)", "fine-tuning never looks at the forget set"),
    "text": ("the gap closed, text (%)", "the objective knows nothing of images"),
    "cost": ("cost against retraining (%)", "6 passes over the retain set instead of 20"),
    "relearning": ("relearning batches, relative to retrained", "a loss was raised, the features stay"),
}
MISSED = {
    ("closed", "below"): "the forget loss ended far below its target",
    ("closed", "above"): "the attack is told apart less than from the retrained model: more was forgotten than needed",
    ("settles", "below"): "we did not test why",
    ("settles", "above"): "the target itself moved, or the last batches overshot",
    ("lost", "below"): "the retain set was trained on further, and that helped",
    ("lost", "above"): "ascent on random samples hurts what they have in common with the rest",
    ("fine-tuning", "below"): "a high learning rate makes fine-tuning forget too, and ∇τ adds little to it here",
    ("fine-tuning", "above"): "fine-tuning forgets even less than we thought",
    ("text", "below"): "the text model holds on to its forget set more than the image model did",
    ("text", "above"): "more was forgotten than needed",
    ("cost", "below"): "fewer batches than reckoned",
    ("cost", "above"): "more batches, or a cheaper retraining, than reckoned",
    ("relearning", "below"): "the model starts near the mark already: little of its accuracy on the forget set was gone",
    ("relearning", "above"): "the forgotten samples come back more slowly than for a model that never saw them",
}


def _more_weight(session) -> str:
    """Does a starting weight of 1 raise the forget loss further? From the variants of the images."""
    rows = of_domain(session, session.rows("variants")) if session.has("variants") else pd.DataFrame({"variant": []})
    wide = rows.pivot_table(index="seed", columns="variant", values="loss_forget") if len(rows) else rows
    most = [v for v in wide if v.startswith("alpha0 = 1")]
    if not most or "as published" not in wide:
        return ""
    gap = interval(wide[most[0]] - wide["as published"])
    return f"A starting weight of 1 (variants) moves the forget loss by {gap.text(2, 1)} nats: **{comparison(gap)}**."


def box(bands: dict) -> Table:
    """The prediction box before the run."""
    return prose.box(QUANTITIES, bands)


def scores(session, bands: dict) -> Table:
    """The prediction box after the run: which means lie in their bands?"""
    return prose.predictions(measured(session), QUANTITIES, bands)


def misses(session, bands: dict) -> Markdown:
    """What we think about each band that was missed."""
    return prose.misses(measured(session), QUANTITIES, MISSED, bands, {"settles": _more_weight(session)})
