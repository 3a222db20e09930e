"""The figures of the ISPF notebook. Each takes the session and returns (figure, exactly what was drawn)."""

from __future__ import annotations

import inspect
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch

from ... import data, plots
from ...methods.ispf import distil
from ...plots import STYLE, band, label, legend_above, log_axis, panels, picture, reference_line, summarise
from .. import NotAvailable
from ..figures import focus, forgotten, relearn, strip, the_data
from .claims import MARGIN, curves

STRATEGIES = ["blockf", "gkt_dfq", "is_gkt", "pf", "ispf"]
EMBEDDED = ["gkt_dfq", "is_gkt", "ispf"]
KINDS = {"R": ("taken for the forget class", "#d62728"), "Y": ("another class, which GKT's gate would drop", "#e3b505"),
         "B": ("another class, which it would keep", "#1f77b4")}
PAPER, BELOW = 0.01, "\nstricter"                  # the threshold of the released program, and what is below it
STOPS = {PAPER: "\npaper", 1.0: "\noff"}
LOGGED = 750                    # steps of the generator for which, in the log of GKT's authors, the class stays away (it is back after 900)
ON_ZERO = 0.01                  # means within one point of 0: their lines lie on each other
COST = (0.005, 0.03)            # costs closer than this share are equal; they are drawn side by side, this share of the axis apart
ACC_R, ACC_F = "A_r: test accuracy, kept classes (%)", "A_f: test accuracy, forgotten class (%)"


def by_epoch(session) -> pd.DataFrame:
    """The focus scenario's curves. Raises NotAvailable where it forgets several classes: the curves are of one class."""
    rows = focus(session, curves(session))
    if rows.empty:
        raise NotAvailable(f"preset {session.preset} has curves of one forgotten class alone, not of {session.settings['focus']}.")
    return rows


def _lines(rows: pd.DataFrame, methods: list[str], metric: str, ax, banded: tuple[str, ...] = ()) -> None:
    """Mean over seeds by epoch; the 95 % band for ``banded`` methods alone (none: for all)."""
    for name in methods:
        part = rows[rows.method == name]
        if len(part):
            text, colour, marker = STYLE[name]
            style = {"color": colour, "marker": marker, "markersize": 4, "label": text, "linestyle": "--" if name == "dfkd" else "-"}
            if banded and name not in banded:
                s = summarise(part, ["epoch"], metric).sort_values("epoch")
                ax.plot(s.epoch, 100 * s["mean"], **style)
            else:
                band(part, "epoch", metric, ax=ax, **style)
    ax.set(xlabel="epoch")


def _coincide(ax, rows: pd.DataFrame, metric: str, level: float, reach: float, at: float) -> None:
    """Name the strategies whose mean never leaves ``level`` by more than ``reach``: their lines lie on each other. ``at``: height."""
    means = rows.groupby(["method", "epoch"])[metric].mean().groupby("method").agg(["min", "max"])
    close = means[(means["min"] >= level - reach) & (means["max"] <= level + reach)]
    names = [m for m in [*STRATEGIES, "dfkd"] if m in close.index]
    if len(names) > 1:
        filtered = [m for m in STRATEGIES if (rows.method == m).any()]
        who = "all filtered strategies" if len(filtered) > 3 and set(names) == set(filtered) else ", ".join(map(label, names))
        low, high = 100 * close["min"].min(), 100 * close["max"].max()
        ax.text(rows.epoch.max(), at, f"{who}: {low:.0f} %" if high - low < 0.05 else f"{who}: {low:.0f} to {high:.1f} %", ha="right",
                va="center", fontsize=9, color="0.3")


def _drawn(rows: pd.DataFrame, metrics: list[str]) -> pd.DataFrame:
    return pd.concat([summarise(rows, ["scenario", "method", "epoch"], m).assign(metric=m) for m in metrics])


def wrong_way(session):
    """Only drop what the teacher takes for the forget class, or suspects of it: how much of a batch is left?"""
    rows = by_epoch(session)
    rows = rows[rows.method.isin(["blockf", "gkt_dfq", "dfkd"])]
    if not (rows.method == "blockf").any():
        raise NotAvailable(f"preset {session.preset} has no run of BlockF.")
    figure, axes = panels(2, width=10.5, height=4.6)
    left, right = axes[0]
    _lines(rows, ["blockf", "gkt_dfq"], "kept", left)
    classes = len(data.load(rows.data.iloc[0]).class_names)
    left.axhline(100 * (1 - 1 / classes), color="0.3", linestyle="-.", linewidth=1)
    left.text(rows.epoch.min(), 100 * (1 - 1 / classes) - 2, "balanced classes, one dropped", va="top", fontsize=9, color="0.3")
    left.set(ylabel="rows kept for the student (%)", title="How much of a batch is left?", ylim=(0, 103))
    _lines(rows, ["blockf", "gkt_dfq", "dfkd"], "acc_test_forget", right)
    for name in ("original", "retrain"):
        reference_line(focus(session, session.frame()), "acc_test_forget", name, ax=right)
    _coincide(right, rows, "acc_test_forget", 0, ON_ZERO, 6)
    right.set(ylabel=ACC_F, title="Does the class come through?", ylim=(-3, 103))
    legend_above(figure, right, 5)
    return figure, pd.concat([_drawn(rows[rows.method != "dfkd"], ["kept"]), _drawn(rows, ["acc_test_forget"])])


def accuracy(session):
    """A_r and A_f after every epoch, all strategies, with the retrained model's band."""
    rows, runs = by_epoch(session), focus(session, session.frame())
    rows = rows[rows.method.isin([*STRATEGIES, "dfkd"])]
    figure, axes = panels(2, width=11, height=5.1, gridspec_kw={"width_ratios": [1.5, 1]})
    for ax, (metric, text, title) in zip(axes[0], (("acc_test_retain", ACC_R, "What is kept?"),
                                                   ("acc_test_forget", ACC_F, "What comes through?")), strict=True):
        _lines(rows, [*STRATEGIES, "dfkd"], metric, ax, banded=("gkt_dfq", "ispf"))
        for name in ("original", "retrain"):
            reference_line(runs, metric, name, ax=ax)
        ax.set(ylabel=text, title=title, ylim=(-3, 103) if metric == "acc_test_forget" else (0, 103))
    _coincide(axes[0, 1], rows, "acc_test_forget", 0, ON_ZERO, 6)
    legend_above(figure, axes[0, 0], 4)
    return figure, _drawn(rows, ["acc_test_retain", "acc_test_forget"])


def filtering(session):
    """Share of the forget class among synthetic images, and what the filters keep, by epoch."""
    rows = by_epoch(session)
    shown = [*STRATEGIES, "dfkd"]
    rows = rows[rows.method.isin(shown)]
    figure, axes = panels(2, width=10.5, height=4.3)
    for ax, (metric, text, title) in zip(axes[0], (
            ("predicted_forget", "images taken for the class (%)", "Is the class drawn?"),
            ("kept", "rows kept for the student (%)", "How much is used?")), strict=True):
        _lines(rows, shown, metric, ax, banded=("gkt_dfq", "ispf"))
        ax.set(ylabel=text, title=title)
        ax.set_ylim(0, 103 if metric == "kept" else None)
    classes = len(data.load(rows.data.iloc[0]).class_names)
    axes[0, 0].axhline(100 / classes, color="0.3", linestyle="-.", linewidth=1)
    axes[0, 0].text(rows.epoch.min(), 100 / classes, "balanced", va="bottom", fontsize=9, color="0.3")
    _coincide(axes[0, 1], rows, "kept", 1, 0, 95)
    legend_above(figure, axes[0, 0], 6)
    return figure, _drawn(rows, ["predicted_forget", "kept"])


def classes(session):
    """Mean probability of each class in the last epoch: teacher on what was drawn, student on what it was shown."""
    rows = focus(session, session.rows("unlearn"))
    rows = rows[(rows.row == "class") & rows.method.isin(STRATEGIES)]
    shown = [m for m in STRATEGIES if (rows.method == m).any()]
    names = data.load(rows.data.iloc[0]).class_names
    gone = data.split(data.load(rows.data.iloc[0]), session.settings["focus"], 0).forget_classes
    figure, axes = panels(len(shown), width=13, height=4.4, sharey=True)
    drawn = []
    for ax, name in zip(axes[0], shown, strict=True):
        part = rows[rows.method == name]
        for offset, who, colour, marker in ((-0.15, "teacher", "0.55", "s"), (0.15, "student", *STYLE[name][1:])):
            s = summarise(part, ["class"], who).sort_values("class")
            ax.errorbar(s["class"] + offset, 100 * s["mean"], yerr=100 * s["half"].fillna(0), color=colour, marker=marker, markersize=5,
                        linestyle="none", elinewidth=1, label=who)
            drawn.append(s.assign(method=name, who=who))
        for c in gone:
            ax.axvspan(c - 0.5, c + 0.5, color="#d62728", alpha=0.12, linewidth=0)
        ax.axhline(1, color="0.3", linestyle="-.", linewidth=1)
        ax.set_xticks(range(len(names)), names, rotation=0 if max(map(len, names)) < 4 else 90, fontsize=10)
        ax.set(title=label(name), xlabel="class (forgotten: shaded)")
        ax.legend(loc="upper center", fontsize=8, ncols=2)
    axes[0, 0].set(ylabel="mean probability (%)", yscale="log", ylim=(0.05, 150), yticks=[0.1, 1, 10, 100],
                   yticklabels=["0.1", "1", "10", "100"])
    figure.suptitle("Does the student hear of the forgotten class? (dash-dotted: 1 %)", fontsize=12, x=0.01, ha="left")
    return figure, pd.concat(drawn)


def _image(row) -> torch.Tensor:
    shape = tuple(int(v) for v in row.shape_.split("x"))
    return torch.from_numpy(np.frombuffer(bytes.fromhex(row.pixels), dtype=np.uint8).copy()).view(shape)


def _frame(ax, wanted: bool) -> None:
    if wanted:
        ax.add_patch(plt.Rectangle((0, 0), 1, 1, transform=ax.transAxes, fill=False, edgecolor="#d62728", linewidth=3))


def pictures(session):
    """What the generators draw after the last epoch, with the teacher's answer; the first row is real."""
    rows = focus(session, session.rows("unlearn"))
    rows = rows[rows.row == "picture"].rename(columns={"shape": "shape_"})
    if rows.empty:
        raise NotAvailable(f"preset {session.preset} keeps no synthetic images.")
    rows = rows[rows.seed == rows.seed.min()]
    shown = [m for m in STRATEGIES if (rows.method == m).any()]
    d = data.load(rows.data.iloc[0])
    columns = int(rows.image.max()) + 1
    gone = data.split(d, session.settings["focus"], 0).forget_classes
    figure, axes = panels(columns, len(shown) + 1, width=11, height=1.25 * (len(shown) + 1))
    for column in range(columns):
        picture(axes[0, column], d.test_images[column], d.class_names[int(d.test_labels[column])])
        _frame(axes[0, column], int(d.test_labels[column]) in gone)
        for line, name in enumerate(shown, 1):
            one = rows[(rows.method == name) & (rows.image == column)].iloc[0]
            picture(axes[line, column], _image(one), f"{d.class_names[int(one.predicted)]} ({100 * one.p_predicted:.0f} %)")
            _frame(axes[line, column], int(one.predicted) in gone)
    for ax, text in zip(axes[:, 0], ["real", *(label(m) for m in shown)], strict=True):
        ax.text(-0.25, 0.5, text, transform=ax.transAxes, ha="right", va="center", fontsize=10)
    for ax in axes.flat:
        ax.title.set(fontsize=8, fontweight="normal", ha="center", position=(0.5, 1))
    figure.suptitle(f"What do the generators draw? (framed: {' or '.join(d.class_names[c] for c in gone)}, the forgotten class, by its "
                    "label or the teacher's answer)", fontsize=12, x=0.01, ha="left")
    return figure, rows[rows.method.isin(shown)][["method", "seed", "image", "predicted", "p_predicted"]]


def kinds(session) -> pd.DataFrame:
    """Synthetic images in the plane of the real ones, ``kind`` by the paper's colours: R the forget class, Y dropped by GKT, B kept."""
    rows = focus(session, session.rows("unlearn"))
    points = rows[rows.row == "point"]
    if points.empty:
        raise NotAvailable(f"preset {session.preset} keeps no synthetic images.")
    gone = data.split(data.load(points.data.iloc[0]), session.settings["focus"], 0).forget_classes
    limit = points.get("hp_threshold", pd.Series(0.01, index=points.index)).fillna(0.01)
    return points.assign(kind=np.where(points.predicted.isin(gone), "R", np.where(points.p_forget >= limit, "Y", "B")))


def embedding(session):
    """The paper's Figure 1: real test images as density, synthetic ones as triangles, by epoch and strategy."""
    rows, points = focus(session, session.rows("unlearn")), kinds(session)
    real = rows[(rows.row == "real") & (rows.method == "original")]
    gone = data.split(data.load(points.data.iloc[0]), session.settings["focus"], 0).forget_classes
    shown = [m for m in EMBEDDED if (points.method == m).any()]
    points = points[points.method.isin(shown)]
    epochs = sorted(points.epoch.unique())
    figure, axes = panels(len(epochs), len(shown), width=11, height=0.8 + 3.0 * len(shown), sharex=True, sharey=True)
    for line, name in zip(axes, shown, strict=True):
        for ax, epoch in zip(line, epochs, strict=True):
            sns.kdeplot(real[~real.label.isin(gone)], x="x", y="y", fill=True, levels=6, color="0.5", alpha=0.5, ax=ax)
            sns.kdeplot(real[real.label.isin(gone)], x="x", y="y", fill=True, levels=4, color="#d62728", alpha=0.35, ax=ax)
            part = points[(points.method == name) & (points.epoch == epoch)]
            for kind, (_, colour) in KINDS.items():
                k = part[part.kind == kind]
                ax.scatter(k.x, k.y, marker="^", s=26, color=colour, edgecolor="white", linewidth=0.4, zorder=3)
            counts = ", ".join(f"{kind} {100 * (part.kind == kind).mean():.0f} %" for kind in KINDS)
            ax.set_title(f"{label(name)}, epoch {int(epoch)}: {counts}", fontsize=9)
            ax.set(xlabel="", ylabel="", xticks=[], yticks=[])
            ax.grid(False)
    handles = [axes[0, 0].scatter([], [], marker="^", color=colour, label=f"{kind}: {text}") for kind, (text, colour) in KINDS.items()]
    for ax in axes[-1]:
        ax.set_xlabel("first main direction of the real features", fontsize=9, visible=True)
    for ax in axes[:, 0]:
        ax.set_ylabel("second main direction", fontsize=9, visible=True)                       # seaborn hides the labels of shared axes
    figure.legend(handles=handles, loc="outside upper left", ncols=3)
    return figure, points[points.method.isin(shown)][["method", "seed", "epoch", "x", "y", "kind"]]


def scenarios(session):
    """One class, another, both: A_r, A_f and kept rows at the end."""
    frame, rows = session.frame(), session.rows("unlearn")
    last = rows[(rows.row == "epoch") & (rows.epoch == rows.epoch.max())]
    wanted = list(session.settings["scenarios"])
    if len(wanted) < 2:
        raise NotAvailable(f"preset {session.preset} has one scenario.")
    figure, axes = panels(3, width=12, height=4.2, sharey=True)
    shown, drawn = ["original", "retrain", *STRATEGIES], []
    for ax, (source, metric, text, title) in zip(axes[0], (
            (frame, "acc_test_retain", "A_r (%)", "How much is kept?"), (frame, "acc_test_forget", "A_f (%)", "Is it forgotten?"),
            (last, "kept", "rows kept, last epoch (%)", "How much is used?")), strict=True):
        for i, name in enumerate(shown):
            s = summarise(source[source.method == name], ["scenario"], metric) if (source.method == name).any() else pd.DataFrame()
            for row in s.itertuples():
                at = wanted.index(row.scenario) + 0.1 * (i - 3)
                ax.errorbar(100 * row.mean, at, xerr=None if np.isnan(row.half) else 100 * row.half, color=STYLE[name][1],
                            marker=STYLE[name][2], capsize=2, label=label(name) if row.scenario == wanted[0] else None)
            drawn.append(s.assign(method=name, metric=metric))
        ax.set(xlabel=text, title=title, xlim=(-3, 104), yticks=range(len(wanted)), yticklabels=wanted, ylim=(len(wanted) - 0.5, -0.5))
    legend_above(figure, axes[0, 0], 7)
    return figure, pd.concat(drawn)


def generator_steps(rows: pd.DataFrame) -> dict[str, float]:
    """Steps of the generator in each run of a study, warm-up included, by method; GKT as published has one a pseudo-batch."""
    settings, out = inspect.signature(distil).parameters, {}
    warm, rounds, one = (settings[k].default for k in ("warmup", "rounds", "generator_steps"))
    for name, part in rows.groupby("method", sort=False):
        every = part.get("hp_report_every", pd.Series(dtype=float)).max()
        out[name] = part.epoch.max() * every if every == every else (part.epoch.max() + warm) * rounds * one
    return out


def longer(session):
    """Run on: A_r and A_f of GKT for more epochs, and of GKT as first published; lines: the same seeds' original and retrained model."""
    rows = session.rows("longer")
    rows = rows[rows.row == "epoch"]
    short = max(generator_steps(rows).values()) < LOGGED
    if "hp_report_every" in rows:                                               # pseudo-batches instead of epochs
        rows = rows.assign(epoch=rows.epoch * rows.hp_report_every.fillna(1))
    runs = focus(session, session.frame())
    runs = runs[runs.seed.isin(rows.seed.unique())]
    names = list(rows.method.unique())
    figure, axes = panels(len(names), width=10.5, height=4.5, sharey=True)
    for ax, name in zip(axes[0], names, strict=True):
        for metric, dash in (("acc_test_retain", "-"), ("acc_test_forget", "--"), ("kept", "-.")):
            band(rows[rows.method == name], "epoch", metric, ax=ax, color=STYLE[name][1], linestyle=dash)
        for who, metric, text in (("retrain", "acc_test_retain", "A_r of the retrained model"),
                                  ("original", "acc_test_forget", "A_f of the original")):
            reference_line(runs, metric, who, ax=ax)
            ax.text(0.99, 100 * runs[runs.method == who][metric].mean() + 1, text, transform=ax.get_yaxis_transform(), ha="right",
                    va="bottom", fontsize=9, color=STYLE[who][1], bbox={"facecolor": "white", "edgecolor": "none", "pad": 1, "alpha": 0.8})
        ax.set(title=label(name), xlabel="steps of the generator" if name == "gkt" else "epoch", ylim=(-3, 103))
        ax.xaxis.get_major_locator().set_params(integer=True)
    for text, dash in (("A_r (%)", "-"), ("A_f (%)", "--"), ("rows kept (%)", "-.")):
        axes[0, 0].plot([], [], color="black", linestyle=dash, label=text)
    axes[0, 0].set_ylabel("accuracy, rows kept (%)")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    own = [k for k, text in enumerate(labels) if "(%)" in text]                 # the references have their words beside their lines
    back = "Yes" if rows.acc_test_forget.max() > MARGIN else "Not seen, not testable at this length" if short else "Not seen"
    figure.legend([handles[k] for k in own], [labels[k] for k in own], loc="outside upper left", ncols=3, alignment="left",
                  title=f"Does the class come back? {back}", title_fontsize=12)
    return figure, rows[["method", "seed", "epoch", "acc_test_retain", "acc_test_forget", "kept"]]


def knob(session) -> pd.DataFrame:
    """Runs of GKT by the threshold of its gate: the study's, the published one, and 1 (no filter), on the same seeds."""
    session.need("threshold")
    turned, frame = session.frame("threshold"), focus(session, session.frame())
    frame = frame[frame.seed.isin(turned.seed.unique())]
    return pd.concat([turned, frame[frame.method == "gkt_dfq"].assign(hp_threshold=0.01),
                      frame[frame.method == "dfkd"].assign(hp_threshold=1.0)])


def threshold(session):
    """The gate's threshold: small, as published, off; lines: original and retrained model of the same seeds."""
    every, runs = knob(session), focus(session, session.frame())
    runs = runs[runs.seed.isin(every.seed.unique())]
    figure, axes = panels(3, width=12, height=4.6)
    for ax, (metric, text, title) in zip(axes[0], (("kept", "rows kept (%)", "How much is left?"), ("acc_test_retain", ACC_R, "Kept?"),
                                                   ("acc_test_forget", ACC_F, "Forgotten?")), strict=True):
        s = summarise(every, ["hp_threshold"], metric).sort_values("hp_threshold")
        ax.errorbar(s.hp_threshold, 100 * s["mean"], yerr=100 * s["half"].fillna(0), color=STYLE["gkt_dfq"][1], marker="v", capsize=2,
                    label=f"{label('gkt_dfq')}, threshold varied")
        log_axis(ax, tuple(s.hp_threshold))
        ax.set_xticks(s.hp_threshold, [f"{t:g}{STOPS.get(t, BELOW if t < PAPER else '')}"
                                       for t in s.hp_threshold])
        if metric != "kept":
            for name in ("original", "retrain"):
                reference_line(runs, metric, name, ax=ax)
        ax.set(ylabel=text, title=title, ylim=(-3, 103), xlabel="threshold of the gate")
    legend_above(figure, axes[0, 1], 3)
    return figure, every[["method", "seed", "hp_threshold", "kept", "acc_test_retain", "acc_test_forget"]]


def ruler(session):
    """The forgetting ruler of the focus scenario."""
    frame = focus(session, session.frame())
    metrics = {"acc_test_forget": "A_f: test accuracy,\nforgotten class", "loss_forget": "mean loss on\nforgotten images",
               "mia_confidence": "confidence attack:\ncalled non-member", "auc_confidence": "AUC, against\nunseen images",
               "acc_test_retain": "A_r: test accuracy,\nkept classes"}
    figure, axes = panels(len(metrics), width=12.5, height=4.4, sharey=True)
    drawn = plots.ruler(frame, metrics, ["original", "retrain", *STRATEGIES, "dfkd"], axes=axes[0],
                        percent=("acc_test_forget", "acc_test_retain", "mia_confidence"))
    return figure, drawn


def _side_by_side(frame: pd.DataFrame, methods: list[str]) -> dict[str, float]:
    """By method, how far to move it along the axis of costs, so that those of equal cost do not cover each other."""
    means = frame.groupby("method").epochs.mean()
    span, out = means.max() - means.min(), dict.fromkeys(methods, 0.0)
    for name in methods:
        equal = [m for m in methods if abs(means[m] - means[name]) <= COST[0] * means[name]]
        out[name] = COST[1] * span * (equal.index(name) - (len(equal) - 1) / 2)
    return out


def cost(session):
    """A_r against cost, all strategies beside retraining; those of equal cost side by side."""
    frame = focus(session, session.frame())
    shown = [m for m in ("retrain", *STRATEGIES, "dfkd") if (frame.method == m).any()]
    figure, axes = panels(1, width=7.6, height=4.4)
    part, aside = frame[frame.method.isin(shown)], _side_by_side(frame[frame.method.isin(shown)], shown)
    ax = plots.tradeoff(part.assign(percent=100 * part.acc_test_retain, epochs=part.epochs + part.method.map(aside)), "epochs", "percent",
                        shown, ax=axes[0, 0], scale=1)
    reference_line(frame, "acc_test_retain", "original", ax=ax)
    low, edge = 100 * part.acc_test_retain.min(), 0.08 * (part.epochs.max() - part.epochs.min())
    ax.set(xlabel="cost in training-epoch equivalents (equal costs side by side)", ylabel=ACC_R,
           title="What does it cost, against retraining?", ylim=(max(0, 10 * np.floor(low / 10 - 0.5)), 103),
           xlim=(part.epochs.min() - edge, part.epochs.max() + edge))
    legend_above(figure, ax, 4)
    frame = frame[frame.method.isin(["original", *shown])]
    return figure, frame[["method", "seed", "epochs", "seconds", "acc_test_retain"]]


FIGURES = {"data": partial(the_data, method="ispf"), "wrong_way": wrong_way, "pictures": pictures, "accuracy": accuracy,
           "filtering": filtering, "classes": classes, "embedding": embedding, "scenarios": scenarios, "threshold": threshold, "cost": cost,
           "ruler": ruler, "strip": partial(strip, method="ispf", study="unlearn"),
           "forgotten": partial(forgotten, method="ispf", study="unlearn"),
           "relearn": partial(relearn, methods=("ispf", "gkt_dfq", "dfkd", "retrain"), study="unlearn"), "longer": longer}
