"""Figures of one vector, used otherwise or learned with other settings: controls, random samples, sweeps."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ... import plots
from ...claims import interval
from ...plots import STYLE, label, legend_above, panels, summarise
from ...tables import with_distance
from .. import NotAvailable
from .claims import ATTACK, CLEAN, NO_RETAIN, NOISE, REMOVED, USED, controls_of, sweep
from .comparisons import CLAMPED, ONLY, beyond
from .scores import with_ua

UA, RA, TA, MIA = ("UA: forget images\nwrong (%)", "RA: retain images\nright (%)", "TA: test images\nright (%)",
                   "MIA-Efficacy: called\nnon-member (%)")
METRICS = {"ua": UA, "acc_retain": RA, "acc_test": TA, ATTACK: MIA}
VECTOR, OTHER = STYLE["forget_vector"][1], "#e07a5f"        # the vector, however it is used; another vector


def kinds(frame: pd.DataFrame) -> dict[str, str]:
    """Scenario: dash of its line; the first solid."""
    return dict(zip(frame.scenario.unique(), ("-", "--", ":"), strict=False))


def _four(rows: pd.DataFrame, names: list[str], colours: dict, session, title: str, height: float):
    """One panel a metric, one line a named row: the mean over seeds and a tick for each; scenarios side by side (filled: class, open:
    random), retrained as a green line. Intervals stand in the notebook's tables: of three seeds they would fill the panels."""
    rows = with_ua(rows)
    marks = dict(zip(rows.scenario.unique(), ("o", "s"), strict=False))
    figure, axes = panels(4, width=12.5, height=height, sharey=True)
    runs, drawn = with_ua(session.frame()), []
    for ax, (metric, text) in zip(axes[0], METRICS.items(), strict=True):
        for k, (scenario, mark) in enumerate(marks.items()):
            part = rows[rows.scenario == scenario]
            goal = interval(runs[(runs.method == "retrain") & (runs.scenario == scenario)][metric])
            ax.axvline(100 * goal.mean, color=STYLE["retrain"][1], linestyle="-" if k == 0 else "--", linewidth=1.4,
                       label=f"retrained, {scenario}")
            s = summarise(part, ["name"], metric).set_index("name")
            for y, name in enumerate(names):
                if name in s.index:
                    at, seeds = y + 0.2 * (2 * k - 1), 100 * part[part.name == name][metric]
                    ax.plot(seeds, [at] * len(seeds), "|", color=colours[name], markersize=11, markeredgewidth=1.2)
                    ax.errorbar(100 * s["mean"][name], at, color=colours[name], marker=mark, markersize=7, linestyle="none",
                                markerfacecolor=colours[name] if k == 0 else "white")
            drawn.append(s.reset_index().assign(metric=metric, scenario=scenario))
        ax.set(xlabel=text, yticks=range(len(names)), yticklabels=names, ylim=(len(names) - 0.5, -0.5), xlim=(-4, 104))
    for scenario, mark in marks.items():
        axes[0, 0].plot([], [], marker=mark, color="0.3", markerfacecolor="0.3" if mark == "o" else "white", linestyle="none",
                        label=scenario)
    axes[0, 0].plot([], [], "|", color="0.3", markersize=11, label="one seed")
    axes[0, 0].set_title(title)
    legend_above(figure, axes[0, 0], 5)
    return figure, pd.concat(drawn)


def control_rows(session) -> pd.DataFrame:
    return controls_of(session).rename(columns={"control": "name"})


def wrong_way(session):
    """Noise of the same norm, and a vector learned without D_r, beside the forget vector."""
    names = [REMOVED, NOISE, NO_RETAIN, USED]
    colours = dict(zip(names, (STYLE["original"][1], "0.55", OTHER, VECTOR), strict=True))
    rows = control_rows(session)
    return _four(rows[rows.name.isin(names)], names, colours, session, "Does any perturbation of this size do?", 3.6)


def controls(session):
    """The vector in use: removed, on the forget set alone, with a fairer attack, clamped."""
    names = [USED, REMOVED, ONLY, CLEAN, CLAMPED]
    colours = dict.fromkeys(names, VECTOR) | {REMOVED: STYLE["original"][1]}
    rows = control_rows(session)
    return _four(rows[rows.name.isin(names)], names, colours, session, "What if the same vector is used differently?", 4.1)


def random(session):
    """Random samples: UA against what is lost in RA, of the vector at each beta, of noise, original and retrained; with 95 % bars."""
    runs, rows = session.frame(), control_rows(session)
    rows = rows[rows.name.isin([NOISE, USED]) & rows.scenario.str.startswith("random")]
    if rows.empty:
        raise NotAvailable(f"preset {session.preset} forgets no random samples.")
    start, goal = (runs[(runs.method == m) & (runs.scenario == rows.scenario.iloc[0])] for m in ("original", "retrain"))
    parts = [("original", STYLE["original"][1], "s", start), ("retrained", STYLE["retrain"][1], "D", goal),
             (NOISE, "0.55", "o", rows[rows.name == NOISE])]
    if session.has("beta"):
        stops = sweep(session, "beta", "random").groupby("value")
        parts += [(f"vector, β = {v:g}", VECTOR, "*PXv^"[k % 5], part) for k, (v, part) in enumerate(stops)]
    else:
        parts.append((USED, VECTOR, "*", rows[rows.name == USED]))
    figure, axes = panels(1, width=6, height=3.8)
    ax, drawn = axes[0, 0], []
    for name, colour, mark, part in parts:
        x, y = (interval(100 * (1 - part[v])) for v in ("acc_retain", "acc_forget"))
        ax.errorbar(x.mean, y.mean, xerr=np.nan_to_num(x.half), yerr=np.nan_to_num(y.half), color=colour, marker=mark, markersize=9,
                    markerfacecolor="white", elinewidth=1, capsize=2, linestyle="none", label=name)
        gap = beyond(part.set_index("seed"), start.set_index("seed"))
        drawn.append({"name": name, "lost": x.mean, "lost_half": x.half, "ua": y.mean, "ua_half": y.half, "beyond": gap.mean,
                      "half": gap.half, "n": gap.n})
    ax.axline((0, 0), slope=1, color="0.4", linewidth=1, linestyle="--")
    ax.set(xlabel="100 − RA: retain images wrong (%)", ylabel=UA.replace("\n", " "), xlim=(-4, 104), ylim=(-4, 104),
           title="Random samples: are the forgotten ones hit more?\n(above the dashed line: yes; bars: 95 % intervals)")
    ax.legend(loc="lower right", fontsize=9)
    return figure, pd.DataFrame(drawn)


def turned(session, name: str, text: str, title: str):
    """A setting of the vector turned: the four numbers and Avg.Gap at its stops."""
    rows = with_ua(sweep(session, name))
    runs, drawn = with_ua(with_distance(session.frame(), ATTACK)), []
    figure, axes = panels(5, width=13, height=3.3)
    for ax, (metric, y) in zip(axes[0], {**METRICS, "avg_gap": "Avg.Gap (points)"}.items(), strict=True):
        lowest, highest = 100.0, 0.0
        for scenario, dash in kinds(rows).items():
            part = rows[rows.scenario == scenario]
            for method in ("original", "retrain"):
                if (metric, method) != ("avg_gap", "retrain"):                  # which is 0
                    goal = interval(runs[(runs.method == method) & (runs.scenario == scenario)][metric])
                    ax.axhline(100 * goal.mean, color=STYLE[method][1], linestyle=dash, linewidth=1.2, label=f"{label(method)}, {scenario}")
            plots.band(part, "value", metric, ax=ax, color=VECTOR, marker="*", markersize=8, linestyle=dash, label=f"vector, {scenario}",
                       markerfacecolor=VECTOR if dash == "-" else "white")
            used = session.settings["methods"]["forget_vector"][scenario.split(":")[0]].get(name, 1)      # tau is 1 as published
            here = part[part.value == used]
            if len(here):
                ax.plot(used, 100 * here[metric].mean(), marker="o", markersize=13, markerfacecolor="none", color=VECTOR, linestyle="none",
                        label="in use" if dash == "-" else None)
            drawn.append(s := summarise(part, ["scenario", "value"], metric).assign(metric=metric))
            half = s.half.fillna(0)
            lowest, highest = min(lowest, 100 * (s["mean"] - half).min()), max(highest, 100 * (s["mean"] + half).max())
        ax.set(xlabel=text, ylabel=y, xticks=sorted(rows.value.unique()))
        if metric == "avg_gap":
            ax.set_ylim(0, 1.05 * highest)                                      # the original of a class is far above
        else:
            ax.set_ylim(10 * (lowest // 10) if metric.startswith("acc") and lowest > 30 else -4, 104)     # a part of the axis where it does
    axes[0, 0].set_title(title)
    legend_above(figure, axes[0, 0], 7)
    return figure, pd.concat(drawn)
