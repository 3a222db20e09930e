"""Tables of the Forget Vectors notebook, its prediction box and its answer: every number comes from records, nothing is typed in."""

from __future__ import annotations

import inspect

import pandas as pd
import torch

from ... import tables
from ...claims import HOLDS, Interval, comparison, interval, paired
from ...methods import METHODS, forget_vectors
from ...methods.forget_vectors import margin_loss
from ...plots import label
from ...tables import Markdown, Table, by_method, published, with_distance
from .. import prose
from ..figures import focus
from ..prose import of_method, scaled
from .claims import ATTACK, BASELINES, NOISE, VECTORS, against, by_seed, compared, controls_of, exists, of_row, single, with_gap
from .comparisons import apart_at, in_short, named, single_out
from .readings import reading, tally

__all__ = ["reading", "tally"]  # the notebook takes its sentences from here, too

COLUMNS = {"UA (%)": ("ua", 1, 100), "RA (%)": ("acc_retain", 1, 100), "TA (%)": ("acc_test", 1, 100), "MIA-Efficacy (%)": (ATTACK, 1, 100),
           "Avg.Gap (0 is best)": ("avg_gap", 1, 100), "run time (s)": ("seconds", 1, 1), "trainables": ("trainables", 0, 1)}
CLASS_COLUMNS = {k: v for k, v in COLUMNS.items() if k not in ("run time (s)", "trainables")} | {
    "unseen images of the class (%)": ("acc_test_forget", 1, 100), "norm of the vector": ("norm", 1, 1)}
AUDIT_COLUMNS = {"Avg.Gap (0 is best)": ("avg_gap", 1, 100), "ToW (1 is best)": ("tow", 2, 1), "AUC confidence": ("auc_confidence", 2, 1),
                 "TPR at 1 % FPR (%)": ("tpr1_confidence", 1, 100), "JS forget": ("js_forget", 2, 1), "JS test": ("js_test", 2, 1),
                 "weights changed (%)": ("changed", 0, 100)}
COST_COLUMNS = {"training-epoch equivalents": ("epochs", 1, 1), "once, for the vectors that are mixed": ("epochs_vectors", 1, 1),
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
    noise = controls_of(session) if session.has("controls") else pd.DataFrame()
    noise = noise[(noise.control == NOISE) & noise.scenario.str.startswith("class")] if len(noise) else noise
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
    """What we think about each band that was missed; that of random samples may be hit although its reason does not hold."""
    found, more, (low, high) = measured(session)["random"], apart_at(session), bands.get("random", (0, 0))
    said = prose.misses(measured(session), QUANTITIES, MISSED, bands)
    if not found.n or not more or not low <= found.mean <= high:
        return said
    quantity, reason = QUANTITIES["random"]
    return Markdown(f"{said.text} *{quantity}*: the band was hit, but its reason (\"{reason}\") was not: at β = {' and '.join(more)} more "
                    "points of UA are gained than of RA lost.")


def _means(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    """One row a method and seed: the mean over its scenarios, under one name."""
    numbers = [c for c in frame.select_dtypes("number") if c != "seed"]
    out = frame.groupby(["method", "seed"], sort=False)[numbers].mean().reset_index()
    return out.assign(scenario=name, data=frame.data.iloc[0], ua=1 - out.acc_forget)


def paper_table(session) -> Table:
    """The main table: the mean over the classes that all methods share, over all classes, and random samples."""
    one, parts = single(session), compared(session)
    shared = parts.get("one class", one.iloc[:0]).scenario.unique()
    names = ", ".join(s.split(":")[1] for s in shared)
    frames = [_means(part, f"mean of classes {names}" if name == "one class" else name) for name, part in parts.items()]
    if one.scenario.nunique() > len(shared):
        everywhere = one[one.method.isin(["original", "retrain", "forget_vector"])]
        frames.append(_means(everywhere, f"mean of all {one.scenario.nunique()} classes"))
    frame = pd.concat(frames)
    return published(frame, "forget_vectors", by_method(frame, COLUMNS), ["UA", "RA", "TA", "MIA", "Avg.Gap"])


def fooled(session) -> Markdown:
    """In which of the main table's numbers controls do as well as the vector, on the classes that all methods share."""
    frame = compared(session).get("one class", session.frame().iloc[:0])
    names = {"acc_forget": "UA", "acc_retain": "RA", "acc_test": "TA", ATTACK: "MIA-Efficacy", "avg_gap": "Avg.Gap"}
    return tables.fooled(frame, names, "forget_vector")


def class_table(session) -> Table:
    """Class by class: the vector beside retraining."""
    frame = single(session).sort_values(["scenario", "seed"], kind="stable")
    return by_method(frame.assign(ua=1 - frame.acc_forget), CLASS_COLUMNS, ["original", "retrain", "forget_vector"])


def union_table(session) -> Table:
    """Two classes at once: one direct vector, and a composed one."""
    frame = with_distance(session.frame(), ATTACK)
    frame = frame[frame.scenario.str.contains("+", regex=False)]
    if frame.empty:
        return Table(pd.DataFrame([{"two classes": "not available at this preset"}]))
    return by_method(frame.assign(ua=1 - frame.acc_forget), COLUMNS)


def control_table(session) -> Table:
    """Each way of using the vector, in the paper's numbers and by the exact attack."""
    rows, runs = controls_of(session), session.frame()
    goal = runs[(runs.method == "retrain") & runs.scenario.isin(rows.scenario.unique())].assign(control="(retrained, no vector)")
    rows = with_gap(session, pd.concat([rows, goal]).sort_values("scenario", kind="stable"))
    rows = rows.assign(ua=1 - rows.acc_forget)
    out = [{"scenario": scenario, "the vector": name}
           | {h: interval(part[m]).text(digits, scale) for h, (m, digits, scale) in CONTROL_COLUMNS.items()}
           for (scenario, name), part in rows.groupby(["scenario", "control"], sort=False)]
    return Table(pd.DataFrame(out).assign(n=rows.seed.nunique()))


def audit_table(session) -> Table:
    """The common audit of the focus scenario."""
    return by_method(with_distance(focus(session, session.frame()), ATTACK), AUDIT_COLUMNS)


def cost_table(session) -> Table:
    """Cost of each method alone; seconds are those of the machine that made the records."""
    return by_method(pd.concat([_means(part, name) for name, part in compared(session).items()]), COST_COLUMNS)


def by_hand(images: list, scale: float, delta: list, tau: float) -> Table:
    """The worked example from the library's own loss: logits are the images times ``scale``, image i has the label i, the first is
    the one to forget."""
    x, d = (torch.tensor(v, dtype=torch.float64) for v in (images, delta))
    y = torch.arange(len(x))
    before, after = scale * x, scale * (x + d)
    lead = [[float(v) for v in margin_loss(z, y, 1e6)] for z in (before, after)]
    return Table(pd.DataFrame({"image": [f"e{i + 1}" for i in range(len(x))], "margin before": [f"{v:g}" for v in lead[0]],
                               "margin with the vector": [f"{v:g}" for v in lead[1]],
                               "forget loss": [f"{float(v):g}" if i == 0 else "–" for i, v in enumerate(margin_loss(after, y, tau))]}))


def in_use(session) -> Table:
    """The settings of the vectors, by kind of scenario; whatever is not listed has the value of the released program."""
    used = [(m, kind, values) for m in VECTORS for kind, values in session.settings["methods"].get(m, {}).items()]
    names = dict.fromkeys(k for _, _, values in used for k in values)
    direct = inspect.signature(forget_vectors.forget_vector).parameters
    out = []
    for m, kind, values in used:
        own = inspect.signature(METHODS[m].function).parameters
        default = {k: (own[k] if k in own and own[k].default is not inspect.Parameter.empty else direct[k]).default for k in names}
        out.append({"method": label(m), "scenarios": kind}
                   | {k: str(values[k]) if k in values else f"{default[k]:g} (default)" for k in names})
    return Table(pd.DataFrame(out))


def seen(names: list[str]) -> Markdown:
    """How many of the methods need what, from the registry that enforces it."""
    rows = [METHODS[name].access for name in names]
    both = sum(r.forget_images and r.retain_images for r in rows)
    return Markdown(f"Of {len(rows)} methods, {sum(r.held_out for r in rows)} see held-out images, {sum(r.retain_images for r in rows)} "
                    f"need retain images, {both} both retain and forget images.")


def one_glance(session) -> Markdown:
    """A preset with few seeds, method by method."""
    parts = []
    for name, part in compared(session).items():
        known, part = named(name, part), _means(part, name)
        told = [f"{label(m)} {of_method(part, m, 'ua')} / {of_method(part, m, 'acc_test')} / {of_method(part, m, ATTACK)} / "
                f"{of_method(part, m, 'avg_gap')}" for m in ("original", "retrain", *VECTORS, *BASELINES) if (part.method == m).any()]
        parts += [f"**{known}:** {told[0]}", *told[1:]]
    return Markdown(f"*We measured*, UA / TA / MIA-Efficacy / Avg.Gap (%): {'; '.join(parts)}.")


def answer(session) -> Markdown:
    """The answer to the notebook's question, from this session's records."""
    one, parts = single(session), compared(session)
    vector = one[one.method == "forget_vector"]
    lost = paired(one, "acc_test", "forget_vector", "retrain")
    ranks = "; ".join(f"{name}: {comparison(against(part, 'avg_gap', lambda w: w.median(axis=1)))}" for name, part in parts.items())
    random, audited = parts.get("random samples", one.iloc[:0]), focus(session, session.frame())
    ua = {m: interval(1 - rows.acc_forget) for m, rows in random.groupby("method")}
    sampled = (f" **Random samples:** UA {ua['forget_vector'].text()} %, retrained {ua['retrain'].text()} %. {single_out(session)}"
               if len(random) else "")
    short = f"{in_short(session)}; " if len(random) else ""
    auc = ", ".join(f"{label(m)} {of_method(audited, m, 'auc_confidence', 2, 1)}" for m in ("original", "forget_vector", "retrain"))
    return Markdown(
        f"*We measured* (preset {session.preset}, n = {vector.seed.nunique()}). **A class** (mean of {vector.scenario.nunique()}): "
        f"{by_seed(vector, 1 - vector.acc_forget).text()} % misread; TA against retraining {comparison(lost)} ({lost.text()}). **AUC** "
        f"({session.settings['focus']}): {auc}.{sampled} **Avg.Gap** against the others' median: {ranks}. **So:** a class, by the labels "
        f"that it gives, {'yes' if exists(session).status == HOLDS else 'not shown'}; {short}by its weights, no: without the vector all is "
        "back.")
