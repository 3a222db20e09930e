"""Figures that more than one paper has. Each takes the session and returns (figure, exactly what was drawn)."""

from __future__ import annotations

import numpy as np
import pandas as pd

from .. import data
from ..plots import STYLE, label, legend_above, panels, picture, summarise
from . import NotAvailable
from .studies import role_shown


def focus(session, frame: pd.DataFrame) -> pd.DataFrame:
    """The part of a frame that belongs to the scenario of the detailed figures, on its own data set."""
    scenario = session.settings["focus"]
    return frame[(frame.scenario == scenario) & (frame.data == session.settings["scenarios"][scenario])]


def images_of(session, study: str, row: str) -> pd.DataFrame:
    """The single images of the focus scenario: "strip" or "forgotten". Raises NotAvailable where there are none."""
    rows = focus(session, session.rows(study))
    rows = rows[rows.row == row]
    if rows.empty:
        raise NotAvailable(f"preset {session.preset} keeps no single images.")
    return rows.assign(role=rows.role.map(role_shown)) if row == "strip" else rows


def the_data(session, method: str):
    """Eight training images of the focus scenario, clean and as the model sees them; forgotten ones framed."""
    focus, clean = session.settings["focus"], None
    name = session.settings["scenarios"][focus]
    d = data.load(name)
    s = data.split(d, focus, 0)
    if name.startswith("digits"):
        clean = data.load(name, noise=0.0)
    chosen = [*s.forget[:3].tolist(), *s.retain[:: max(1, len(s.retain) // 5)][:5].tolist()]
    figure, axes = panels(8, 2 if clean else 1, height=3.4 if clean else 2.2)
    for column, index in enumerate(chosen):
        forgotten = column < 3
        between = ": " if max(map(len, d.class_names)) < 6 else ":\n"
        title = f"{d.class_names[d.train_labels[index]]}{between}{'forget' if forgotten else 'retain'}"
        for row, source in enumerate([clean, d] if clean else [d]):
            picture(axes[row, column], source.train_images[index], title if row == 0 else "")
            axes[row, column].title.set_color(STYLE[method][1] if forgotten else "black")
    if clean:
        figure.suptitle("Top: the clean images. Bottom: with noise, as every model here sees them", fontsize=11, x=0.01, ha="left")
    drawn = [{"image": i, "label": int(d.train_labels[i]), "set": "forget" if k < 3 else "retain"} for k, i in enumerate(chosen)]
    return figure, pd.DataFrame(drawn)


def strip(session, method: str, study: str = "images"):
    """The same five images under original, unlearned and retrained (first seed)."""
    rows = images_of(session, study, "strip")
    rows = rows[rows.seed == rows.seed.min()]
    name = rows.data.iloc[0]
    sources = [data.load(name, noise=0.0)] if name.startswith("digits") else []
    sources.append(data.load(name))
    models = ["original", method, "retrain"]
    images = rows.drop_duplicates(["role"])
    heights = [1] * len(sources) + [1.1]
    figure, axes = panels(len(images), len(heights), width=11, height=2.4 * len(heights), gridspec_kw={"height_ratios": heights})
    for column, image in enumerate(images.itertuples()):
        for row, source in enumerate(sources):
            pixels = (source.train_images if image.part == "train" else source.test_images)[int(image.image)]
            title = f"{image.role}\nlabel: {source.class_names[int(image.label)]}" if row == 0 else ""
            picture(axes[row, column], pixels, title or "with noise")
        ax = axes[-1, column]
        part = rows[rows.role == image.role].set_index("model").loc[models]
        ax.barh(range(3), 100 * part.p_label, color=[STYLE[m][1] for m in models], alpha=0.85)
        for y, (p, guess) in enumerate(zip(part.p_label, part.predicted, strict=True)):
            inside = p > 0.55
            ax.text(100 * p - 3 if inside else 100 * p + 3, y, f"says {source.class_names[int(guess)]}", va="center",
                    ha="right" if inside else "left", fontsize=9, color="white" if inside else "black")
        ax.set(xlim=(0, 100), yticks=range(3), yticklabels=[label(m) for m in models] if column == 0 else [],
               xlabel="probability of\nits label (%)")
        ax.invert_yaxis()
    figure.suptitle(f"What do three models say to the same five images? (one network each, seed {rows.seed.min()})", fontsize=12, x=0.01,
                    ha="left")
    return figure, rows[["seed", "model", "role", "part", "image", "label", "p_label", "predicted", "p_predicted"]]


def forgotten(session, method: str, study: str = "images"):
    """Every forgotten training image, all seeds: confidence in its label under three models, and what is said instead."""
    rows = images_of(session, study, "forgotten")
    names = data.load(rows.data.iloc[0]).class_names
    models = ("original", method, "retrain")
    figure, axes = panels(2, width=11, height=4.4)
    left, right = axes[0]
    for name in models:
        text, colour, _ = STYLE[name]
        for seed, part in rows[rows.model == name].groupby("seed"):
            left.plot(np.linspace(0, 100, len(part)), np.sort(part.confidence), color=colour, alpha=0.8, linewidth=1.4,
                      label=text if seed == rows.seed.min() else None)
    left.axhline(0, color="0.5", linewidth=1)
    left.set(xlabel="forgotten images, from least to most confident (%)", ylabel="confidence in the label (log-odds)",
             title="All forgotten images, one line a seed")
    low, usual = rows.confidence.min(), rows.confidence.quantile(0.005)
    if low < 3 * usual < 0:                                                     # a few would press all others flat
        left.set_ylim(bottom=1.3 * usual)
        left.set_ylabel(f"{left.get_ylabel()}\nnot drawn: down to {low:.0f}")
    shares = rows.assign(one=1.0).pivot_table(index=["seed", "model"], columns="predicted", values="one", aggfunc="sum", fill_value=0)
    shares = shares.div(shares.sum(axis=1), axis=0).reindex(columns=range(len(names)), fill_value=0).stack().rename("share").reset_index()
    s = summarise(shares, ["model", "predicted"], "share")
    for offset, name in zip((-0.27, 0, 0.27), models, strict=True):
        part = s[s.model == name].sort_values("predicted")
        right.bar(part.predicted + offset, 100 * part["mean"], 0.27, yerr=100 * part["half"].fillna(0), color=STYLE[name][1], alpha=0.85,
                  error_kw={"lw": 1}, label=label(name))
    right.set_xticks(range(len(names)), names, rotation=0 if max(map(len, names)) < 4 else 45)
    right.set(xlabel="predicted class", ylabel="share of forgotten images (%)", title="What the model says instead", ylim=(0, None))
    legend_above(figure, right, 3)
    return figure, rows[["seed", "model", "image", "confidence", "p_label", "predicted"]]


def relearn(session, methods: tuple[str, ...], study: str = "relearn"):
    """Try to undo it: accuracy on the forget set while relearning it, batch by batch, one line a seed."""
    rows, runs_ = focus(session, session.rows(study)), focus(session, session.frame(study))
    if "batch" not in rows:
        raise NotAvailable(f"preset {session.preset} relearns nothing.")
    rows = rows[rows.batch.notna() & rows.method.isin(methods)]
    figure, axes = panels(1, width=7.6, height=4.3)
    ax, last = axes[0, 0], rows.batch.max()
    for name in methods:
        text, colour, marker = STYLE[name]
        never = []
        for seed, part in rows[rows.method == name].groupby("seed"):
            ax.plot(part.batch, 100 * part.acc_forget, color=colour, linewidth=1.3, alpha=0.85,
                    label=text if seed == rows.seed.min() else None)
            reached = runs_[(runs_.method == name) & (runs_.seed == seed)].batches.iloc[0]
            if pd.notna(reached):
                ax.plot(reached, 100 * part.set_index("batch").acc_forget[int(reached)], marker=marker, color=colour)
            else:
                never.append(100 * part.acc_forget.iloc[-1])
        if never:
            ax.text(last * 1.06, sum(never) / len(never), f"never in {last:g}\n({len(never)} seed{'s' * (len(never) > 1)})", color=colour,
                    va="center", fontsize=9)
    ax.plot([], [], "o", color="0.4", label="back (mark)")
    target = runs_.target.mean()
    ax.axhline(100 * target, color="0.3", linestyle="-.", linewidth=1, label="95 % of the original: counts as back")
    ax.axhline(100 * target / 0.95, color="black", linestyle=":", linewidth=1.4, label="original")
    ax.set(xlabel="mini-batches of relearning", ylabel="accuracy on the forget set (%)", title="How fast does it come back?",
           ylim=(max(-3, 100 * rows.acc_forget.min() - 10), 103), xlim=(0, last * 1.04))
    ax.set_xscale("symlog", linthresh=1, linscale=0.3)                          # back within 30 or after 150: both are read
    ticks = [t for t in (0, 1, 3, 10, 30, 100, 300) if t <= last]
    ax.set_xticks(ticks, [str(t) for t in ticks])
    ax.minorticks_off()
    legend_above(figure, ax, 3)
    return figure, rows[["method", "seed", "batch", "acc_forget"]]
