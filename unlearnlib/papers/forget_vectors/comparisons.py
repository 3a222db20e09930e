"""What the tables and the controls of the Forget Vectors notebook were expected to show, and what they do: from records."""

from __future__ import annotations

from ...claims import Interval, comparison, interval, paired
from ...plots import label
from ...tables import with_distance
from .. import NotAvailable
from ..figures import focus
from ..prose import of_method, scaled
from .claims import (
    ATTACK,
    BASELINES,
    CLEAN,
    CLOSE,
    FORGOTTEN,
    GAPS,
    LITTLE,
    NO_RETAIN,
    NOISE,
    REMOVED,
    USED,
    against,
    by_seed,
    compared,
    controls_of,
    single,
    sweep,
    with_gap,
)
from .scores import ALONE, Row, judged, met, moved, not_above, scenarios, versus, wide_of, with_ua

UNLIKE = 0.20                   # of UA, between two classes under one method
FEW = 3                         # of the baselines
SAME = 1e-9                     # "the same" accuracy: not one image differs
FITTED = "More UA is gained than RA is lost: the vector, fitted to these very images, does hit them more than the others."
NOTHING = 0.01                  # UA of a method that leaves random samples as they were
ONLY, CLAMPED = "on the forget set alone", "pixels clamped to [0, 1]"


def wrong_way(session, bands: dict | None = None):
    """Noise of the same norm, against the band of the prediction box, and a vector learned without D_r."""
    rows = []
    for scenario, part in scenarios(with_ua(controls_of(session))):
        ua, ra = (wide_of(part, "control", metric) for metric in ("ua", "acc_retain"))
        if bands:
            low, high = bands["noise"]
            rows.append(Row(f"{scenario}: UA of noise from {low:g} to {high:g} % (box)", f"{interval(ua[NOISE]).text()} %",
                            judged(scaled(interval(ua[NOISE]), 100), low, high), "Noise of this norm does not do what we thought."))
        if scenario.startswith("class"):
            rows.append(Row(f"{scenario}: and below the vector's", versus(ua, NOISE, USED), moved(interval(ua[NOISE] - ua[USED]), "lower"),
                            "Noise forgets as much as the vector: its direction is not what counts."))
        cost = interval(ra[NOISE] - ra[REMOVED])
        rows.append(Row(f"{scenario}: RA of noise as with the {REMOVED}, to {100 * LITTLE:g} points (%)", versus(ra, NOISE, REMOVED),
                        judged(cost, -LITTLE, LITTLE), f"{scenario}: without any aim, noise of this norm moves RA by {cost.text()} points: "
                                                       "the norm alone does harm."))
        rows.append(Row(f"{scenario}: without retain term, RA below the vector's (%)", versus(ra, NO_RETAIN, USED),
                        moved(interval(ra[NO_RETAIN] - ra[USED]), "lower"), "Nothing had to protect the retain set here."))
    return rows, []


def _exact(session, metric: str, control: str) -> list[bool]:
    """Run by run: does a control have the original's value?"""
    out = []
    runs = session.frame()
    for scenario, part in scenarios(controls_of(session)):
        start = runs[(runs.method == "original") & (runs.scenario == scenario)].set_index("seed")[metric]
        out += list((wide_of(part, "control", metric)[control] - start).abs() < SAME)
    return out


def controls(session):
    """Failure 1: removed, and clamped."""
    back, rows = _exact(session, "acc_forget", REMOVED), []
    for scenario, part in scenarios(with_ua(with_gap(session, controls_of(session)))):
        ua, gap = (wide_of(part, "control", metric) for metric in ("ua", "avg_gap"))
        rows.append(Row(f"{scenario}: clamped, a larger Avg.Gap", f"{versus(gap, CLAMPED, USED)} (UA {versus(ua, CLAMPED, USED)})",
                        moved(interval(gap[CLAMPED] - gap[USED]), "higher"), f"{scenario}: pixels beyond black and white are not needed."))
    return [Row(f"{REMOVED}: UA is the original's", f"{sum(back)} of {len(back)} runs", met(all(back)),
                "Something else than the vector has changed the model."), *rows], []


def clean(session):
    """Failure 2: the vector on the forget set alone, and an attack that is fitted to clean images."""
    kept, rows, told = _exact(session, "acc_retain", ONLY), [], []
    for scenario, part in scenarios(controls_of(session)):
        mia, auc = (wide_of(part, "control", metric) for metric in (ATTACK, "auc_confidence"))
        full = min(mia[USED].min(), mia[CLEAN].min()) > 1 - SAME
        rows.append(Row(f"{scenario}: fitted to clean images, a higher MIA-Efficacy (%)", versus(mia, CLEAN, USED),
                        moved(interval(mia[CLEAN] - mia[USED]), "higher"),
                        f"{scenario}: " + ("both are at 100 %: there is no room above." if full else "to the attack it is not strange.")))
        told.append(f"{scenario} {interval(auc[ONLY]).text(2, 1)}")
    return [Row(f"{ONLY}: RA is the original's", f"{sum(kept)} of {len(kept)} runs", met(all(kept))), *rows], [
        f"AUC with the vector {ONLY} (goal 0.5): {', '.join(told)}."]


def beyond(rows, start) -> Interval:
    """Points of UA gained against ``start`` beyond the points of RA that it costs, seed by seed; both indexed by seed."""
    return interval((start.acc_forget - rows.acc_forget) - (start.acc_retain - rows.acc_retain))


def told_apart(session) -> Interval:
    """Random samples: what the vector gains in UA beyond what it costs in RA, against the original, in [-2, 2]."""
    random = compared(session).get("random samples")
    if random is None:
        raise NotAvailable(f"preset {session.preset} forgets no random samples.")
    return paired(with_ua(random).assign(both=lambda f: f.ua + f.acc_retain), "both", "forget_vector", "original")


def stops(session) -> dict[float, Interval]:
    """Random samples: the same at each stop of beta; empty without that study."""
    if not session.has("beta"):
        return {}
    runs, rows = session.frame(), sweep(session, "beta", "random")
    found = {}
    for value, part in rows.groupby("value"):
        start = runs[(runs.method == "original") & (runs.scenario == part.scenario.iloc[0])].set_index("seed")
        found[value] = beyond(part.set_index("seed"), start)
    return found


def single_out(session) -> str:
    """Does the vector tell random samples from all others? For the section on them and for the answer."""
    gap = told_apart(session)
    found = {"higher": "**yes**", "lower": "**no**", "no difference shown": "**inconclusive**, more seeds are needed"}
    more = apart_at(session)
    also = f"; yes at β = {' and '.join(more)}" if more else ""
    word = found.get(comparison(gap), "one seed cannot tell")
    return f"Told apart from the others? UA gained minus RA lost is {gap.text()} points: {word}{also}."


def apart_at(session) -> list[str]:
    """The stops of beta at which more UA is gained than RA is lost, with the points."""
    return [f"{v:g} ({i.text()})" for v, i in stops(session).items() if comparison(i) == "higher"]


def in_short(session) -> str:
    """The same in one clause: with the vector in use, and at which beta it does."""
    words = {"higher": "yes", "lower": "no", "no difference shown": "inconclusive"}
    word = words.get(comparison(told_apart(session)), "one seed cannot tell")
    more = [at.split()[0] for at in apart_at(session)]
    return f"random samples told from the others, {word} as used" + (f", yes at β = {' and '.join(more)}" if more else "")


def random(session):
    """Random samples: the vector against noise, and what it gains against what it costs."""
    gain, rows = told_apart(session), with_ua(controls_of(session))
    rows = rows[rows.scenario.str.startswith("random")]
    ua, ra = (wide_of(rows, "control", metric) for metric in ("ua", "acc_retain"))
    parts = compared(session)["random samples"]
    same = comparison(interval(ua[USED] - ua[NOISE])) == "no difference shown"
    less = comparison(interval(ra[USED] - ra[NOISE])) == "higher"
    noise = ("No difference in UA to noise of the same norm is shown, but noise costs "
             f"{interval(ra[USED] - ra[NOISE]).text()} points more of RA." if same and less else "")
    goal = paired(with_ua(parts).assign(both=lambda f: f.ua + f.acc_retain), "both", "retrain", "original")
    return [Row("UA no higher than with noise of the same norm (%)", versus(ua, USED, NOISE), not_above(interval(ua[USED] - ua[NOISE])),
                "The vector finds more than noise does."),
            Row("or UA gained no more than RA lost", f"{gain.text()} points: {comparison(gain)}", not_above(gain),
                FITTED)], [
        noise, single_out(session), f"Retraining itself: {goal.text()}."]


def named(name: str, part) -> str:
    """The name of a group of runs, with its classes."""
    classes = [s.split(":")[1] for s in part.scenario.unique() if s.startswith("class")]
    return f"{name} ({'mean of ' if len(classes) > 1 else 'class '}{', '.join(classes)})" if classes else name


def methods(session):
    """Every method: how near to retraining in UA, and what the vector pays in TA."""
    rows, told = [], []
    for name, part in compared(session).items():
        part = with_ua(part)
        few = part.groupby(["method", "seed"])[["ua", "avg_gap"]].mean().reset_index()
        mean = few.groupby("method")[["ua", "avg_gap"]].mean()
        there = mean.loc[[m for m in BASELINES if m in mean.index]]
        start, goal = mean.ua["original"], mean.ua["retrain"]
        sides = part.pivot_table(index="method", columns="scenario", values="ua")
        near = (sides.loc[there.index].sub(sides.loc["retrain"], axis=1).abs() <= CLOSE).sum()
        apart = [label(m) for m in there.index if sides.loc[m].max() - sides.loc[m].min() > UNLIKE]
        if name == "one class":
            close = int(((there.ua - goal).abs() <= CLOSE).sum())
            rows.append(Row(f"{name}: UA of all but {FEW} baselines within {100 * CLOSE:g} points of retraining's",
                            f"{close} of {len(there)}", met(close >= max(len(there) - FEW, len(there) / 2)),
                            f"Settings were tuned on {session.settings['focus']} alone: "
                            + ", ".join(f"{n} of {len(there)} are that close on {s}" for s, n in near.items()) + "."))
            gap, lost = (paired(part, metric, "forget_vector", "retrain") for metric in ("ua", "acc_test"))
            rows += [Row(f"{name}: the vector's, too", f"{gap.text()} points", judged(gap, -CLOSE, CLOSE)),
                     Row(f"{name}: its TA below retraining's", f"{lost.text()} points: {comparison(lost)}", moved(lost, "lower"))]
        else:
            nearer = [label(m) for m in there.index if abs(there.ua[m] - goal) < abs(there.ua[m] - start)]
            rows.append(Row(f"{name}: most baselines nearer in UA to the original", f"{len(there) - len(nearer)} of {len(there)}",
                            met(len(nearer) < len(there) / 2), f"On {name}, nearer to retraining are {', '.join(nearer)}."))
        gaps = there.avg_gap.sort_values()
        mine, least, most = (of_method(few, m, "avg_gap") for m in ("forget_vector", gaps.index[0], gaps.index[-1]))
        median = against(part, "avg_gap", lambda w: w.median(axis=1))
        told.append(f"Avg.Gap, {named(name, part)}: vector {mine}, nearest {label(gaps.index[0])} {least}, farthest "
                    f"{label(gaps.index[-1])} {most}; against the baselines' median **{comparison(median)}** ({median.text()} points)."
                    + (f" UA more than {100 * UNLIKE:g} points apart between classes: {', '.join(apart)}." if apart else ""))
    return rows, told


def paper(session):
    """The structure of the table: retrained models never answer with the class, and read samples that they never saw like test images."""
    one, part = single(session), compared(session).get("random samples")
    runs = with_ua(one[one.method == "retrain"])
    found = [by_seed(runs, runs[metric]) for metric in ("ua", ATTACK)]
    rows = [Row("a class, retrained: UA and MIA-Efficacy of 100 %", " and ".join(i.text() for i in found),
                met(min(i.mean for i in found) >= 0.995))] if len(runs) else []
    if part is None:
        return rows, []
    runs = part[part.method == "retrain"].set_index("seed")
    gap = interval(runs.acc_test - runs.acc_forget)
    word = comparison(gap)
    rows.append(Row("random samples, retrained: UA about 100 − TA (%)", f"{interval(1 - runs.acc_forget).text()} against "
                    f"{interval(1 - runs.acc_test).text()}: {word}", ALONE if gap.n < 2 else met(word == "no difference shown"),
                    f"The difference is {gap.text()} points; every seed has the same test images, so their choice is in no interval."))
    ua = with_ua(part).groupby("method").ua.mean()
    idle = [label(m) for m in BASELINES if m in ua and ua[m] <= NOTHING]
    return rows, [f"Random samples, UA of at most {100 * NOTHING:g} %, as before: {', '.join(idle)}." if idle else ""]


def classes(session):
    """Class by class: RA and TA of the vector below retraining's; and the class whose norms differ most between seeds."""
    frame = single(session)
    mine, base = (frame[frame.method == m].groupby("scenario")[["acc_retain", "acc_test", "avg_gap"]].mean()
                  for m in ("forget_vector", "retrain"))
    rows = []
    for text, metric in (("RA", "acc_retain"), ("TA", "acc_test")):
        gap = mine[metric] - base[metric]
        over = [f"{s.split(':')[1]} ({100 * v:+.1f})" for s, v in gap.items() if v >= 0]
        shown = sum(comparison(paired(part, metric, "forget_vector", "retrain")) == "lower" for _, part in frame.groupby("scenario"))
        rows.append(Row(f"mean {text} below retraining's in every class (means only)", f"{len(gap) - len(over)} of {len(gap)} classes"
                        + (f"; with an interval below 0: {shown}" if frame.seed.nunique() > 1 else ""), met(not over),
                        f"Not below it in {text}: class {', '.join(over)} points."))
    best, worst = (at.split(":")[1] for at in (mine.avg_gap.idxmin(), mine.avg_gap.idxmax()))
    norms = frame[frame.method == "forget_vector"].pivot_table(index="scenario", columns="seed", values="norm")
    far = (norms.max(axis=1) - norms.min(axis=1)).idxmax()
    seeds = f"Norms differ most between the seeds of {far}: {', '.join(f'{v:.1f}' for v in norms.loc[far])}."
    return rows, [f"Avg.Gap from {100 * mine.avg_gap.min():.1f} (class {best}) to {100 * mine.avg_gap.max():.1f} (class {worst}).",
                  seeds if norms.shape[1] > 1 else ""]


def union(session):
    """Two classes at once: the mix of class vectors against a vector of their own."""
    frame = with_distance(session.frame(), ATTACK)
    frame = frame[frame.scenario.str.contains("+", regex=False)]
    gap = paired(frame, "avg_gap", "forget_vector_composed", "forget_vector")
    if not gap.n:
        raise NotAvailable(f"preset {session.preset} composes no vectors for two classes.")
    better = " It is better." if comparison(gap) == "lower" else ""
    return [Row(f"Avg.Gap of the mix within {100 * GAPS:g} points of the own vector's", f"{gap.text()} points: {comparison(gap)}",
                judged(gap, -GAPS, GAPS), f"The mix is not close.{better}")], []


def audit(session):
    """The common audit of the focus scenario."""
    frame = focus(session, session.frame())
    auc = frame.assign(far=(frame.auc_confidence - 0.5).abs())
    near = paired(auc, "far", "forget_vector", "original")
    one, two, three = (of_method(frame, m, "auc_confidence", 2, 1) for m in ("original", "forget_vector", "retrain"))
    changed = frame[frame.method == "forget_vector"].changed
    gap = paired(frame, "js_forget", "forget_vector", "retrain")
    return [Row("the vector changes 0 % of the weights", f"{interval(changed).text()} %", met(bool((changed == 0).all()))),
            Row("its AUC is nearer 0.5 than the original's", f"original {one}, vector {two}, retrained {three}; distance to 0.5: "
                f"{comparison(near)}", moved(near, "lower"), "The attack finds as much as before.")], [
        f"JS on forget images against that of two retrained networks: **{comparison(gap)}**."]


def cost(session):
    """The search against retraining and against the dearest baseline."""
    rows, told = [], []
    for name, part in compared(session).items():
        mean = part.groupby(["seed", "method"]).epochs.mean().unstack()
        costs = mean[[m for m in BASELINES if m in mean]]
        most = costs.mean().idxmax()
        gap = interval(mean.forget_vector - mean[most])
        rows.append(Row(f"{name}: the dearest approximate method but the mix", f"{interval(mean.forget_vector).text(1, 1)} against "
                        f"{interval(mean[most]).text(1, 1)} ({label(most)}): {comparison(gap)}", moved(gap, "higher"),
                        f"{name}: {label(most)} costs as much or more."))
        share = interval(mean.forget_vector / mean.retrain)
        size = part[part.method == "forget_vector"].trainables.iloc[0] / part[part.method == "retrain"].trainables.iloc[0]
        told.append(f"{name}: {share.text(0)} % of our retraining, with {100 * size:.2g} % of its trainables.")
        mixed = part[part.method == "forget_vector_composed"]
        if len(mixed):
            whole = interval((mixed.epochs + mixed.epochs_vectors).groupby(mixed.seed).mean() / mean.retrain)
            told.append(f"{name}: the mix with its class vectors costs {whole.text(1, 1)} times a retraining.")
    return rows, told


def ruler(session):
    """The vector on the ruler's axes of accuracy and of loss."""
    frame = with_distance(focus(session, session.frame()), ATTACK)
    kept, loss = (paired(frame, metric, "forget_vector", "retrain") for metric in ("acc_forget", "loss_forget"))
    return [Row(f"accuracy on forget images within {100 * CLOSE:g} points of retraining's", f"{kept.text()} points",
                judged(kept, -CLOSE, CLOSE), "A part of the class is still read."),
            Row("mean loss on forget images below retraining's", f"{loss.text(1, 1)}: {comparison(loss)}", moved(loss, "lower"),
                "The floor does not hold the loss back here.")], []


def pattern(session):
    """Another preset: the same pattern as expected of a class? Counts, which one seed allows."""
    frame = single(session)
    mean = frame.groupby(["scenario", "method"])[["acc_forget", "acc_retain", "acc_test"]].mean()
    mine, base = (mean.xs(m, level="method") for m in ("forget_vector", "retrain"))
    gone = 1 - mine.acc_forget >= FORGOTTEN
    rows = [Row(f"UA of at least {100 * FORGOTTEN:g} % in every class", f"{int(gone.sum())} of {len(gone)}", met(bool(gone.all())))]
    for text, metric in (("RA", "acc_retain"), ("TA", "acc_test")):
        below = mine[metric] < base[metric]
        rows.append(Row(f"{text} below retraining's", f"{int(below.sum())} of {len(below)} classes", met(bool(below.all()))))
    if session.has("controls"):
        back = _exact(session, "acc_forget", REMOVED)
        rows.append(Row(f"{REMOVED}: UA is the original's", f"{sum(back)} of {len(back)} runs", met(all(back))))
    return rows, []
