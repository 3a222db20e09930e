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
SEEN, OFF, RATE = "tau from seen data", "alpha0 = 0 (off)", "published rate and budget"


def reading(session, figure: str) -> Markdown:
    """One sentence under a figure: its main numbers, each "we measured"."""
    return prose.reading(session, READINGS[figure])


def _three(frame: pd.DataFrame, metric: str) -> str:
    return ", ".join(f"{label(m)} {of_method(frame, m, metric)}" for m in ("original", "finetune", "nabla_tau", "retrain"))


def _curves(session) -> str:
    parts = []
    for name, runs in random_runs(session):
        f = largest(runs)
        gap, goal = (paired(f, "mia_l", "nabla_tau", m) for m in ("finetune", "retrain"))
        kept = paired(f, "acc_test", "nabla_tau", "original")
        parts.append(f"{name} at {percent(f.scenario.iloc[0])}: MIA_L {_three(f, 'mia_l')} %; "
                     f"∇τ against fine-tuned: **{comparison(gap)}** ({gap.text()} points), against retrained: **{comparison(goal)}** "
                     f"({goal.text()}); test accuracy {_three(f, 'acc_test')} %, of ∇τ against the original: **{comparison(kept)}** "
                     f"({kept.text()})")
    return ". ".join(parts) + "."


def _wrong_way(session) -> str:
    rows = focus(session, session.rows("curve"))
    rows = rows if "hp_retain_weight" in rows else rows.assign(hp_retain_weight=float("nan"))
    ends = rows[(rows.row == "curve")].groupby(["method", "hp_retain_weight", "seed"], dropna=False).last().reset_index()
    mine = ends[ends.method == "neggrad_plus"].sort_values("hp_retain_weight", ascending=False)
    if mine.empty:
        raise NotAvailable(f"preset {session.preset} has no run of NegGrad+.")
    runs = focus(session, session.frame())
    start, goal = (runs[runs.method == m].set_index("seed").loss_forget for m in ("original", "retrain"))
    parts = []
    for weight, part in mine.groupby("hp_retain_weight", sort=False):
        end = part.set_index("seed").loss_forget
        beyond = int((end > goal.loc[end.index]).sum())
        parts.append(f"retain weight {weight:g}: forget loss {interval(end).text(2, 1)} (against the original: "
                     f"**{comparison(interval(end - start))}**; above retrained in **{beyond} of {len(end)}** seeds), "
                     f"test accuracy {interval(part.acc_test).text()} %")
    nabla = ends[ends.method == "nabla_tau"]
    return ("NegGrad+ with " + "; with ".join(parts) + f". ∇τ: {interval(nabla.loss_forget).text(2, 1)} and "
            f"{interval(nabla.acc_test).text()} %.")


def _inside(session) -> str:
    rows = session.rows("curve")
    rows = rows[(rows.method == "nabla_tau") & (rows.row == "epoch")]
    parts = []
    for name, part in rows.groupby("data", sort=False):
        first, last = (part[part.epoch == e] for e in (part.epoch.min(), part.epoch.max()))
        parts.append(f"{name}: target {interval(first.tau).text(2, 1)} at first, {interval(last.tau).text(2, 1)} at the last refresh; "
                     f"forget loss of the last pass {interval(last.forget_loss).text(2, 1)}; ascent on in "
                     f"{interval(first.active).text()} % of the first and {interval(last.active).text()} % of the last pass's batches; "
                     f"forget loss against the last target: **{comparison(_above(part))}**")
    return "; ".join(parts) + "."


def _above(part: pd.DataFrame) -> Interval:
    """Forget loss of the last pass minus its target, over seeds."""
    last = part[part.epoch == part.epoch.max()].groupby("seed")[["forget_loss", "tau"]].mean()
    return interval(last.forget_loss - last.tau)


def _histograms(session) -> str:
    parts = []
    for name, runs in random_runs(session):
        f = largest(runs)
        losses = [f"{label(m)} {of_method(f, m, 'loss_forget', 2, 1)} / {of_method(f, m, 'loss_test', 2, 1)}" for m in SHOWN]
        low = [f"{label(m)} {_low(session, f.data.iloc[0], m, 'forget')} / {_low(session, f.data.iloc[0], m, 'test')}" for m in SHOWN]
        apart = {m: part.loss_forget - part.loss_test for m, part in f.groupby("method")}
        told = [f"{label(m)} **{comparison(interval(apart.get(m, [])))}**" for m in SHOWN]
        parts.append(f"{name}, forget / test samples: mean loss {', '.join(losses)}; share in the first bar (%) {', '.join(low)}; "
                     f"loss of forget against test samples: {', '.join(told)}")
    return "; ".join(parts) + "."


def _low(session, name: str, model: str, part: str) -> str:
    """Share of samples in the first bar of the histogram, which a log axis hides."""
    rows = session.rows("curve")
    rows = rows[(rows.method == "nabla_tau") & (rows.data == name) & (rows.row == "density") & (rows.model == model) & (rows.part == part)]
    return interval(rows[rows.loss == BINS[0]].groupby("seed").density.sum() * (BINS[1] - BINS[0])).text(0)


def _variants(session) -> str:
    rows, runs = session.rows("variants"), session.frame()
    parts = []
    for name, part in rows.groupby("data", sort=False):
        wide = part.pivot_table(index="seed", columns="variant", values="mia_l")
        base = next(v for v in wide if v.startswith("as "))
        parts += [f"{name}, {v}: {comparison(interval(wide[v] - wide[base]))} ({interval(wide[v] - wide[base]).text()})"
                  for v in wide if v != base]
        if {SEEN, OFF} <= set(wide):
            gap = interval(wide[SEEN] - wide[OFF])
            parts.append(f"{name}, {SEEN} against off: **{comparison(gap)}** ({gap.text()})")
        if RATE in wide:
            start = runs[(runs.method == "original") & (runs.data == name) & (runs.scenario == part.scenario.iloc[0])]
            gap = interval(wide[RATE] - start.set_index("seed").mia_l)
            parts.append(f"{name}, {RATE} against the original: **{comparison(gap)}** ({gap.text()})")
    return "MIA_L against the first row, in points: " + "; ".join(parts) + "."


def _grid(session) -> str:
    rows, parts = gaps(session), []
    for share, cell in rows.groupby("fraction"):
        mean = cell.groupby("alpha0").gap.apply(interval)
        best = min(mean.index, key=lambda a: mean[a].mean)
        ruled = min(mean.index, key=lambda a: abs(a - cell.rule.iloc[0]))
        wide = cell.pivot_table(index="seed", columns="alpha0", values="gap")
        told = "the same" if best == ruled else comparison(interval(wide[ruled] - wide[best]), "farther", "nearer")
        parts.append(f"{100 * share:g} %: {mean[best].text()} at α₀ = {best:g}, {mean[ruled].text()} at the rule's {ruled:g} (**{told}**)")
    return f"smallest |MIA_L − 50| in points, and that of the rule: {'; '.join(parts)}."


def _cost(session) -> str:
    f = largest(runs_of(session))
    wide = f.pivot_table(index="seed", columns="method", values="epochs")
    time = f.pivot_table(index="seed", columns="method", values="seconds")
    return (f"∇τ costs {interval(wide.nabla_tau / wide.retrain).text()} % of our retraining in samples, "
            f"{interval(time.nabla_tau / time.retrain).text()} % in seconds (its batches are smaller); its test accuracy minus retrained: "
            f"{paired(f, 'acc_test', 'nabla_tau', 'retrain').text()} points, its MIA_L: "
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
