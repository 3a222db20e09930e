"""Sentences and small tables of the LFSSD notebook whose numbers come from records: nothing here is typed in."""

from __future__ import annotations

import math

import pandas as pd

from ...claims import Interval, comparison, interval, paired
from ...plots import label
from ...tables import Markdown, Table, by_method, published, with_distance
from .. import NotAvailable, prose
from ..prose import of_method, scaled
from .claims import FORGOTTEN, paired_ratio, with_paper_metrics
from .figures import layer_of

PAPER_COLUMNS = {"acc D_r (%)": ("D_r", 1, 100), "acc D_f (%)": ("D_f", 1, 100), "MIA (entropy attack): called member (%)": ("MIA", 1, 100)}
AUDIT_COLUMNS = {"Avg.Gap (0 is best)": ("avg_gap", 1, 100), "ToW (1 is best)": ("tow", 2, 1),
                 "AUC confidence": ("auc_confidence", 2, 1), "TPR at 1 % FPR (%)": ("tpr1_confidence", 1, 100),
                 "JS forget": ("js_forget", 2, 1), "JS retain": ("js_retain", 2, 1), "JS test": ("js_test", 2, 1), "ZRF": ("zrf", 2, 1)}
COST_COLUMNS = {"training-epoch equivalents": ("epochs", 2, 1), "seconds": ("seconds", 2, 1), "weights changed (%)": ("changed", 1, 100)}


def focus(session, study: str = "unlearn") -> pd.DataFrame:
    session.need(study)
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
    rows, out = curve(session, session.settings["focus"]), []
    for wanted in alphas:
        at = rows.alpha.iloc[(rows.alpha - wanted).abs().argmin()]
        part = rows[rows.alpha == at]
        cells = {heading: interval(part[m]).text() for heading, m in
                 (("weights selected (%)", "selected"), ("acc D_r (%)", "D_r"), ("acc D_f (%)", "D_f"))}
        out.append({"model": f"LFSSD, alpha = {at:g}"} | cells | {"n": len(part)})
    runs = focus(session)
    for name in ("original", "retrain"):
        part = runs[runs.method == name]
        out.append({"model": label(name), "weights selected (%)": "–", "acc D_r (%)": interval(part.D_r).text(),
                    "acc D_f (%)": interval(part.D_f).text(), "n": len(part)})
    return Table(pd.DataFrame(out))


def curve(session, scenario: str) -> pd.DataFrame:
    """Rows of LFSSD's alpha study in a scenario: official batch reduction, lambda 1."""
    rows = session.rows("alpha")
    rows = rows[(rows.scenario == scenario) & (rows.method == "lfssd") & (rows.lam == 1)]
    return rows[rows.hp_reduction.isna()] if "hp_reduction" in rows else rows


def measured(session) -> dict[str, Interval]:
    """The quantities of the prediction box, in the units that its bands use; those whose study the preset lacks have n = 0."""
    frame, rows = focus(session), curve(session, session.settings["focus"])
    alpha = float(frame[frame.method == "lfssd"].hp_alpha.iloc[0])
    share = {a: rows[rows.alpha == a].set_index("seed").selected for a in (alpha, 2 * alpha)}
    return {
        "D_f": scaled(interval(frame[frame.method == "lfssd"].D_f), 100),
        "D_r lost": scaled(paired(frame, "D_r", "original", "lfssd"), 100),
        "selected": scaled(interval(share[alpha]), 100),
        "doubling": interval(share[2 * alpha] / share[alpha]),
        "cost": scaled(paired_ratio(frame, "epochs", "lfssd", "retrain"), 100),
        "attack": scaled(paired(frame, "MIA", "lfssd", "retrain"), 100),
        "relearning": interval(relearning(session)),
    }


def relearning(session) -> list[float]:
    """LFSSD's anamnesis index, seed by seed."""
    try:
        return prose.relearning(focus(session, "relearn"), "lfssd")
    except NotAvailable:
        return []


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
    """Score the prediction box: for each quantity inside or outside its band, and by how much."""
    return prose.predictions(measured(session), QUANTITIES, bands)


def misses(session, bands: dict) -> Markdown:
    """What we think about each band that was missed; says so where none was."""
    return prose.misses(measured(session), QUANTITIES, MISSED, bands, {"relearning": never(session)})


def never(session) -> str:
    """How the retrained seeds that never relearned enter the relative number of batches."""
    ratios = relearning(session)
    others = [r for r in ratios if r > 0]
    return (f"({len(ratios) - len(others)} of {len(ratios)} retrained models never relearned the class; they count as infinitely slow, "
            f"ratio 0. Without them: {interval(others).text(2, 1)}.)")


MISSED = {
    ("D_f", "above"): "some of the class survives in weights that the threshold did not select",
    ("D_f", "below"): "impossible for an accuracy unless the band starts above 0",
    ("D_r lost", "below"): "the other classes gained: images once mistaken for the forgotten class now go where they belong",
    ("D_r lost", "above"): "the forget class shares more weights with the others than we thought",
    ("selected", "below"): "the class needs fewer weights than its share of the task",
    ("selected", "above"): "the class touches more weights than its share of the task",
    ("doubling", "below"): "the tail of the ratio is even steeper",
    ("doubling", "above"): "the tail of the ratio is heavier",
    ("cost", "below"): "retraining is dearer, or one pass cheaper, than we reckoned",
    ("cost", "above"): "retraining is cheaper, or one pass dearer, than we reckoned",
    ("attack", "below"): "LFSSD over-forgets more than we thought",
    ("attack", "above"): "LFSSD over-forgets less than we thought, or not at all",
    ("relearning", "below"): "the dampened knowledge is nearer to the surface than we thought",
    ("relearning", "above"): "dampening hides the class better than we thought",
}


def box(bands: dict) -> Table:
    """The prediction box before the run."""
    return prose.box(QUANTITIES, bands)


def reading(session, figure: str) -> Markdown:
    """One sentence under a figure: its main numbers, each "we measured"."""
    return prose.reading(session, READINGS[figure])


def _wrong_way(session) -> str:
    f = focus(session)
    gap, start = (paired(f, "D_f", "random_dampening", other) for other in ("lfssd", "original"))
    return (f"the same factors on random weights leave acc D_f at {of_method(f, 'random_dampening', 'D_f')} % and acc D_r at "
            f"{of_method(f, 'random_dampening', 'D_r')} %; LFSSD has {of_method(f, 'lfssd', 'D_f')} % and "
            f"{of_method(f, 'lfssd', 'D_r')} %. Acc D_f under random dampening against LFSSD: {comparison(gap)} ({gap.text()} points); "
            f"against the original: {comparison(start)} ({start.text()} points).")


def _importance(session) -> str:
    a, rows = focus(session, "anatomy"), session.rows("anatomy")
    rows = rows[rows.row == "layer"]
    layers = rows.assign(layer=rows.layer.map(layer_of)).groupby(["seed", "layer"], sort=False)[["selected", "weights"]].sum()
    share = (layers.selected / layers.weights).unstack(sort=False)
    first, last = share.columns[0], share.columns[-1]
    gap = interval(share[last] - share[first])
    shares = [f"in {name} {interval(share[name]).text()} %" for name in (first, last)]
    return (f"{interval(a.selected).text()} % of {int(a.weights.iloc[0]):,} weights are selected, {', '.join(shares)}. "
            f"The share in {last}, against {first}: {comparison(gap)} (difference {gap.text()} points).")


def _alpha(session) -> str:
    a = focus(session, "alpha")
    sample = a[a.hp_reduction == "sample"] if "hp_reduction" in a else a[:0]
    ours = a[(a.method == "lfssd") & ~a.index.isin(sample.index)]
    text = f"the bound is {ours.bound.iloc[0]:.2f}; the largest ratio of any weight was {ours.largest_ratio.max():.2f} with batches"
    return text + (f" and {sample.largest_ratio.max():.2f} per sample." if len(sample) else ".")


def _sensitivity(session) -> str:
    rows = session.rows("sensitivity")
    sizes, alpha = sorted(rows.batch_size.unique()), rows.alpha.min()
    named = {"given": "class-sorted", "shuffled": "shuffled"}
    parts = []
    for name in ("lfssd", "ssd"):
        mine = rows[(rows.alpha == alpha) & (rows.method == name)]
        start = mine[mine.batch_size == sizes[0]].groupby("seed").D_r.mean()
        ends = [f"{named[o]} {interval(p.D_r).text()} %" for o, p in mine[mine.batch_size == sizes[-1]].groupby("order")]
        parts.append(f"{label(name)} goes from {interval(start).text()} % at batch size {sizes[0]} to {' and '.join(ends)} at {sizes[-1]}")
    return f"at alpha = {alpha:g}, acc D_r of " + "; of ".join(parts) + "."


def _cost(session) -> str:
    f = focus(session)
    return (f"LFSSD costs {100 * paired_ratio(f, 'epochs', 'lfssd', 'retrain').mean:.1f} % of a retraining; its acc D_r minus retrained: "
            f"{paired(f, 'D_r', 'lfssd', 'retrain').text()} points.")


def _ruler(session) -> str:
    f = focus(session)
    gap = paired(f, "loss_forget", "lfssd", "retrain")
    losses = [of_method(f, name, "loss_forget", 2, 1) for name in ("original", "lfssd", "retrain")]
    return (f"mean loss on forgotten images: original {losses[0]}, LFSSD {losses[1]}, retrained {losses[2]}; LFSSD is "
            f"{comparison(gap)} than retrained. The entropy attack calls "
            f"{of_method(f, 'lfssd', 'MIA')} % of them members under LFSSD, {of_method(f, 'retrain', 'MIA')} % under retraining. "
            f"Within the band on every ruler: {', '.join(in_band(session)) or 'nobody'}.")


def in_band(session, metrics=("D_f", "loss_forget", "mia_entropy", "auc_confidence")) -> list[str]:
    """Methods and controls whose mean lies within one standard deviation of the retrained seeds on every ruler."""
    f = focus(session)
    target = f[f.method == "retrain"][list(metrics)]
    mean = f.groupby("method")[list(metrics)].mean()
    near = ((mean - target.mean()).abs() <= target.std().fillna(0) + 1e-12).all(axis=1)
    return [label(m) for m in mean.index[near] if m not in ("original", "retrain")]


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


def window(session, scenario: str, points: float = 0.02) -> list[float]:
    """The alphas of the curve at which mean acc D_r is at most, and mean acc D_f within, 2 points of the retrained model's."""
    f = with_paper_metrics(session.frame())
    retrained = f[(f.scenario == scenario) & (f.method == "retrain")]
    means = curve(session, scenario).groupby("alpha")[["D_r", "D_f"]].mean()
    good = (means.D_r >= retrained.D_r.mean() - points) & ((means.D_f - retrained.D_f.mean()).abs() <= points)
    return means.index[good].tolist()


def _scenarios(session) -> str:
    f, parts = with_paper_metrics(session.frame()), []
    for scenario in session.settings["scenarios"]:
        part, good = f[f.scenario == scenario], window(session, scenario)
        alpha = part[part.method == "lfssd"].hp_alpha.iloc[0]
        where = "no alpha of the curve does both"
        if good:
            where = f"acc D_f within 2 points of retrained, and acc D_r at most 2 below it, at alpha {', '.join(f'{a:g}' for a in good)}"
        parts.append(f"**{scenario}** at alpha {alpha:g}: acc D_r {of_method(part, 'lfssd', 'D_r')} "
                     f"(retrained {of_method(part, 'retrain', 'D_r')}), "
                     f"acc D_f {of_method(part, 'lfssd', 'D_f')} ({of_method(part, 'retrain', 'D_f')}); {where}")
    return "all in %. " + ". ".join(parts) + "."


READINGS = {"wrong_way": _wrong_way, "importance": _importance, "alpha_curve": _alpha, "sensitivity": _sensitivity, "cost": _cost,
            "ruler": _ruler, "forgotten": _forgotten, "relearn": _relearn, "scenarios": _scenarios}


def expected(session) -> Markdown:
    """The expectation before the paper's table, scored: acc D_f of LFSSD minus retrained, by scenario."""
    f, parts = with_paper_metrics(session.frame()), []
    for scenario in session.settings["scenarios"]:
        part = f[f.scenario == scenario]
        gap, kept = (scaled(paired(part, m, "lfssd", "retrain"), 100) for m in ("D_f", "D_r"))
        inside = "yes" if abs(gap.mean) <= 100 * FORGOTTEN else "no"
        parts.append(f"{scenario} {inside} ({gap.text(1, 1)} points; acc D_r {kept.text(1, 1)})")
    return Markdown(f"*We measured:* mean acc D_f of LFSSD within 5 points of retrained: {'; '.join(parts)}.")


def pattern(session) -> Markdown:
    """Each method's distance to its own retrained row, in points: for a preset with too few seeds for words."""
    f, parts = focus(session), []
    for name in [m for m in f.method.unique() if m not in ("original", "retrain")]:
        gaps = [scaled(paired(f, m, name, "retrain"), 100).text(1, 1) for m in ("D_f", "D_r", "MIA")]
        parts.append(f"{label(name)} {' / '.join(gaps)}")
    n = session.settings["seeds"]
    return Markdown(f"*We measured* (n = {n}), minus retrained, in points of acc D_f / acc D_r / MIA: {'; '.join(parts)}.")


def fooled(session, control: str = "mask_logit") -> Markdown:
    """Which columns of the audit put a control, which unlearns nothing, at least as near to the retrained model as LFSSD."""
    f = with_distance(focus(session))
    names = {"D_f": "acc D_f", "D_r": "acc D_r", "mia_entropy": "MIA", "tow": "ToW", "auc_confidence": "AUC confidence",
             "tpr1_confidence": "TPR", "js_test": "JS test", "js_forget": "JS forget", "loss_forget": "loss on forgotten images"}
    mean = f.groupby("method")[list(names)].mean()
    near = [n for m, n in names.items() if m in mean and not m.startswith("js")
            and abs(mean[m].get(control, math.nan) - mean[m]["retrain"]) <= abs(mean[m]["lfssd"] - mean[m]["retrain"])]
    near += [names[m] for m in ("js_test", "js_forget") if mean[m].get(control, math.nan) <= mean[m]["lfssd"]]
    return Markdown(f"*We measured:* by its mean, the {label(control)} is at least as near to the retrained model as LFSSD in: "
                    f"{', '.join(near) or 'no column'}.")


def _order(session) -> str:
    """What the class-sorted order of the images, a label through the back door, is worth at the alpha of the tables."""
    try:
        rows = session.rows("sensitivity")
    except NotAvailable:
        return ""
    mine = focus(session)
    mine = mine[mine.method == "lfssd"]
    rows = rows[(rows.method == "lfssd") & (rows.alpha == mine.hp_alpha.iloc[0]) & (rows.batch_size == mine.hp_batch_size.iloc[0])]
    if rows.empty:
        return ""
    sizes = {order: interval(part.D_r).text() for order, part in rows.groupby("order")}
    return (f" **Really no labels?** The batches were sorted by class, as in the published code (acc D_r {sizes['given']} %); in shuffled "
            f"order the same alpha leaves {sizes['shuffled']} %.")


def answer(session) -> Markdown:
    """The answer to the notebook's question, from this session's records."""
    f, v = with_paper_metrics(session.frame()), measured(session)
    mine = focus(session)
    gone = abs(paired(mine, "D_f", "lfssd", "retrain").mean) <= FORGOTTEN
    before, after, target = (of_method(mine, name, "D_f") for name in ("original", "lfssd", "retrain"))
    text = (f"**Does the class disappear from the answers?** For {session.settings['focus']}: **{'yes' if gone else 'no'}.** "
            f"*We measured* (preset {session.preset}, n = {session.settings['seeds']}): acc D_f goes from {before} % to {after} % "
            f"(retrained {target} %), reading no label, at {v['cost'].mean:.1f} % of the cost of retraining.")
    if v["relearning"].n:
        again = v["relearning"].high < 1
        text += (f" **Is it unlearned? {'No' if again else 'Not shown'}:** it returns in {v['relearning'].text(2, 1)} of the mini-batches "
                 "that a retrained model needs.")
    text += _order(session)
    costs = []
    for scenario in session.settings["scenarios"]:
        lost = paired(f[f.scenario == scenario], "D_r", "original", "lfssd")
        costs.append(f"{scenario} {lost.text()}")
    return Markdown(text + f" **What does it cost the rest?** Points of acc D_r lost against the original: {', '.join(costs)}.")
