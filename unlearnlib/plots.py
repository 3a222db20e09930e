"""Figures as pure functions of tidy DataFrames: one theme, one colour and marker per method, 95 % intervals, provenance."""

from __future__ import annotations

import io
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from .claims import interval
from .files import digest, write

_COLOURS = sns.color_palette("colorblind", 10)
STYLE = {   # method: (label, colour, marker): the same in every notebook
    "original": ("original", "black", "s"), "retrain": ("retrained", _COLOURS[2], "D"), "finetune": ("fine-tuned", _COLOURS[7], "v"),
    "amnesiac": ("amnesiac", _COLOURS[1], "^"), "bad_teacher": ("bad teacher", _COLOURS[5], "<"), "unsir": ("UNSIR", "#8a8500", ">"),
    "ssd": ("SSD", _COLOURS[0], "o"), "lfssd": ("LFSSD", _COLOURS[3], "o"), "random_dampening": ("random dampening", _COLOURS[4], "X"),
    "scrub": ("SCRUB", "#00798c", "<"), "scrub_r": ("SCRUB+R", "#5a3d2b", ">"), "neggrad_plus": ("NegGrad+", "#e7298a", "X"),
    # one hue a filter (blue: the gate, red: PostFilter), dark with Inhibited Synthetic
    "gkt_dfq": ("GKT", "#6fb7f0", "v"), "is_gkt": ("GKT + IS", "#1f3b8f", "^"), "pf": ("PostFilter", "#f4978e", "<"),
    "ispf": ("ISPF", "#a50026", "o"), "blockf": ("BlockF", "#c9a227", "s"), "gkt": ("GKT as published", "#17becf", "X"),
    "dfkd": ("control: no filter", "0.3", "P"),
    "nabla_tau": ("∇τ", "#6a3d9a", "o"), "forget_vector": ("forget vector", "#c1121f", "*"),
    "forget_vector_composed": ("composed vector", "#7f1d5a", "*"), "gradient_ascent": ("gradient ascent", "#3f7d20", "^"),
    "random_labels": ("random labels", "#1d3fbb", "d"), "salun": ("SalUn", "#4cc9f0", "d"), "l1_sparse": ("l1-sparse", "#6b705c", "p"),
    "class_f": ("Class-F", "#e6c229", "h"), "influence": ("influence", "#264653", "v"),
    "mask_logit": ("control: mask logit", "0.45", "P"), "head_only": ("control: head only", "0.6", "X"),
    "random_output": ("control: random output", "0.75", "*"),
}
RING = {"ssd"}              # drawn as a larger, hollow mark: it shows around LFSSD, and hides nothing, where both lie in one place
ANYWHERE, SHARE = (-np.inf, np.inf), (0, 100)
LEAST_BAND = 0.06           # half width of the ruler's band where retrained seeds agree to the last image: it is still seen
DPI = 110


def label(method: str) -> str:
    return STYLE[method][0]


def mark(method: str, size: float = 8) -> dict:
    """How the large mark of a method is drawn."""
    return {"markersize": 1.5 * size, "markerfacecolor": "none", "markeredgewidth": 1.8} if method in RING else {"markersize": size}


def theme() -> None:
    """Set the look of every figure, once."""
    sns.set_theme(context="notebook", style="ticks", font="DejaVu Sans", rc={
        "figure.dpi": DPI, "savefig.dpi": DPI, "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 12,
        "axes.titlelocation": "left", "axes.titleweight": "bold", "axes.grid": True, "grid.alpha": 0.25, "legend.frameon": False,
        "legend.fontsize": 10, "figure.constrained_layout.use": True})


def panels(columns: int, rows: int = 1, *, width: float = 9.5, height: float = 3.9, **options) -> tuple[Figure, np.ndarray]:
    """A themed figure with an array of axes of shape (rows, columns)."""
    theme()
    return plt.subplots(rows, columns, figsize=(width, height), squeeze=False, **options)


def stamp(figure: Figure, provenance: str) -> None:
    """Put the scale and the origin of the numbers on the picture, so that a toy figure cannot pass for a reproduction."""
    figure.supxlabel(provenance, fontsize=8, color="0.4", x=0.01, ha="left")


class Drawn:
    """A finished figure and exactly what was drawn. A notebook shows the picture, and as text a digest of its numbers.

    Notebook validators compare text, not pixels: a figure whose numbers have changed shows in the digest (4 significant digits).
    """

    def __init__(self, name: str, figure: Figure, drawn: pd.DataFrame):
        self.name, self.drawn = name, drawn
        raw, small = io.BytesIO(), io.BytesIO()
        figure.savefig(raw, format="png")
        scale = any(ax.get_label() == "<colorbar>" for ax in figure.axes)      # its colours are many, and all of them count
        colours, rule = (256, Image.Quantize.MAXCOVERAGE) if scale else (128, Image.Quantize.MEDIANCUT)
        Image.open(raw).convert("RGB").quantize(colours, method=rule, dither=Image.Dither.NONE).save(small, format="png", optimize=True)
        self.png = small.getvalue()                                             # a palette: a third of the size, the same look
        plt.close(figure)

    def _repr_png_(self) -> bytes:
        return self.png

    def __repr__(self) -> str:
        return f"{self.name}: {len(self.drawn)} rows drawn, digest {digest(self._csv('%.4g'))}"

    def _csv(self, form: str) -> bytes:
        return self.drawn.to_csv(index=False, float_format=form, lineterminator="\n").encode()

    def save(self, folder: Path) -> None:
        """Write ``NAME.png`` and ``NAME.csv``; the same figure gives the same bytes."""
        write(folder / f"{self.name}.png", self.png)
        write(folder / f"{self.name}.csv", self._csv("%.6g"))


def summarise(frame: pd.DataFrame, by: list[str], value: str) -> pd.DataFrame:
    """Mean and half width of the 95 % interval over seeds of ``value`` for each group: columns ``mean``, ``half``, ``n``."""
    out = []
    for key, group in frame.groupby(by, sort=False):
        i = interval(group.groupby("seed")[value].mean())
        out.append(dict(zip(by, key, strict=True)) | {"mean": i.mean, "half": i.half, "n": i.n})
    return pd.DataFrame(out)


def band(frame: pd.DataFrame, x: str, y: str, *, ax: Axes | None = None, scale: float = 100.0, within=ANYWHERE, **style) -> Axes:
    """Mean of ``y`` over seeds against ``x`` with its 95 % interval as a band, cut at ``within`` (of a share: 0 and 100 %)."""
    ax = ax or plt.gca()
    s = summarise(frame, [x], y).sort_values(x)
    line, = ax.plot(s[x], scale * s["mean"], **style)
    half = s["half"].fillna(0)
    low, high = (np.clip(scale * (s["mean"] + sign * half), *within) for sign in (-1, 1))
    ax.fill_between(s[x], low, high, color=line.get_color(), alpha=0.18, linewidth=0)
    return ax


def log_axis(ax: Axes, ticks=(1, 10, 100)) -> None:
    """A logarithmic x axis with plain numbers at the given ticks."""
    ax.set_xscale("log")
    ax.set_xticks(ticks, [f"{t:g}" for t in ticks])
    ax.minorticks_off()


def legend_above(figure: Figure, ax: Axes, columns: int) -> None:
    """One legend for all panels, above them."""
    figure.legend(*ax.get_legend_handles_labels(), loc="outside upper left", ncols=columns)


def mind_start(ax: Axes) -> None:
    """Say beside a percentage that its axis does not start at 0, where it does not."""
    if ax.get_ylim()[0] > 0:
        ax.set_ylabel(f"{ax.get_ylabel()}\nmind: the axis starts at {ax.get_ylim()[0]:.0f}")


def reference_line(frame: pd.DataFrame, value: str, method: str, *, ax: Axes, scale: float = 100.0, spread: bool = True) -> None:
    """A horizontal line at the mean of a reference model, with its interval as a band unless ``spread`` is False."""
    i = interval(frame[frame.method == method].groupby("seed")[value].mean())
    if i.n:
        text, colour, _ = STYLE[method]
        ax.axhline(scale * i.mean, color=colour, linestyle=":", linewidth=1.6, label=text)
        if spread and i.n > 1:
            ax.axhspan(scale * i.low, scale * i.high, color=colour, alpha=0.10, linewidth=0)


def tradeoff(frame: pd.DataFrame, x: str, y: str, methods: list[str], *, ax: Axes | None = None, scale: float = 100.0,
             within=ANYWHERE) -> Axes:
    """One small dot a seed and one large mark a method, with 95 % intervals on both axes, cut at ``within`` (of shares: 0 and 100 %)."""
    ax = ax or plt.gca()
    for name in methods:
        part = frame[frame.method == name]
        if part.empty:
            continue
        text, colour, marker = STYLE[name]
        ax.scatter(scale * part[x], scale * part[y], color=colour, marker=marker, s=22, alpha=0.5, linewidth=0)
        a, b = (interval(part.groupby("seed")[v].mean()) for v in (x, y))
        ax.errorbar(scale * a.mean, scale * b.mean, xerr=_half(a, scale, within), yerr=_half(b, scale, within), color=colour,
                    marker=marker, capsize=2, linestyle="none", label=text, **mark(name))
    return ax


def _half(i, scale: float, within=ANYWHERE):
    """Lengths of an interval's two bars, ``[[down], [up]]``; None for one seed."""
    if np.isnan(i.half):
        return None
    mean, (low, high) = scale * i.mean, np.clip([scale * i.low, scale * i.high], *within)
    return [[max(mean - low, 0)], [max(high - mean, 0)]]


def ruler(frame: pd.DataFrame, metrics: dict[str, str], methods: list[str], *, axes, percent=(), what: str = "") -> pd.DataFrame:
    """The forgetting ruler: per metric one axis on which the original is 0 and the retrained model 1; a dot for each method.

    Left of 1 is too little, right of 1 too much forgetting. Each seed is placed between the mean original and the mean retrained model;
    the shaded band is one standard deviation of retrained seeds, at least as wide as can be seen. Where original and retrained nearly
    coincide (closer than twice that), the ruler would be meaningless: the raw means are printed instead, those in ``percent`` times 100.
    ``what`` begins the title. Returns what was drawn.
    """
    drawn = []
    axes[0].figure.suptitle(f"{what or 'The forgetting ruler'}: 0 = original, 1 = retrained (band: standard deviation of retrained seeds; "
                            "bars: 95 % interval)", fontsize=11, x=0.01, ha="left")
    for ax, (metric, title) in zip(axes, metrics.items(), strict=True):
        retrained = frame[frame.method == "retrain"][metric]
        start, end, spread = frame[frame.method == "original"][metric].mean(), retrained.mean(), retrained.std()
        shown = [m for m in methods if (frame.method == m).any()]
        meaningless = not abs(end - start) > 2 * (0.01 if np.isnan(spread) else spread)      # one seed: 2 points
        for position, name in enumerate(shown):
            _, colour, marker = STYLE[name]
            values = frame[frame.method == name].groupby("seed")[metric].mean()
            raw, placed = interval(values), interval((values - start) / (end - start))
            drawn.append({"metric": metric, "method": name, "position": placed.mean, "half": placed.half, "raw": raw.mean,
                          "raw_half": raw.half, "n": raw.n})
            if meaningless:
                shown_raw = raw.text(1, 100) if metric in percent else raw.text(2, 1)
                ax.text(0.5, position, shown_raw, va="center", ha="center", fontsize=9)
            elif -0.6 <= placed.mean <= 2.6:
                ax.errorbar(placed.mean, position, xerr=_half(placed, 1), color=colour, marker=marker, capsize=2, **mark(name, 6))
            else:
                text, at, side = (f"{placed.mean:.1f} >", 2.65, "right") if placed.mean > 0 else (f"< {placed.mean:.1f}", -0.65, "left")
                ax.text(at, position, text, va="center", ha=side, fontsize=9)
        if meaningless:
            ax.set(xticks=[])
        else:
            width = 0 if np.isnan(spread) else max(spread / abs(end - start), LEAST_BAND)
            ax.axvspan(1 - width, 1 + width, color=STYLE["retrain"][1], alpha=0.15, linewidth=0)
            ax.axvline(1, color=STYLE["retrain"][1], linewidth=1)
            ax.axvline(0, color="black", linewidth=1)
            ax.set(xlim=(-0.7, 2.7), xticks=[0, 1, 2])
            ax.set_xlabel("share of the gap", fontsize=9)
        raw_unit = "\n(too close: raw, %)" if metric in percent else "\n(too close: raw)"
        ax.set_title(title + (raw_unit if meaningless else ""), fontsize=10)
        ax.set(yticks=range(len(shown)), yticklabels=[label(m) for m in shown], ylim=(len(shown) - 0.5, -0.5))
    return pd.DataFrame(drawn)


def picture(ax: Axes, image, title: str = "") -> None:
    """One image ``(c, h, w)`` in [0, 1] or uint8, without axes."""
    array = np.asarray(image.cpu()).transpose(1, 2, 0)
    array = array / 255 if array.dtype == np.uint8 else np.clip(array, 0, 1)
    ax.imshow(array.squeeze(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    ax.set_title(title, fontsize=9, fontweight="normal", loc="center")
    ax.axis("off")
