"""Sentences of the ISPF notebook under its figures and tables: numbers and words come from records, nothing is typed in."""

from __future__ import annotations

import pandas as pd

from ... import data
from ...claims import HOLDS, Interval, comparison, interval, judge, paired
from ...plots import label
from ...tables import Markdown, with_distance
from .. import NotAvailable, prose
from ..figures import focus, images_of
from ..prose import of_method
from . import ATTACK
from .claims import (
    CLAIMS,
    LEVEL,
    MARGIN,
    class_grows,
    counted,
    curves,
    forgotten,
    inhibited,
    leaks,
    lost_rows,
    lower_epochs,
    more_kept,
    single,
    sooner,
)
from .figures import EMBEDDED, LOGGED, STRATEGIES, by_epoch, generator_steps, kinds, knob
from .predictions import measured

LEARNED = 0.5                   # of the kept test images: a network below it has learned too little for its A_f to say much
HEARD = 0.01                    # mean probability of the class above which a trace of it reached the student
STARVED = 0.5                   # of the rows: a gate that keeps fewer starves its student
HABIT = {   # what GKT's rise minus the control's says of the generator's own habit
    "higher": "which is more than the generator's own habit", "lower": "so the generator's own habit is enough",
    "no difference shown": "so the generator's own habit is not ruled out", "one seed: no interval": "one seed cannot tell why"}


def reading(session, figure: str) -> Markdown:
    """One sentence under a figure: its main numbers, each "we measured"."""
    return prose.reading(session, READINGS[figure])


def _of(good: bool) -> str:
    return f"**{HOLDS if good else 'does not hold'}**"


def _epoch(session, methods: list[str], metric: str, when: str = "last") -> str:
    """Mean over seeds of a quantity in the first or the last epoch, method by method."""
    rows = focus(session, curves(session))
    at = rows[rows.epoch == (rows.epoch.max() if when == "last" else rows.epoch.min())]
    return ", ".join(f"{label(m)} {of_method(at, m, metric)}" for m in methods if (at.method == m).any())


def _wrong_way(session) -> str:
    rows = focus(session, curves(session))
    if not (rows.method == "blockf").any():
        raise NotAvailable(f"preset {session.preset} has no run of BlockF.")
    leak = interval(rows[rows.method == "blockf"].groupby("seed").acc_test_forget.max())
    return (f"GKT drops more than the class: **{lost_rows(session).status}** (kept in the last epoch: "
            f"{_epoch(session, ['blockf', 'gkt_dfq'], 'kept')} %). BlockF lets the class through, by at least {100 * MARGIN:g} points of "
            f"A_f: **{leaks(session).status}** (at its highest epoch {leak.text()} %; in the last epoch "
            f"{_epoch(session, ['gkt_dfq', 'dfkd'], 'acc_test_forget')} %). "
            + ("So by A_f the crude way is *not* shown to be wrong at this scale. " if leaks(session).status != HOLDS else "")
            + _trace(session))


def _heard(session) -> pd.DataFrame:
    """Mean probability of the forgotten class in the last epoch, by run: teacher on what was drawn, student on what it was shown."""
    rows = focus(session, session.rows("unlearn"))
    rows = rows[rows.row == "class"]
    gone = next(s for s in session.specs if s.scenario == session.settings["focus"]).split().forget_classes
    return rows[rows["class"].isin(gone)].groupby(["method", "scenario", "seed"])[["teacher", "student"]].mean().reset_index()


def _trace(session) -> str:
    """What A_f does not show: BlockF against GKT by the loss on the forgotten images, which decides, and by the student's probabilities.

    Each student's probabilities are on the images that it was shown itself, so they are quoted, and decide nothing.
    """
    heard, frame = _heard(session), focus(session, session.frame())
    says = comparison(paired(heard, "student", "blockf", "gkt_dfq"))
    loss = comparison(paired(frame, "loss_forget", "blockf", "gkt_dfq"))
    said = {m: of_method(heard, m, "student", 2) for m in ("blockf", "gkt_dfq")}
    lost = {m: of_method(frame, m, "loss_forget", 1, 1) for m in ("blockf", "gkt_dfq", "retrain")}
    word = "a trace comes through" if loss == "lower" else "no trace is shown"
    return (f"By a softer measure **{word}**: BlockF's student against GKT's: loss on forgotten images {loss} ({lost['blockf']} and "
            f"{lost['gkt_dfq']}; retrained {lost['retrain']}). Its probability of the class, on other images (each student's on those that "
            f"it was shown): {says} ({said['blockf']} and {said['gkt_dfq']} %).")


def _accuracy(session) -> str:
    frame, rows = focus(session, session.frame()), by_epoch(session)
    ran = [m for m in (*STRATEGIES, "dfkd") if (rows.method == m).any()]
    words = [f"{label(m)} {comparison(paired(frame, 'acc_test_retain', m, 'gkt_dfq'))}" for m in ("pf", "ispf") if m in ran]
    against = {m: comparison(paired(frame, "acc_test_retain", m, "retrain")) for m in ran}
    highest = rows.groupby("method").acc_test_forget.max()
    left = [f"{label(m)} (in one seed up to {100 * highest[m]:.1f} %{_below_margin(highest[m])})" for m in ran if highest[m] > 0]
    zero = [label(m) for m in ran if highest[m] == 0]
    return (f"A_r of strategies that use every image, against GKT: **{', '.join(words)}**; of ISPF against retrained: "
            f"**{against['ispf']}** ({of_method(frame, 'ispf', 'acc_test_retain')} and {of_method(frame, 'retrain', 'acc_test_retain')} "
            f"%), and lower for {sum(w == 'lower' for w in against.values())} of {len(ran)} in all. A_f, at 0 in every epoch and seed: "
            f"{', '.join(zero) or 'nobody'}; not: {', '.join(left) or 'nobody'}. That every filter keeps it at exactly 0: "
            f"{_of(all(highest[m] == 0 for m in ran if m != 'dfkd'))}.")


def _below_margin(peak: float) -> str:
    return f", below the margin of {100 * MARGIN:g} points" if peak < MARGIN else ""


def _lower_here(session) -> str:
    """In how many epochs IS lowers the share of the class, in the scenario of the figures alone."""
    rows = focus(session, curves(session))
    pairs = [(a, b, lower_epochs(rows, "predicted_forget", a, b)) for a, b in (("is_gkt", "gkt_dfq"), ("ispf", "pf"))]
    told = ", ".join(f"{label(a)} below {label(b)} in {counted(lower)} epochs" for a, b, lower in pairs if len(lower))
    whole = "claim 2, over all classes; " if curves(session).scenario.nunique() > 1 else ""
    return f" ({whole}this class alone: {told})" if told else ""


def _filtering(session) -> str:
    out = (f"IS lowers the share of the class: **{inhibited(session).status}**{_lower_here(session)}; it grows under GKT: "
           f"**{class_grows(session).status}** (from {_epoch(session, ['gkt_dfq'], 'predicted_forget', 'first')} to "
           f"{_epoch(session, ['gkt_dfq'], 'predicted_forget')} %; "
           f"last epoch: {_epoch(session, ['is_gkt', 'pf', 'ispf'], 'predicted_forget')} %); IS lets more through the gate: "
           f"**{more_kept(session).status}**.")
    rises = _rises(session)
    ungated = {m: interval(rises[m]) for m in ("blockf", "pf", "ispf", "dfkd") if m in rises}
    if not ungated:
        return out
    told = ", ".join(f"{label(m)} **{comparison(g)}** ({g.text()} points)" for m, g in ungated.items())
    grown = [label(m) for m, g in ungated.items() if comparison(g) == "higher"]
    out += (f" Without GKT's gate, last minus first epoch: {told}: "
            + (f"the rise needs no gate ({', '.join(grown)})." if grown else "a rise without the gate is not shown."))
    if "dfkd" not in rises:
        return out
    more = interval(rises["gkt_dfq"] - rises["dfkd"])
    return f"{out} GKT's rise minus the control's: {more.text()} points (**{comparison(more)}**), {HABIT[comparison(more)]}."


def _rises(session) -> pd.DataFrame:
    """Share of the forget class in the last minus the first epoch: one column a method, one row a seed."""
    rows = focus(session, curves(session))
    first, last = (rows[rows.epoch == e].pivot(index="seed", columns="method", values="predicted_forget")
                   for e in (rows.epoch.min(), rows.epoch.max()))
    return last - first


def _scenarios(session) -> str:
    frame, rows, parts = session.frame(), session.rows("unlearn"), []
    last = rows[(rows.row == "epoch") & (rows.epoch == rows[rows.row == "epoch"].epoch.max())]
    last = last.assign(beyond=1 - last.kept - last.predicted_forget)            # dropped, although taken for another class
    for scenario, part in frame.groupby("scenario", sort=False):
        gap, mine = paired(part, "acc_test_retain", "ispf", "gkt_dfq"), last[last.scenario == scenario]
        parts.append(f"{scenario}: GKT keeps {of_method(mine, 'gkt_dfq', 'kept')} % of the rows and drops "
                     f"{of_method(mine, 'gkt_dfq', 'beyond')} % beyond the class{'es' * ('+' in scenario)}, A_r of ISPF against GKT "
                     f"**{comparison(gap)}** ({gap.text()} points)")
    out = "; ".join(parts) + "."
    wide = frame.pivot_table(index=["scenario", "seed"], columns="method", values="acc_test_retain")
    beyond = last[last.method == "gkt_dfq"].set_index(["scenario", "seed"]).beyond
    more, gap = _several_minus_one(beyond), _several_minus_one(wide.ispf - wide.gkt_dfq)
    if not more.n:
        return out
    return (f"{out} Several classes against one: rows dropped beyond the class or classes **{comparison(more)}** ({more.text()} points), "
            f"gap between ISPF and GKT **{comparison(gap, 'larger', 'smaller')}** ({gap.text()} points).")


def _several_minus_one(values: pd.Series) -> Interval:
    """A value of (scenario, seed): mean where several classes are forgotten minus mean where one is, over seeds."""
    several = values.index.get_level_values("scenario").str.contains("+", regex=False)
    return interval(values[several].groupby("seed").mean() - values[~several].groupby("seed").mean())


def _attacked(session) -> str:
    frame, out = focus(session, session.frame()), []
    for metric, name in (("mia_confidence", "called non-members by the confidence attack"),
                         ("mia_entropy", "members by the entropy attack")):
        word = comparison(paired(frame, metric, "ispf", "retrain"))
        mine, target = (of_method(frame, m, metric) for m in ("ispf", "retrain"))
        out.append(f"{name}: ISPF {mine} %, retrained {target} % (**{word}**)")
    return "forgotten images " + "; ".join(out) + "."


def _audit(session) -> str:
    frame = with_distance(focus(session, session.frame()), ATTACK)
    gap, memory = paired(frame, "avg_gap", "ispf", "gkt_dfq"), paired(frame, "acc_retain", "ispf", "retrain")
    wide = frame.pivot_table(index="seed", columns="method", values="acc_retain")
    part = (wide.ispf - wide.retrain).abs() / 4 / frame[frame.method == "ispf"].set_index("seed").avg_gap       # one of four distances
    auc = ", ".join(f"{label(m)} {of_method(frame, m, 'auc_confidence', 2, 1)}" for m in ("original", "dfkd", "ispf", "retrain")
                    if (frame.method == m).any())
    return (f"Avg.Gap of ISPF {of_method(frame, 'ispf', 'avg_gap')} points, against GKT's **{comparison(gap, 'larger', 'smaller')}** "
            f"({gap.text()} points); {interval(part).text(0)} % of it is the accuracy on kept *training* images, against retrained "
            f"**{comparison(memory)}** ({memory.text()} points). AUC: {auc}.")


def _cost(session) -> str:
    frame = focus(session, session.frame())
    wide = frame.pivot_table(index="seed", columns="method", values="epochs")
    time = frame.pivot_table(index="seed", columns="method", values="seconds")
    gap, share = paired(frame, "acc_test_retain", "ispf", "retrain"), interval(wide.ispf / wide.retrain)
    return (f"ISPF costs {share.text(0)} % of our retraining in training-epoch equivalents (cheaper than retraining: "
            f"{_of(share.mean < 1)}), {interval(time.ispf / time.retrain).text(0)} % in seconds; its A_r against retraining: "
            f"{comparison(gap)} ({gap.text()} points).")


def _classes(session) -> str:
    heard = _heard(session)
    means = heard.groupby("method").student.mean()
    parts = [f"{label(m)} {of_method(heard, m, 'teacher', 2)} / {of_method(heard, m, 'student', 2)}" for m in STRATEGIES if m in means]
    low = [label(m) for m in STRATEGIES if m in means and means[m] < HEARD]
    high = [label(m) for m in STRATEGIES if m in means and means[m] >= HEARD]
    traced = f"above: **{', '.join(high)}**: a trace of the class comes through" if high else "above: **nobody**"
    return (f"student's mean below {100 * HEARD:g} %: **{', '.join(low) or 'nobody'}**; {traced}. Teacher / student, last epoch (%): "
            f"{', '.join(parts)}.")


def _embedding(session) -> str:
    points = kinds(session)
    red = points.assign(red=points.kind == "R").groupby(["method", "epoch"]).red.mean().unstack()
    parts = [f"{label(m)} {', '.join(f'{100 * v:.0f}' for v in red.loc[m])}" for m in EMBEDDED if m in red.index]
    out = []
    for m in [m for m in EMBEDDED if m in red.index and m != "gkt_dfq"]:
        less = red.loc["gkt_dfq"] - red.loc[m]
        first = "fewer" if less.iloc[0] > 0 else "more" if less.iloc[0] < 0 else "as many"
        fewer, columns = int((less.iloc[1:] > 0).sum()), len(less) - 1
        out.append(f"{label(m)}, fewer than GKT: later columns **{fewer} of {columns}** ({_of(fewer == columns)}); first column: {first}.")
    return f"red, by column (%): {'; '.join(parts)} (n = {points.seed.nunique()}). {' '.join(out)}"


def _pictures(session) -> str:
    rows = focus(session, session.rows("unlearn"))
    rows = rows[rows.row == "picture"]
    if rows.empty:
        raise NotAvailable(f"preset {session.preset} keeps no synthetic images.")
    rows = rows[rows.seed == rows.seed.min()]
    gone = data.split(data.load(rows.data.iloc[0]), session.settings["focus"], 0).forget_classes
    counts = rows.assign(gone=rows.predicted.isin(gone)).groupby("method").gone.sum()
    told = ", ".join(f"{label(m)} {counts[m]}" for m in STRATEGIES if m in counts)
    pairs = [(a, b) for a, b in (("is_gkt", "gkt_dfq"), ("ispf", "pf")) if a in counts and b in counts]
    fewer = sum(counts[a] < counts[b] for a, b in pairs)
    verdict = f" Fewer with IS than without: {_of(fewer == len(pairs))} in {fewer} of {len(pairs)} pairs." if pairs else ""
    return f"of {rows.image.nunique()} drawn images, taken for the class: {told} (n = 1: an illustration).{verdict}"


def _strip(session) -> str:
    rows = images_of(session, "unlearn", "strip")
    rows = rows[rows.seed == rows.seed.min()]
    gone = data.split(data.load(rows.data.iloc[0]), session.settings["focus"], 0).forget_classes
    mine, others = rows[rows.label.isin(gone)], rows[~rows.label.isin(gone)]
    known = mine.predicted.isin(gone).groupby(mine.model).sum()
    right = (others.predicted == others.label).groupby(others.model).sum()
    models = ("original", "ispf", "retrain")
    told = ", ".join(f"{label(m)} {known.get(m, 0)}" for m in models)
    rightly = ", ".join(f"{label(m)} {right[m]}" for m in models if m in right)
    kept = f"; of {others.role.nunique()} others, named rightly: {rightly}" if rightly else ""
    return (f"of {mine.role.nunique()} images of the class, named as it: {told}{kept} (n = 1). Neither ISPF nor retrained names the "
            f"class: {_of(not (known.get('ispf', 0) or known.get('retrain', 0)))}.")


def _threshold(session) -> str:
    every = knob(session)
    wide = {k: every.pivot_table(index="seed", columns="hp_threshold", values=k) for k in ("kept", "acc_test_retain", "acc_test_forget")}
    small = min(every.hp_threshold)
    against = {k: comparison(interval(w[small] - w[0.01])) for k, w in wide.items()}
    off = {k: comparison(interval(w[1.0] - w[0.01])) if 1.0 in w else "not run" for k, w in wide.items()}
    both = {k: f"{interval(w[small]).text(0)} and {interval(w[0.01]).text(0)} %" for k, w in wide.items()}
    missed = ": no cost of the gate is shown" if off["acc_test_retain"] == "no difference shown" else ""
    return (f"at {small:g} against 0.01: rows kept **{against['kept']}** ({both['kept']}), A_r **{against['acc_test_retain']}** "
            f"({both['acc_test_retain']}). Off, against 0.01: A_f **{off['acc_test_forget']}**, A_r **{off['acc_test_retain']}**{missed}.")


def _longer(session) -> str:
    rows = session.rows("longer")
    rows, parts = rows[rows.row == "epoch"], []
    for m, part in rows.groupby("method", sort=False):
        first, last = (part[part.epoch == e] for e in (part.epoch.min(), part.epoch.max()))
        change = last.kept.mean() - first.kept.mean()
        parts.append(f"{label(m)}: A_r {of_method(last, m, 'acc_test_retain')} %, A_f at most {100 * part.acc_test_forget.max():.1f} %, "
                     f"rows kept **{'fall' if change < 0 else 'do not fall'}** ({of_method(first, m, 'kept')} to "
                     f"{of_method(last, m, 'kept')} %)")
    back, steps = rows.acc_test_forget.max() > MARGIN, generator_steps(rows)
    short = max(steps.values()) < LOGGED
    ends = rows[rows.epoch == rows.groupby("method").epoch.transform("max")].groupby("method").acc_test_retain.mean()
    weak = [label(m) for m in ends.index if ends[m] < LEARNED]
    verdict = "comes back" if back else "does not come back: not testable at this length" if short else "does not come back"
    told = ", ".join(f"{label(m)} {n:g}" for m, n in steps.items())
    return (f"{'; '.join(parts)} (n = {rows.seed.nunique()}). The class **{verdict}** (steps of the generator: {told}; in that log it "
            f"stays away for the first {LOGGED})."
            f"{' Too little learned to tell: ' + ', '.join(weak) + '.' if weak else ''}")


def _ruler(session) -> str:
    frame = focus(session, session.frame())
    metrics = {"acc_test_forget": "A_f", "mia_confidence": "the confidence attack", "loss_forget": "the loss on forgotten images",
               "auc_confidence": "the AUC", "acc_test_retain": "A_r"}
    out, near, bare = [], {}, []
    ran = [m for m in STRATEGIES if (frame.method == m).any()]
    for metric, name in metrics.items():
        target = frame[frame.method == "retrain"][metric]
        band = max(target.std(), 0.0) + 1e-9 if len(target) > 1 else 1e-9
        near[metric] = [m for m in ran if abs(frame[frame.method == m][metric].mean() - target.mean()) <= band]
        out.append(f"on {name}: {', '.join(map(label, near[metric])) or 'nobody'}")
        if abs(frame[frame.method == "dfkd"][metric].mean() - target.mean()) <= band:
            bare.append(name)
    loss = frame.groupby("method").loss_forget.mean()
    knows = all(loss[m] < loss["retrain"] for m in ran) and not near["loss_forget"]
    return (f"within one standard deviation of retrained, {'; '.join(out)}. Expected at 1: on A_f **{len(near['acc_test_forget'])} of "
            f"{len(ran)}**, on the confidence attack **{len(near['mia_confidence'])} of {len(ran)}**; far off on A_r: "
            f"{_of(not near['acc_test_retain'])}."
            + (f" The control, which filters nothing, is within it too on {', '.join(bare)}: that cannot tell the strategies apart." if bare
               else "")
            + (" By the mean loss no student gives the true label as little probability as the retrained model (perhaps because students "
               "are less sure of everything)." if knows else ""))


def _relearn(session) -> str:
    runs = focus(session, session.frame())
    if "batches" not in runs:
        raise NotAvailable(f"preset {session.preset} relearns nothing.")
    parts = []
    for m in ("dfkd", "gkt_dfq", "ispf", "retrain"):
        batches = runs[runs.method == m].sort_values("seed").batches.fillna(float("inf"))
        parts.append(f"{label(m)} {', '.join('never' if b == float('inf') else f'{b:g}' for b in batches)}")
    early, seeds = sooner(session)
    index, tried = measured(session)["relearning"], session.rows("unlearn").batch.max()
    return (f"mini-batches until 95 % of the original's forget accuracy, by seed: {'; '.join(parts)}. ISPF with the retrained model: "
            f"expectation **{'missed' if early > seeds / 2 else 'met'}**, **{early} of {seeds}** earlier; anamnesis index "
            f"{index.text(2, 1)} (below 1: sooner than retrained; \"never\" counts as {tried + 1:g}).")


def _forgotten(session) -> str:
    rows = focus(session, session.rows("unlearn"))
    rows = rows[rows.row == "forgotten"]
    if rows.empty:
        raise NotAvailable(f"preset {session.preset} keeps no single images.")
    known = rows.assign(known=rows.confidence > 0).groupby(["model", "seed"]).known.mean()
    parts = [f"{label(m)} **{interval(known[m]).text()}**" for m in ("original", "ispf", "retrain")]
    return f"share of the forgotten images with a confidence above zero (%): {', '.join(parts)}."


def _verdicts(session) -> str:
    table = judge(CLAIMS, session)
    parts = [f"**{status}** {len(part)} ({', '.join(map(str, part.claim))})" for status, part in table.groupby("verdict", sort=False)]
    rows = focus(session, curves(session))
    trace = f" Claim 10 is judged by A_f alone. {_trace(session)}" if (rows.method == "blockf").any() else ""
    return f"of {len(table)} claims: {', '.join(parts)}.{trace}"


READINGS = {"wrong_way": _wrong_way, "accuracy": _accuracy, "filtering": _filtering, "scenarios": _scenarios, "attacked": _attacked,
            "audit": _audit, "cost": _cost, "pictures": _pictures, "classes": _classes, "embedding": _embedding, "threshold": _threshold,
            "longer": _longer, "ruler": _ruler, "strip": _strip, "forgotten": _forgotten, "relearn": _relearn, "verdicts": _verdicts}


def one_glance(session) -> Markdown:
    """A preset with few seeds, method by method: A_r, A_f, rows kept, images taken for the class; is GKT's student starved?"""
    frame, rows = focus(session, session.frame()), focus(session, curves(session))
    last = rows[rows.epoch == rows.epoch.max()]
    parts, n = [], frame.seed.nunique()
    for m in ("original", "retrain", *STRATEGIES):
        if (frame.method == m).any():
            drawn = (last.method == m).any()
            tail = f", kept {of_method(last, m, 'kept')}, taken for the class {of_method(last, m, 'predicted_forget')}" if drawn else ""
            parts.append(f"{label(m)} A_r {of_method(frame, m, 'acc_test_retain')}, A_f {of_method(frame, m, 'acc_test_forget')}{tail}")
    mean, kept = frame.groupby("method").acc_test_retain.mean(), last[last.method == "gkt_dfq"].kept.mean()
    starved = "seen" if kept < STARVED and mean["gkt_dfq"] < mean["ispf"] else "not seen"
    far = "seen" if max(mean["gkt_dfq"], mean["ispf"]) < LEVEL * mean["retrain"] else "not seen"
    return Markdown(f"*We measured* (n = {n}, %): {'; '.join(parts)}. The gate starves GKT's student (fewer than half of the rows kept, "
                    f"A_r below ISPF's): **{starved}**; both students below {100 * LEVEL:g} % of the retrained model's A_r: **{far}**"
                    f"{' (n = 1, no interval)' if n == 1 else ''}.")


def answer(session) -> Markdown:
    """The answer to the notebook's question, from this session's records."""
    frame = focus(session, session.frame())
    gap, lost = paired(frame, "acc_test_retain", "ispf", "gkt_dfq"), paired(frame, "acc_test_retain", "retrain", "ispf")
    alone = single(session, session.frame())
    pooled, names = paired(alone, "acc_test_retain", "ispf", "gkt_dfq"), list(dict.fromkeys(alone.scenario))
    wide = frame.pivot_table(index="seed", columns="method", values="epochs")
    share = interval(wide.ispf / wide.retrain)
    start, gone = of_method(frame, "original", "acc_test_forget"), of_method(frame, "ispf", "acc_test_forget")
    verdict = "yes" if forgotten(session).status == HOLDS else "not shown"
    out = [f"*We measured* (preset {session.preset}, n = {frame.seed.nunique()}). **Forgotten? By its answers, {verdict}:** accuracy on "
           f"the class falls from {start} to {gone} % (retrained {of_method(frame, 'retrain', 'acc_test_forget')} %)."]
    if "batches" in frame:
        early, seeds = sooner(session)
        out.append(f"**By relearning, {'not quite' if early > seeds / 2 else 'yes'}:** it comes back before the retrained model in {early} "
                   f"of {seeds} seeds (partly, we suspect, because a weaker network is turned around faster).")
    both = f", over {' and '.join(names)} together {comparison(pooled)} ({pooled.text()})" if len(names) > 1 else ""
    gate = paired(frame, "acc_test_retain", "dfkd", "gkt_dfq")
    bare = "; no cost of the gate itself is shown" if comparison(gate) in ("no difference shown", "lower") else ""
    out.append(f"**Kept:** A_r {of_method(frame, 'ispf', 'acc_test_retain')} %, {lost.text()} points less than retraining with data. "
               f"Against GKT, after few epochs: {comparison(gap)} ({gap.text()} points){both}{bare}. **Price:** {share.text(0)} % of "
               f"retraining's cost: it buys independence of the data{', not speed' if share.mean >= 1 else ''}.")
    return Markdown(" ".join(out))
