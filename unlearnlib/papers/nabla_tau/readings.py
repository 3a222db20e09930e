"""A sentence under each figure of the ∇τ notebook: its main numbers from records, and whether they are as expected."""

from __future__ import annotations

import pandas as pd

from ...claims import Interval, comparison, interval, paired
from ...plots import label
from ...tables import Markdown
from .. import NotAvailable, prose
from ..figures import focus
from ..prose import of_method
from .claims import gaps, largest, percent, random_runs, runs_of
from .studies import BINS

SHOWN = ("original", "nabla_tau", "retrain")
SAME = "no difference shown"
MOVED = 0.1             # nats: a forget loss that has changed by less is called unchanged
SEEN, OFF, RATE = "tau from seen data", "alpha0 = 0 (off)", "published rate and budget"


def reading(session, figure: str) -> Markdown:
    """One sentence under a figure: its main numbers, each "we measured"."""
    return prose.reading(session, READINGS[figure])


def variant_shown(name: str) -> str:
    """A variant as a reader meets it: the records' own names say more than a label should."""
    return {"as published": "as in the table"}.get(name, name.replace(" (too far)", ""))


def _curves(session) -> str:
    """A table of ends, one row a quantity, then what was expected: ∇τ at the green line, fine-tuning above it, a dip in test accuracy."""
    rows, told = [], []
    for name, runs in random_runs(session):
        f = largest(runs)
        words = {}
        for metric, title in (("mia_l", "MIA_L"), ("mia_e", "MIA_E"), ("acc_test", "test accuracy")):
            gaps_of = {m: paired(f, metric, "nabla_tau", m) for m in ("original", "finetune", "retrain")}
            words[title] = {m: comparison(gap) for m, gap in gaps_of.items()}
            rows.append({f"{percent(f.scenario.iloc[0])} forgotten, %": f"{name}, {title}"}
                        | {label(m): of_method(f, m, metric) for m in ("original", "finetune", "nabla_tau", "retrain")}
                        | {f"∇τ minus {label(m)}": f"{gap.text()} ({comparison(gap)})" for m, gap in gaps_of.items()})
        attacks = [k for k in words if k != "test accuracy"]
        told.append(f"{name}: purple falls to the green line? {_each(attacks, words, 'retrain', SAME, 'not distinguishable from it')}; "
                    f"grey falls less? {_each(attacks, words, 'finetune', 'lower', 'yes')}{_dip(session, f)}")
    return f"\n\n{pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True)}\n\n**As expected?** {'. '.join(told)}."


def _each(names: list[str], words: dict, other: str, wanted: str, said: str) -> str:
    """Quantity by quantity: the wanted outcome in words, or the outcome that came instead."""
    told = {k: words[k][other] for k in names}
    return ", ".join(f"{k} **{said if v == wanted else v if v.startswith('one seed') else 'no: ' + v}**" for k, v in told.items())


def _dip(session, runs: pd.DataFrame) -> str:
    """The lowest test accuracy of ∇τ on its way, in the mean over seeds."""
    rows = session.rows("curve") if session.has("curve") else pd.DataFrame({"row": []})
    rows = rows[(rows.row == "curve") & (rows.method == "nabla_tau") & (rows.data == runs.data.iloc[0])] if len(rows) else rows
    if rows.empty or "acc_test" not in rows:
        return ""
    points = rows.assign(point=rows.groupby("seed").cumcount()).groupby("point")[["passes", "acc_test"]].mean()
    low = points.loc[points.acc_test.idxmin()]
    start = runs[runs.method == "original"].acc_test.mean()
    dips = "yes" if low.acc_test < start and low.passes > 0 else "no"
    return (f"; test accuracy dips? **{dips}**, its lowest mean on the way is {100 * low.acc_test:.1f} %, after {low.passes:.1f} passes "
            f"(original {100 * start:.1f})")


def _wrong_way(session) -> str:
    rows = focus(session, session.rows("curve"))
    rows = rows if "hp_retain_weight" in rows else rows.assign(hp_retain_weight=float("nan"))
    ends = rows[(rows.row == "curve")].groupby(["method", "hp_retain_weight", "seed"], dropna=False).last().reset_index()
    mine = ends[ends.method == "neggrad_plus"].sort_values("hp_retain_weight", ascending=False)
    if mine.empty:
        raise NotAvailable(f"preset {session.preset} has no run of NegGrad+.")
    runs = focus(session, session.frame())
    start, goal = (runs[runs.method == m].set_index("seed").loss_forget for m in ("original", "retrain"))
    parts, told = [], []
    for (weight, part), push in zip(mine.groupby("hp_retain_weight", sort=False), ("as tuned", "pushed harder"), strict=False):
        end = part.set_index("seed").loss_forget
        beyond = int((end > goal.loc[end.index]).sum())
        told.append((int(((end - start).abs() > MOVED).sum()), beyond))
        parts.append(f"NegGrad+ {push} (retain weight {weight:g}): forget loss {interval(end).text(2, 1)} (against the original: "
                     f"**{comparison(interval(end - start))}**; above retrained in **{beyond} of {len(end)}** seeds), "
                     f"test accuracy {interval(part.acc_test).text()} %")
    nabla = ends[ends.method == "nabla_tau"]
    mine = nabla.set_index("seed").loss_forget
    against = interval(mine - goal.loc[mine.index])
    return ("; ".join(parts) + f". ∇τ: {interval(mine).text(2, 1)} and {interval(nabla.acc_test).text()} %; its "
            f"loss against retrained: **{comparison(against)}** ({against.text(2, 1)} nats). Original: {interval(start).text(2, 1)} and "
            f"{of_method(runs, 'original', 'acc_test')} %; retrained: {interval(goal).text(2, 1)} and "
            f"{of_method(runs, 'retrain', 'acc_test')} %." + _as_expected(told))


def _as_expected(told: list[tuple[int, int]]) -> str:
    """The first, tuned push should do nothing; the second take off in some seeds."""
    if len(told) < 2:
        return ""
    (moved, _), (_, off) = told[:2]
    nothing = f"no, in {moved} of the seeds the loss moves" if moved else "yes"
    return (f" As expected? The first does nothing: **{nothing}** (by more than {MOVED:g} nats); the second takes "
            f"off in some seeds: **{'yes' if off else 'no'}**.")


def _inside(session) -> str:
    rows = session.rows("curve")
    rows = rows[(rows.method == "nabla_tau") & (rows.row == "epoch")]
    parts = []
    for name, part in rows.groupby("data", sort=False):
        first, last = (part[part.epoch == e] for e in (part.epoch.min(), part.epoch.max()))
        top = interval((part.forget_loss / part.tau).groupby(part.seed).max())
        rose = interval(last.groupby("seed").tau.mean() - first.groupby("seed").tau.mean())
        reached = "yes" if top.low >= 1 else "no" if top.high < 1 else "in the mean" if top.mean >= 1 else "not in the mean"
        parts.append(f"{name}: target {interval(first.tau).text(2, 1)} at first, {interval(last.tau).text(2, 1)} at the last refresh "
                     f"(**{comparison(rose)}**); forget loss of the last pass {interval(last.forget_loss).text(2, 1)}; ascent on in "
                     f"{interval(first.active).text()} % of the first and {interval(last.active).text()} % of the last pass's batches; "
                     f"forget loss against the last target: **{comparison(_above(part))}**; did a pass reach its target? **{reached}** "
                     f"(at most {top.text(0)} %)")
    return "; ".join(parts) + "."


def _above(part: pd.DataFrame) -> Interval:
    """Forget loss of the last pass minus its target, over seeds."""
    last = part[part.epoch == part.epoch.max()].groupby("seed")[["forget_loss", "tau"]].mean()
    return interval(last.forget_loss - last.tau)


def _histograms(session) -> str:
    parts, agree = [], []
    for name, runs in random_runs(session):
        f = largest(runs)
        losses = [f"{label(m)} {of_method(f, m, 'loss_forget', 2, 1)} / {of_method(f, m, 'loss_test', 2, 1)}" for m in SHOWN]
        bars = {(m, p): first_bar(session, f.data.iloc[0], m, p) for m in SHOWN for p in ("forget", "test")}
        low = [f"{label(m)} {' / '.join(interval(bars[m, p]).text(0) for p in ('forget', 'test'))}" for m in SHOWN]
        apart = {m: part.loss_forget - part.loss_test for m, part in f.groupby("method")}
        told = {m: comparison(interval(apart.get(m, []))) for m in SHOWN}
        few = interval(bars["nabla_tau", "forget"] - bars["retrain", "forget"])
        agree.append(f"{name} **{'yes' if told['retrain'] == 'no difference shown' else 'no, ' + told['retrain']}**")
        parts.append(f"{name}, forget / test samples: mean loss {', '.join(losses)}; share in the first bar (%) {', '.join(low)}; "
                     f"loss of forget against test samples: {', '.join(f'{label(m)} **{v}**' for m, v in told.items())}; "
                     f"forget samples in the first bar, ∇τ minus retrained: **{comparison(few)}** ({few.text()} points)"
                     + (": fewer samples carry the loss than under retraining" if few.low > 0 else ""))
    why = " We did not test why they differ there: a retrained model need not hit 50 %." if any("no, " in a for a in agree) else ""
    return "; ".join(parts) + f". Do forget and test samples agree under the retrained model, as expected? {', '.join(agree)}.{why}"


def first_bar(session, name: str, model: str, part: str) -> pd.Series:
    """Share of samples in the first bar of the histogram, which a log axis hides; by seed."""
    rows = session.rows("curve")
    rows = rows[(rows.method == "nabla_tau") & (rows.data == name) & (rows.row == "density") & (rows.model == model) & (rows.part == part)]
    return rows[rows.loss == BINS[0]].groupby("seed").density.sum() * (BINS[1] - BINS[0])


def _variants(session) -> str:
    rows, runs = session.rows("variants"), session.frame()
    parts, scored = [], []
    for name, part in rows.groupby("data", sort=False):
        wide = part.pivot_table(index="seed", columns="variant", values="mia_l")
        base = next(v for v in wide if v.startswith("as "))
        parts += [f"{name}, {variant_shown(v)}: {comparison(interval(wide[v] - wide[base]))} ({interval(wide[v] - wide[base]).text()})"
                  for v in wide if v != base]
        if {SEEN, OFF} <= set(wide):
            gap = interval(wide[SEEN] - wide[OFF])
            parts.append(f"{name}, {SEEN} against off: **{comparison(gap)}** ({gap.text()})")
            scored.append(f"{name}, {SEEN} coincides with off **{comparison(gap, 'no: higher', 'no: lower').replace(SAME, 'yes')}**")
        if RATE in wide:
            start = runs[(runs.method == "original") & (runs.data == name) & (runs.scenario == part.scenario.iloc[0])]
            gap = interval(wide[RATE] - start.set_index("seed").mia_l)
            parts.append(f"{name}, {RATE} against the original: **{comparison(gap)}** ({gap.text()})")
            scored.append(f"{name}, {RATE} does nothing **{comparison(gap, 'no', 'no').replace(SAME, 'yes')}**")
        scored += _moves(name, part, base)
    missed = " We did not test why where the answer is no; *not shown* may need more seeds." if any("**no" in s for s in scored) else ""
    return f"MIA_L against the first row, in points: {'; '.join(parts)}. As expected? {'; '.join(scored) or 'nothing to score'}." + missed


def _moves(name: str, part: pd.DataFrame, base: str) -> list[str]:
    """alpha0 = 1 should forget more and cost test accuracy; two-sided should forget less: forget accuracy and test accuracy decide."""
    out = []
    for start, (said, metric, wanted) in (("alpha0 = 1", ("lowers forget accuracy", "acc_forget", "lower")),
                                          ("alpha0 = 1", ("lowers test accuracy", "acc_test", "lower")),
                                          ("two-sided", ("raises forget accuracy", "acc_forget", "higher"))):
        wide = part.pivot_table(index="seed", columns="variant", values=metric) if metric in part else pd.DataFrame()
        for v in [v for v in wide if v.startswith(start)]:
            gap = interval(wide[v] - wide[base])
            word = comparison(gap)
            answer = "yes" if word == wanted else "no" if word != SAME else "not shown"
            out.append(f"{name}, {variant_shown(v)} {said} **{answer}** ({gap.text()})")
    return out


def _grid(session) -> str:
    rows, parts, followed = gaps(session), [], []
    for share, cell in rows.groupby("fraction"):
        mean = cell.groupby("alpha0").gap.apply(interval)
        best = min(mean.index, key=lambda a: mean[a].mean)
        ruled = min(mean.index, key=lambda a: abs(a - cell.rule.iloc[0]))
        followed.append(best == ruled)
        wide = cell.pivot_table(index="seed", columns="alpha0", values="gap")
        told = "the same" if best == ruled else comparison(interval(wide[ruled] - wide[best]), "farther", "nearer")
        parts.append(f"{100 * share:g} %: {mean[best].text()} at α₀ = {best:g}, {mean[ruled].text()} at the rule's {ruled:g} (**{told}**)")
    return (f"smallest |MIA_L − 50| in points, and that of the rule: {'; '.join(parts)}. Do the best cells follow the rule? "
            f"**{'yes' if all(followed) else 'no'}**: at {sum(followed)} of {len(followed)} fractions.")


def _cost(session) -> str:
    f = largest(runs_of(session))
    wide = f.pivot_table(index="seed", columns="method", values="epochs")
    time = f.pivot_table(index="seed", columns="method", values="seconds")
    mean = f[f.method != "original"].groupby("method")[["mia_l", "acc_test"]].mean()
    near = (mean.mia_l.drop("retrain") - mean.mia_l["retrain"]).abs().idxmin()
    lost = paired(f, "acc_test", near, "retrain")
    first = (f"MIA_L nearest to retrained (expected: ∇τ): **{label(near)}** (test accuracy against retrained: {comparison(lost)}, "
             f"{lost.text()} points).")
    return (f"{first} ∇τ costs {interval(wide.nabla_tau / wide.retrain).text()} % of our retraining in samples, "
            f"{interval(time.nabla_tau / time.retrain).text()} % in seconds (which depend on batch sizes, too); its test accuracy minus "
            f"retrained: {paired(f, 'acc_test', 'nabla_tau', 'retrain').text()} points, its MIA_L: "
            f"{paired(f, 'mia_l', 'nabla_tau', 'retrain').text()}.")


def _ruler(session) -> str:
    f = focus(session, session.frame())
    target = f[f.method == "retrain"]
    spread, parts = target[["mia_l", "mia_e", "loss_forget", "acc_test"]].std(), []
    for name in f.method.unique():
        mean = f[f.method == name][spread.index].mean()
        if name not in ("original", "retrain") and ((mean - target[spread.index].mean()).abs() <= spread.fillna(0) + 1e-12).all():
            parts.append(label(name))
    return f"within the band on both attacks, the forget loss and test accuracy: {', '.join(parts) or 'nobody'}."


def _relearn(session) -> str:
    rows, r = focus(session, session.rows("relearn")), focus(session, session.frame("relearn"))
    start, parts = rows[rows.batch == 0], []
    for m in ("nabla_tau", "finetune", "retrain"):
        batches = sorted(r[r.method == m].batches.fillna(float("inf")))
        parts.append(f"{label(m)} {', '.join(f'{b:g}' for b in batches)} (starting from {of_method(start, m, 'acc_forget')} %)")
    wide = r.fillna({"batches": float("inf")}).pivot(index="seed", columns="method", values="batches")
    return (f"mini-batches until 95 % of the original's forget accuracy, seed by seed: {'; '.join(parts)}; ∇τ sooner than retrained in "
            f"**{int((wide.nabla_tau < wide.retrain).sum())} of {len(wide)}** seeds.")


READINGS = {"curves": _curves, "wrong_way": _wrong_way, "inside": _inside, "histograms": _histograms, "variants": _variants, "grid": _grid,
            "cost": _cost, "ruler": _ruler, "relearn": _relearn}
