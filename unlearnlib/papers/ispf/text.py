"""Tables of the ISPF notebook, and the sentences around them, whose numbers come from records: nothing here is typed in."""

from __future__ import annotations

import pandas as pd
import torch

from ...claims import HOLDS, Interval, comparison, interval, paired
from ...filtering import postfilter
from ...plots import label
from ...tables import Markdown, Table, by_method, published, with_distance
from .. import NotAvailable, prose
from ..figures import focus
from ..prose import of_method, scaled
from . import ATTACK
from .claims import LEVEL, MARGIN, class_grows, curves, first_epochs, forgotten, inhibited, leaks, lost_rows, more_kept, single
from .figures import EMBEDDED, STRATEGIES, kinds, knob

COLUMNS = {"A_r (%)": ("acc_test_retain", 1, 100), "A_f (%)": ("acc_test_forget", 1, 100), "all test images (%)": ("acc_test", 1, 100),
           "confidence attack: non-member (%)": ("mia_confidence", 1, 100), "entropy attack: member (%)": ("mia_entropy", 1, 100)}
AUDIT_COLUMNS = {"Avg.Gap (0 is best)": ("avg_gap", 1, 100), "ToW (1 is best)": ("tow", 2, 1), "AUC confidence": ("auc_confidence", 2, 1),
                 "TPR at 1 % FPR (%)": ("tpr1_confidence", 1, 100), "train acc, kept (%)": ("acc_retain", 1, 100),
                 "JS test": ("js_test", 2, 1)}
COST_COLUMNS = {"training-epoch equivalents": ("epochs", 1, 1), "seconds": ("seconds", 1, 1), "rows kept (%)": ("kept", 0, 100),
                "A_r (%)": ("acc_test_retain", 1, 100)}
LEARNED = 0.5                   # of the kept test images: a network below it has learned too little for its A_f to say much
MISSED = {
    ("dropped", "below"): "the teacher is surer of what it sees than we thought, so less is suspect",
    ("dropped", "above"): "the images are vague: the teacher finds a trace of the class in many of them",
    ("share", "below"): "the inhibition is stronger here than in the trial",
    ("share", "above"): "so few images of the class are drawn anyway that there is little to inhibit",
    ("let through", "below"): "the gate drops vague images of other classes, and inhibition does not make those surer",
    ("let through", "above"): "without the class the images are surer, and pass",
    ("gain", "below"): "few epochs: the lost rows are made up for by the surer ones that are left",
    ("gain", "above"): "in so short a training every lost row counts",
    ("forgotten", "above"): "the threshold lets through what it lets through: up to one percent of the class in each image",
    ("forgotten", "below"): "the filter and the inhibition together leave no trace of the class",
    ("leak", "below"): "what the teacher takes for another class teaches the student too little of this one",
    ("leak", "above"): "images between the classes carry it across",
    ("cost", "below"): "the generator is smaller, or the training longer, than reckoned",
    ("cost", "above"): "the generator costs as much as the network at this scale",
    ("relearning", "below"): "the student comes back sooner than the retrained model: it saw traces of the class",
    ("relearning", "above"): "the student comes back later than the retrained model: its features are poorer",
}
QUANTITIES = {
    "dropped": ("rows that GKT drops beyond those of the class, second half (% of a batch)", "three tenths in a trial with one seed"),
    "share": ("images taken for the class: ISPF as a share of PostFilter alone (%)", "inhibition makes the class rare"),
    "let through": ("kept by the gate, with inhibition minus without (points)", "less of the class, so less to suspect"),
    "gain": ("A_r at the end, ISPF minus GKT (points)", "every row is used"),
    "forgotten": ("A_f of ISPF at the end (%)", "no image shows the class, and the filter takes what is left"),
    "leak": ("A_f of BlockF at its highest epoch, where it ran (%)", "vague images of the class pass under another name"),
    "cost": ("cost of ISPF as a share of retraining (%)", "from the settings: batches times steps, and the generator"),
    "relearning": ("relearning time of ISPF over that of retrained (never: one batch more than tried)", "neither has seen the class"),
}


def measured(session) -> dict[str, Interval]:
    """The quantities of the prediction box, one class forgotten at a time, scenarios averaged first."""
    rows, frame = curves(session), single(session, session.frame())
    late = rows[(rows.method == "gkt_dfq") & (rows.share > 0.5)]
    per_run = rows.groupby(["method", "scenario", "seed"])[["predicted_forget", "kept"]].mean().reset_index()
    shares = per_run.pivot_table(index="seed", columns="method", values="predicted_forget")
    blocked = rows[rows.method == "blockf"].groupby(["scenario", "seed"]).acc_test_forget.max()
    costs = frame.pivot_table(index="seed", columns="method", values="epochs")
    there = focus(session, session.frame())
    ratio = []
    if "batches" in there:                                                      # never: one batch more than were tried
        tried = session.rows("unlearn").batch.max()
        batches = there.fillna({"batches": tried + 1}).pivot(index="seed", columns="method", values="batches")
        ratio = batches.ispf / batches.retrain
    return {
        "dropped": scaled(interval((1 - late.predicted_forget - late.kept).groupby(late.seed).mean()), 100),
        "share": scaled(interval(shares.ispf / shares.pf if "pf" in shares else []), 100),
        "let through": scaled(paired(per_run, "kept", "is_gkt", "gkt_dfq"), 100),
        "gain": scaled(paired(frame, "acc_test_retain", "ispf", "gkt_dfq"), 100),
        "forgotten": scaled(interval(frame[frame.method == "ispf"].groupby("seed").acc_test_forget.mean()), 100),
        "leak": scaled(interval(blocked.groupby("seed").mean()), 100),
        "cost": scaled(interval(costs.ispf / costs.retrain), 100),
        "relearning": interval(ratio),
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


def paper_table(session) -> Table:
    """Scenario x strategy in the layout of the official code's grid, beside the published values (none could be verified)."""
    frame = session.frame()
    return published(frame, "ispf", by_method(frame, COLUMNS), ["A_r", "A_f"])


def audit_table(session) -> Table:
    """The common audit of the detailed scenario."""
    return by_method(with_distance(focus(session, session.frame()), ATTACK), AUDIT_COLUMNS)


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


def reading(session, figure: str) -> Markdown:
    """One sentence under a figure: its main numbers, each "we measured"."""
    return prose.reading(session, READINGS[figure])


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
            f"{_epoch(session, ['blockf', 'gkt_dfq'], 'kept')} %). BlockF lets the class through: **{leaks(session).status}** (A_f at its "
            f"highest epoch {leak.text()} %; in the last epoch {_epoch(session, ['gkt_dfq', 'dfkd'], 'acc_test_forget')} %)."
            + (" So at this scale the crude way is *not* shown to be wrong." if leaks(session).status != HOLDS else ""))


def progress(session) -> Table:
    """Strategy by strategy in the last epoch: A_r, against GKT, how soon, A_f, rows kept, images taken for the class."""
    frame, first, rows = (focus(session, f) for f in (session.frame(), first_epochs(session), curves(session)))
    last, out = rows[rows.epoch == rows.epoch.max()], []
    for m in [m for m in (*STRATEGIES, "dfkd") if (last.method == m).any()]:
        gap = paired(frame, "acc_test_retain", m, "gkt_dfq")
        out.append({"strategy": label(m), "A_r (%)": of_method(last, m, "acc_test_retain"),
                    "minus GKT (points)": "–" if m == "gkt_dfq" else f"{gap.text()}: {comparison(gap)}",
                    f"epoch at {100 * LEVEL:g} % of retrained": of_method(first, m, "first", 1, 1),
                    "A_f (%)": of_method(last, m, "acc_test_forget"),
                    "rows kept (%)": of_method(last, m, "kept"), "drawn as the class (%)": of_method(last, m, "predicted_forget")})
    return Table(pd.DataFrame(out))


def _accuracy(session) -> str:
    frame = focus(session, session.frame())
    words = [f"{label(m)} {comparison(paired(frame, 'acc_test_retain', m, 'gkt_dfq'))}" for m in ("pf", "ispf")
             if (frame.method == m).any()]
    below = comparison(paired(frame, "acc_test_retain", "ispf", "retrain"))
    return (f"A_r of strategies that use every image, against GKT: **{', '.join(words)}**; of ISPF against retrained: **{below}** "
            f"({of_method(frame, 'ispf', 'acc_test_retain')} and {of_method(frame, 'retrain', 'acc_test_retain')} %). In the table, an "
            "epoch one after the last means never.")


def _filtering(session) -> str:
    return (f"IS lowers the share of the class: **{inhibited(session).status}**; it grows under GKT: **{class_grows(session).status}** "
            f"(from {_epoch(session, ['gkt_dfq'], 'predicted_forget', 'first')} to {_epoch(session, ['gkt_dfq'], 'predicted_forget')} %; "
            f"last epoch: {_epoch(session, ['is_gkt', 'pf', 'ispf'], 'predicted_forget')} %); IS lets more through the gate: "
            f"**{more_kept(session).status}**. Without GKT's gate, last minus first epoch: {_rise(session, ['blockf', 'pf', 'dfkd'])}.")


def _rise(session, methods: list[str]) -> str:
    """Does the share of the forget class grow from the first to the last epoch, method by method?"""
    rows, parts = focus(session, curves(session)), []
    for m in [m for m in methods if (rows.method == m).any()]:
        wide = rows[rows.method == m].pivot(index="seed", columns="epoch", values="predicted_forget")
        change = interval(wide[wide.columns.max()] - wide[wide.columns.min()])
        parts.append(f"{label(m)} **{comparison(change)}** ({change.text()} points)")
    return ", ".join(parts)


def _scenarios(session) -> str:
    frame, rows, parts = session.frame(), session.rows("unlearn"), []
    last = rows[(rows.row == "epoch") & (rows.epoch == rows[rows.row == "epoch"].epoch.max())]
    for scenario, part in frame.groupby("scenario", sort=False):
        gap = paired(part, "acc_test_retain", "ispf", "gkt_dfq")
        kept = of_method(last[last.scenario == scenario], "gkt_dfq", "kept")
        parts.append(f"{scenario}: GKT keeps {kept} % of the rows, A_r of ISPF against GKT **{comparison(gap)}** ({gap.text()} points)")
    return "; ".join(parts) + "."


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
    gap, memory = paired(frame, "avg_gap", "ispf", "retrain"), paired(frame, "acc_retain", "ispf", "retrain")
    auc = {m: of_method(frame, m, "auc_confidence", 2, 1) for m in ("original", "ispf", "retrain")}
    return (f"Avg.Gap of ISPF against retrained: **{comparison(gap, 'larger', 'smaller')}** "
            f"({of_method(frame, 'ispf', 'avg_gap')} points), accuracy on kept *training* images **{comparison(memory)}** "
            f"({memory.text()} points). AUC: original {auc['original']}, ISPF "
            f"{auc['ispf']}, retrained {auc['retrain']}.")


def _cost(session) -> str:
    frame = focus(session, session.frame())
    wide = frame.pivot_table(index="seed", columns="method", values="epochs")
    time = frame.pivot_table(index="seed", columns="method", values="seconds")
    gap = paired(frame, "acc_test_retain", "ispf", "retrain")
    return (f"ISPF costs {interval(wide.ispf / wide.retrain).text(0)} % of our retraining in training-epoch equivalents, "
            f"{interval(time.ispf / time.retrain).text(0)} % in seconds; its A_r against retraining: {comparison(gap)} "
            f"({gap.text()} points).")


def _classes(session) -> str:
    rows = focus(session, session.rows("unlearn"))
    rows = rows[rows.row == "class"]
    classes = next(s for s in session.specs if s.scenario == session.settings["focus"]).split().forget_classes
    gone = rows[rows["class"].isin(classes)].groupby(["method", "seed"])[["teacher", "student"]].mean().reset_index()
    parts = [f"{label(m)} {of_method(gone, m, 'teacher', 2)} / {of_method(gone, m, 'student', 2)}" for m in STRATEGIES
             if (gone.method == m).any()]
    means = gone.groupby("method").student.mean()
    low = [label(m) for m in STRATEGIES if m in means and means[m] < 0.01]
    return f"student's mean below 1 %: **{', '.join(low) or 'nobody'}**. Teacher / student, last epoch (%): {', '.join(parts)}."


def _embedding(session) -> str:
    points = kinds(session)
    red = points.assign(red=points.kind == "R").groupby(["method", "epoch"]).red.mean().unstack()
    parts = [f"{label(m)} {', '.join(f'{100 * v:.0f}' for v in red.loc[m])}" for m in EMBEDDED if m in red.index]
    fewer = " ".join(f"{label(m)}: in **{int((red.loc[m] < red.loc['gkt_dfq']).sum())} of {red.shape[1]}** columns fewer than GKT."
                     for m in EMBEDDED if m in red.index and m != "gkt_dfq")
    return f"red, by column (%): {'; '.join(parts)}. {fewer}"


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
        last = part[part.epoch == part.epoch.max()]
        parts.append(f"{label(m)}: A_r {of_method(last, m, 'acc_test_retain')} %, A_f at most {100 * part.acc_test_forget.max():.1f} %")
    back = rows.acc_test_forget.max() > MARGIN
    ends = rows[rows.epoch == rows.groupby("method").epoch.transform("max")].groupby("method").acc_test_retain.mean()
    weak = [label(m) for m in ends.index if ends[m] < LEARNED]
    return (f"{'; '.join(parts)} (n = {rows.seed.nunique()}). The class **{'comes back' if back else 'does not come back'}**"
            f"{'' if back else ': the failure is not reproduced at this length'}."
            f"{' Too little learned to tell: ' + ', '.join(weak) + '.' if weak else ''}")


def _ruler(session) -> str:
    frame = focus(session, session.frame())
    metrics = {"acc_test_forget": "A_f", "loss_forget": "the loss on forgotten images", "auc_confidence": "the AUC",
               "acc_test_retain": "A_r"}
    out = []
    for metric, name in metrics.items():
        target = frame[frame.method == "retrain"][metric]
        band = max(target.std(), 0.0) + 1e-9 if len(target) > 1 else 1e-9
        near = [label(m) for m in STRATEGIES if abs(frame[frame.method == m][metric].mean() - target.mean()) <= band]
        out.append(f"on {name}: {', '.join(near) or 'nobody'}")
    return f"within one standard deviation of retrained, {'; '.join(out)}."


def sooner(session) -> tuple[int, int]:
    """(seeds in which ISPF relearns in fewer batches than the retrained model, all seeds)."""
    runs = focus(session, session.frame())
    wide = runs.fillna({"batches": float("inf")}).pivot(index="seed", columns="method", values="batches")
    return int((wide.ispf < wide.retrain).sum()), len(wide)


def _relearn(session) -> str:
    runs = focus(session, session.frame())
    if "batches" not in runs:
        raise NotAvailable(f"preset {session.preset} relearns nothing.")
    parts = []
    for m in ("dfkd", "gkt_dfq", "ispf", "retrain"):
        batches = runs[runs.method == m].sort_values("seed").batches.fillna(float("inf"))
        parts.append(f"{label(m)} {', '.join('never' if b == float('inf') else f'{b:g}' for b in batches)}")
    early, seeds = sooner(session)
    index = measured(session)["relearning"]
    return (f"mini-batches until 95 % of the original's forget accuracy, by seed: {'; '.join(parts)}. ISPF is back before the retrained "
            f"model in **{early} of {seeds}** seeds; anamnesis index, with never as one batch more than tried: {index.text(2, 1)}.")


def _forgotten(session) -> str:
    rows = focus(session, session.rows("unlearn"))
    rows = rows[rows.row == "forgotten"]
    if rows.empty:
        raise NotAvailable(f"preset {session.preset} keeps no single images.")
    known = rows.assign(known=rows.confidence > 0).groupby(["model", "seed"]).known.mean()
    parts = [f"{label(m)} **{interval(known[m]).text()}**" for m in ("original", "ispf", "retrain")]
    return f"share of the forgotten images with a confidence above zero (%): {', '.join(parts)}."


READINGS = {"wrong_way": _wrong_way, "accuracy": _accuracy, "filtering": _filtering, "scenarios": _scenarios, "attacked": _attacked,
            "audit": _audit, "cost": _cost, "classes": _classes, "embedding": _embedding, "threshold": _threshold, "longer": _longer,
            "ruler": _ruler, "forgotten": _forgotten, "relearn": _relearn}


def one_glance(session) -> Markdown:
    """A preset with few seeds, method by method: A_r, A_f, rows kept, images taken for the class, cost."""
    frame, rows = focus(session, session.frame()), focus(session, curves(session))
    last = rows[rows.epoch == rows.epoch.max()]
    parts = []
    for m in ("original", "retrain", *STRATEGIES):
        if (frame.method == m).any():
            drawn = (last.method == m).any()
            tail = f", kept {of_method(last, m, 'kept')}, taken for the class {of_method(last, m, 'predicted_forget')}" if drawn else ""
            parts.append(f"{label(m)} A_r {of_method(frame, m, 'acc_test_retain')}, A_f {of_method(frame, m, 'acc_test_forget')}{tail}")
    return Markdown(f"*We measured* (n = {frame.seed.nunique()}, %): {'; '.join(parts)}.")


def answer(session) -> Markdown:
    """The answer to the notebook's question, from this session's records."""
    frame = focus(session, session.frame())
    gap, lost = paired(frame, "acc_test_retain", "ispf", "gkt_dfq"), paired(frame, "acc_test_retain", "retrain", "ispf")
    pooled = paired(single(session, session.frame()), "acc_test_retain", "ispf", "gkt_dfq")
    wide = frame.pivot_table(index="seed", columns="method", values="epochs")
    share = interval(wide.ispf / wide.retrain)
    start, gone = of_method(frame, "original", "acc_test_forget"), of_method(frame, "ispf", "acc_test_forget")
    verdict = "yes" if forgotten(session).status == HOLDS else "not shown"
    out = [f"*We measured* (preset {session.preset}, n = {frame.seed.nunique()}). **Forgotten? By its answers, {verdict}:** accuracy on "
           f"the class falls from {start} to {gone} % (retrained {of_method(frame, 'retrain', 'acc_test_forget')} %)."]
    if "batches" in frame:
        early, seeds = sooner(session)
        out.append(f"**By relearning, {'not quite' if early > seeds / 2 else 'yes'}:** it comes back before the retrained model in {early} "
                   f"of {seeds} seeds (a weaker network, though, is turned around faster).")
    out.append(f"**Kept:** A_r {of_method(frame, 'ispf', 'acc_test_retain')} %, {lost.text()} points less than retraining with data. "
               f"Against GKT, after few epochs: {comparison(gap)} ({gap.text()} points), over all single classes {comparison(pooled)} "
               f"({pooled.text()}). **Price:** {share.text(0)} % of retraining's cost: it buys independence of the "
               f"data{', not speed' if share.mean >= 1 else ''}.")
    return Markdown(" ".join(out))
