"""The figures of the Forget Vectors notebook. Each takes the session and returns (figure, exactly what was drawn)."""

from __future__ import annotations

import json
from functools import partial

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from ... import data, plots
from ...claims import interval
from ...plots import STYLE, label, legend_above, panels, picture, summarise
from ...tables import with_distance
from .. import NotAvailable
from ..figures import focus, forgotten, strip, the_data
from .claims import ATTACK, BASELINES, VECTORS, compared, mixes, of_row, single, sweep, weights

DRAWN = ["original", "retrain", *VECTORS, *BASELINES]
UA, RA, TA, MIA = ("UA: forget images\nwrong (%)", "RA: retain images\nright (%)", "TA: test images\nright (%)",
                   "MIA-Efficacy: called\nnon-member (%)")
OTHER = "#c77700"               # the second scenario of a sweep
METRICS = {"ua": UA, "acc_retain": RA, "acc_test": TA, ATTACK: MIA}


def _with_ua(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(ua=1 - rows.acc_forget)


def _names(session) -> tuple[str, ...]:
    return data.load(session.settings["scenarios"][session.settings["focus"]]).class_names


def kinds(frame: pd.DataFrame) -> dict[str, str]:
    """Scenario: dash of its line; the first solid."""
    return dict(zip(frame.scenario.unique(), ("-", "--", ":"), strict=False))


def _tensor(row) -> torch.Tensor:
    shape = tuple(int(v) for v in row.size_.split("x"))
    return torch.tensor(json.loads(row.pixels)).view(shape)


def vectors(session):
    """The vectors of all classes as pictures, with an image of the class before and after."""
    rows = session.rows("unlearn").rename(columns={"shape": "size_"})
    rows = rows[(rows.row == "delta") & rows.scenario.str.fullmatch(r"class:\d+")]
    d = data.load(rows.data.iloc[0])
    shown = rows[rows.seed == rows.seed.min()].sort_values("scenario")
    figure, axes = panels(len(shown), 3, width=max(9, 1.25 * len(shown)), height=5.0)
    drawn = []
    for column, row in enumerate(shown.itertuples()):
        c = int(row.scenario.split(":")[1])
        delta, image = _tensor(row), d.test_images[int((d.test_labels == c).nonzero()[0])]
        largest = float(delta.abs().max())
        image = image.float() / (255 if image.dtype == torch.uint8 else 1)
        picture(axes[0, column], image, d.class_names[c])
        if len(delta) == 1:
            axes[1, column].imshow(delta[0].numpy(), cmap="RdBu_r", vmin=-largest, vmax=largest, interpolation="nearest")
            axes[1, column].axis("off")
        else:
            picture(axes[1, column], (0.5 + delta / (2 * largest)).clamp(0, 1))
        axes[1, column].set_title(f"norm {float(delta.norm()):.1f}\nup to ±{largest:.1f}", fontsize=8, fontweight="normal", loc="center")
        picture(axes[2, column], (image + delta).clamp(0, 1))
        drawn.append({"class": c, "seed": row.seed, "norm": float(delta.norm()), "largest": largest})
    for ax, text in zip(axes[:, 0], ("image", "vector", "sum"), strict=True):
        ax.text(-0.15, 0.5, text, transform=ax.transAxes, ha="right", va="center", fontsize=10)
    scale = "blue darkens, red brightens" if len(_tensor(shown.iloc[0])) == 1 else "grey is 0"
    figure.suptitle(f"What does a forget vector look like? (one network; {scale}; black to white is 1)", fontsize=12, x=0.01, ha="left")
    return figure, pd.DataFrame(drawn)


def _four(rows: pd.DataFrame, names: list[str], colours: dict, session, title: str, height: float):
    """One panel a metric, one line a named row; scenarios side by side (filled: class, open: random), retrained as a green line."""
    rows = _with_ua(rows)
    marks = dict(zip(rows.scenario.unique(), ("o", "s"), strict=False))
    figure, axes = panels(4, width=12.5, height=height, sharey=True)
    runs, drawn = _with_ua(session.frame()), []
    for ax, (metric, text) in zip(axes[0], METRICS.items(), strict=True):
        for k, (scenario, mark) in enumerate(marks.items()):
            part = rows[rows.scenario == scenario]
            goal = interval(runs[(runs.method == "retrain") & (runs.scenario == scenario)][metric])
            ax.axvline(100 * goal.mean, color=STYLE["retrain"][1], linestyle="-" if k == 0 else "--", linewidth=1.4,
                       label=f"retrained, {scenario}")
            s = summarise(part, ["name"], metric).set_index("name")
            for y, name in enumerate(names):
                if name in s.index:
                    ax.errorbar(100 * s["mean"][name], y + 0.18 * (2 * k - 1), xerr=None if np.isnan(s.half[name]) else 100 * s.half[name],
                                color=colours[name], marker=mark, markersize=7, capsize=2, linestyle="none",
                                markerfacecolor=colours[name] if k == 0 else "white")
            drawn.append(s.reset_index().assign(metric=metric, scenario=scenario))
        ax.set(xlabel=text, yticks=range(len(names)), yticklabels=names, ylim=(len(names) - 0.5, -0.5), xlim=(-4, 104))
    for scenario, mark in marks.items():
        axes[0, 0].plot([], [], marker=mark, color="0.3", markerfacecolor="0.3" if mark == "o" else "white", linestyle="none",
                        label=scenario)
    axes[0, 0].set_title(title)
    legend_above(figure, axes[0, 0], 4)
    return figure, pd.concat(drawn)


def control_rows(session) -> pd.DataFrame:
    return of_row(session, "controls", "control").rename(columns={"control": "name"})


def wrong_way(session):
    """Noise of the same norm, and a vector learned without D_r, beside the forget vector."""
    names = ["vector removed", "noise of the same norm", "learned without retain loss", "as in the paper"]
    colours = dict(zip(names, ("black", "0.55", "#e07a5f", STYLE["forget_vector"][1]), strict=True))
    rows = control_rows(session)
    return _four(rows[rows.name.isin(names)], names, colours, session, "Does any perturbation of this size do?", 3.6)


def controls(session):
    """The vector in use: removed, on the forget set alone, with a fairer attack, clamped."""
    names = ["as in the paper", "vector removed", "on the forget set alone", "attack fitted to clean images", "pixels clamped to [0, 1]"]
    colours = dict(zip(names, (STYLE["forget_vector"][1], "black", "#1d3fbb", "#6a3d9a", "#b8860b"), strict=True))
    rows = control_rows(session)
    return _four(rows[rows.name.isin(names)], names, colours, session, "What if the same vector is used differently?", 4.1)


def _sweep(session, name: str, text: str, title: str):
    rows = _with_ua(sweep(session, name))
    runs, drawn = _with_ua(session.frame()), []
    figure, axes = panels(5, width=13.5, height=3.9)
    for ax, (metric, y) in zip(axes[0], {**METRICS, "avg_gap": "Avg.Gap (points)"}.items(), strict=True):
        for scenario, dash in kinds(rows).items():
            part = rows[rows.scenario == scenario]
            goal = interval(runs[(runs.method == "retrain") & (runs.scenario == scenario)][metric]) if metric != "avg_gap" else None
            if goal:
                ax.axhline(100 * goal.mean, color=STYLE["retrain"][1], linestyle=dash, linewidth=1.3, label=f"retrained, {scenario}")
            colour = STYLE["forget_vector"][1] if dash == "-" else OTHER
            plots.band(part, "value", metric, ax=ax, color=colour, marker="*", markersize=8, linestyle=dash, label=f"vector, {scenario}")
            used = session.settings["methods"]["forget_vector"][scenario.split(":")[0]].get(name, 1)      # tau is 1 as published
            here = part[part.value == used]
            if len(here):
                ax.plot(used, 100 * here[metric].mean(), marker="o", markersize=13, markerfacecolor="none", color=colour, linestyle="none",
                        label=f"in use, {scenario}")
            drawn.append(summarise(part, ["scenario", "value"], metric).assign(metric=metric))
        ax.set(xlabel=text, ylabel=y, xticks=sorted(rows.value.unique()))
        ax.set_ylim(*((0, None) if metric == "avg_gap" else (-4, 104)))
    axes[0, 0].set_title(title)
    legend_above(figure, axes[0, 0], 6)
    return figure, pd.concat(drawn)


def shift(session):
    """The shift study: four numbers of each model on clean and on shifted images."""
    rows = _with_ua(of_row(session, "shift", "shift"))
    rows = rows.assign(name=(rows["shift"] + " " + rows.strength).str.strip())
    names, scenarios = list(rows.name.unique()), list(rows.scenario.unique())
    methods = [m for m in DRAWN if (rows.method == m).any()]
    figure, axes = panels(4, len(scenarios), width=12.5, height=0.9 + 2.9 * len(scenarios), sharey=True)
    drawn = []
    for line, scenario in zip(axes, scenarios, strict=True):
        for ax, (metric, text) in zip(line, METRICS.items(), strict=True):
            for k, method in enumerate(methods):
                s = summarise(rows[(rows.scenario == scenario) & (rows.method == method)], ["name"], metric).set_index("name").loc[names]
                at = np.arange(len(names)) + 0.16 * (k - (len(methods) - 1) / 2)
                ax.errorbar(100 * s["mean"], at, xerr=100 * s.half.fillna(0), color=STYLE[method][1], marker=STYLE[method][2], markersize=5,
                            linestyle="none", linewidth=1, label=label(method))
                drawn.append(s.reset_index().assign(method=method, scenario=scenario, metric=metric))
            ax.set(xlabel=text, yticks=range(len(names)), yticklabels=names, ylim=(len(names) - 0.5, -0.5), xlim=(-4, 104))
        line[0].set_title(f"Does unlearning survive a shift? {scenario}")
    legend_above(figure, axes[0, 0], len(methods))
    return figure, pd.concat(drawn)


def _heat(ax, table: np.ndarray, low: float, high: float, cmap: str = "viridis", form: str = "{:.0f}"):
    drawn = ax.imshow(table, cmap=cmap, vmin=low, vmax=high, aspect="auto")
    for (i, j), v in np.ndenumerate(table):
        shade = np.dot(drawn.cmap(drawn.norm(v))[:3], (0.3, 0.6, 0.1))
        ax.text(j, i, form.format(round(v, 1) + 0.0), ha="center", va="center", fontsize=8, color="black" if shade > 0.5 else "white")
    ax.grid(False)
    return drawn


def cross(session):
    """Accuracy of class j under the vector of class i on unseen images, and the angles between vectors."""
    rows, names = session.rows("arithmetic"), _names(session)
    figure, axes = panels(2, width=12.5, height=5.2)
    left, right = axes[0]
    s = summarise(rows[rows.row == "cross"], ["vector", "class"], "acc_test")
    table = 100 * s.pivot(index="vector", columns="class", values="mean")
    drawn = _heat(left, table.to_numpy(), 0, 100)
    figure.colorbar(drawn, ax=left, label="accuracy on test images (%)")
    left.set(xticks=range(len(names)), yticks=range(len(names) + 1), xlabel="class of the image", ylabel="vector of class",
             title="Whom does a vector hit?")
    left.set_xticklabels(names, rotation=0 if max(map(len, names)) < 4 else 45)
    left.set_yticklabels(["none", *names])
    a = summarise(rows[rows.row == "angle"], ["vector", "class"], "cosine")
    drawn = _heat(right, a.pivot(index="vector", columns="class", values="mean").to_numpy(), -1, 1, "RdBu_r", "{:.1f}")
    figure.colorbar(drawn, ax=right, label="cosine of the angle")
    right.set(xticks=range(len(names)), yticks=range(len(names)), xlabel="vector of class", ylabel="vector of class",
              title="Are vectors alike?")
    right.set_xticklabels(names, rotation=0 if max(map(len, names)) < 4 else 45)
    right.set_yticklabels(names)
    return figure, pd.concat([s.assign(metric="acc_test"), a.assign(metric="cosine")])


def plane(session):
    """The w1-w2 plane of two class vectors: accuracy on either class and on the rest."""
    rows = of_row(session, "arithmetic", "plane")
    a, b = (_names(session)[c] for c in session.settings["arithmetic"]["pair"])
    figure, axes = panels(3, width=13, height=4.5)
    drawn = []
    for ax, (metric, who) in zip(axes[0], (("acc_1", f"class {a}"), ("acc_2", f"class {b}"), ("acc_rest", "all others")), strict=True):
        s = summarise(rows, ["w1", "w2"], metric)
        table = 100 * s.pivot(index="w2", columns="w1", values="mean")
        image = _heat(ax, table.to_numpy(), 0, 100)
        ax.invert_yaxis()
        ticks = [f"{v:g}" for v in table.columns]
        ax.set(xticks=range(len(ticks)), yticks=range(len(ticks)), xlabel=f"weight of the vector of {a}", title=f"Who is right? {who}")
        ax.set_xticklabels(ticks)
        ax.set_yticklabels([f"{v:g}" for v in table.index])
        for w1, w2 in ((1, 0), (0, 1), (1, 1), (0, 0)):
            if w1 in table.columns and w2 in table.index:
                ax.add_patch(_frame(list(table.columns).index(w1), list(table.index).index(w2), "#ff3d00" if w1 + w2 else "white"))
        drawn.append(s.assign(metric=metric))
    axes[0, 0].set(ylabel=f"weight of the vector of {b}")
    figure.colorbar(image, ax=axes[0, 2], label="accuracy on training images (%)")
    return figure, pd.concat(drawn)


def _frame(x: int, y: int, colour: str):
    from matplotlib.patches import Rectangle
    return Rectangle((x - 0.5, y - 0.5), 1, 1, fill=False, edgecolor=colour, linewidth=2)


def composition(session):
    """Composed vectors: the learned weights, and Avg.Gap of direct, learned, and unlearned mixes."""
    rows, names = weights(session), _names(session)
    if rows.empty:
        raise NotAvailable(f"preset {session.preset} composes no vectors.")
    scenarios = list(rows.scenario.unique())
    figure, axes = panels(2, width=12, height=4.4)
    left, right = axes[0]
    s = summarise(rows, ["scenario", "class"], "w")
    colours = dict(zip(scenarios, (STYLE["forget_vector_composed"][1], "#c9a0c0"), strict=False))
    for k, scenario in enumerate(scenarios):
        part = s[s.scenario == scenario]
        at = part["class"] + 0.4 * (k - (len(scenarios) - 1) / 2)
        left.bar(at, part["mean"], 0.38, yerr=part.half.fillna(0), color=colours[scenario], error_kw={"lw": 1}, label=scenario)
    left.axhline(0, color="0.3", linewidth=1)
    left.set(xticks=range(len(names)), xlabel="vector of class", ylabel="learned weight w", title="How much of each vector?")
    left.set_xticklabels(names, rotation=0 if max(map(len, names)) < 4 else 45)
    legend_above(figure, left, 2)
    gaps = mixes(session)
    kinds_ = list(gaps.mix.unique())
    g = summarise(gaps, ["scenario", "mix"], "avg_gap")
    for k, scenario in enumerate(scenarios):
        part = g[g.scenario == scenario].set_index("mix").loc[kinds_]
        right.errorbar(100 * part["mean"], np.arange(len(kinds_)) + 0.2 * (k - 0.5), xerr=100 * part.half.fillna(0), marker="*",
                       markersize=10, color=colours[scenario], linestyle="none", capsize=2, label=scenario)
    right.set(yticks=range(len(kinds_)), yticklabels=kinds_, ylim=(len(kinds_) - 0.5, -0.5), xlim=(0, None),
              xlabel="Avg.Gap (points; 0 is retrained)", title="Must the weights be learned?")
    return figure, pd.concat([s.assign(metric="w"), g.assign(metric="avg_gap")])


def transfer(session):
    """Class by class: accuracy on training and on unseen images of the class, without and with its vector."""
    frame, names = single(session), _names(session)
    figure, axes = panels(2, width=11.5, height=4.3, sharey=True)
    drawn = []
    for ax, (metric, title) in zip(axes[0], (("acc_forget", "Training images of the class"),
                                                   ("acc_test_forget", "Does it work on unseen ones?")), strict=True):
        for method in ("original", "forget_vector", "retrain"):
            s = summarise(frame[frame.method == method], ["scenario"], metric)
            at = s.scenario.str.split(":").str[1].astype(int)
            beside = {"original": 0, "forget_vector": -0.12, "retrain": 0.12}[method]
            ax.errorbar(at + beside, 100 * s["mean"], yerr=100 * s.half.fillna(0), color=STYLE[method][1], marker=STYLE[method][2],
                        linestyle="none", capsize=2, markersize=9 if method == "forget_vector" else 6, label=label(method))
            drawn.append(s.assign(method=method, metric=metric))
        ax.set(xticks=sorted(set(at)), xlabel="forgotten class", title=title, ylim=(-4, 104))
        ax.set_xticklabels([names[c] for c in sorted(set(at))], rotation=0 if max(map(len, names)) < 4 else 45)
    axes[0, 0].set(ylabel="accuracy (%)")
    legend_above(figure, axes[0, 0], 3)
    return figure, pd.concat(drawn)


def saliency(session):
    """Five images: where original, retrained and the model behind the vector look for the true label (Grad-CAM)."""
    rows = of_row(session, "saliency", "map")
    rows = rows[rows.seed == rows.seed.min()]
    d, models = data.load(rows.data.iloc[0]), ["original", "retrain", "forget_vector"]
    images = rows.drop_duplicates("role")
    figure, axes = panels(len(images), 4, width=10.5, height=8.4)
    for column, image in enumerate(images.itertuples()):
        pixels = (d.train_images if image.part == "train" else d.test_images)[int(image.image)]
        picture(axes[0, column], pixels, f"{image.role}\nlabel: {d.class_names[int(image.label)]}")
        maps = {m: torch.tensor(json.loads(rows[(rows.role == image.role) & (rows.model == m)]["map"].iloc[0])) for m in models}
        top = max(float(m.max()) for m in maps.values()) or 1.0
        for line, name in enumerate(models, 1):
            large = F.interpolate(maps[name][None, None], size=tuple(pixels.shape[1:]), mode="bilinear", align_corners=False)[0, 0]
            grey = pixels.float().mean(0) / (255 if pixels.dtype == torch.uint8 else 1)
            axes[line, column].imshow(grey.numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axes[line, column].imshow(large.numpy(), cmap="inferno", vmin=0, vmax=top, alpha=0.6, interpolation="bilinear")
            guess = rows[(rows.role == image.role) & (rows.model == name)].predicted.iloc[0]
            axes[line, column].set_title(f"says {d.class_names[int(guess)]}", fontsize=9, fontweight="normal", loc="center")
            axes[line, column].axis("off")
    for ax, text in zip(axes[:, 0], ("image", *(label(m) for m in models)), strict=True):
        ax.text(-0.1, 0.5, text, transform=ax.transAxes, ha="right", va="center", fontsize=10)
    figure.suptitle("What speaks for the true label? (bright: much; one scale a column; one network)", fontsize=12, x=0.01, ha="left")
    return figure, rows[["seed", "model", "role", "part", "image", "label", "predicted", "map"]]


def _legend(figure, axes) -> None:
    """One legend for panels that do not show the same methods."""
    entries = {text: handle for ax in axes for handle, text in zip(*ax.get_legend_handles_labels(), strict=True)}
    figure.legend(entries.values(), entries.keys(), loc="outside upper left", ncols=7)


def methods(session):
    """Forgetting against utility, and Avg.Gap, of every method."""
    parts = compared(session)
    figure, axes = panels(len(parts), 2, width=12.5, height=8.4)
    drawn = []
    for (top, bottom), (name, part) in zip(axes.T, parts.items(), strict=True):
        shown = [m for m in DRAWN if (part.method == m).any()]
        plots.tradeoff(_with_ua(part).groupby(["method", "seed"])[["ua", "acc_test"]].mean().reset_index(), "ua", "acc_test", shown, ax=top,
                       scale=100)
        right = 104 if name == "one class" else 4 + 100 * (1 - part[part.method.isin(shown)].acc_forget.min())
        top.set(xlabel="UA: forget images wrong (%)", ylabel="TA: test images right (%)", xlim=(-4, right),
                title=f"Forgotten, and at what price? {name}")
        for line, metric in ((top.axvline, "ua"), (top.axhline, "acc_test")):
            line(100 * _with_ua(part[part.method == "retrain"])[metric].mean(), color=STYLE["retrain"][1], linewidth=1, alpha=0.6)
        s = summarise(part[part.method.isin(shown[2:])], ["method"], "avg_gap").set_index("method").loc[shown[2:]]
        for y, m in enumerate(shown[2:]):
            bottom.errorbar(100 * s["mean"][m], y, xerr=None if np.isnan(s.half[m]) else 100 * s.half[m], color=STYLE[m][1],
                            marker=STYLE[m][2], capsize=2, markersize=8)
        bottom.set(yticks=range(len(s)), yticklabels=[label(m) for m in shown[2:]], ylim=(len(s) - 0.5, -0.5), xlim=(0, None),
                   xlabel="Avg.Gap (points; 0 is retrained)", title="How far from retraining?")
        drawn.append(s.reset_index().assign(group=name))
    _legend(figure, axes[0])
    return figure, pd.concat(drawn)


def cost(session):
    """Avg.Gap against what the search costs; that of a composed vector includes the vectors that are mixed."""
    parts = compared(session)
    figure, axes = panels(len(parts), width=12, height=4.8, sharey=True)
    drawn = []
    for ax, (name, part) in zip(axes[0], parts.items(), strict=True):
        part = part.assign(epochs=part.epochs + part.epochs_vectors.fillna(0) if "epochs_vectors" in part else part.epochs)
        part = part.groupby(["method", "seed"])[["epochs", "seconds", "avg_gap", "trainables"]].mean().reset_index()
        part = part.assign(percent=100 * part.avg_gap)
        plots.tradeoff(part, "epochs", "percent", [m for m in DRAWN[1:] if m in BASELINES + VECTORS], ax=ax, scale=1)
        goal = interval(part[part.method == "retrain"].epochs)
        ax.axvline(goal.mean, color=STYLE["retrain"][1], linestyle=":", linewidth=1.6, label="cost of retraining")
        ax.set(xlabel="cost in training-epoch equivalents", title=f"What does it cost? {name}", xscale="log", ylim=(0, None))
        ax.xaxis.set_major_formatter("{x:g}")
        drawn.append(part.assign(group=name))
    axes[0, 0].set(ylabel="Avg.Gap (points)")
    _legend(figure, axes[0])
    return figure, pd.concat(drawn)


def ruler(session):
    """The forgetting ruler of the focus scenario."""
    frame = with_distance(focus(session, session.frame()), ATTACK)
    wanted = {"acc_forget": "accuracy on\nforget images", "acc_test_forget": "accuracy on unseen\nimages of the class",
              "loss_forget": "mean loss on\nforget images", ATTACK: "MIA-Efficacy:\nnon-member",
              "auc_confidence": "AUC, against\nunseen images",
              "acc_test": "accuracy on\nother test images"}
    figure, axes = panels(len(wanted), width=13, height=4.9, sharey=True)
    drawn = plots.ruler(frame, wanted, DRAWN, axes=axes[0], percent=("acc_forget", "acc_test_forget", ATTACK, "acc_test"))
    return figure, drawn


FIGURES = {"data": partial(the_data, method="forget_vector"), "wrong_way": wrong_way, "methods": methods, "vectors": vectors,
           "beta": partial(_sweep, name="beta", text="weight β", title="How much weight for forgetting?"),
           "tau": partial(_sweep, name="tau", text="margin floor τ", title="How far must the true class be pushed down?"),
           "shift": shift, "plane": plane, "composition": composition, "cross": cross, "transfer": transfer, "saliency": saliency,
           "controls": controls, "cost": cost, "ruler": ruler,
           "strip": partial(strip, method="forget_vector", study="unlearn"),
           "forgotten": partial(forgotten, method="forget_vector", study="unlearn")}
