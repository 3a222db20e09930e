"""The figures of the LFSSD notebook. Each takes the session and returns (figure, exactly what was drawn)."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
from matplotlib.collections import PathCollection
from matplotlib.colors import LogNorm

from ... import plots
from ...plots import SHARE, STYLE, band, label, legend_above, log_axis, panels, reference_line, summarise
from ..figures import focus, forgotten, relearn, strip, the_data
from .claims import with_paper_metrics
from .curves import alphas_in_words, window

REAL = ["original", "retrain", "finetune", "amnesiac", "bad_teacher", "unsir", "ssd", "lfssd"]
CONTROLS = ["random_dampening", "mask_logit", "head_only", "random_output"]


def _focus(session, study: str = "unlearn") -> pd.DataFrame:
    return focus(session, with_paper_metrics(session.frame()) if study == "unlearn" else session.rows(study))


def importance(session):
    """Where the selected weights lie: density of the two importances with the line of selection, and the share by layer."""
    rows = _focus(session, "anatomy")
    first = rows[rows.seed == rows.seed.min()]
    density, layers = first[first.row == "density"], rows[rows.row == "layer"]
    alpha = float(rows.hp_alpha.iloc[0])
    figure, axes = panels(2, width=10.5, height=5.0, gridspec_kw={"width_ratios": [1.15, 1]})
    left, right = axes[0]
    grid = density.pivot_table(index="log_forget", columns="log_full", values="count")
    mesh = left.pcolormesh(grid.columns, grid.index, grid, cmap="viridis", norm=LogNorm(), shading="nearest")
    figure.colorbar(mesh, ax=left, label="weights per cell", shrink=0.8)
    x = np.array([density.log_full.min() - density.width_full.iloc[0] / 2, density.log_full.max() + density.width_full.iloc[0] / 2])
    left.plot(x, x, color="0.5", linestyle=":", label="equal importance")
    left.plot(x, x + np.log10(alpha), color=STYLE["lfssd"][1], label=f"selected above: forget = {alpha:g} × all")
    left.set(xlim=x, ylim=(density.log_forget.min(), density.log_forget.max() + 0.3), xlabel=r"log$_{10}$ importance on all data D",
             ylabel=r"log$_{10}$ importance on the forget set", title=f"Which weights lie above the line? (seed {first.seed.min()})")
    left.legend(loc="upper left", handlelength=1.2)
    s = by_layer(layers)
    right.barh(range(len(s)), 100 * s["mean"], xerr=100 * s["half"].fillna(0), color=STYLE["lfssd"][1], alpha=0.8, error_kw={"lw": 1})
    right.set_yticks(range(len(s)), [f"{n} ({int(w):,})" for n, w in zip(s.layer, s.weights, strict=True)], fontsize=9)
    right.invert_yaxis()
    right.set(xlabel="selected share of the layer's weights (%)", title=f"Do specialists sit late? ({s.n.max()} seeds)", xlim=(0, None))
    drawn = pd.concat([density[["log_full", "log_forget", "count"]].assign(panel="density"), s.assign(panel="layers")])
    return figure, drawn


def layer_of(parameter: str) -> str:
    """The layer of a parameter, BatchNorm folded in: AllCNN's ``body.3.1.weight`` is in "conv 4", ``fc.bias`` in "last layer"."""
    parts = parameter.split(".")
    if parts[0] == "body":
        return f"conv {int(parts[1]) + 1}"
    return "last layer" if parts[0] == "fc" else "stem" if len(parts) == 2 else ".".join(parts[:2])


def by_layer(rows: pd.DataFrame) -> pd.DataFrame:
    """Share of selected weights by layer, input first: mean and half interval over seeds, with the number of weights."""
    rows = rows.assign(layer=rows.layer.map(layer_of)).sort_values(["seed", "position"])
    layers = rows.groupby(["seed", "layer"], sort=False)[["selected", "weights"]].sum().reset_index()
    s = summarise(layers.assign(share=layers.selected / layers.weights), ["layer"], "share")
    return s.merge(layers.groupby("layer").weights.first(), on="layer")


def alpha_curve(session):
    """D_r, D_f and the share of selected weights against alpha: batch reduction (official), per sample, SSD."""
    rows = _focus(session, "alpha")
    rows = rows[rows.lam == 1]
    reduction = rows["hp_reduction"] if "hp_reduction" in rows else pd.Series(np.nan, index=rows.index)
    rows = rows.assign(series=np.where(rows.method == "ssd", "SSD", np.where(reduction == "sample", "LFSSD, per sample", "LFSSD")))
    runs_ = _focus(session)
    bound = session.frame("alpha").set_index("scenario").bound.loc[[session.settings["focus"]]].iloc[0]
    figure, axes = panels(3, width=11.5, height=4.2)
    colours = {"LFSSD": (STYLE["lfssd"][1], "-"), "LFSSD, per sample": (STYLE["lfssd"][1], "--"), "SSD": (STYLE["ssd"][1], "-")}
    titles = {"D_f": "Forget class: gone?", "D_r": "Other classes: kept?", "selected": "How many weights are selected?"}
    for ax, (metric, title) in zip(axes[0], titles.items(), strict=True):
        for series, (colour, dash) in colours.items():
            part = rows[rows.series == series]
            if len(part):
                band(part, "alpha", metric, ax=ax, within=SHARE, color=colour, linestyle=dash, marker="o", markersize=3, label=series)
        if metric != "selected":
            for name in ("original", "retrain"):
                reference_line(runs_, metric, name, ax=ax)
            ax.set_ylim(-3, 103)
        ax.axvline(bound, color="0.3", linestyle="-.", linewidth=1, label=f"|D|/|D_f| = {bound:.1f}")
        log_axis(ax)
        ax.set(xlabel=r"threshold $\alpha$", ylabel={"selected": "weights (%)"}.get(metric, "test accuracy (%)"), title=title)
    legend_above(figure, axes[0, 1], 6)
    return figure, summarise_all(rows, ["series", "alpha"], ["D_r", "D_f", "selected"])


def summarise_all(rows: pd.DataFrame, by: list[str], metrics: list[str]) -> pd.DataFrame:
    return pd.concat([summarise(rows, by, m).assign(metric=m) for m in metrics])


def sensitivity(session):
    """LFSSD's hidden hyper-parameters, batch size and order of D, at fixed alpha: by the equations every line is flat."""
    rows, runs_ = _focus(session, "sensitivity"), _focus(session)
    alphas, sizes = sorted(rows.alpha.unique()), sorted(rows.batch_size.unique())
    figure, axes = panels(len(alphas), 3, width=10.5, height=8.4, sharey="row", sharex=True)
    mine, colour = rows[rows.method == "lfssd"], STYLE["lfssd"][1]
    shown = size_of_tables(mine)
    used = {mine.hp_alpha.iloc[0]: " (as in the tables)"}
    for column, alpha in enumerate(alphas):
        for row, metric in enumerate(("selected", "D_r", "D_f")):
            ax = axes[row, column]
            for order, dash in (("given", "-"), ("shuffled", "--")):
                part = mine[(mine.alpha == alpha) & ((mine.order == order) | (mine.batch_size == 1))]
                band(part, "batch_size", metric, ax=ax, within=SHARE, color=colour, linestyle=dash, marker="o", markersize=4,
                     label=f"LFSSD, {'class-sorted' if order == 'given' else 'shuffled'}")
            if metric != "selected":
                for name in ("original", "retrain"):
                    reference_line(runs_, metric, name, ax=ax)
            ax.set_xscale("log", base=2)
            ax.set_xticks(sizes, [str(size) for size in sizes])
        at = mine[(mine.alpha == alpha) & (mine.batch_size == shown)].groupby("order")[["selected", "D_r", "D_f"]].mean() * 100
        for row, (metric, does) in enumerate((("selected", "select"), ("D_r", "leave the others at"), ("D_f", "leave the class at"))):
            said = f"batches of {shown} {does} {at[metric]['given']:.0f} % sorted, {at[metric]['shuffled']:.0f} % shuffled"
            axes[row, column].set_title(rf"$\alpha$ = {alpha:g}{used.get(alpha, '')}:" f"\n{said}", fontsize=10)
        axes[2, column].set_xlabel("batch size" + " (1 = the equation)" * (1 in sizes))
    axes[0, 0].set(ylabel="weights selected (%)", ylim=(0, None))
    for row, metric in ((1, "D_r"), (2, "D_f")):
        axes[row, 0].set(ylabel=f"acc {metric} (%)", ylim=(-3, 103))
    legend_above(figure, axes[1, 0], 4)
    return figure, summarise_all(rows, ["method", "order", "batch_size", "alpha"], ["selected", "D_r", "D_f"])


def size_of_tables(rows: pd.DataFrame) -> int:
    """The batch size of the tables, if the sensitivity study has it; else its largest."""
    return int(rows.hp_batch_size.iloc[0] if rows.batch_size.eq(rows.hp_batch_size).any() else rows.batch_size.max())


def wrong_way(session):
    """The same dampening on random weights, beside LFSSD."""
    frame = _focus(session)
    figure, axes = panels(1, width=6.5, height=4.4)
    shown = ["original", "retrain", "random_dampening", "lfssd"]
    ax = plots.tradeoff(frame, "D_f", "D_r", shown, ax=axes[0, 0], within=SHARE)
    seeds = dict(zip([c.get_label() for c in ax.containers], [c for c in ax.collections if isinstance(c, PathCollection)], strict=True))
    for name, shift in (("retrain", -2.0), ("lfssd", 2.0)):                     # both have forgotten: side by side, not on one spot
        seeds[label(name)].set_offsets(seeds[label(name)].get_offsets() + [shift, 0])
    ax.set(xlabel="acc D_f: test accuracy, forgotten class (%)", ylabel="acc D_r: test accuracy, others (%)",
           title="Do random weights do as well?", xlim=(-6, 104))
    plots.mind_start(ax)
    ax.legend(loc="best")
    return figure, frame[frame.method.isin(shown)][["method", "seed", "D_f", "D_r"]]


def cost(session):
    """Forget and retain accuracy against cost, all methods in one plot."""
    frame = _focus(session).copy()
    frame["cost"] = frame.epochs.clip(lower=0.02)
    beside = frame.assign(cost=frame.cost.where(frame.method != "ssd", 0.88 * frame.cost))      # else SSD and LFSSD lie on one spot
    shown = [m for m in REAL if m != "original"]
    figure, axes = panels(2, width=10.5, height=4.4, sharex=True)
    for ax, (metric, title) in zip(axes[0], {"D_f": "Cheap and forgotten?", "D_r": "Cheap and kept?"}.items(), strict=True):
        plots.tradeoff(beside.assign(percent=frame[metric] * 100), "cost", "percent", shown, ax=ax, scale=1, within=SHARE)
        reference_line(frame, metric, "original", ax=ax)
        log_axis(ax, (1, 2, 5, 10, 20))
        ax.set(xlabel="cost in training-epoch equivalents", ylabel=f"acc {metric} (%)", title=title)
        plots.mind_start(ax)
    legend_above(figure, axes[0, 1], 8)
    return figure, frame[frame.method.isin([*shown, "original"])][["method", "seed", "epochs", "seconds", "D_f", "D_r"]]


def ruler(session):
    """The forgetting ruler of the focus scenario."""
    frame = _focus(session)
    metrics = {"D_f": "test accuracy,\nforget class", "loss_forget": "mean loss on\nforgotten images",
               "mia_entropy": "entropy attack\n(paper's)", "auc_confidence": "confidence attack,\nAUC",
               "D_r": "test accuracy,\nother classes"}
    figure, axes = panels(len(metrics), width=12.5, height=5.2, sharey=True)
    drawn = plots.ruler(frame, metrics, [*REAL, *CONTROLS], axes=axes[0], percent=("D_f", "D_r", "mia_entropy"))
    return figure, drawn


def scenarios(session):
    """LFSSD's alpha curve in every scenario: what it costs to forget a class, a sub-class, random samples."""
    rows = session.rows("alpha")
    sample = rows["hp_reduction"].eq("sample") if "hp_reduction" in rows else False
    rows = rows[(rows.method == "lfssd") & (rows.lam == 1) & ~sample]
    runs_ = with_paper_metrics(session.frame())
    wanted = list(session.settings["scenarios"])
    figure, axes = panels(len(wanted), width=12, height=4.0, sharey=True)
    for ax, scenario in zip(axes[0], wanted, strict=True):
        part, mine = rows[rows.scenario == scenario], runs_[runs_.scenario == scenario]
        for metric, dash in (("D_r", "-"), ("D_f", "--")):
            band(part, "alpha", metric, ax=ax, within=SHARE, color=STYLE["lfssd"][1], linestyle=dash, marker="o", markersize=3,
                        label=f"LFSSD acc {metric}")
            retrained = mine[mine.method == "retrain"][metric].mean()
            ax.axhline(100 * retrained, color=STYLE["retrain"][1], linestyle=dash, linewidth=1.5, label=f"retrained acc {metric}")
        used = mine[mine.method == "lfssd"].hp_alpha.iloc[0]
        ax.axvline(used, color="0.3", linestyle="-.", linewidth=1, label=r"$\alpha$ used in the tables")
        log_axis(ax)
        ax.set(xlabel=r"threshold $\alpha$", ylim=(-3, 103))
        good = window(session, scenario)
        if good:
            ax.axvspan(good[0] / 1.08, good[-1] * 1.08, color="0.3", alpha=0.15, linewidth=0)
        ax.set_title(f"{scenario}:\nwindow: {alphas_in_words(good)}", fontsize=11)
    axes[0, 0].set_ylabel("accuracy (%)")
    legend_above(figure, axes[0, 0], 5)
    return figure, summarise_all(rows, ["scenario", "alpha"], ["D_r", "D_f", "selected"])


FIGURES = {"data": partial(the_data, method="lfssd"), "wrong_way": wrong_way, "importance": importance, "alpha_curve": alpha_curve,
           "scenarios": scenarios, "sensitivity": sensitivity, "cost": cost, "ruler": ruler, "strip": partial(strip, method="lfssd"),
           "forgotten": partial(forgotten, method="lfssd"), "relearn": partial(relearn, methods=("lfssd", "ssd", "retrain"))}
