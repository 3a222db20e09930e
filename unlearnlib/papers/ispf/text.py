"""Tables of the ISPF notebook, whose numbers come from records: nothing here is typed in. Its sentences: predictions.py, readings.py."""

from __future__ import annotations

import pandas as pd
import torch

from ... import tables
from ...claims import comparison, paired
from ...filtering import postfilter
from ...methods.ispf import STRATEGIES as SWITCHES
from ...plots import label
from ...tables import Markdown, Table, by_method, published, with_distance
from ..figures import focus
from ..prose import of_method
from . import ATTACK
from .claims import LEVEL, curves, first_epochs
from .figures import STRATEGIES
from .predictions import box, measured, misses, predictions
from .readings import answer, one_glance, reading

__all__ = ["answer", "audit_table", "box", "by_hand", "cost_table", "fooled", "measured", "misses", "one_glance", "paper_table",
           "predictions", "progress", "reading", "strategies"]

COLUMNS = {"A_r (%)": ("acc_test_retain", 1, 100), "A_f (%)": ("acc_test_forget", 1, 100), "all test images (%)": ("acc_test", 1, 100),
           "confidence attack: non-member (%)": ("mia_confidence", 1, 100), "entropy attack: member (%)": ("mia_entropy", 1, 100)}
AUDIT_COLUMNS = {"Avg.Gap (0 is best)": ("avg_gap", 1, 100), "ToW (1 is best)": ("tow", 2, 1), "AUC confidence": ("auc_confidence", 2, 1),
                 "TPR at 1 % FPR (%)": ("tpr1_confidence", 1, 100), "train acc, kept (%)": ("acc_retain", 1, 100),
                 "JS test": ("js_test", 2, 1)}
COST_COLUMNS = {"training-epoch equivalents": ("epochs", 1, 1), "seconds": ("seconds", 1, 1), "rows kept, all epochs (%)": ("kept", 0, 100),
                "A_r (%)": ("acc_test_retain", 1, 100)}


def paper_table(session) -> Table:
    """Scenario x strategy in the layout of the official code's grid, beside the published values (none could be verified)."""
    frame = session.frame()
    return published(frame, "ispf", by_method(frame, COLUMNS), ["A_r", "A_f"])


def audit_table(session) -> Table:
    """The common audit of the detailed scenario."""
    return by_method(with_distance(focus(session, session.frame()), ATTACK), AUDIT_COLUMNS)


def fooled(session) -> Markdown:
    """In which numbers of both tables controls do as well as ISPF."""
    frame = with_distance(focus(session, session.frame()), ATTACK)
    names = {"acc_test_retain": "A_r", "acc_test_forget": "A_f", "mia_confidence": "confidence attack", "mia_entropy": "entropy attack",
             "avg_gap": "Avg.Gap", "tow": "ToW", "auc_confidence": "AUC", "tpr1_confidence": "TPR",
             "acc_retain": "train acc of kept images", "js_test": "JS test"}
    return tables.fooled(frame, names, "ispf")


def cost_table(session) -> Table:
    """Cost of the method alone; seconds are those of the machine that made the records."""
    return by_method(focus(session, session.frame()), COST_COLUMNS)


def by_hand(logits: list[float], forget: list[int], threshold: float) -> Table:
    """The worked example from the library's own filter: logits and probabilities before and after."""
    before = torch.tensor([logits], dtype=torch.float64)
    after = postfilter(before, forget, threshold)
    return Table(pd.DataFrame({"class": range(len(logits))} | {
        f"{name} {when}": [f"{v:.3f}" if name == "probability" else f"{v:g}" for v in values[0].tolist()]
        for when, z in (("before", before), ("after", after)) for name, values in (("logit", z), ("probability", z.softmax(1)))}))


def strategies() -> Table:
    """The strategies' names in the library, and what each of them switches on: the objects that the loop itself reads."""
    def name(function) -> str:
        return f"`{function.__name__}`" if function else "–"
    return Table(pd.DataFrame([{"in the library": f"`{code}`", "strategy": label(code), "`inhibited`": "yes" if one.inhibited else "no",
                                "`keep`": name(one.keep), "`target`": name(one.target)} for code, one in SWITCHES.items()]))


def progress(session) -> Table:
    """In the last epoch, beside original and retrained: A_r, against GKT, how soon, A_f, rows kept, images taken for the class."""
    frame, first, rows = (focus(session, f) for f in (session.frame(), first_epochs(session), curves(session)))
    end, out = rows.epoch.max(), []
    last = rows[rows.epoch == end]
    for m in ("original", "retrain", *(m for m in (*STRATEGIES, "dfkd") if (last.method == m).any())):
        student, gap = m not in ("original", "retrain"), paired(frame, "acc_test_retain", m, "gkt_dfq")
        source = last if student else frame
        out.append({"model": label(m), "A_r (%)": of_method(source, m, "acc_test_retain"),
                    "minus GKT (points)": f"{gap.text()}: {comparison(gap)}" if student and m != "gkt_dfq" else "–",
                    f"seeds that reach {100 * LEVEL:g} % of retrained's A_r": _reached(first[first.method == m]["first"], end),
                    "A_f (%)": of_method(source, m, "acc_test_forget"),
                    "rows kept, last epoch (%)": of_method(last, m, "kept") if student else "–",
                    "drawn as the class (%)": of_method(last, m, "predicted_forget") if student else "–",
                    "n": source[source.method == m].seed.nunique()})
    return Table(pd.DataFrame(out))


def _reached(first: pd.Series, end: float) -> str:
    """How many runs reached the goal, and in which epoch; "–" for models without epochs of their own."""
    there = first[first <= end]
    return "–" if first.empty else f"{len(there)} of {len(first)}" + (f", median epoch {there.median():g}" if len(there) else "")
