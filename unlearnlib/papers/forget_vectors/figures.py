"""The figures of the Forget Vectors notebook. Each takes the session and returns (figure, exactly what was drawn)."""

from __future__ import annotations

import json
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch

from ... import data, plots
from ...claims import interval
from ...plots import STYLE, label, legend_above, panels, picture, summarise
from ...tables import with_distance
from .. import NotAvailable
from ..figures import focus, forgotten, strip, the_data
from ..studies import role_shown
from .claims import ATTACK, BASELINES, VECTORS, compared, mixes, of_row, single, weights
from .control_figures import METRICS, VECTOR, controls, random, turned, wrong_way
from .readings import along
from .scores import with_ua

DRAWN = ["original", "retrain", *VECTORS, *BASELINES]


def _names(session) -> tuple[str, ...]:
    return data.load(session.settings["scenarios"][session.settings["focus"]]).class_names


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
    drawn, few = [], plt.get_cmap("coolwarm", 21)         # of few and light colours: they survive the file's palette
    for column, row in enumerate(shown.itertuples()):
        c = int(row.scenario.split(":")[1])
        delta, image = _tensor(row), d.test_images[int((d.test_labels == c).nonzero()[0])]
        largest = float(delta.abs().max())
        image = image.float() / (255 if image.dtype == torch.uint8 else 1)
        picture(axes[0, column], image, d.class_names[c])
        if len(delta) == 1:
            axes[1, column].imshow(delta[0].numpy(), cmap=few, vmin=-largest, vmax=largest, interpolation="nearest")
            axes[1, column].axis("off")
        else:
            picture(axes[1, column], (0.5 + delta / (2 * largest)).clamp(0, 1))
        r = along(d, c, delta)
        axes[1, column].set_title(f"norm {float(delta.norm()):.1f}\nup to ±{largest:.1f}\nr = {r:.2f}", fontsize=8, fontweight="normal",
                                  loc="center")
        picture(axes[2, column], (image + delta).clamp(0, 1))
        drawn.append({"class": c, "seed": row.seed, "norm": float(delta.norm()), "largest": largest, "strokes": r})
    for ax, text in zip(axes[:, 0], ("image", "vector", "sum"), strict=True):
        ax.text(-0.15, 0.5, text, transform=ax.transAxes, ha="right", va="center", fontsize=10)
    scale = "blue darkens, red brightens" if len(_tensor(shown.iloc[0])) == 1 else "grey is 0"
    figure.suptitle(f"What does a forget vector look like? (one network; {scale}; black to white is 1;\nr: correlation with what is "
                    "typical of its class)", fontsize=12, x=0.01, ha="left")
    return figure, pd.DataFrame(drawn)


def shift(session):
    """The shift study: four numbers of each model on clean and on shifted images."""
    rows = with_ua(of_row(session, "shift", "shift"))
    rows = rows.assign(name=(rows["shift"] + " " + rows.strength).str.strip())
    names, scenarios = list(rows.name.unique()), list(rows.scenario.unique())
    methods = [m for m in DRAWN if (rows.method == m).any()]
    figure, axes = panels(4, len(scenarios), width=11.8, height=0.9 + 2.7 * len(scenarios), sharey=True)
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
    figure, axes = panels(2, width=11, height=4.4)
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
    figure, axes = panels(3, width=12.4, height=4.3)
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
    """Composed vectors: the learned weights, and Avg.Gap of direct, learned, and unlearned mixes, beside the original's."""
    rows, names = weights(session), _names(session)
    if rows.empty:
        raise NotAvailable(f"preset {session.preset} composes no vectors.")
    scenarios = list(rows.scenario.unique())
    figure, axes = panels(2, width=11.4, height=4.2)
    left, right = axes[0]
    s = summarise(rows, ["scenario", "class"], "w")
    mix, tasks = STYLE["forget_vector_composed"][1], dict(zip(scenarios, ("o", "s"), strict=False))
    for k, (scenario, mark) in enumerate(tasks.items()):
        part = s[s.scenario == scenario]
        at = part["class"] + 0.3 * (k - (len(scenarios) - 1) / 2)
        left.errorbar(at, part["mean"], yerr=part.half.fillna(0), color=mix, marker=mark, markersize=7, linestyle="none", capsize=2,
                      markerfacecolor=mix if k == 0 else "white", elinewidth=1, label=scenario)
    left.axhline(0, color="0.3", linewidth=1)
    left.set(xticks=range(len(names)), xlabel="vector of class", ylabel="learned weight w", title="How much of each vector?")
    left.set_xticklabels(names, rotation=0 if max(map(len, names)) < 4 else 45)
    legend_above(figure, left, 2)
    gaps = mixes(session)
    kinds_ = list(gaps.mix.unique())
    colours = dict.fromkeys(kinds_, "0.45") | {"direct vector": VECTOR, "learned w": mix}
    g = summarise(gaps, ["scenario", "mix"], "avg_gap")
    for k, (scenario, mark) in enumerate(tasks.items()):
        part = g[g.scenario == scenario].set_index("mix").loc[kinds_]
        for y, name in enumerate(kinds_):
            right.errorbar(100 * part["mean"][name], y + 0.2 * (k - 0.5), xerr=100 * np.nan_to_num(part.half[name]), marker=mark,
                           markersize=8, color=colours[name], markerfacecolor=colours[name] if k == 0 else "white", linestyle="none",
                           capsize=2, label=scenario)
    runs = with_distance(session.frame(), ATTACK)
    for scenario, dash in zip(scenarios, ("-", "--"), strict=False):
        start = interval(runs[(runs.method == "original") & (runs.scenario == scenario)].avg_gap)
        right.axvline(100 * start.mean, color=STYLE["original"][1], linestyle=dash, linewidth=1.2, label=f"original, {scenario}")
    lines = [h for h in right.lines if h.get_label().startswith("original")]
    right.legend(handles=lines, loc="upper right", fontsize=9)
    right.set(yticks=range(len(kinds_)), yticklabels=kinds_, ylim=(len(kinds_) - 0.5, -0.5), xlim=(0, None),
              xlabel="Avg.Gap (points; 0 is retrained" + _cut(g) + ")", title="Must the weights be learned?")
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
    images, drawn = rows.drop_duplicates("role"), []
    figure, axes = panels(len(images), 4, width=9.5, height=7.4)
    for column, image in enumerate(images.itertuples()):
        pixels = (d.train_images if image.part == "train" else d.test_images)[int(image.image)]
        picture(axes[0, column], pixels, f"{role_shown(image.role)}\nlabel: {d.class_names[int(image.label)]}")
        mine = rows[rows.role == image.role].set_index("model")
        maps = {m: torch.tensor(json.loads(mine["map"][m])) for m in models}
        top = max(float(m.max()) for m in maps.values()) or 1.0
        for line, name in enumerate(models, 1):
            r = _alike(maps["original"], maps[name])
            axes[line, column].imshow(maps[name].numpy(), cmap=plt.get_cmap("viridis", 16), vmin=0, vmax=top, interpolation="nearest")
            axes[line, column].set_title(f"says {d.class_names[int(mine.predicted[name])]}" + (
                "" if name == "original" else f", r = {r:.2f}" if np.isfinite(r) else ", map is flat"), fontsize=9, fontweight="normal",
                loc="center")
            axes[line, column].axis("off")
            drawn.append({"seed": image.seed, "model": name, "role": image.role, "part": image.part, "image": image.image,
                          "label": image.label, "predicted": mine.predicted[name], "r": r, "map": mine["map"][name]})
    for ax, text in zip(axes[:, 0], ("image", *(label(m) for m in models)), strict=True):
        ax.text(-0.1, 0.5, text, transform=ax.transAxes, ha="right", va="center", fontsize=10)
    figure.suptitle("What speaks for the true label? (yellow: much; one scale a column; one network;\nr: correlation with the original's "
                    "map)", fontsize=12, x=0.01, ha="left")
    return figure, pd.DataFrame(drawn)


def _alike(one: torch.Tensor, other: torch.Tensor) -> float:
    """Correlation of two maps; nan where one is flat."""
    a, b = one.flatten(), other.flatten()
    return float(torch.corrcoef(torch.stack([a, b]))[0, 1]) if min(float(a.std()), float(b.std())) > 0 else float("nan")


def _cut(s: pd.DataFrame) -> str:
    """For the label of an axis that starts at 0: whether a whisker would go on."""
    return "; cut at the axis" if (s["mean"] - s.half < 0).any() else ""


def _legend(figure, axes) -> None:
    """One legend for panels that do not show the same methods."""
    entries = {text: handle for ax in axes for handle, text in zip(*ax.get_legend_handles_labels(), strict=True)}
    figure.legend(entries.values(), entries.keys(), loc="outside upper left", ncols=7)


def _scatter(ax, few: pd.DataFrame, shown: list[str]) -> float:
    """UA against TA, in percent: hollow marks of one size, moved sideways a little so that none hides another; seeds small, whiskers in 0
    to 100. Returns by how many points the outermost mark was moved."""
    wide = 104 if (most := 100 * few.ua.max()) > 60 else most + 4
    step = wide / 250
    for k, m in enumerate(shown):
        part, (text, colour, marker) = few[few.method == m], STYLE[m]
        a, b = (interval(part[v]) for v in ("ua", "acc_test"))
        x, y = 100 * a.mean + step * (k - (len(shown) - 1) / 2), 100 * b.mean
        ax.plot(100 * part.ua, 100 * part.acc_test, marker, color=colour, markersize=4, markeredgewidth=0)
        reach = [[[v - max(v - 100 * h, 0)], [min(v + 100 * h, 100) - v]] for v, h in ((100 * a.mean, np.nan_to_num(a.half)),
                                                                                      (y, np.nan_to_num(b.half)))]
        ax.errorbar(x, y, xerr=reach[0], yerr=reach[1], color=colour, marker=marker, markersize=9, markerfacecolor="none", capsize=2,
                    markeredgewidth=1.6, elinewidth=0.9, linestyle="none", label=text)
    ax.set(xlim=(-4, wide))
    return step * (len(shown) - 1) / 2


def _reach(few: pd.DataFrame) -> float:
    """Where the longest whisker of UA ends, in percent; none goes beyond 100."""
    found = (interval(part.ua) for _, part in few.groupby("method"))
    return max(min(100 * (i.mean + np.nan_to_num(i.half)), 100) for i in found)


def methods(session):
    """Forgetting against utility, and Avg.Gap, of every method."""
    parts = compared(session)
    figure, axes = panels(len(parts), 2, width=12.2, height=6.9)
    drawn = []
    for (top, bottom), (name, part) in zip(axes.T, parts.items(), strict=True):
        shown = [m for m in DRAWN if (part.method == m).any()]
        few = with_ua(part).groupby(["method", "seed"])[["ua", "acc_test"]].mean().reset_index()
        moved = _scatter(top, few, shown)
        edge = ")\n(whiskers cut at the axis" if _reach(few) > top.get_xlim()[1] else ""
        top.set(xlabel=f"UA: forget images wrong (%{edge}; marks moved by up to {moved:.1f})", ylabel="TA: test images right (%)",
                title=f"Forgotten, and at what price? {name}")
        for line, metric in ((top.axvline, "ua"), (top.axhline, "acc_test")):
            line(100 * with_ua(part[part.method == "retrain"])[metric].mean(), color=STYLE["retrain"][1], linewidth=1, alpha=0.6)
        below = ["original", *shown[2:]]
        s = summarise(part[part.method.isin(below)], ["method"], "avg_gap").set_index("method").loc[below]
        for y, m in enumerate(below):
            bottom.errorbar(100 * s["mean"][m], y, xerr=None if np.isnan(s.half[m]) else 100 * s.half[m], color=STYLE[m][1],
                            marker=STYLE[m][2], capsize=2, markersize=8)
        bottom.set(yticks=range(len(s)), yticklabels=[label(m) for m in below], ylim=(len(s) - 0.5, -0.5), xlim=(0, None),
                   xlabel="Avg.Gap (points; 0 is retrained" + _cut(s) + ")",
                   title="How far from retraining?" + " (axes differ)" * (len(parts) > 1))
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
           "beta": partial(turned, name="beta", text="weight β", title="How much weight for forgetting?"),
           "tau": partial(turned, name="tau", text="margin floor τ", title="How far must the true class be pushed down?"),
           "shift": shift, "plane": plane, "composition": composition, "cross": cross, "transfer": transfer, "saliency": saliency,
           "controls": controls, "random": random, "cost": cost, "ruler": ruler,
           "strip": partial(strip, method="forget_vector", study="unlearn"),
           "forgotten": partial(forgotten, method="forget_vector", study="unlearn")}
