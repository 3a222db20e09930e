"""The figures of the ∇τ notebook. Each takes the session and returns (figure, exactly what was drawn)."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd

from ... import plots
from ...plots import STYLE, band, label, legend_above, log_axis, panels, reference_line, summarise
from .. import NotAvailable
from ..figures import focus, relearn, strip, the_data
from .claims import by_domain, gaps, largest, runs_of
from .studies import BINS

REAL = ["original", "retrain", "finetune", "amnesiac", "scrub", "scrub_r", "neggrad_plus", "ssd", "nabla_tau"]
CHANCE = (49.5, 50.5)           # the band of the paper's figure: what the attack says of two samples of one distribution, large sets
MIA, ACC = "attack accuracy (%)", "test accuracy (%)"
SEEN = "samples seen / |D_r|"


def _domains(session, rows: pd.DataFrame) -> list[tuple[str, pd.DataFrame, pd.DataFrame]]:
    """(name, rows, standard runs of the same scenario) for images and, where the rows have it, text."""
    runs = session.frame()
    return [(name, part, runs[(runs.data == part.data.iloc[0]) & (runs.scenario == part.scenario.iloc[0])])
            for name, part in by_domain(session, rows)]


def _beyond(rows: pd.DataFrame) -> pd.Series:
    """NegGrad+ runs come in pairs, the tuned one first: True for the second, which has the larger step away."""
    if "hp_retain_weight" not in rows:
        return pd.Series(False, index=rows.index)
    push = (1 - rows.hp_retain_weight) * rows.hp_lr
    return (rows.method == "neggrad_plus") & (push > push.groupby([rows.data, rows.method]).transform("min"))


def _curve(rows: pd.DataFrame, method: str, metric: str, ax, **style) -> None:
    """Seeds are joined by their measurement, at the mean number of passes: batches end at slightly different places."""
    part = rows[(rows.method == method) & (rows.row == "curve")]
    if part.empty:
        return
    order = part.groupby("seed").cumcount()
    part = part.assign(at=part.groupby(order).passes.transform("mean"))
    _, colour, marker = STYLE[method]
    band(part, "at", metric, ax=ax, color=colour, marker=marker, markersize=4, **({"label": label(method)} | style))


def curves(session):
    """MIA_L, MIA_E and test accuracy against passes over the retain set: ∇τ, fine-tuning, and the retrained line with its band."""
    rows = session.rows("curve")
    rows = rows[rows.method.isin(["nabla_tau", "finetune"])]
    there = _domains(session, rows)
    figure, axes = panels(3, len(there), width=12, height=0.8 + 3.1 * len(there), sharex="row")
    for line, (name, part, runs) in zip(axes, there, strict=True):
        for ax, (metric, title, unit) in zip(line, (("mia_l", "loss attack", MIA), ("mia_e", "entropy attack", MIA),
                                                    ("acc_test", "utility", ACC)), strict=True):
            for method in ("finetune", "nabla_tau"):
                _curve(part, method, metric, ax)
            for method in ("original", "retrain"):
                reference_line(runs, metric, method, ax=ax, spread=method == "retrain")
            if unit == MIA:
                ax.axhspan(*CHANCE, facecolor="none", edgecolor="0.4", hatch="////", linewidth=0, label="50 ± 0.5 %")
            ax.set(title=f"{name}: {title}", ylabel=unit)
        line[1].set_ylim(min(ax.get_ylim()[0] for ax in line[:2]), max(ax.get_ylim()[1] for ax in line[:2]))
        line[0].set_ylim(line[1].get_ylim())
    for ax in axes[-1]:
        ax.set_xlabel(SEEN)
    legend_above(figure, axes[0, 0], 5)
    return figure, _drawn(rows, ["data", "method"], ["mia_l", "mia_e", "acc_test"])


def _drawn(rows: pd.DataFrame, by: list[str], metrics: list[str]) -> pd.DataFrame:
    points = rows[rows.row == "curve"]
    points = points.assign(point=points.groupby([*by, "seed"]).cumcount())
    return pd.concat([summarise(points, [*by, "point"], m).assign(metric=m) for m in ["passes", *metrics]])


def wrong_way(session):
    """Ascent without a target (NegGrad+): as tuned, and a step beyond; beside ∇τ."""
    rows = session.rows("curve")
    rows = focus(session, rows[rows.method.isin(["neggrad_plus", "nabla_tau"])])
    if not (rows.method == "neggrad_plus").any():
        raise NotAvailable(f"preset {session.preset} has no run of NegGrad+.")
    runs = focus(session, session.frame())
    beyond = _beyond(rows)
    figure, axes = panels(2, width=10.5, height=4.2)
    for ax, (metric, title, unit) in zip(axes[0], (("loss_forget", "Forget loss: does it know where to stop?", "mean forget loss (nats)"),
                                                   ("acc_test", "Utility: what is left?", ACC)), strict=True):
        scale = 1 if metric == "loss_forget" else 100
        for part, method, dash, text in ((rows[~beyond], "neggrad_plus", "-", "NegGrad+, tuned"), (rows, "nabla_tau", "-", "∇τ"),
                                         (rows[beyond], "neggrad_plus", "--", "NegGrad+, pushed harder")):
            for i, (_, seed) in enumerate(part[(part.method == method) & (part.row == "curve")].groupby("seed")):
                ax.plot(seed.passes, scale * seed[metric], linestyle=dash, color=STYLE[method][1], marker=STYLE[method][2], markersize=3,
                        alpha=0.85, linewidth=1.4, label=text if i == 0 else None)
        for method in ("original", "retrain"):
            reference_line(runs, metric, method, ax=ax, scale=scale)
        ax.set(xlabel=SEEN, ylabel=unit, title=title)
    axes[0, 0].set_yscale("symlog", linthresh=0.1)
    axes[0, 0].set_yticks([0, 0.1, 1, 10], ["0", "0.1", "1", "10"])
    axes[0, 0].set_ylim(-0.02, 20)
    axes[0, 1].set_ylim(0, 102)
    legend_above(figure, axes[0, 1], 5)
    return figure, pd.concat([_drawn(part, ["method"], ["loss_forget", "acc_test"]).assign(beyond=b)
                              for b, part in ((False, rows[~beyond]), (True, rows[beyond])) if len(part)])


def histograms(session):
    """Losses of forget and test samples before and after, and under the retrained model; all seeds, density on a log axis."""
    rows = session.rows("curve")
    rows = rows[(rows.method == "nabla_tau") & (rows.row == "density")]
    rows = rows.fillna({"density": 0.0})
    there, models = _domains(session, rows), ("original", "nabla_tau", "retrain")
    figure, axes = panels(3, len(there), width=12, height=0.8 + 2.9 * len(there), sharex=True, sharey="row")
    drawn = rows.groupby(["data", "model", "part", "loss"]).density.sum().reset_index()
    drawn["density"] /= drawn.data.map(rows.groupby("data").seed.nunique())     # a bar that a seed lacks counts as 0
    for line, (name, part, _) in zip(axes, there, strict=True):
        for ax, model in zip(line, models, strict=True):
            for half, colour, fill in (("test", "0.45", True), ("forget", STYLE["nabla_tau"][1], False)):
                d = drawn[(drawn.data == part.data.iloc[0]) & (drawn.model == model) & (drawn.part == half)]
                ax.bar(d.loss, d.density, width=BINS[1] - BINS[0], align="edge", label=f"{half} samples", fill=fill, edgecolor=colour,
                       color=colour if fill else None, alpha=0.55 if fill else 1, linewidth=1.2 if not fill else 0)
            ax.set(yscale="log", title=f"{name}: {label(model)}", xlim=(BINS[0], BINS[-1]))
        line[0].set_ylabel("density (log)")
    for ax in axes[-1]:
        ax.set_xlabel("loss of a sample (nats)")
    legend_above(figure, axes[0, 0], 2)
    return figure, drawn


def inside(session):
    """What ∇τ does, forget epoch by forget epoch: target and forget loss, weight and share of batches in which the ReLU is active."""
    rows = session.rows("curve")
    rows = rows[(rows.method == "nabla_tau") & (rows.row == "epoch")]
    there = _domains(session, rows)
    figure, axes = panels(2, len(there), width=10.5, height=0.8 + 3.0 * len(there))
    for line, (name, part, runs) in zip(axes, there, strict=True):
        style = {"marker": "o", "markersize": 4}
        s = summarise(part, ["epoch"], "tau").sort_values("epoch")
        line[0].errorbar(s.epoch, s["mean"], yerr=s.half.fillna(0), color="black", linestyle="--", drawstyle="steps-post", capsize=2,
                         label="target τ", **style)
        band(part, "epoch", "forget_loss", ax=line[0], scale=1, color=STYLE["nabla_tau"][1], label="forget loss of the batches", **style)
        reference_line(runs, "loss_forget", "retrain", ax=line[0], scale=1)
        line[0].set(title=f"{name}: does the loss reach its target?", ylabel="nats", ylim=(0, None))
        band(part, "epoch", "alpha", ax=line[1], scale=1, color=plots.STYLE["ssd"][1], label="weight α", **style)
        band(part, "epoch", "active", ax=line[1], scale=1, color=STYLE["amnesiac"][1], label="batches below target", **style)
        line[1].set(title=f"{name}: is the ascent still on?", ylabel="share", ylim=(-0.03, 1.05))
        for ax in line:
            ax.set_xticks(sorted(part.epoch.unique()))
    for ax in axes[-1]:
        ax.set_xlabel("pass over the forget set")
    figure.legend(*(left + right for left, right in zip(*(ax.get_legend_handles_labels() for ax in axes[0]), strict=True)),
                  loc="outside upper left", ncols=5)
    return figure, pd.concat([summarise(rows, ["data", "epoch"], m).assign(metric=m) for m in ("tau", "forget_loss", "alpha", "active")])


def grid(session):
    """Forgotten fraction x starting weight: distance of the attack from 50 %, test accuracy lost, forget accuracy; the rule as a line."""
    rows, start = gaps(session), session.frame()
    start = start[(start.method == "original") & (start.data == rows.data.iloc[0])].groupby("seed").acc_test.first()
    rows = rows.assign(lost=rows.seed.map(start) - rows.acc_test)
    fractions, alphas = sorted(rows.fraction.unique()), sorted(rows.alpha0.unique())
    figure, axes = panels(3, width=12, height=4.3, sharey=True)
    titles = {"gap": "|MIA_L − 50| (points)", "lost": "test accuracy lost (points)", "acc_forget": "forget accuracy (%)"}
    for ax, (metric, title) in zip(axes[0], titles.items(), strict=True):
        mean = rows.pivot_table(index="alpha0", columns="fraction", values=metric)
        mesh = ax.imshow(100 * mean, origin="lower", cmap="viridis_r" if metric != "acc_forget" else "viridis", aspect="auto")
        for i, j in np.ndindex(mean.shape):
            shade = mesh.norm(100 * mean.iloc[i, j])
            dark = shade > 0.5 if metric != "acc_forget" else shade < 0.5
            ax.text(j, i, f"{100 * mean.iloc[i, j]:.1f}", ha="center", va="center", color="white" if dark else "black", fontsize=10)
        on_axis = np.interp([5 / 3 * f for f in fractions], alphas, range(len(alphas)))
        ax.plot(range(len(fractions)), on_axis, color=STYLE["nabla_tau"][1], linestyle="--", linewidth=1.6, zorder=1,
                label="rule: 5/3 of the fraction")
        ax.set_xticks(range(len(fractions)), [f"{100 * f:g}" for f in fractions])
        ax.set_yticks(range(len(alphas)), [f"{a:g}" for a in alphas])
        ax.grid(False)
        ax.set(title=title, xlabel="forgotten fraction (%)")
    axes[0, 0].set_ylabel(r"starting weight $\alpha_0$")
    legend_above(figure, axes[0, 0], 1)
    return figure, pd.concat([summarise(rows, ["fraction", "alpha0", "rule"], m).assign(metric=m) for m in titles])


def variants(session):
    """∇τ with one thing changed at a time: loss attack and test accuracy, beside the retrained model and the original."""
    rows = session.rows("variants")
    there = _domains(session, rows)
    heights = [part.variant.nunique() for _, part, _ in there]
    figure, axes = panels(3, len(there), width=12, height=1.2 + 0.42 * sum(heights), sharey="row", gridspec_kw={"height_ratios": heights})
    for line, (name, part, runs) in zip(axes, there, strict=True):
        names = sorted(part.variant.unique(), key=lambda n: (not n.startswith("as "), n))
        for ax, (metric, title) in zip(line, (("mia_l", "loss attack (%)"), ("acc_forget", "forget accuracy (%)"),
                                              ("acc_test", ACC)), strict=True):
            s = summarise(part, ["variant"], metric).set_index("variant").loc[names]
            ax.errorbar(100 * s["mean"], range(len(names)), xerr=100 * s["half"].fillna(0), fmt="o", capsize=2, color=STYLE["nabla_tau"][1])
            for method in ("original", "retrain"):
                value = 100 * runs[runs.method == method][metric].mean()
                ax.axvline(value, color=STYLE[method][1], linestyle=":", linewidth=1.6, label=label(method))
            ax.set_title(f"{name}: {title}", fontsize=11)
            ax.set(yticks=range(len(names)), ylim=(len(names) - 0.5, -0.5))
            ax.set_yticklabels(names)
    legend_above(figure, axes[0, 0], 2)
    return figure, pd.concat([summarise(rows, ["data", "variant"], m).assign(metric=m) for m in ("mia_l", "acc_forget", "acc_test")])


def cost(session):
    """Attack and test accuracy against cost, all methods, at the largest fraction."""
    frame = largest(runs_of(session))
    frame = frame.assign(cost=frame.epochs.clip(lower=0.02))
    shown = [m for m in REAL if m != "original"]
    figure, axes = panels(2, width=10.5, height=4.4, sharex=True)
    for ax, (metric, unit, title) in zip(axes[0], (("mia_l", f"loss attack: {MIA}", "Images: cheap and forgotten?"),
                                                   ("acc_test", ACC, "Images: cheap and kept?")), strict=True):
        plots.tradeoff(frame.assign(percent=frame[metric] * 100), "cost", "percent", shown, ax=ax, scale=1)
        reference_line(frame, metric, "original", ax=ax)
        log_axis(ax, (1, 2, 5, 10, 20))
        ax.set(xlabel="cost in training-epoch equivalents", ylabel=unit, title=title)
    legend_above(figure, axes[0, 1], 5)
    return figure, frame[frame.method.isin([*shown, "original"])][["method", "seed", "epochs", "seconds", "mia_l", "acc_test"]]


def ruler(session):
    """The forgetting ruler of the detailed scenario."""
    frame = focus(session, session.frame())
    metrics = {"mia_l": "loss attack\n(paper's)", "mia_e": "entropy attack\n(paper's)", "auc_confidence": "confidence attack,\nAUC",
               "acc_forget": "accuracy,\nforget set", "loss_forget": "mean loss on\nforget set", "acc_test": "test accuracy"}
    figure, axes = panels(len(metrics), width=13, height=4.6, sharey=True)
    drawn = plots.ruler(frame, metrics, REAL, axes=axes[0], percent=("mia_l", "mia_e", "acc_forget", "acc_test"))
    return figure, drawn


FIGURES = {"data": partial(the_data, method="nabla_tau"), "wrong_way": wrong_way, "curves": curves, "inside": inside,
           "histograms": histograms, "variants": variants, "grid": grid, "cost": cost, "ruler": ruler,
           "strip": partial(strip, method="nabla_tau"), "relearn": partial(relearn, methods=("nabla_tau", "finetune", "retrain"))}
