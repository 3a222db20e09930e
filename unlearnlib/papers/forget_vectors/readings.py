"""A sentence under each figure of the Forget Vectors notebook: its main numbers from records, and whether they are as expected."""

from __future__ import annotations

import json

import pandas as pd
import torch

from ... import data
from ...claims import Interval, comparison, interval, paired
from ...plots import label
from ...tables import Markdown, with_distance
from .. import NotAvailable, prose
from ..figures import focus
from ..prose import of_method
from .claims import (
    ATTACK,
    BASELINES,
    CLOSE,
    LITTLE,
    against,
    by_seed,
    compared,
    insensitive,
    mixes,
    of_row,
    shifted,
    single,
    sweep,
    weights,
    with_gap,
)

UNLIKE = 0.20                   # of UA, between two classes under one method
FEW = 3                         # of the baselines
SAME = 1e-9                     # "the same" accuracy: not one image differs


def reading(session, figure: str) -> Markdown:
    """One sentence under a figure: its main numbers, each "we measured"."""
    return prose.reading(session, READINGS[figure])


def _with_ua(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(ua=1 - rows.acc_forget)


def _wide(rows: pd.DataFrame, column: str, metric: str) -> pd.DataFrame:
    """One line a seed, one column a value of ``column``."""
    return rows.pivot_table(index="seed", columns=column, values=metric)


def _versus(wide: pd.DataFrame, one, other, digits: int = 1) -> str:
    """Two means, and the word that their paired difference allows."""
    return (f"{interval(wide[one]).text(digits)} against {interval(wide[other]).text(digits)}: "
            f"**{comparison(interval(wide[one] - wide[other]))}**")


def _met(expected: bool) -> str:
    return "yes" if expected else "no"


def _scenarios(rows: pd.DataFrame):
    return rows.groupby("scenario", sort=False)


def _wrong_way(session) -> str:
    parts = []
    for scenario, part in _scenarios(_with_ua(of_row(session, "controls", "control"))):
        ua, ra = (_wide(part, "control", metric) for metric in ("ua", "acc_retain"))
        used, noise, alone, removed = "as in the paper", "noise of the same norm", "learned without retain loss", "vector removed"
        little = not (comparison(interval(ua[noise] - ua[removed])) == "higher" or comparison(interval(ra[noise] - ra[removed])) == "lower")
        parts.append(f"{scenario}: noise does little: **{_met(little) if len(ua) > 1 else 'not comparable'}**. UA (%) of noise against no "
                     f"vector {_versus(ua, noise, removed)}, against the vector {_versus(ua, noise, used)}; RA (%) of noise against the "
                     f"vector {_versus(ra, noise, used)}, of the vector without retain term {_versus(ra, alone, used)}")
    return ". ".join(parts) + "."


def _used(session) -> str:
    parts, exact = [], []
    for scenario, part in _scenarios(_with_ua(with_gap(session, of_row(session, "controls", "control")))):
        ua, ra, mia = (_wide(part, "control", metric) for metric in ("ua", "acc_retain", ATTACK))
        used, removed, only, clamped = "as in the paper", "vector removed", "on the forget set alone", "pixels clamped to [0, 1]"
        start = session.frame().query("method == 'original' and scenario == @scenario").set_index("seed")
        exact += list((ua[removed] - (1 - start.acc_forget)).abs() < SAME)
        gap = _wide(part, "control", "avg_gap")
        auc = interval(_wide(part, "control", "auc_confidence")[only])
        parts.append(f"{scenario}: on the forget set alone RA (%) {_versus(ra, only, used)}, and there the AUC is {auc.text(2, 1)}; "
                     f"MIA-Efficacy (%), fitted to clean images {_versus(mia, 'attack fitted to clean images', used)}; clamped, UA (%) "
                     f"{_versus(ua, clamped, used)} and Avg.Gap "
                     f"{_versus(gap, clamped, used)}")
    return f"without the vector, UA is the original's in **{sum(exact)} of {len(exact)}** runs. {'. '.join(parts)}."


def _called(name: str, part: pd.DataFrame) -> str:
    """The name of a group of runs, with its classes."""
    classes = [s.split(":")[1] for s in part.scenario.unique() if s.startswith("class")]
    return f"{name} (mean of {', '.join(classes)})" if len(classes) > 1 else name


def _methods(session) -> str:
    parts = []
    for name, part in compared(session).items():
        part = _with_ua(part)
        few = part.groupby(["method", "seed"])[["ua", "avg_gap"]].mean().reset_index()
        mean = few.groupby("method")[["ua", "avg_gap"]].mean()
        there = mean.loc[[m for m in BASELINES if m in mean.index]]
        gaps, start, goal = there.avg_gap.sort_values(), mean.ua["original"], mean.ua["retrain"]
        near, far = gaps.index[0], gaps.index[-1]
        median = against(part, "avg_gap", lambda w: w.median(axis=1))
        lost = paired(part, "acc_test", "forget_vector", "retrain")
        nearer = int(((there.ua - goal).abs() < (there.ua - start).abs()).sum())
        close = int(((there.ua - goal).abs() <= CLOSE).sum())
        sides = part.pivot_table(index="method", columns="scenario", values="ua")
        apart = [label(m) for m in there.index if sides.loc[m].max() - sides.loc[m].min() > UNLIKE]
        mine, least, most = (of_method(few, m, "avg_gap") for m in ("forget_vector", near, far))
        expected = close >= max(len(there) - FEW, len(there) / 2) if name == "one class" else nearer < len(there) / 2
        parts.append(f"{_called(name, part)}: as expected of the baselines: **{_met(expected)}** (UA within {100 * CLOSE:g} points of "
                     f"retrained for {close}, nearer to it than to the original for {nearer} of {len(there)}). Avg.Gap of the vector "
                     f"{mine}, nearest {label(near)} {least}, farthest {label(far)} {most}; against the baselines' median "
                     f"**{comparison(median)}** ({median.text()} points). Its TA against retrained **{comparison(lost)}** "
                     f"({lost.text()} points)"
                     + (f". On one class much better than on the other: {', '.join(apart)}" if apart else ""))
    return ". ".join(parts) + "."


def _paper(session) -> str:
    """The structural expectation of the table: a model that never saw random samples reads them like test images."""
    part = compared(session).get("random samples")
    if part is None:
        raise NotAvailable(f"preset {session.preset} has no random samples.")
    runs = part[part.method == "retrain"].set_index("seed")
    gap = interval(runs.acc_test - runs.acc_forget)
    return (f"random samples, retrained: UA {interval(1 - runs.acc_forget).text()} % against 100 − TA = "
            f"{interval(1 - runs.acc_test).text()} %: **{comparison(gap)}**.")


def _classes(session) -> str:
    frame = single(session)
    rows, base = (frame[frame.method == m].groupby("scenario")[["acc_retain", "acc_test", "avg_gap"]].mean()
                  for m in ("forget_vector", "retrain"))
    worse = {text: int((rows[metric] < base[metric]).sum()) for text, metric in (("RA", "acc_retain"), ("TA", "acc_test"))}
    best, worst = (at.split(":")[1] for at in (rows.avg_gap.idxmin(), rows.avg_gap.idxmax()))
    return (f"{' and '.join(f'{k} below retrained in **{v} of {len(rows)}** classes' for k, v in worse.items())}; Avg.Gap from "
            f"{100 * rows.avg_gap.min():.1f} (class {best}) to {100 * rows.avg_gap.max():.1f} (class {worst}).")


def strokes(session) -> Interval:
    """Correlation of each class's vector with what is bright in its images more than in others; mean over classes, over seeds."""
    rows = session.rows("unlearn")
    rows = rows[(rows.row == "delta") & rows.scenario.str.fullmatch(r"class:\d+")]
    d = data.load(rows.data.iloc[0])
    images, labels = data.pixels(d.train_images), d.train_labels
    found = []
    for row in rows.itertuples():
        own = labels == int(row.scenario.split(":")[1])
        typical = images[own].mean(0) - images[~own].mean(0)
        found.append(float(torch.corrcoef(torch.stack([typical.flatten(), torch.tensor(json.loads(row.pixels)).to(typical)]))[0, 1]))
    return by_seed(rows, pd.Series(found, index=rows.index))


def _vectors(session) -> str:
    frame = single(session)
    rows, stroke = frame[frame.method == "forget_vector"], strokes(session)
    images = data.pixels(data.load(rows.data.iloc[0]).train_images)
    norms = rows.groupby("scenario").norm.mean()
    least, most = (at.split(":")[1] for at in (norms.idxmin(), norms.idxmax()))
    return (f"correlation of a vector with the typical strokes of its class {stroke.text(2, 1)}, against 0: **{comparison(stroke)}**. Mean "
            f"norm {by_seed(rows, rows.norm).text(1, 1)}, from {norms.min():.1f} (class {least}) to {norms.max():.1f} (class {most}); "
            f"largest change of a pixel {by_seed(rows, rows.largest).text(1, 1)}, where black to white is 1. The images' own mean norm is "
            f"{float(images.flatten(1).norm(dim=1).mean()):.1f}.")


def _beta(session) -> str:
    parts = []
    for scenario, part in _scenarios(_with_ua(sweep(session, "beta"))):
        low, high = part.value.min(), part.value.max()
        moved = [f"{text} {_versus(_wide(part, 'value', metric), high, low)}"
                 for text, metric in (("UA", "ua"), ("RA", "acc_retain"), ("TA", "acc_test"))]
        used = session.settings["methods"]["forget_vector"][scenario.split(":")[0]]["beta"]
        gaps = 100 * _wide(part, "value", "avg_gap")
        parts.append(f"{scenario}, β = {high:g} against {low:g} (%): {'; '.join(moved)}; Avg.Gap at β = "
                     + ", ".join(f"{v:g}{' (in use)' if v == used else ''}: {interval(gaps[v]).text(1, 1)}" for v in gaps))
    return ". ".join(parts) + "."


def _tau(session) -> str:
    parts = []
    for scenario, part in _scenarios(sweep(session, "tau")):
        wide = 100 * _wide(part, "value", "avg_gap")
        parts.append(f"{scenario} " + " / ".join(interval(wide[v]).text(1, 1) for v in wide))
    spread = [interval((wide := 100 * _wide(part, "value", "avg_gap")).max(axis=1) - wide.min(axis=1)).text(1, 1)
              for _, part in _scenarios(sweep(session, "tau"))]
    stops = " / ".join(f"{v:g}" for v in sorted(sweep(session, "tau").value.unique()))
    return (f"Avg.Gap at τ = {stops}: {'; '.join(parts)}. Largest minus smallest within a seed: {'; '.join(spread)}; "
            f"less than {100 * LITTLE:g} points: **{insensitive(session).status}**.")


def _shift(session) -> str:
    change, parts = shifted(session), []
    for method, part in change.groupby("method", sort=False):
        rows = part.groupby(["scenario", "shift", "strength"])[["UA", "MIA", "RA", "TA"]].mean()
        falls = [f"{m} falls in **{int((rows[m] < 0).sum())} of {len(rows)}** ({100 * rows[m].min():+.1f} to {100 * rows[m].max():+.1f})"
                 for m in ("UA", "TA")]
        parts.append(f"{label(method)}: {', '.join(falls)}")
    return (f"{change.scenario.nunique()} scenarios times {change.groupby(['shift', 'strength']).ngroups} shifts, mean change in points: "
            f"{'; '.join(parts)}.")


def _plane(session) -> str:
    rows = of_row(session, "arithmetic", "plane")
    parts = []
    for w1, w2 in ((0, 0), (1, 0), (0, 1), (1, 1)):
        here = rows[(rows.w1 == w1) & (rows.w2 == w2)]
        if len(here):
            parts.append(f"({w1:g}, {w2:g}): {' / '.join(by_seed(here, here[m]).text() for m in ('acc_1', 'acc_2', 'acc_rest'))}")
    both, one = (rows[(rows.w1 == 1) & (rows.w2 == w)].set_index("seed").acc_rest for w in (1, 0))
    return (f"at (w1, w2), accuracy on the first class / the second / all others (%): {'; '.join(parts)}. All others, both vectors against "
            f"the first alone: **{comparison(interval(both - one))}**.")


def _composition(session) -> str:
    every, w, parts = mixes(session), weights(session), []
    if w.empty:
        raise NotAvailable(f"preset {session.preset} composes no vectors.")
    for scenario, part in _scenarios(every):
        wide, lowest = _wide(part, "mix", "avg_gap"), w[w.scenario == scenario].groupby("seed").w.min()
        told = "; ".join(f"{name} {_versus(wide, name, 'learned w')}" for name in part.mix.unique() if name != "learned w")
        every_w = w[w.scenario == scenario].w
        parts.append(f"{scenario}, Avg.Gap against the learned mix: {told}; a negative weight in **{int((lowest < 0).sum())} of "
                     f"{len(lowest)}** seeds, single weights from {every_w.min():.2f} to {every_w.max():.2f}")
    return ". ".join(parts) + "."


def _cross(session) -> str:
    rows = of_row(session, "arithmetic", "cross")
    own, other = rows[rows.vector == rows["class"]], rows[(rows.vector != rows["class"]) & (rows.vector >= 0)]
    none = rows[rows.vector < 0]
    start, hit = none.groupby("class").acc_test.mean(), other.groupby(["vector", "class"]).acc_test.mean()
    lost = hit.index.get_level_values("class").map(start) - hit
    harm = interval(other.groupby("seed").acc_test.mean() - none.groupby("seed").acc_test.mean())
    angle = of_row(session, "arithmetic", "angle")
    angle = angle[angle.vector != angle["class"]]
    return (f"unseen images, accuracy (%) without a vector {by_seed(none, none.acc_test).text()}, under the own class's "
            f"{by_seed(own, own.acc_test).text()}, under another's {by_seed(other, other.acc_test).text()} (against none: "
            f"**{comparison(harm)}**; most is lost by class {lost.idxmax()[1]:g} under the vector of {lost.idxmax()[0]:g}: "
            f"{100 * lost.max():.1f} points); cosine between two vectors {by_seed(angle, angle.cosine).text(2, 1)}.")


def _transfer(session) -> str:
    frame = single(session)
    rows = frame[frame.method == "forget_vector"]
    gap = interval((rows.acc_test_forget - rows.acc_forget).groupby(rows.seed).mean())
    most = rows.groupby("scenario").acc_test_forget.mean()
    return (f"with its vector, accuracy on the class is {by_seed(rows, rows.acc_forget).text()} % on training and "
            f"{by_seed(rows, rows.acc_test_forget).text()} % on unseen images: **{comparison(gap)}** ({gap.text()} points); "
            f"the largest part comes through of {most.idxmax()} ({100 * most.max():.1f} %).")


def _saliency(session) -> str:
    rows, parts = of_row(session, "saliency", "correlation"), []
    for name in ("forget_vector", "retrain"):
        wide = _wide(rows[rows.model == name], "part", "correlation")
        parts.append(f"{label(name)} {interval(wide.forget).text(2, 1)} on forget and {interval(wide.retain).text(2, 1)} on retain images: "
                     f"**{comparison(interval(wide.forget - wide.retain))}**")
    return f"correlation with the original's map: {'; '.join(parts)} (n = {rows.seed.nunique()})."


def _forgotten(session) -> str:
    rows = focus(session, session.rows("unlearn"))
    rows = rows[rows.row == "forgotten"] if "row" in rows else rows.iloc[:0]
    if rows.empty:
        raise NotAvailable(f"preset {session.preset} keeps no single images.")
    wide = _wide(rows, "model", "confidence")
    known = rows.assign(known=rows.confidence > 0)
    shares = ", ".join(f"{label(m)} {by_seed(part, part.known).text()}" for m, part in known.groupby("model", sort=False))
    gap = interval(wide.forget_vector - wide.retrain)
    return (f"images with a confidence above zero (%): {shares}. Mean confidence {interval(wide.forget_vector).text(1, 1)} with the "
            f"vector, {interval(wide.retrain).text(1, 1)} retrained: **{comparison(gap)}**.")


def _cost(session) -> str:
    parts = []
    for name, part in compared(session).items():
        wide = part.groupby(["seed", "method"]).epochs.mean().unstack()
        share = interval(wide.forget_vector / wide.retrain)
        gap = paired(part, "epochs", "forget_vector", "finetune")
        size = part[part.method == "forget_vector"].trainables.iloc[0] / part[part.method == "retrain"].trainables.iloc[0]
        parts.append(f"{name}: {share.text(0)} % of our retraining in training-epoch equivalents; against fine-tuning "
                     f"**{comparison(gap)}** ({gap.text(1, 1)}); {100 * size:.2g} % of the trainables")
    return ". ".join(parts) + "."


def _ruler(session) -> str:
    frame = with_distance(focus(session, session.frame()), ATTACK)
    loss = paired(frame, "loss_forget", "forget_vector", "retrain")
    return f"mean loss on forget images, vector against retrained: **{comparison(loss)}** ({loss.text(1, 1)})."


def _audit(session) -> str:
    frame = focus(session, session.frame())
    auc = {m: of_method(frame, m, "auc_confidence", 2, 1) for m in ("original", "forget_vector", "retrain")}
    gap = paired(frame, "js_forget", "forget_vector", "retrain")
    moved = of_method(frame, "forget_vector", "changed")
    return (f"AUC of the attack: original {auc['original']}, vector {auc['forget_vector']}, retrained {auc['retrain']}; weights changed by "
            f"the vector {moved} %; JS on forget images against that of two retrained networks: **{comparison(gap)}**.")


def told_apart(session) -> Interval:
    """Random samples: points of UA that the vector gains beyond the points of RA that it costs, against the original, in [-2, 2]."""
    random = compared(session).get("random samples")
    if random is None:
        raise NotAvailable(f"preset {session.preset} forgets no random samples.")
    return paired(random.assign(both=1 - random.acc_forget + random.acc_retain), "both", "forget_vector", "original")


def _random(session) -> str:
    beyond = told_apart(session)
    rows = _with_ua(of_row(session, "controls", "control"))
    ua = _wide(rows[rows.scenario.str.startswith("random")], "control", "ua")
    parts = _with_ua(compared(session)["random samples"])
    goal = interval(parts[parts.method == "retrain"].ua)
    word = comparison(beyond)
    return (f"as expected: **{word if beyond.n < 2 else _met(word != 'higher')}**. UA (%) of the vector against noise of the same norm "
            f"{_versus(ua, 'as in the paper', 'noise of the same norm')}; retrained {goal.text(1, 100)}. What the vector gains "
            f"in UA, minus what it costs in RA: {beyond.text(1, 100)} points (against 0: **{word}**).")


READINGS = {"paper": _paper, "classes": _classes, "wrong_way": _wrong_way, "controls": _used, "random": _random, "methods": _methods,
            "vectors": _vectors, "beta": _beta, "tau": _tau, "shift": _shift, "plane": _plane, "composition": _composition,
            "cross": _cross, "transfer": _transfer, "saliency": _saliency, "forgotten": _forgotten, "cost": _cost, "ruler": _ruler,
            "audit": _audit}
