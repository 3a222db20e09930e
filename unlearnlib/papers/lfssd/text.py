"""Sentences and small tables of the LFSSD notebook whose numbers come from records: nothing here is typed in."""

from __future__ import annotations

import math

import pandas as pd

from ...claims import Interval, comparison, interval, paired
from ...plots import label
from ...tables import Markdown, Table, by_method, nearer, published, with_distance
from .. import NotAvailable, prose
from ..prose import of_method, scaled
from .claims import FORGOTTEN, paired_ratio, with_paper_metrics
from .curves import alphas_in_words, curve, window
from .figures import CONTROLS, layer_of, size_of_tables

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
    frame = frame[~frame.method.isin(CONTROLS)]
    table = by_method(frame, PAPER_COLUMNS).frame
    alphas = {(r.scenario, label(r.method)): f"{r.hp_alpha:g}" for r in frame[frame.hp_alpha.notna()].itertuples()}
    table.insert(2, "alpha", [alphas.get(key, "–") for key in zip(table.scenario, table.method, strict=True)])
    return published(frame, "lfssd", Table(table), ["D_r", "D_f", "MIA"])


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
    value, said = measured(session)["relearning"], prose.misses(measured(session), QUANTITIES, MISSED, bands).text
    low, high = bands.get("relearning", (-math.inf, math.inf))
    return Markdown(f"{said} {never(session, low, high)}" if value.n and not low <= value.mean <= high else said)


def never(session, low: float, high: float) -> str:
    """How the retrained seeds that never relearned enter the relative number of batches, and whether the band is missed without them."""
    ratios = relearning(session)
    others = interval([r for r in ratios if r > 0])
    if others.n in (0, len(ratios)):
        return "Every retrained model relearned the class." if others.n else "No retrained model relearned the class: every ratio is 0."
    return (f"Retrained models that never relearned the class in {session.settings['relearn']['batches']} batches "
            f"({len(ratios) - others.n} of {len(ratios)}) count as infinitely slow, ratio 0; without them the mean is {others.text(2, 1)}, "
            f"{'inside' if low <= others.mean <= high else 'outside'} the band.")


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


YES = {"higher": "yes", "lower": "no"}                                          # of an expectation that says "higher"


def reading(session, figure: str) -> Markdown:
    """One sentence under a figure: its main numbers, each "we measured"."""
    return prose.reading(session, READINGS[figure])


def _wrong_way(session) -> str:
    f = focus(session)
    stays = paired(f, "D_f", "random_dampening", "lfssd")
    start = [paired(f, m, "random_dampening", "original") for m in ("D_r", "D_f")]
    words = [comparison(gap) for gap in start]
    everywhere = "not decided" if "one seed: no interval" in words else ("no", "only in part", "yes")[words.count("lower")]
    return (f"the same factors on random weights leave acc D_f at {of_method(f, 'random_dampening', 'D_f')} % and acc D_r at "
            f"{of_method(f, 'random_dampening', 'D_r')} %; LFSSD has {of_method(f, 'lfssd', 'D_f')} % and "
            f"{of_method(f, 'lfssd', 'D_r')} %. *Does accuracy suffer everywhere?* Against the original, acc D_r: {words[0]} "
            f"({start[0].text()} points), acc D_f: {words[1]} ({start[1].text()}): **{everywhere}**. *Does the class stay?* "
            f"Acc D_f against LFSSD: {comparison(stays)} ({stays.text()} points): **{YES.get(comparison(stays), 'not decided')}**.")


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
    text += f" and {sample.largest_ratio.max():.2f} per sample." if len(sample) else "."
    f, rows = focus(session), curve(session, session.settings["focus"])
    before = f[f.method == "original"].set_index("seed").D_r
    gains = {alpha: interval(part.set_index("seed").D_r - before) for alpha, part in rows.groupby("alpha")}
    best = max(gains, key=lambda alpha: gains[alpha].mean)
    control = paired(f, "D_r", "mask_logit", "original")
    text += (f" Acc D_r against the original is greatest at alpha {best:g}, the best of {len(gains)}: {comparison(gains[best])} "
             f"({gains[best].text()} points); under mask logit, which changes no weight: {comparison(control)} ({control.text()}).")
    if comparison(gains[best]) == comparison(control) == "higher":
        text += (" Images once mistaken for the forgotten class can no longer be, so some now come out right: a rise that needs no "
                 "unlearning.")
    return text


def _sensitivity(session) -> str:
    rows = session.rows("sensitivity")
    rows = rows[rows.method == "lfssd"]
    sizes, shown, parts = sorted(rows.batch_size.unique()), size_of_tables(rows), []
    for alpha, part in rows.groupby("alpha"):
        one = part[part.batch_size == sizes[0]].groupby("seed").D_r.mean()
        ends = part[part.batch_size == sizes[-1]].groupby("order").D_r.apply(lambda v: interval(v).text())
        at = part[part.batch_size == shown].pivot(index="seed", columns="order", values="D_r")
        gap = interval(at.shuffled - at.given)
        verdict = EXPECTED_LOWER.get(comparison(gap), "not decided")
        equation = f"batches of 1: {interval(one).text()} %; " if sizes[0] == 1 else ""
        parts.append(f"at alpha {alpha:g}, batches of {shown}, shuffled minus sorted {gap.text()} points: {comparison(gap)}, "
                     f"expected lower: **{verdict}** ({equation}of {sizes[-1]}: "
                     f"sorted {ends['given']}, shuffled {ends['shuffled']} %)")
    return f"acc D_r of LFSSD: {'; '.join(parts)}."


EXPECTED_LOWER = {"lower": "yes", "higher": "no"}


def _cost(session) -> str:
    f = focus(session)
    costs = [f"{label(m)} {100 * paired_ratio(f, 'epochs', m, 'retrain').mean:.1f} %" for m in ("lfssd", "ssd")]
    gaps = [f"{label(m)} {comparison(gap)} ({gap.text()} points)" for m in ("lfssd", "ssd") for gap in [paired(f, "D_r", m, "retrain")]]
    return f"cost of a retraining: {', '.join(costs)}; acc D_r against retrained: {', '.join(gaps)}."


def _ruler(session) -> str:
    f = focus(session)
    gap = paired(f, "loss_forget", "lfssd", "retrain")
    losses = [of_method(f, name, "loss_forget", 2, 1) for name in ("original", "lfssd", "retrain")]
    return (f"mean loss on forgotten images: original {losses[0]}, LFSSD {losses[1]}, retrained {losses[2]}; LFSSD is "
            f"{comparison(gap)} than retrained. The entropy attack calls "
            f"{of_method(f, 'lfssd', 'MIA')} % of them members under LFSSD, {of_method(f, 'retrain', 'MIA')} % under retraining. "
            f"Within the band on every ruler: {', '.join(in_band(session)) or 'nobody'}. Of the controls, {_controls(session)}.")


RULERS = {"D_f": "accuracy", "loss_forget": "loss", "mia_entropy": "entropy attack", "auc_confidence": "confidence attack"}


def inside(session) -> pd.DataFrame:
    """Does the mean of each method lie within one standard deviation of the retrained seeds? One column a ruler."""
    f = focus(session)
    target = f[f.method == "retrain"][list(RULERS)]
    return (f.groupby("method")[list(RULERS)].mean() - target.mean()).abs() <= target.std().fillna(0) + 1e-12


def in_band(session) -> list[str]:
    """Methods and controls that are within the band on every ruler."""
    near = inside(session).all(axis=1)
    return [label(m) for m in near.index[near] if m not in ("original", "retrain")]


def _controls(session) -> str:
    """On which rulers each control, which unlearns nothing, is within the band."""
    near = inside(session)
    parts = []
    for name in [m for m in CONTROLS if m in near.index]:
        where = [RULERS[metric] for metric in near.columns[near.loc[name]]]
        parts.append(f"{label(name).removeprefix('control: ')} is within it on {', '.join(where) or 'none'}")
    return "; ".join(parts) or "none was run"


def _forgotten(session) -> str:
    rows = session.rows("images")
    rows = rows[rows.row == "forgotten"]
    medians = rows.groupby(["seed", "model"]).confidence.median().unstack()
    gap = interval(medians.lfssd - medians.retrain)
    each = [f"{label(m)} {interval(medians[m]).text(1, 1)}" for m in ("original", "lfssd", "retrain")]
    return (f"median log-odds of the label: {', '.join(each)}. LFSSD against retrained: {comparison(gap)} ({gap.text(1, 1)}), "
            f"expected higher: **{YES.get(comparison(gap), 'not decided')}**.")


def median_batches(batches: pd.Series) -> str:
    """Median number of batches until the class is back; seeds that never got there count as infinitely slow."""
    median = batches.fillna(math.inf).median()
    return f"{median:.0f}" if math.isfinite(median) else "beyond the last batch"


def _relearn(session) -> str:
    r = focus(session, "relearn")
    parts = []
    for name in ("lfssd", "ssd", "retrain"):
        b = r[r.method == name].batches
        parts.append(f"{label(name)} median {median_batches(b)} ({b.notna().sum()} of {len(b)} seeds got there)")
    ratio = interval(relearning(session))
    word = "not decided" if not ratio.n > 1 or ratio.low <= 1 <= ratio.high else "yes" if ratio.high < 1 else "no"
    return (f"mini-batches until 95 % of the original: {', '.join(parts)}. LFSSD relative to retrained {ratio.text(2, 1)}, "
            f"expected below 1: **{word}**.")


def windows(session) -> Table:
    """LFSSD beside retrained in every scenario at the alpha of the tables, and the alphas of the curve that match retraining."""
    f, out = with_paper_metrics(session.frame()), []
    for scenario in session.settings["scenarios"]:
        part = f[f.scenario == scenario]
        cells = {f"acc {m} (%): LFSSD (retrained)": f"{of_method(part, 'lfssd', m)} ({of_method(part, 'retrain', m)})"
                 for m in ("D_r", "D_f")}
        out.append({"scenario": scenario, "alpha of the tables": f"{part[part.method == 'lfssd'].hp_alpha.iloc[0]:g}"} | cells
                   | {"window of alpha": alphas_in_words(window(session, scenario)), "n": int((part.method == "lfssd").sum())})
    return Table(pd.DataFrame(out))


def _scenarios(session) -> str:
    f, parts = with_paper_metrics(session.frame()), []
    for scenario in session.settings["scenarios"]:
        good, alpha = window(session, scenario), f[(f.scenario == scenario) & (f.method == "lfssd")].hp_alpha.iloc[0]
        where = "there is no window" if not good else "**inside** the window" if alpha in good else "**outside** the window"
        parts.append(f"{scenario} at alpha {alpha:g}: {where}")
    return f"did the rule find it? {'; '.join(parts)}."


READINGS = {"wrong_way": _wrong_way, "importance": _importance, "alpha_curve": _alpha, "sensitivity": _sensitivity, "cost": _cost,
            "ruler": _ruler, "forgotten": _forgotten, "relearn": _relearn, "scenarios": _scenarios}


def fooled(session, control: str = "mask_logit") -> Markdown:
    """Which columns of the audit put a control, which unlearns nothing, at least as near to the retrained model as LFSSD."""
    f = with_distance(focus(session))
    names = {"D_f": "acc D_f", "D_r": "acc D_r", "mia_entropy": "MIA", "avg_gap": "Avg.Gap", "tow": "ToW",
             "auc_confidence": "AUC confidence", "tpr1_confidence": "TPR", "zrf": "ZRF", "loss_forget": "loss on forgotten images",
             "js_forget": "JS forget", "js_retain": "JS retain", "js_test": "JS test"}
    near = nearer(f, names, "lfssd", control)
    return Markdown(f"*We measured:* by its mean, the {label(control)} is at least as near to the retrained model as LFSSD in "
                    f"{len(near)} of {sum(m in f for m in names)} numbers: {', '.join(near) or 'no column'}; expected some: "
                    f"**{'yes' if near else 'no'}**.")


def _order(session) -> str:
    """What the class-sorted order of the images, a label through the back door, is worth at the alpha of the tables."""
    try:
        rows = session.rows("sensitivity")
    except NotAvailable:
        return ""
    mine = focus(session)
    mine = mine[mine.method == "lfssd"]
    rows = rows[(rows.method == "lfssd") & (rows.alpha == mine.hp_alpha.iloc[0])]
    left = {order: interval(part.D_r).text() for order, part in rows[rows.batch_size == mine.hp_batch_size.iloc[0]].groupby("order")}
    if not left:
        return ""
    one = rows[rows.batch_size == 1]
    single = f", image by image (the equation) {interval(one.groupby('seed').D_r.mean()).text()}" if len(one) else ""
    return (f" **Really no labels?** Batches sorted by class use them: acc D_r {left['given']} %; shuffled {left['shuffled']}{single} "
            f"(alpha {mine.hp_alpha.iloc[0]:g}).")


def answer(session, other=None) -> Markdown:
    """The answer to the notebook's question, from this session's records; with one line of a session at another scale."""
    f, v, mine = with_paper_metrics(session.frame()), measured(session), focus(session)
    gone = abs(paired(mine, "D_f", "lfssd", "retrain").mean) <= FORGOTTEN
    again = v["relearning"].n and v["relearning"].high < 1
    before, after, target = (of_method(mine, name, "D_f") for name in ("original", "lfssd", "retrain"))
    text = (f"**{'In its answers, yes' if gone else 'No'}{'; underneath, no' if gone and again else ''}.** *We measured* "
            f"(preset {session.preset}, n = {session.settings['seeds']}, {session.settings['focus']}): acc D_f from {before} to {after} % "
            f"(retrained {target} %) at {v['cost'].mean:.1f} % of retraining's cost, the search for alpha not counted.")
    if v["relearning"].n:
        r = focus(session, "relearn")
        batches = {m: r[r.method == m].batches for m in ("lfssd", "retrain")}
        never_back = batches["retrain"].isna().sum()
        text += (f" Shown again, it is back after {median_batches(batches['lfssd'])} mini-batches (median), retrained after "
                 f"{median_batches(batches['retrain'])}" + (f" ({never_back} of {len(batches['retrain'])} never)." if never_back else "."))
    text += _order(session)
    lost = {scenario: paired(f[f.scenario == scenario], "D_r", "original", "lfssd") for scenario in session.settings["scenarios"]}
    least, most = (choose(lost, key=lambda scenario: lost[scenario].mean) for choose in (min, max))
    text += f" **The rest** lost from {lost[least].text()} ({least}) to {lost[most].text()} points of acc D_r ({most})."
    if other is not None:
        there = focus(other)
        text += (f" **{other.preset}** (n = {other.settings['seeds']}): acc D_f {of_method(there, 'original', 'D_f')} to "
                 f"{of_method(there, 'lfssd', 'D_f')} % (retrained {of_method(there, 'retrain', 'D_f')} %).")
    return Markdown(text)
