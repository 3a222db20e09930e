"""Tables of the Forget Vectors notebook, and the sentences around them, whose numbers come from records: nothing here is typed in."""

from __future__ import annotations

import pandas as pd
import torch

from ...claims import Interval, comparison, interval, paired
from ...methods.forget_vectors import margin_loss
from ...plots import label
from ...tables import Markdown, Table, by_method, published, with_distance
from .. import NotAvailable, prose
from ..figures import focus
from ..prose import of_method, scaled
from .claims import (
    ATTACK,
    BASELINES,
    VECTORS,
    against,
    by_seed,
    compared,
    mixes,
    of_row,
    shifted,
    single,
    sweep,
    weights,
    with_gap,
)

COLUMNS = {"UA (%)": ("ua", 1, 100), "RA (%)": ("acc_retain", 1, 100), "TA (%)": ("acc_test", 1, 100), "MIA-Efficacy (%)": (ATTACK, 1, 100),
           "Avg.Gap (0 is best)": ("avg_gap", 1, 100), "run time (s)": ("seconds", 1, 1), "trainables": ("trainables", 0, 1)}
CLASS_COLUMNS = {k: v for k, v in COLUMNS.items() if k not in ("run time (s)", "trainables")} | {
    "unseen images of the class (%)": ("acc_test_forget", 1, 100), "norm of the vector": ("norm", 1, 1)}
AUDIT_COLUMNS = {"Avg.Gap (0 is best)": ("avg_gap", 1, 100), "ToW (1 is best)": ("tow", 2, 1), "AUC confidence": ("auc_confidence", 2, 1),
                 "TPR at 1 % FPR (%)": ("tpr1_confidence", 1, 100), "JS forget": ("js_forget", 2, 1), "JS test": ("js_test", 2, 1),
                 "weights changed (%)": ("changed", 0, 100)}
COST_COLUMNS = {"training-epoch equivalents": ("epochs", 1, 1), "before, for the vectors that are mixed": ("epochs_vectors", 1, 1),
                "seconds": ("seconds", 1, 1), "trainables": ("trainables", 0, 1)}
CONTROL_COLUMNS = {k: v for k, v in COLUMNS.items() if v[0] not in ("seconds", "trainables")} | {"AUC confidence": ("auc_confidence", 2, 1)}
QUANTITIES = {
    "forgotten": ("UA of the class vectors, all classes (%)", "the margin is pushed below zero for every training image"),
    "lost": ("TA, class vectors minus retrained (points)", "every image is disturbed, also those that should stay"),
    "random": ("UA of the vector for random samples (%)", "no common direction tells them from the rest"),
    "noise": ("UA of noise of the same norm, one class (%)", "no direction in particular"),
    "unseen": ("accuracy on unseen images of the class, with its vector (%)", "a vector cannot memorise single images"),
    "composed": ("Avg.Gap, composed minus direct, random samples (points)", "few weights, but the same aim"),
    "cosine": ("mean cosine between vectors of two classes", "each pushes away from another class"),
    "saliency": ("correlation of the maps with and without the vector, retain images", "the image is disturbed, the object stays"),
}
MISSED = {
    ("forgotten", "below"): "some class keeps its margin against one common push",
    ("forgotten", "above"): "",
    ("lost", "below"): "the images are small and noisy: a push of this size hides more than it should",
    ("lost", "above"): "the retain term finds a direction that costs little",
    ("random", "below"): "the retain term wins: the samples look like all others",
    ("random", "above"): "the vector breaks images at random, forgotten or not",
    ("noise", "below"): "the network was trained on noisy images and is used to noise",
    ("noise", "above"): "the norm is so large that any disturbance breaks the image",
    ("unseen", "below"): "",
    ("unseen", "above"): "the vector is fitted to the training images of the class",
    ("composed", "below"): "fewer trainables hold the vector back from harm",
    ("composed", "above"): "class vectors span too little of what is needed",
    ("cosine", "below"): "vectors of different classes point against each other more than we thought",
    ("cosine", "above"): "a part of the push is common to all classes",
    ("saliency", "below"): "what the network looks at moves even where its answer stays",
    ("saliency", "above"): "",
}


def measured(session) -> dict[str, Interval]:
    """The quantities of the prediction box."""
    one, parts = single(session), compared(session)
    random = parts.get("random samples", one.iloc[:0])
    vector = one[one.method == "forget_vector"]
    noise = of_row(session, "controls", "control") if session.has("controls") else pd.DataFrame()
    noise = noise[(noise.control == "noise of the same norm") & noise.scenario.str.startswith("class")] if len(noise) else noise
    angle = of_row(session, "arithmetic", "angle") if session.has("arithmetic") else pd.DataFrame()
    angle = angle[angle.vector != angle["class"]] if len(angle) else angle
    maps = of_row(session, "saliency", "correlation") if session.has("saliency") else pd.DataFrame()
    maps = maps[(maps.part == "retain") & (maps.model == "forget_vector")] if len(maps) else maps
    nothing = interval([])
    return {
        "forgotten": scaled(by_seed(vector, 1 - vector.acc_forget), 100),
        "lost": scaled(paired(one, "acc_test", "forget_vector", "retrain"), 100),
        "random": scaled(interval(1 - random[random.method == "forget_vector"].acc_forget), 100),
        "noise": scaled(by_seed(noise, 1 - noise.acc_forget), 100) if len(noise) else nothing,
        "unseen": scaled(by_seed(vector, vector.acc_test_forget), 100),
        "composed": scaled(paired(random, "avg_gap", "forget_vector_composed", "forget_vector"), 100),
        "cosine": by_seed(angle, angle.cosine) if len(angle) else nothing,
        "saliency": by_seed(maps, maps.correlation) if len(maps) else nothing,
    }


def box(bands: dict) -> Table:
    """The prediction box before the run."""
    return prose.box(QUANTITIES, bands)


def predictions(session, bands: dict) -> Table:
    """Score the prediction box."""
    return prose.predictions(measured(session), QUANTITIES, bands)


def misses(session, bands: dict) -> Markdown:
    """What we think about each band that was missed."""
    return prose.misses(measured(session), QUANTITIES, MISSED, bands)


def _means(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    """One row a method and seed: the mean over its scenarios, under one name."""
    numbers = [c for c in frame.select_dtypes("number") if c != "seed"]
    out = frame.groupby(["method", "seed"], sort=False)[numbers].mean().reset_index()
    return out.assign(scenario=name, data=frame.data.iloc[0], ua=1 - out.acc_forget)


def paper_table(session) -> Table:
    """The paper's main table: the mean over the classes that all methods share, over all classes, and random samples."""
    one, parts = single(session), compared(session)
    shared = parts.get("one class", one.iloc[:0]).scenario.unique()
    names = ", ".join(s.split(":")[1] for s in shared)
    frames = [_means(part, f"mean of classes {names}" if name == "one class" else name) for name, part in parts.items()]
    if one.scenario.nunique() > len(shared):
        everywhere = one[one.method.isin(["original", "retrain", "forget_vector"])]
        frames.append(_means(everywhere, f"mean of all {one.scenario.nunique()} classes"))
    frame = pd.concat(frames)
    return published(frame, "forget_vectors", by_method(frame, COLUMNS), ["UA", "RA", "TA", "MIA", "Avg.Gap"])


def class_table(session) -> Table:
    """Class by class: the vector beside retraining."""
    frame = single(session)
    return by_method(frame.assign(ua=1 - frame.acc_forget), CLASS_COLUMNS, ["retrain", "forget_vector"])


def union_table(session) -> Table:
    """Two classes at once: one direct vector, and a composed one."""
    frame = with_distance(session.frame(), ATTACK)
    frame = frame[frame.scenario.str.contains("+", regex=False)]
    if frame.empty:
        return Table(pd.DataFrame([{"two classes": "not available at this preset"}]))
    return by_method(frame.assign(ua=1 - frame.acc_forget), COLUMNS)


def control_table(session) -> Table:
    """Each way of using the vector, in the paper's numbers and by the exact attack."""
    rows = with_gap(session, of_row(session, "controls", "control"))
    rows = rows.assign(ua=1 - rows.acc_forget)
    out = [{"scenario": scenario, "the vector": name}
           | {h: interval(part[m]).text(digits, scale) for h, (m, digits, scale) in CONTROL_COLUMNS.items()}
           for (scenario, name), part in rows.groupby(["scenario", "control"], sort=False)]
    return Table(pd.DataFrame(out))


def audit_table(session) -> Table:
    """The common audit of the focus scenario."""
    return by_method(with_distance(focus(session, session.frame()), ATTACK), AUDIT_COLUMNS)


def cost_table(session) -> Table:
    """Cost of each method alone; seconds are those of the machine that made the records."""
    return by_method(pd.concat([_means(part, name) for name, part in compared(session).items()]), COST_COLUMNS)


def by_hand(images: list, scale: float, delta: list, margin: float) -> Table:
    """The worked example from the library's own loss: logits are the images times ``scale``, image i has the label i."""
    x, d = (torch.tensor(v, dtype=torch.float64) for v in (images, delta))
    y = torch.arange(len(x))
    before, after = scale * x, scale * (x + d)
    lead = [[float(v) for v in margin_loss(z, y, 1e6)] for z in (before, after)]
    return Table(pd.DataFrame({"image": [f"e{i + 1}" for i in range(len(x))], "margin before": [f"{v:g}" for v in lead[0]],
                               "margin with the vector": [f"{v:g}" for v in lead[1]],
                               "counted as": [f"{float(v):g}" for v in margin_loss(after, y, margin)]}))


def reading(session, figure: str) -> Markdown:
    """One sentence under a figure: its main numbers, each "we measured"."""
    return prose.reading(session, READINGS[figure])


def _named(rows: pd.DataFrame, column: str, metric: str, names, digits: int = 1, scale: float = 100) -> str:
    return ", ".join(f"{n} {by_seed(part, part[metric]).text(digits, scale)}" for n in names if len(part := rows[rows[column] == n]))


def _controls(session, names: list[str]) -> str:
    rows = of_row(session, "controls", "control")
    rows, parts = rows.assign(ua=1 - rows.acc_forget), []
    for scenario, part in rows.groupby("scenario", sort=False):
        parts.append(f"{scenario}: UA (%) {_named(part, 'control', 'ua', names)}; TA (%) {_named(part, 'control', 'acc_test', names)}; "
                     f"MIA-Efficacy (%) {_named(part, 'control', ATTACK, names)}")
    return ". ".join(parts) + "."


def _wrong_way(session) -> str:
    return _controls(session, ["noise of the same norm", "learned without retain loss", "as in the paper"])


def _used(session) -> str:
    return _controls(session, ["as in the paper", "vector removed", "on the forget set alone", "attack fitted to clean images",
                               "pixels clamped to [0, 1]"])


def _methods(session) -> str:
    parts = []
    for name, part in compared(session).items():
        part = _means(part, name)
        gaps = ", ".join(f"{label(m)} {of_method(part, m, 'avg_gap')}" for m in (*VECTORS, *BASELINES) if (part.method == m).any())
        median = against(part, "avg_gap", lambda w: w.median(axis=1))            # of the mean over classes
        lost = paired(part, "acc_test", "forget_vector", "retrain")
        parts.append(f"{name}: Avg.Gap {gaps}; the vector's against the baselines' median {comparison(median)} ({median.text()} points); "
                     f"its TA against retrained {comparison(lost)} ({lost.text()} points)")
    return ". ".join(parts) + "."


def _vectors(session) -> str:
    frame = single(session)
    rows = frame[frame.method == "forget_vector"]
    norms = rows.groupby("scenario").norm.mean()
    least, most = (at.split(":")[1] for at in (norms.idxmin(), norms.idxmax()))
    return (f"norms from {norms.min():.1f} (class {least}) to {norms.max():.1f} (class {most}), mean "
            f"{by_seed(rows, rows.norm).text(1, 1)}; largest change of a pixel {by_seed(rows, rows.largest).text(2, 1)}, where black to "
            "white is 1.")


def _swept(session, name: str) -> str:
    rows, parts = sweep(session, name), []
    rows = rows.assign(ua=1 - rows.acc_forget)
    for scenario, part in rows.groupby("scenario", sort=False):
        values = sorted(part.value.unique())
        stops = [f"{v:g}: {_at(part, v, 'ua')} / {_at(part, v, 'acc_retain')} / {_at(part, v, 'avg_gap')}" for v in values]
        parts.append(f"{scenario}, UA / RA / Avg.Gap at {'; '.join(stops)}")
    return ". ".join(parts) + "."


def _at(part: pd.DataFrame, value: float, metric: str) -> str:
    here = part[part.value == value]
    return by_seed(here, here[metric]).text()


def _shift(session) -> str:
    change, parts = shifted(session), []
    for (scenario, method), part in change.groupby(["scenario", "method"], sort=False):
        moved = ", ".join(f"{m} {part.groupby(['shift', 'strength'])[m].mean().min() * 100:+.1f} to "
                          f"{part.groupby(['shift', 'strength'])[m].mean().max() * 100:+.1f}" for m in ("UA", "MIA", "TA"))
        parts.append(f"{label(method)} ({scenario}) {moved}")
    return f"change by the shifts, in points, mildest to strongest: {'; '.join(parts)}."


def _plane(session) -> str:
    rows = of_row(session, "arithmetic", "plane")
    parts = []
    for w1, w2 in ((0, 0), (1, 0), (0, 1), (1, 1), (0.5, 0.5), (-1, -1)):
        here = rows[(rows.w1 == w1) & (rows.w2 == w2)]
        if len(here):
            parts.append(f"({w1:g}, {w2:g}): {' / '.join(by_seed(here, here[m]).text() for m in ('acc_1', 'acc_2', 'acc_rest'))}")
    return f"at (w1, w2), accuracy on the first class / the second / all others (%): {'; '.join(parts)}."


def _composition(session) -> str:
    every, w, parts = mixes(session), weights(session), []
    if w.empty:
        raise NotAvailable(f"preset {session.preset} composes no vectors.")
    for scenario, part in every.groupby("scenario", sort=False):
        lowest = w[w.scenario == scenario].groupby("seed").w.agg(["min", "max"])
        parts.append(f"{scenario}: Avg.Gap {_named(part, 'mix', 'avg_gap', part.mix.unique())}; learned weights from "
                     f"{interval(lowest['min']).text(2, 1)} to {interval(lowest['max']).text(2, 1)}")
    return ". ".join(parts) + "."


def _cross(session) -> str:
    rows = of_row(session, "arithmetic", "cross")
    own, other = rows[rows.vector == rows["class"]], rows[(rows.vector != rows["class"]) & (rows.vector >= 0)]
    none = rows[rows.vector < 0]
    worst = other.groupby(["vector", "class"]).acc_test.mean()
    angle = of_row(session, "arithmetic", "angle")
    angle = angle[angle.vector != angle["class"]]
    return (f"unseen images, accuracy (%) without a vector {by_seed(none, none.acc_test).text()}, under the own class's "
            f"{by_seed(own, own.acc_test).text()}, under another's {by_seed(other, other.acc_test).text()}, at worst "
            f"{100 * worst.min():.1f} (class {worst.idxmin()[1]} under the vector of {worst.idxmin()[0]}); cosine between two vectors "
            f"{by_seed(angle, angle.cosine).text(2, 1)}.")


def _transfer(session) -> str:
    frame = single(session)
    rows = frame[frame.method == "forget_vector"]
    gap = interval((rows.acc_test_forget - rows.acc_forget).groupby(rows.seed).mean())
    return (f"with its vector, accuracy on the class is {by_seed(rows, rows.acc_forget).text()} % on training and "
            f"{by_seed(rows, rows.acc_test_forget).text()} % on unseen images: {comparison(gap)} ({gap.text()} points).")


def _saliency(session) -> str:
    rows = of_row(session, "saliency", "correlation")
    parts = []
    for name in ("forget_vector", "retrain"):
        wide = rows[rows.model == name].pivot_table(index="seed", columns="part", values="correlation")
        gap = interval(wide.forget - wide.retain)
        parts.append(f"{label(name)} {interval(wide.forget).text(2, 1)} on forget and {interval(wide.retain).text(2, 1)} on retain images: "
                     f"{comparison(gap)}")
    return f"correlation with the original's map: {'; '.join(parts)} (n = {rows.seed.nunique()})."


def _cost(session) -> str:
    parts = []
    for name, part in compared(session).items():
        wide = part.groupby(["seed", "method"]).epochs.mean().unstack()
        share = interval(wide.forget_vector / wide.retrain)
        gap = paired(part, "epochs", "forget_vector", "finetune")
        size = part[part.method == "forget_vector"].trainables.iloc[0] / part[part.method == "retrain"].trainables.iloc[0]
        parts.append(f"{name}: {share.text(0)} % of our retraining in training-epoch equivalents; against fine-tuning {comparison(gap)} "
                     f"({gap.text(1, 1)}); {100 * size:.2g} % of the trainables")
    return ". ".join(parts) + "."


def _ruler(session) -> str:
    frame = with_distance(focus(session, session.frame()), ATTACK)
    wanted = ["acc_forget", "loss_forget", "auc_confidence", "acc_test"]
    target = frame[frame.method == "retrain"][wanted]
    near = [label(m) for m in (*VECTORS, *BASELINES) if (frame.method == m).any() and
            ((frame[frame.method == m][wanted].mean() - target.mean()).abs() <= target.std().fillna(0) + 1e-12).all()]
    return f"within the band on accuracy and loss on forget images, the AUC, and TA: {', '.join(near) or 'nobody'}."


def _audit(session) -> str:
    frame = focus(session, session.frame())
    auc = {m: of_method(frame, m, "auc_confidence", 2, 1) for m in ("original", "forget_vector", "retrain")}
    gap = paired(frame, "js_forget", "forget_vector", "retrain")
    moved = of_method(frame, "forget_vector", "changed")
    return (f"AUC of the attack: original {auc['original']}, vector {auc['forget_vector']}, retrained {auc['retrain']}; weights changed by "
            f"the vector {moved} %; JS on forget images against that of two retrained networks: {comparison(gap)}.")


READINGS = {"wrong_way": _wrong_way, "controls": _used, "methods": _methods, "vectors": _vectors, "beta": lambda s: _swept(s, "beta"),
            "tau": lambda s: _swept(s, "tau"), "shift": _shift, "plane": _plane, "composition": _composition, "cross": _cross,
            "transfer": _transfer, "saliency": _saliency, "cost": _cost, "ruler": _ruler, "audit": _audit}


def one_glance(session) -> Markdown:
    """A preset with few seeds, method by method."""
    parts = []
    for name, part in compared(session).items():
        part = _means(part, name)
        parts += [f"{label(m)} ({name}) UA {of_method(part, m, 'ua')}, TA {of_method(part, m, 'acc_test')}, MIA-Efficacy "
                  f"{of_method(part, m, ATTACK)}, Avg.Gap {of_method(part, m, 'avg_gap')}"
                  for m in ("original", "retrain", *VECTORS, *BASELINES) if (part.method == m).any()]
    return Markdown(f"*We measured* (%): {'; '.join(parts)}.")


def answer(session) -> Markdown:
    """The answer to the notebook's question, from this session's records."""
    one, parts = single(session), compared(session)
    vector = one[one.method == "forget_vector"]
    lost = paired(one, "acc_test", "forget_vector", "retrain")
    median = {name: against(part, "avg_gap", lambda w: w.median(axis=1)) for name, part in parts.items()}
    ranks = "; ".join(f"{name}: {comparison(gap)} ({gap.text()} points)" for name, gap in median.items())
    random = parts.get("random samples", one.iloc[:0])
    return Markdown(
        f"*We measured* (preset {session.preset}, n = {vector.seed.nunique()}). **A class:** with its vector "
        f"{by_seed(vector, 1 - vector.acc_forget).text()} % of its images are misread, and TA against retraining is {comparison(lost)} "
        f"({lost.text()} points). **Random samples:** UA "
        f"{interval(1 - random[random.method == 'forget_vector'].acc_forget).text()} %, retrained "
        f"{interval(1 - random[random.method == 'retrain'].acc_forget).text()} %. **Beside methods that change weights** (Avg.Gap "
        f"against their median): {ranks}. **Without the vector** everything is back: it hides, it does not erase.")
