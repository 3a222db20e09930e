"""Under each figure and table of the Forget Vectors notebook: what was expected, what was measured, the verdict. All from records."""

from __future__ import annotations

import json

import pandas as pd
import torch

from ... import data
from ...claims import Interval, comparison, interval
from ...data import DataError
from ...plots import label
from ...tables import Markdown
from .. import NotAvailable, prose
from ..figures import focus, images_of
from . import comparisons
from .claims import FORGOTTEN, LITTLE, by_seed, mixes, of_row, shifted, single, sweep, weights
from .scores import NO, UNSURE, YES, Row, judged, met, moved, not_above, page, scenarios, versus, wide_of, with_ua

DARK = 1 - FORGOTTEN            # accuracy on a class that is forgotten
HALF = 0.5                      # of MIA-Efficacy: the attack has turned round


def reading(session, figure: str, bands: dict | None = None) -> Markdown:
    """The expectations of a figure or table, scored. ``bands``: the prediction box, for what is scored against it."""
    def told(of) -> str:
        rows, sentences = _score(of, figure, bands)
        return page(rows, *sentences)
    return prose.reading(session, told)


def _score(session, figure: str, bands: dict | None):
    score = {**READINGS, **EXTRA}[figure]
    return score(session, bands) if figure == "wrong_way" else score(session)


def tally(session, bands: dict) -> Markdown:
    """How many of all expectations in the text were met: beside the prediction box, which is only a part of them."""
    verdicts = []
    for figure in READINGS:
        try:
            verdicts += [row.verdict for row in _score(session, figure, bands)[0]]
        except (NotAvailable, DataError):
            continue
    counts = {word: verdicts.count(word) for word in (YES, NO, UNSURE)}
    return Markdown(f"The box is a part. Of the {len(verdicts)} expectations in the text at this preset, each scored where it stands, "
                    f"{counts[YES]} are met, **{counts[NO]} missed**, {counts[UNSURE]} inconclusive.")


def strokes(session) -> Interval:
    """Correlation of each class's vector with what is bright in its images more than in others; mean over classes, over seeds."""
    rows = session.rows("unlearn")
    rows = rows[(rows.row == "delta") & rows.scenario.str.fullmatch(r"class:\d+")]
    d = data.load(rows.data.iloc[0])
    found = [along(d, int(row.scenario.split(":")[1]), torch.tensor(json.loads(row.pixels))) for row in rows.itertuples()]
    return by_seed(rows, pd.Series(found, index=rows.index))


def along(d: data.Data, c: int, delta: torch.Tensor) -> float:
    """Correlation of a vector with the mean image of class ``c`` less that of all others."""
    images, own = data.pixels(d.train_images), d.train_labels == c
    typical = images[own].mean(0) - images[~own].mean(0)
    return float(torch.corrcoef(torch.stack([typical.flatten(), delta.flatten().to(typical)]))[0, 1])


def _vectors(session):
    frame = single(session)
    rows, stroke = frame[frame.method == "forget_vector"], strokes(session)
    whole = float(data.pixels(data.load(rows.data.iloc[0]).train_images).flatten(1).norm(dim=1).mean())
    norms, norm, largest = rows.groupby("scenario").norm.mean(), by_seed(rows, rows.norm), by_seed(rows, rows.largest)
    least, most = (at.split(":")[1] for at in (norms.idxmin(), norms.idxmax()))
    small = max(norm.mean / whole, largest.mean) < 0.5
    return [Row("correlation with what is typical of its class below 0", f"{stroke.text(2, 1)}: {comparison(stroke)}",
                moved(stroke, "lower"), "A vector need not erase what is typical.")], [
        f"{'Small it is' if small else 'Small it is not'}: the mean norm is {norm.text(1, 1)} (class {least}: {norms.min():.1f}, class "
        f"{most}: {norms.max():.1f}), {100 * norm.mean / whole:.0f} % of the images' own {whole:.1f}; one pixel changes by up to "
        f"{largest.text(1, 1)}, where black to white is 1."]


def _beta(session):
    rows, told = [], []
    runs = session.frame()
    for scenario, part in scenarios(with_ua(sweep(session, "beta"))):
        wide = {metric: wide_of(part, "value", metric) for metric in ("ua", "acc_retain", "acc_test", "avg_gap")}
        low, high = part.value.min(), part.value.max()
        if scenario.startswith("class"):
            mean = wide["ua"].mean()
            enough = int((mean >= FORGOTTEN).sum())
            rows.append(Row(f"{scenario}: UA of at least {100 * FORGOTTEN:g} % at every β", f"{enough} of {len(mean)}",
                            met(enough == len(mean)), "So small a weight leaves part of the class."))
        else:
            start = runs[(runs.method == "original") & (runs.scenario == scenario)].set_index("seed")
            for value, line in part.groupby("value"):
                gap = comparisons.beyond(line.set_index("seed"), start)
                rows.append(Row(f"{scenario}: UA gained no more than RA lost at β = {value:g}", f"{gap.text()} points: {comparison(gap)}",
                                not_above(gap), comparisons.FITTED))
        for text, metric, word in (("UA", "ua", "higher"), ("RA", "acc_retain", "lower"), ("TA", "acc_test", "lower")):
            gap = interval(wide[metric][high] - wide[metric][low])
            rows.append(Row(f"{scenario}: {text} {word} at β = {high:g} than at {low:g} (%)", versus(wide[metric], high, low),
                            moved(gap, word)))
        used = session.settings["methods"]["forget_vector"][scenario.split(":")[0]]["beta"]
        gaps = wide["avg_gap"]
        told.append(f"{scenario}, Avg.Gap at β = "
                    + ", ".join(f"{v:g}{' (in use)' if v == used else ''}: {interval(gaps[v]).text()}" for v in gaps) + ".")
    return rows, told


def _tau(session):
    rows = []
    for scenario, part in scenarios(sweep(session, "tau")):
        wide = wide_of(part, "value", "avg_gap")
        spread = interval(wide.max(axis=1) - wide.min(axis=1))
        ends = ", ".join(f"{v:g}: {interval(wide[v]).text()}" for v in wide)
        rows.append(Row(f"{scenario}: Avg.Gap changes by less than {100 * LITTLE:g} points", f"by {spread.text()} (at τ = {ends})",
                        judged(spread, 0, LITTLE), f"{scenario}: it does matter."))
    return rows, ["The change is the largest minus the smallest in each seed, averaged: positive even by chance."]


def _shift(session):
    change, rows = shifted(session), []
    for method, part in change.groupby("method", sort=False):
        keys = ["scenario", "shift", "strength"]
        mean = part.groupby(keys)[["UA", "RA", "TA"]].mean()
        told = [f"{m} falls in {int((mean[m] < 0).sum())} ({100 * mean[m].min():+.1f} to {100 * mean[m].max():+.1f})" for m in mean]
        fell = [(" ".join(key), interval(line.set_index("seed").UA)) for key, line in part.groupby(keys) if line.UA.mean() < 0]
        stays = bool((mean.RA >= 0).any() or (mean.TA >= 0).any())
        sure = [text for text, gap in fell if comparison(gap) == "lower"]
        why = [f"{label(method)}: UA falls under " + "; ".join(f"{text} ({gap.text()})" for text, gap in fell) + "."] if fell else []
        why += [f"{label(method)}: RA or TA withstands a shift."] if stays else []
        rows.append(Row(f"{label(method)}: of {len(mean)} mean changes, UA never falls, RA and TA always do", ", ".join(told),
                        NO if sure or stays else UNSURE if fell else YES, " ".join(why)))
        if fell and not (sure or stays):
            rows[-1] = Row(rows[-1].expected, f"{rows[-1].measured}; UA under " + "; ".join(
                f"{text} by {gap.text()}, which may be 0" for text, gap in fell), UNSURE)
    return rows, [f"{change.scenario.nunique()} scenarios times {change.groupby(['shift', 'strength']).ngroups} shifts, in points.",
                  _jittered(change[change["shift"] == "elastic"])]


def _jittered(change: pd.DataFrame) -> str:
    """MIA-Efficacy under elastic deformation, run by run: a mean would hide that it turns round in some runs."""
    if change.empty:
        return ""
    ranges = ", ".join(f"{label(m)} {100 * v.min():+.0f} to {100 * v.max():+.0f}" for m, v in change.groupby("method", sort=False).MIA)
    return (f"MIA-Efficacy under elastic jitter, single runs: {ranges} points; in {int((change.MIA < -HALF).sum())} of {len(change)} it "
            f"falls by more than {100 * HALF:g}.")


def _plane(session):
    rows = of_row(session, "arithmetic", "plane")
    found = []
    for text, metric, weight in (("first", "acc_1", "w1"), ("second", "acc_2", "w2")):
        there = rows[rows[weight] >= 1].groupby(["w1", "w2"])[metric].mean()
        bright = ", ".join(f"({a:g}, {b:g})" for (a, b), v in there.items() if v > DARK)
        found.append(Row(f"{text} class: at most {100 * DARK:.0f} % right wherever its weight is at least 1",
                         f"{int((there <= DARK).sum())} of {len(there)} points, at most {100 * there.max():.1f} %", met(not bright),
                         f"{text} class: not so at (w1, w2) = {bright}."))
    far = rows.assign(far=(rows.w1 ** 2 + rows.w2 ** 2) ** 0.5)
    r = interval([part.far.corr(part.acc_rest) for _, part in far.groupby("seed")])
    found.append(Row("all others: accuracy falls with the distance from (0, 0); direction only",
                     f"correlation {r.text(2, 1)}: {comparison(r)}", moved(r, "lower"), "The way counts more than the distance."))
    corners = []
    for w1, w2 in ((0, 0), (1, 0), (0, 1), (1, 1)):
        here = rows[(rows.w1 == w1) & (rows.w2 == w2)]
        if len(here):
            corners.append(f"({w1:g}, {w2:g}) {' / '.join(by_seed(here, here[m]).text() for m in ('acc_1', 'acc_2', 'acc_rest'))}")
    low, high = rows.w1.min(), rows.w1.max()
    back, on = (rows[(rows.w1 == w) & (rows.w2 == 0)].set_index("seed").acc_rest for w in (low, high))
    word = comparison(interval(back - on))
    sides = (f"Others on either side of the frame: at ({low:g}, 0) {interval(back).text()}, at ({high:g}, 0) {interval(on).text()}: "
             f"**{word}**."
             + (" Taking the vector away costs more than adding it, though it is no farther." if word == "lower" and -low <= high else ""))
    both, one = (rows[(rows.w1 == 1) & (rows.w2 == w)].set_index("seed").acc_rest for w in (1, 0))
    return found, [f"First / second / others (%) at (w1, w2): {'; '.join(corners)}. Others, both vectors against the first alone: "
                   f"**{comparison(interval(both - one))}**.", sides]


def _composition(session):
    every, w, rows, told = mixes(session), weights(session), [], []
    if w.empty:
        raise NotAvailable(f"preset {session.preset} composes no vectors.")
    for scenario, part in scenarios(every):
        wide = wide_of(part, "mix", "avg_gap")
        learned = w[w.scenario == scenario].pivot_table(index="seed", columns="class", values="w")
        if scenario.startswith("class"):
            own = [int(c) for c in scenario.split(":")[1].split("+")]
            out = learned[own].min(axis=1) > learned.drop(columns=own).max(axis=1)
            rows.append(Row(f"{scenario}: the weights of {' and '.join(map(str, own))} stand out", f"the largest in {int(out.sum())} of "
                            f"{len(out)} seeds", met(bool(out.all())), "The mix takes other ways."))
        else:
            signs = (learned.min(axis=1) < 0) & (learned.max(axis=1) > 0)
            rows.append(Row(f"{scenario}: weights of either sign, all below 1 in size", f"either sign in {int(signs.sum())} of "
                            f"{len(signs)} seeds, from {learned.min().min():.2f} to {learned.max().max():.2f}",
                            met(bool(signs.all()) and float(learned.abs().max().max()) < 1)))
        rows += [Row(f"{scenario}: Avg.Gap of the fixed {name} above the learned mix's", versus(wide, name, "learned w"),
                     moved(interval(wide[name] - wide["learned w"]), "higher"), f"{scenario}: the search for weights does not pay.")
                 for name in part.mix.unique() if name not in ("learned w", "direct vector")]
        told.append(f"{scenario}, direct vector against learned mix: {versus(wide, 'direct vector', 'learned w')}.")
    return rows, told


def _cross(session):
    rows = of_row(session, "arithmetic", "cross")
    own, other = rows[rows.vector == rows["class"]], rows[(rows.vector != rows["class"]) & (rows.vector >= 0)]
    none = rows[rows.vector < 0]
    start, hit = none.groupby("class").acc_test.mean(), other.groupby(["vector", "class"]).acc_test.mean()
    lost = hit.index.get_level_values("class").map(start) - hit
    harm = interval(other.groupby("seed").acc_test.mean() - none.groupby("seed").acc_test.mean())
    angle = of_row(session, "arithmetic", "angle")
    angle = angle[angle.vector != angle["class"]]
    cells = own.groupby("class").acc_test.mean()
    dark, worst = int((cells <= DARK).sum()), f"{100 * cells.max():.1f} % (class {cells.idxmax():g})"
    return [Row(f"dark diagonal: at most {100 * DARK:.0f} % of the own class right in every cell", f"{dark} of {len(cells)} cells, the "
                f"largest {worst}; mean {by_seed(own, own.acc_test).text()} %", met(dark == len(cells)),
                f"Not dark everywhere: {len(cells) - dark} of {len(cells)} cells are above.")], [
        f"Without a vector {by_seed(none, none.acc_test).text()} %, under another's {by_seed(other, other.acc_test).text()} %: "
        f"**{comparison(harm)}**. Most is lost by class {lost.idxmax()[1]:g} under the vector of {lost.idxmax()[0]:g}: "
        f"{100 * lost.max():.1f} points. Cosine between two vectors {by_seed(angle, angle.cosine).text(2, 1)}."]


def _transfer(session):
    frame = single(session)
    rows = frame[frame.method == "forget_vector"]
    gap = interval((rows.acc_test_forget - rows.acc_forget).groupby(rows.seed).mean())
    parts = rows.groupby("scenario").acc_test_forget
    most = parts.mean().idxmax()
    still = len(parts.get_group(most)) > 1 and parts.get_group(most).nunique() == 1
    both = [by_seed(rows, rows[metric]) for metric in ("acc_forget", "acc_test_forget")]
    return [Row(f"with its vector, on average at most {100 * DARK:.0f} % of the class's {text} right", f"{i.text()} %", judged(i, 0, DARK),
                f"Many {text} come through.") for text, i in zip(("training images", "unseen images"), both, strict=True)] + [
        Row("a few more unseen ones", f"{gap.text()} points: {comparison(gap)}", moved(gap, "higher"), "It is not fitted to its own.")], [
        f"The largest part comes through of {most} ({100 * parts.mean().max():.1f} %"
        + (", the same number of images in each seed)." if still else ").")]


def _saliency(session):
    rows, told = of_row(session, "saliency", "correlation"), []
    wide = {m: wide_of(rows[rows.model == m], "part", "correlation") for m in ("forget_vector", "retrain")}
    gap = interval(wide["forget_vector"].retain - wide["forget_vector"].forget)
    for name, w in wide.items():
        told.append(f"{label(name)} {interval(w.forget).text(2, 1)} on forget, {interval(w.retain).text(2, 1)} on retain images")
    return [Row("vector: maps correlate more with the original's on retain than on forget images", f"{gap.text(2, 1)}: {comparison(gap)}",
                moved(gap, "higher"), "They change on both alike.")], [
        f"Correlation: {'; '.join(told)} (n = {rows.seed.nunique()}, {int(rows.images.max())} images at most of each; those with a flat "
        "map have no correlation and are left out, how many is not in the records)."]


def _forgotten(session):
    rows = focus(session, session.rows("unlearn"))
    rows = rows[rows.row == "forgotten"] if "row" in rows else rows.iloc[:0]
    if rows.empty:
        raise NotAvailable(f"preset {session.preset} keeps no single images.")
    wide = wide_of(rows, "model", "confidence")
    known = rows.assign(known=rows.confidence > 0)
    shares = ", ".join(f"{label(m)} {by_seed(part, part.known).text()}" for m, part in known.groupby("model", sort=False))
    mine, gap = interval(wide.forget_vector), interval(wide.forget_vector - wide.retrain)
    return [Row("vector: mean confidence below zero", f"{mine.text(1, 1)}: {comparison(mine)}", moved(mine, "lower"),
                "The network stays surer than not."),
            Row("but above the retrained model's", f"against {interval(wide.retrain).text(1, 1)}: {comparison(gap)}", moved(gap, "higher"),
                "The floor does not hold it back.")], [f"Images above zero (%): {shares}."]


def _strip(session):
    """The five images of the first seed: kept ones keep their label, forgotten ones lose it."""
    rows = images_of(session, "unlearn", "strip")
    rows = rows[(rows.seed == rows.seed.min()) & (rows.model == "forget_vector")].assign(right=lambda r: r.predicted == r.label)
    kept, gone = (rows[rows.role.str.startswith(word)] for word in ("kept", "forget"))
    return [Row("kept images keep their label", f"{int(kept.right.sum())} of {len(kept)}", met(bool(kept.right.all())),
                "The vector misleads the network on an image that it should read."),
            Row("forgotten ones lose it", f"{int((~gone.right).sum())} of {len(gone)}", met(not gone.right.any()),
                "An image of the class comes through.")], [
        f"Unseen, under the vector: {'; '.join(f'{r.role}, probability of its label {100 * r.p_label:.0f} %' for r in unseen)}."
        if (unseen := list(rows[rows.part == "test"].itertuples())) else ""]


READINGS = {"paper": comparisons.paper, "classes": comparisons.classes, "union": comparisons.union, "audit": comparisons.audit,
            "cost": comparisons.cost, "wrong_way": comparisons.wrong_way, "methods": comparisons.methods, "controls": comparisons.controls,
            "clean": comparisons.clean, "random": comparisons.random, "ruler": comparisons.ruler, "vectors": _vectors, "beta": _beta,
            "tau": _tau, "shift": _shift, "plane": _plane, "composition": _composition, "cross": _cross, "transfer": _transfer,
            "saliency": _saliency, "forgotten": _forgotten, "strip": _strip}
EXTRA = {"pattern": comparisons.pattern}        # of another preset: not among the expectations of this one
