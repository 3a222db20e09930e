"""The figures of the ∇τ notebook. Each takes the session and returns (figure, exactly what was drawn)."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
from matplotlib.patches import Rectangle

from ... import plots
from ...claims import interval
from ...plots import STYLE, band, label, legend_above, log_axis, panels, reference_line, summarise
from ...text import EMOTIONS
from .. import NotAvailable
from ..figures import focus, relearn, strip, the_data
from .claims import by_domain, fraction, gaps, largest, percent, runs_of, shown
from .readings import first_bar, variant_shown
from .studies import BINS

REAL = ["original", "retrain", "finetune", "amnesiac", "scrub", "scrub_r", "neggrad_plus", "ssd", "nabla_tau"]
CHANCE = (49.5, 50.5)           # the band of the paper's figure: what the attack says of two samples of one distribution, large sets
MIA, ACC = "attack accuracy (%)", "test accuracy (%)"
SEEN = "samples processed / $|D_r|$"


def _part(name: str, scenario: str) -> str:
    """What a panel shows: "images, 30 %", "images, class 8"."""
    return f"{name}, {percent(scenario) if scenario.startswith('random') else shown(scenario)}"


def _line(runs: pd.DataFrame, metric: str, ax, scale: float = 100.0) -> None:
    """The original as a thin line beneath everything else."""
    _, colour, _ = STYLE["original"]
    ax.axhline(scale * runs[runs.method == "original"][metric].mean(), color=colour, linestyle=":", linewidth=1, zorder=0.5,
               label=label("original"))


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
    figure, axes = panels(3, len(there), width=12.5, height=0.8 + 3.1 * len(there), sharex="row")
    for line, (name, part, runs) in zip(axes, there, strict=True):
        for ax, (metric, title, unit) in zip(line, (("mia_l", "loss attack fooled?", f"MIA_L, {MIA}"),
                                                    ("mia_e", "entropy attack fooled?", f"MIA_E, {MIA}"),
                                                    ("acc_test", "accuracy kept?", ACC)), strict=True):
            for method in ("finetune", "nabla_tau"):
                _curve(part, method, metric, ax)
            _line(runs, metric, ax)
            reference_line(runs, metric, "retrain", ax=ax)
            if metric != "acc_test":
                ax.axhspan(*CHANCE, facecolor="none", edgecolor="0.4", hatch="////", linewidth=0, label="50 ± 0.5 %")
            ax.set(ylabel=unit)
            ax.set_title(f"{_part(name, part.scenario.iloc[0])}: {title}", fontsize=11)
        line[1].set_ylim(min(ax.get_ylim()[0] for ax in line[:2]), max(ax.get_ylim()[1] for ax in line[:2]))
        line[0].set_ylim(line[1].get_ylim())
    for ax in axes[-1]:
        ax.set_xlabel(SEEN)
    if len(there) > 1:
        axes[0, 0].plot([], [], " ", label="(axes differ between rows)")
    legend_above(figure, axes[0, 0], 6)
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
    beyond, what = _beyond(rows), _part("images", rows.scenario.iloc[0])
    figure, axes = panels(2, width=10.5, height=4.2)
    for ax, (metric, title, unit) in zip(axes[0], (("loss_forget", "does the push know where to stop?", "mean forget loss (nats)"),
                                                   ("acc_test", "what accuracy is left?", ACC)), strict=True):
        scale = 1 if metric == "loss_forget" else 100
        for part, method, dash, text in ((rows[~beyond], "neggrad_plus", "-", "NegGrad+ as tuned"), (rows, "nabla_tau", "-", "∇τ"),
                                         (rows[beyond], "neggrad_plus", "--", "NegGrad+ pushed harder")):
            for i, (_, seed) in enumerate(part[(part.method == method) & (part.row == "curve")].groupby("seed")):
                ax.plot(seed.passes, scale * seed[metric], linestyle=dash, color=STYLE[method][1], marker=STYLE[method][2], markersize=3,
                        alpha=0.85, linewidth=1.4, label=text if i == 0 else None)
        _line(runs, metric, ax, scale)
        reference_line(runs, metric, "retrain", ax=ax, scale=scale)
        ax.set(xlabel=SEEN, ylabel=unit)
        ax.set_title(f"{what}: {title}", fontsize=11)
    axes[0, 0].set_yscale("symlog", linthresh=0.1)
    axes[0, 0].set_yticks([0, 0.1, 1, 10], ["0", "0.1", "1", "10"])
    axes[0, 0].set_ylim(-0.02, 20)
    lowest = 100 * rows[rows.row == "curve"].acc_test.min()
    axes[0, 1].set_ylim(50 if lowest > 50 else 0, 100)
    legend_above(figure, axes[0, 1], 5)
    return figure, pd.concat([_drawn(part, ["method"], ["loss_forget", "acc_test"]).assign(beyond=b)
                              for b, part in ((False, rows[~beyond]), (True, rows[beyond])) if len(part)])


ASKED = {"original": "before: apart?", "nabla_tau": "∇τ: alike now?", "retrain": "retrained: alike?"}


def histograms(session):
    """Losses of forget and test samples before and after, and under the retrained model; all seeds, density on a log axis."""
    rows = session.rows("curve")
    rows = rows[(rows.method == "nabla_tau") & (rows.row == "density")]
    rows = rows.fillna({"density": 0.0})
    there = _domains(session, rows)
    figure, axes = panels(3, len(there), width=12, height=0.8 + 2.9 * len(there), sharex=True, sharey="row")
    drawn = rows.groupby(["data", "model", "part", "loss"]).density.sum().reset_index()
    drawn["density"] /= drawn.data.map(rows.groupby("data").seed.nunique())     # a bar that a seed lacks counts as 0
    for line, (name, part, runs) in zip(axes, there, strict=True):
        data = part.data.iloc[0]
        for ax, (model, question) in zip(line, ASKED.items(), strict=True):
            for half, colour, fill in (("test", "0.45", True), ("forget", STYLE["nabla_tau"][1], False)):
                d = drawn[(drawn.data == data) & (drawn.model == model) & (drawn.part == half)]
                heights, _ = np.histogram(d.loss + (BINS[1] - BINS[0]) / 2, BINS, weights=d.density)
                ax.stairs(heights, BINS, fill=fill, color=colour, alpha=0.55 if fill else 1, linewidth=0 if fill else 1.5,
                          label=f"{half} samples")
            mean = runs[runs.method == model][["loss_forget", "loss_test"]].mean()
            low = [f"{100 * first_bar(session, data, model, half).mean():.0f} %" for half in ("forget", "test")]
            ax.text(0.98, 0.97, f"in the first bar: forget {low[0]}, test {low[1]}", transform=ax.transAxes, ha="right", va="top",
                    fontsize=9)
            ax.set(yscale="log", xlim=(BINS[0], BINS[-1]))
            ax.set_title(f"{_part(name, part.scenario.iloc[0])}, {question}\nmean loss: forget {mean.loss_forget:.2f}, test "
                         f"{mean.loss_test:.2f}", fontsize=10.5)
        line[0].set_ylabel("density (log)")
        line[0].set_ylim(0.5 * drawn[(drawn.data == data) & (drawn.density > 0)].density.min(), 12)
    for ax in axes[-1]:
        ax.set_xlabel("loss of a sample (nats)")
    legend_above(figure, axes[0, 0], 2)
    return figure, drawn


def _shares(part: pd.DataFrame, metric: str, ax, **style) -> None:
    """Mean share by forget epoch with its interval, cut at 0 and 1."""
    s = summarise(part, ["epoch"], metric).sort_values("epoch")
    ax.plot(s.epoch, s["mean"], **style)
    half = s["half"].fillna(0)
    low, high = (s["mean"] - half).clip(lower=0), (s["mean"] + half).clip(upper=1)
    ax.fill_between(s.epoch, low, high, color=style["color"], alpha=0.18, linewidth=0)


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
        each = len(EMOTIONS) if part.data.iloc[0] == "goemotions" else 1         # a record sums a loss over labels, training averages it
        reference_line(runs, "loss_forget", "retrain", ax=line[0], scale=1 / each)
        what = _part(name, part.scenario.iloc[0])
        line[0].set(title=f"{what}: does the loss reach its target?", ylabel="nats" + " (axes differ)" * (len(there) > 1), ylim=(0, None))
        band(part, "epoch", "alpha", ax=line[1], scale=1, color=plots.STYLE["ssd"][1], label="weight α", **style)
        _shares(part, "active", line[1], color=STYLE["amnesiac"][1], label="batches below target", **style)
        line[1].set(title=f"{what}: is the ascent still on?", ylabel="share", ylim=(-0.03, 1.05))
        for ax in line:
            ax.set_xticks(sorted(part.epoch.unique()))
    for ax in axes[-1]:
        ax.set_xlabel("pass over the forget set")
    figure.legend(*(left + right for left, right in zip(*(ax.get_legend_handles_labels() for ax in axes[0]), strict=True)),
                  loc="outside upper left", ncols=5)
    return figure, pd.concat([summarise(rows, ["data", "epoch"], m).assign(metric=m) for m in ("tau", "forget_loss", "alpha", "active")])


def _goals(session, fractions: list[float]) -> pd.DataFrame:
    """What the retrained model reaches at each fraction: attack, test accuracy lost, forget accuracy. Not every fraction was retrained."""
    runs = session.frame()
    runs = runs[runs.data == session.rows("grid").data.iloc[0]]
    start = runs[runs.method == "original"].groupby("seed").acc_test.first()
    runs = runs[(runs.method == "retrain") & runs.scenario.str.startswith("random")]
    runs = runs.assign(fraction=runs.scenario.map(fraction), gap=(runs.mia_l - 0.5).abs(), lost=runs.seed.map(start) - runs.acc_test)
    return runs.groupby("fraction")[["gap", "lost", "acc_forget"]].mean().reindex(fractions)


def grid(session):
    """Forgotten fraction x starting weight: distance of the attack from 50 %, test accuracy lost, forget accuracy; the rule framed."""
    rows, start = gaps(session), session.frame()
    start = start[(start.method == "original") & (start.data == rows.data.iloc[0])].groupby("seed").acc_test.first()
    rows = rows.assign(lost=rows.seed.map(start) - rows.acc_test)
    fractions, alphas = sorted(rows.fraction.unique()), sorted(rows.alpha0.unique())
    goals = _goals(session, fractions)
    figure, axes = panels(3, width=12.5, height=4.7, sharey=True)
    titles = {"gap": "How far is MIA_L from 50 %?\nmean of |MIA_L − 50| over seeds (points)",
              "lost": "What does it cost?\ntest accuracy lost (points)",
              "acc_forget": "Is it forgotten as by retraining?\nforget accuracy (%), colour: distance"}
    for ax, (metric, title) in zip(axes[0], titles.items(), strict=True):
        mean, goal = rows.pivot_table(index="alpha0", columns="fraction", values=metric), goals[metric]
        known = goal.interpolate(limit_direction="both").fillna(1.0)
        colour = 100 * ((mean - known).abs() if metric == "acc_forget" else mean)
        mesh = ax.imshow(colour, origin="lower", cmap="viridis_r", aspect="auto")
        for i, j in np.ndindex(mean.shape):
            dark = mesh.norm(colour.iloc[i, j]) > 0.5
            ax.text(j, i, f"{100 * mean.iloc[i, j]:.1f}", ha="center", va="center", color="white" if dark else "black", fontsize=11)
        for j, share in enumerate(fractions):
            i = min(range(len(alphas)), key=lambda k, share=share: abs(alphas[k] - 5 / 3 * share))
            for width, edge in ((5, "white"), (2.5, STYLE["nabla_tau"][1])):
                ax.add_patch(Rectangle((j - 0.44, i - 0.44), 0.88, 0.88, fill=False, edgecolor=edge, linewidth=width))
        few = goal.notna() & (len(fractions) < 5)
        named = [f"{100 * f:g}" + (f"\nretrained: {100 * goal[f]:.1f}" if few[f] else "") for f in fractions]
        ax.set_xticks(range(len(fractions)), named)
        ax.set_yticks(range(len(alphas)), [f"{a:g}" for a in alphas])
        ax.grid(False)
        ax.set(xlabel="images forgotten (%)")
        ax.set_title(title, fontsize=11)
    axes[0, 0].set_ylabel(r"starting weight $\alpha_0$")
    figure.legend([Rectangle((0, 0), 1, 1, fill=False, edgecolor=STYLE["nabla_tau"][1], linewidth=2.5)],
                  ["framed: the weight of the rule, 5/3 of the fraction; yellow: better (colour scales differ); every number is a mean "
                   "over seeds"], loc="outside upper left")
    return figure, pd.concat([summarise(rows, ["fraction", "alpha0", "rule"], m).assign(metric=m) for m in titles])


def variants(session):
    """∇τ with one thing changed at a time: loss attack and test accuracy, beside the retrained model and the original."""
    rows = session.rows("variants")
    there = _domains(session, rows)
    heights = [part.variant.nunique() for _, part, _ in there]
    figure, axes = panels(3, len(there), width=12.5, height=1.6 + 0.42 * sum(heights), sharey="row", gridspec_kw={"height_ratios": heights})
    for line, (name, part, runs) in zip(axes, there, strict=True):
        names = sorted(part.variant.unique(), key=lambda n: (not n.startswith("as "), n))
        for ax, (metric, title, unit) in zip(line, (("mia_l", "attack fooled?", f"MIA_L, {MIA}"),
                                                    ("acc_forget", "forgotten?", "forget accuracy (%)"),
                                                    ("acc_test", "accuracy kept?", ACC)), strict=True):
            s = summarise(part, ["variant"], metric).set_index("variant").loc[names]
            ax.errorbar(100 * s["mean"], range(len(names)), xerr=100 * s["half"].fillna(0), fmt="o", capsize=2, color=STYLE["nabla_tau"][1])
            for method in ("original", "retrain"):
                value = 100 * runs[runs.method == method][metric].mean()
                ax.axvline(value, color=STYLE[method][1], linestyle=":", linewidth=1.6, label=label(method))
            ax.set_title(f"{_part(name, part.scenario.iloc[0])}: {title}", fontsize=11)
            ax.set_xlabel(unit, fontsize=9)
            ax.set(yticks=range(len(names)), ylim=(len(names) - 0.5, -0.5))
            ax.set_yticklabels(map(variant_shown, names))
    if len(there) > 1:
        axes[0, 0].plot([], [], " ", label="(axes differ between rows)")
    legend_above(figure, axes[0, 0], 3)
    return figure, pd.concat([summarise(rows, ["data", "variant"], m).assign(metric=m) for m in ("mia_l", "acc_forget", "acc_test")])


def cost(session):
    """Attack and test accuracy against cost, all methods, at the largest fraction."""
    frame = largest(runs_of(session))
    frame = frame.assign(cost=frame.epochs.clip(lower=0.02))
    there = [m for m in REAL if (frame.method == m).any()]
    what = _part("images", frame.scenario.iloc[0])
    figure, axes = panels(2, width=10.5, height=4.4, sharex=True)
    for ax, (metric, unit, title) in zip(axes[0], (("mia_l", f"MIA_L, {MIA}", "cheap and forgotten?"),
                                                   ("acc_test", ACC, "cheap and kept?")), strict=True):
        _line(frame, metric, ax)
        for method in there:
            part = frame[frame.method == method].sort_values("seed")
            text, colour, marker = STYLE[method]
            beside = 1 + 0.035 * (np.arange(len(part)) - (len(part) - 1) / 2)   # seeds cost the same: side by side, to be told apart
            ax.scatter(part.cost * beside, 100 * part[metric], color=colour, marker=marker, s=18, alpha=0.5, linewidth=0)
            mean = interval(part[metric])
            reach = 100 * np.array([[min(mean.half, mean.mean)], [min(mean.half, 1 - mean.mean)]])        # cut at 0 and 100 %
            ax.errorbar(part.cost.mean(), 100 * mean.mean, yerr=reach if mean.n > 1 else None, color=colour, marker=marker, capsize=2,
                        markersize=8, linestyle="none", label=text)
        log_axis(ax, (1, 2, 5, 10, 20))
        ax.set(xlabel="cost in training-epoch equivalents", ylabel=unit, title=f"{what}: {title}")
    handles = axes[0, 1].get_legend_handles_labels()
    figure.legend(*(v[1:] for v in handles), loc="outside upper left", ncols=5)                 # the line is the mark's own
    return figure, frame[frame.method.isin(there)][["method", "seed", "epochs", "seconds", "mia_l", "acc_test"]]


def ruler(session):
    """The forgetting ruler of the detailed scenario."""
    frame = focus(session, session.frame())
    metrics = {"mia_l": "loss attack\n(paper's)", "mia_e": "entropy attack\n(paper's)", "auc_confidence": "confidence attack,\nAUC",
               "acc_forget": "accuracy,\nforget set", "loss_forget": "mean loss on\nforget set", "acc_test": "test accuracy"}
    figure, axes = panels(len(metrics), width=13, height=4.6, sharey=True)
    drawn = plots.ruler(frame, metrics, REAL, axes=axes[0], percent=("mia_l", "mia_e", "acc_forget", "acc_test"),
                        what=_part("images", session.settings["focus"]))
    for ax, metric in zip(axes[0], metrics, strict=True):
        placed = drawn[drawn.metric == metric]
        if len(ax.get_xticks()) and (placed.position + placed.half.fillna(0)).max() < 1.6 and placed.position.min() > -0.6:
            ax.set(xlim=(-0.6, 1.7), xticks=[0, 1])                             # nothing lies farther out
    return figure, drawn


def again(session):
    """Relearning, with what was forgotten in its title."""
    figure, drawn = relearn(session, ("nabla_tau", "finetune", "retrain"))
    figure.axes[0].set_title(f"{_part('images', session.settings['focus'])} forgotten: how fast does it come back?", fontsize=11)
    return figure, drawn


FIGURES = {"data": partial(the_data, method="nabla_tau"), "wrong_way": wrong_way, "curves": curves, "inside": inside,
           "histograms": histograms, "variants": variants, "grid": grid, "cost": cost, "ruler": ruler,
           "strip": partial(strip, method="nabla_tau"), "relearn": again}
