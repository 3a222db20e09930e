"""Sentences and small tables of the LFSSD notebook whose numbers come from records: nothing here is typed in."""

from __future__ import annotations

import math

import pandas as pd

from ...attacks import anamnesis_index
from ...claims import comparison, interval, paired
from ...plots import label
from ...tables import Markdown, Table, by_method, published, with_distance
from ...tables import predictions as scored
from .claims import paired_ratio, with_paper_metrics

PAPER_COLUMNS = {"D_r (%)": ("D_r", 1, 100), "D_f (%)": ("D_f", 1, 100), "MIA: called member (%)": ("MIA", 1, 100)}
AUDIT_COLUMNS = {"Avg.Gap (0 is best)": ("avg_gap", 1, 100), "ToW (1 is best)": ("tow", 3, 1),
                 "AUC confidence": ("auc_confidence", 2, 1), "TPR at 1 % FPR (%)": ("tpr1_confidence", 1, 100),
                 "JS forget": ("js_forget", 3, 1), "JS retain": ("js_retain", 3, 1), "JS test": ("js_test", 3, 1), "ZRF": ("zrf", 3, 1)}
COST_COLUMNS = {"training-epoch equivalents": ("epochs", 2, 1), "seconds": ("seconds", 2, 1), "weights changed (%)": ("changed", 1, 100)}


def focus(session, study: str = "unlearn") -> pd.DataFrame:
    frame = with_paper_metrics(session.frame()) if study == "unlearn" else session.frame(study)
    return frame[frame.scenario == session.settings["focus"]]


def paper_table(session) -> Table:
    """The layout of the paper's table: ours beside retrained, and the published D_r, D_f where a source was verified."""
    frame = with_paper_metrics(session.frame())
    frame = frame[~frame.method.isin(["random_dampening", "mask_logit", "head_only", "random_output"])]
    return published(frame, "lfssd", by_method(frame, PAPER_COLUMNS), ["D_r", "D_f", "MIA"])


def audit_table(session) -> Table:
    """The common audit of the focus scenario, with the controls."""
    return by_method(with_distance(focus(session)), AUDIT_COLUMNS)


def cost_table(session) -> Table:
    """Cost of the method alone; seconds are those of the machine that made the records and are rounded for the reader."""
    return by_method(focus(session), COST_COLUMNS)


def stops(session, alphas: list[float]) -> Table:
    """The knob at three stops: rows of the alpha study nearest to ``alphas``, beside the retrained model."""
    rows = session.rows("alpha")
    rows = rows[(rows.scenario == session.settings["focus"]) & (rows.method == "lfssd") & (rows.lam == 1)]
    if "hp_reduction" in rows:
        rows = rows[rows.hp_reduction.isna()]
    out = []
    for wanted in alphas:
        at = rows.alpha.iloc[(rows.alpha - wanted).abs().argmin()]
        part = rows[rows.alpha == at]
        cells = {heading: interval(part[m]).text() for heading, m in
                 (("weights selected (%)", "selected"), ("D_r (%)", "D_r"), ("D_f (%)", "D_f"))}
        out.append({"model": f"LFSSD, alpha = {at:g}"} | cells)
    runs = focus(session)
    for name in ("original", "retrain"):
        part = runs[runs.method == name]
        out.append({"model": label(name), "weights selected (%)": "–", "D_r (%)": interval(part.D_r).text(),
                    "D_f (%)": interval(part.D_f).text()})
    return Table(pd.DataFrame(out))


def measured(session) -> dict[str, float]:
    """The quantities of the prediction box, in the units that its bands use; NaN where the preset lacks the study."""
    frame, selection = focus(session), _selected(session)
    alpha = float(frame[frame.method == "lfssd"].hp_alpha.iloc[0])
    batches = focus(session, "relearn").groupby("method").batches.median()
    return {
        "D_f": 100 * frame[frame.method == "lfssd"].D_f.mean(),
        "D_r lost": -100 * paired(frame, "D_r", "lfssd", "original").mean,
        "selected": 100 * selection.get(alpha, math.nan),
        "doubling": selection.get(2 * alpha, math.nan) / selection.get(alpha, math.nan),
        "cost": 100 * paired_ratio(frame, "epochs", "lfssd", "retrain").mean,
        "attack": 100 * paired(frame, "MIA", "lfssd", "retrain").mean,
        "relearning": anamnesis_index(batches.get("lfssd", math.nan), batches.get("retrain", math.nan)),
    }


def _selected(session) -> dict[float, float]:
    rows = session.rows("alpha")
    rows = rows[(rows.scenario == session.settings["focus"]) & (rows.method == "lfssd") & (rows.lam == 1)]
    if "hp_reduction" in rows:
        rows = rows[rows.hp_reduction.isna()]
    return rows.groupby("alpha").selected.mean().to_dict()


QUANTITIES = {
    "D_f": ("test accuracy on the forgotten class (%)", "its weights are dampened, nothing else supports it"),
    "D_r lost": ("test accuracy lost on the others (points)", "weights are shared, so some damage"),
    "selected": ("weights selected at the chosen alpha (%)", "a class is a tenth of the task"),
    "doubling": ("selected at twice alpha, as a share of that", "the ratio's tail falls steeply"),
    "cost": ("cost against retraining (%)", "about one pass instead of 18 epochs"),
    "attack": ("entropy attack, minus retrained (points)", "flattened outputs look like non-members"),
    "relearning": ("relearning batches, relative to retrained", "dampened features are still there"),
}


def predictions(session, bands: dict) -> Table:
    """Score the prediction box: for each quantity inside or outside its band."""
    values = measured(session)
    known = {k: band for k, band in bands.items() if not math.isnan(values[k])}
    return scored([(QUANTITIES[k][0], values[k], tuple(band), QUANTITIES[k][1]) for k, band in known.items()], digits=2)


def box(bands: dict) -> Table:
    """The prediction box before the run."""
    return Table(pd.DataFrame([{"quantity": QUANTITIES[k][0], "our band": f"{low:g} to {high:g}", "reason": QUANTITIES[k][1]}
                               for k, (low, high) in bands.items()]))


def reading(session, figure: str) -> Markdown:
    """One sentence under a figure: its main numbers, each "we measured"."""
    return Markdown("*We measured:* " + READINGS[figure](session))


def _of(frame: pd.DataFrame, name: str, metric: str, digits: int = 1, scale: float = 100) -> str:
    return interval(frame[frame.method == name][metric]).text(digits, scale)


def _wrong_way(session) -> str:
    f = focus(session)
    gap = paired(f, "D_f", "random_dampening", "lfssd")
    return (f"the same factors on random weights leave D_f at {_of(f, 'random_dampening', 'D_f')} % and D_r at "
            f"{_of(f, 'random_dampening', 'D_r')} %; LFSSD has {_of(f, 'lfssd', 'D_f')} % and {_of(f, 'lfssd', 'D_r')} %. "
            f"D_f under random dampening is {comparison(gap)} (difference {gap.text()} points).")


def _importance(session) -> str:
    a = focus(session, "anatomy")
    rows = session.rows("anatomy")
    layers = rows[rows.row == "layer"].assign(share=lambda r: r.selected / r.weights).groupby("layer").share.mean()
    return (f"{interval(a.selected).text()} % of {int(a.weights.iloc[0]):,} weights are selected; the tensor with the smallest share is "
            f"{layers.idxmin()} ({100 * layers.min():.1f} %), with the largest {layers.idxmax()} ({100 * layers.max():.1f} %).")


def _alpha(session) -> str:
    a = focus(session, "alpha")
    sample = a[a.hp_reduction == "sample"] if "hp_reduction" in a else a[:0]
    ours = a[(a.method == "lfssd") & ~a.index.isin(sample.index)]
    text = f"the bound is {ours.bound.iloc[0]:.2f}; the largest ratio of any weight was {ours.largest_ratio.max():.2f} with batches"
    return text + (f" and {sample.largest_ratio.max():.2f} per sample." if len(sample) else ".")


def _sensitivity(session) -> str:
    rows = session.rows("sensitivity")
    sizes, alpha = sorted(rows.batch_size.unique()), rows.alpha.min()
    rows = rows[(rows.alpha == alpha) & (rows.batch_size == sizes[-1])]
    named = {"given": "class-sorted", "shuffled": "shuffled"}
    parts = []
    for (name, order), part in rows.groupby(["method", "order"]):
        parts.append(f"{label(name)} {named[order]} {interval(part.D_r).text()} %")
    return f"at alpha = {alpha:g} and batch size {sizes[-1]}, D_r is " + ", ".join(parts) + "."


def _cost(session) -> str:
    f = focus(session)
    return (f"LFSSD costs {paired_ratio(f, 'epochs', 'lfssd', 'retrain').mean:.1%} of a retraining; its D_r minus retrained: "
            f"{paired(f, 'D_r', 'lfssd', 'retrain').text()} points.")


def _ruler(session) -> str:
    f = focus(session)
    gap = paired(f, "loss_forget", "lfssd", "retrain")
    losses = [_of(f, name, "loss_forget", 2, 1) for name in ("original", "lfssd", "retrain")]
    return (f"mean loss on forgotten images: original {losses[0]}, LFSSD {losses[1]}, retrained {losses[2]}; LFSSD is "
            f"{comparison(gap)} than retrained. The entropy attack calls "
            f"{_of(f, 'lfssd', 'MIA')} % of them members under LFSSD, {_of(f, 'retrain', 'MIA')} % under retraining.")


def _forgotten(session) -> str:
    rows = session.rows("images")
    rows = rows[rows.row == "forgotten"]
    medians = rows.groupby(["model", "seed"]).confidence.median().groupby("model").apply(lambda v: interval(v).text(1, 1))
    return "median log-odds of the label: " + ", ".join(f"{label(m)} {medians[m]}" for m in ("original", "lfssd", "retrain")) + "."


def _relearn(session) -> str:
    r = focus(session, "relearn")
    parts = []
    for name in ("lfssd", "ssd", "retrain"):
        b = r[r.method == name].batches
        there = b[b.notna()]
        median = f"median {b.fillna(math.inf).median():.0f}" if len(there) * 2 > len(b) else "median beyond the last batch"
        parts.append(f"{label(name)} {median} ({len(there)} of {len(b)} seeds got there)")
    return "mini-batches until 95 % of the original: " + ", ".join(parts) + "."


def _scenarios(session) -> str:
    f = with_paper_metrics(session.frame())
    parts = []
    for scenario in session.settings["scenarios"]:
        part = f[f.scenario == scenario]
        parts.append(f"{scenario} {_of(part, 'lfssd', 'D_f')} ({_of(part, 'retrain', 'D_f')})")
    return "D_f in % after LFSSD (after retraining): " + ", ".join(parts) + "."


READINGS = {"wrong_way": _wrong_way, "importance": _importance, "alpha_curve": _alpha, "sensitivity": _sensitivity, "cost": _cost,
            "ruler": _ruler, "forgotten": _forgotten, "relearn": _relearn, "scenarios": _scenarios}


def answer(session) -> Markdown:
    """The answer to the notebook's question, from this session's records."""
    f, v = focus(session), measured(session)
    changed = paired(f, "D_r", "lfssd", "original").text()
    before, after, target = (_of(f, name, "D_f") for name in ("original", "lfssd", "retrain"))
    text = (f"**Answer** (preset {session.preset}, n = {session.settings['seeds']}). *We measured:* without a label and without "
            f"training, LFSSD moves the test accuracy on the forgotten class from {before} % to {after} % (retrained: {target} %). "
            f"It costs {v['cost']:.1f} % of a retraining, and the other classes change by {changed} points.")
    if not math.isnan(v["relearning"]):
        text += (f" Whether that is *unlearning* is another question: the class comes back in {v['relearning']:.2f} times the "
                 "mini-batches that a retrained model needs.")
    return Markdown(text)
