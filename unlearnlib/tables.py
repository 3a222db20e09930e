"""Tables as pure functions of tidy DataFrames: ours as mean ± 95 % interval, beside retrained and, where verified, published."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from .claims import Interval, interval
from .methods import METHODS
from .metrics import avg_gap, tow
from .plots import label

MISSING = "not available"
PUBLISHED = Path(__file__).with_name("published.csv")
WIDEST = 200        # characters of a line


class Table:
    """A DataFrame of ready-made cells, shown as a Markdown table."""

    def __init__(self, frame: pd.DataFrame):
        self.frame = frame

    def _repr_markdown_(self) -> str:
        """Without the padding that only a terminal needs, as notebooks keep both."""
        lines = [list(self.frame.columns), [":--"] * self.frame.shape[1], *self.frame.itertuples(index=False)]
        return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)

    def __repr__(self) -> str:
        """With padding, unless lines become longer than a terminal shows."""
        padded = self.frame.to_markdown(index=False, disable_numparse=True)
        return padded if padded.index("\n") <= WIDEST else self._repr_markdown_()


class Markdown:
    """A text that a notebook shows as Markdown."""

    def __init__(self, text: str):
        self.text = text

    def _repr_markdown_(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return self.text


def cell(values, digits: int = 1, scale: float = 100.0) -> str:
    """Seeds as "mean ± half"; "–" where the metric does not exist for this scenario."""
    i = interval(values)
    return i.text(digits, scale) if i.n else "–"


def access(names: list[str] | None = None) -> Table:
    """What each method may see, from the registry: the same object that enforces it."""
    columns = ("forget_images", "forget_labels", "forget_classes", "retain_images", "retain_labels", "held_out")
    out = []
    for name in names or METHODS:
        row = METHODS[name].access
        seen = {c.replace("_", " "): "yes" if getattr(row, c) else "no" for c in columns}
        if row.forget_labels:
            seen["forget classes"] = "yes"
        out.append({"method": label(name)} | seen | {"what it changes": row.changes})
    return Table(pd.DataFrame(out))


LETTERS = (   # the same letter has another job in each of the four papers
    ("alpha", "weights of the generator's loss terms", "selection threshold on the importance ratio",
     "mix of forget and retain term, decays", "weight of the retain term"),
    ("delta", "threshold on the forget probability", "–", "–", "the perturbation itself"),
    ("tau", "–", "–", "held-out loss to reach, recomputed", "margin floor"),
    ("lambda", "–", "strength of dampening", "–", "weight of the norm penalty"))


def letters() -> Table:
    """Same letter, different job: a warning for readers of more than one of the papers."""
    return Table(pd.DataFrame(LETTERS, columns=["letter", "ISPF", "LFSSD", "Nabla-tau", "Forget vectors"]))


def by_method(frame: pd.DataFrame, columns: dict[str, tuple[str, int, float]], methods: list[str] | None = None) -> Table:
    """One row for each scenario and method; ``columns`` maps a heading to (metric, digits, scale)."""
    out = []
    for scenario, group in frame.groupby("scenario", sort=False):
        order = [m for m in methods or METHODS_IN_ORDER if (group.method == m).any()]
        for name in order:
            part = group[group.method == name]
            out.append({"scenario": scenario, "method": label(name)}
                       | {heading: cell(part[metric], digits, scale) for heading, (metric, digits, scale) in columns.items()}
                       | {"n": len(part)})
    return Table(pd.DataFrame(out))


METHODS_IN_ORDER = ["original", *METHODS]
NOTHING_UNLEARNED = ("mask_logit", "random_output", "head_only")


SETTING = {"alpha": "alpha", "lam": "lambda", "batch_size": "batch size"}       # columns of published.csv, in words


def published(frame: pd.DataFrame, paper: str, table: Table, metrics: list[str]) -> Table:
    """Add a column of published values to a table of :func:`by_method`: verified numbers with their source and
    setting, or "not available"."""
    known = pd.read_csv(PUBLISHED, dtype=str)
    known = known[(known.paper == paper) & (known.study == "unlearn")]
    out = table.frame.copy()
    names = {label(m): m for m in METHODS_IN_ORDER}
    sets = frame.groupby("scenario").data.first()
    cells = []
    for row in out.itertuples():
        hit = known[(known.data == sets[row.scenario]) & (known.scenario == row.scenario) & (known.method == names[row.method])]
        values = hit.set_index("metric").value
        source = [*hit.source[:1], *(f"{name} {hit[k].iloc[0]}" for k, name in SETTING.items() if hit[k].notna().any())]
        cells.append(f"{' / '.join(values.get(m, MISSING) for m in metrics)} ({'; '.join(source)})" if len(hit) else MISSING)
    return Table(out.assign(**{f"published: {' / '.join(metrics)}": cells}))


def with_distance(frame: pd.DataFrame, attack: str = "mia_entropy") -> pd.DataFrame:
    """Add, seed by seed, the distance to the retrained model: ``avg_gap`` (over UA, RA, TA, MIA) and ``tow``."""
    parts = ["acc_forget", "acc_retain", "acc_test"]
    retrained = frame[frame.method == "retrain"].set_index(["scenario", "seed"])
    gaps, tows = [], []
    for row in frame.itertuples():
        base = retrained.loc[(row.scenario, row.seed)] if (row.scenario, row.seed) in retrained.index else None
        mine = [getattr(row, m) for m in parts]
        base = None if any(pd.isna(mine)) else base                             # a model that diverged
        gaps.append(float("nan") if base is None else avg_gap([*mine, getattr(row, attack)], [*base[parts], base[attack]]))
        tows.append(float("nan") if base is None else tow(mine, list(base[parts])))
    return frame.assign(avg_gap=gaps, tow=tows)


def nearer(frame: pd.DataFrame, names: dict[str, str], method: str, other: str) -> list[str]:
    """The numbers (metric: its name) in which, by the mean, ``other`` is at least as near to the retrained model as ``method``.

    Divergences (``js_...``) are distances to it already. A number that one of the two lacks is not counted.
    """
    mean = frame.groupby("method")[[m for m in names if m in frame]].mean()
    mean = mean.reindex([method, other, "retrain"]).T
    target = mean.retrain.where(~mean.index.str.startswith("js"), 0.0)
    return [names[m] for m in mean.index[(mean[other] - target).abs() <= (mean[method] - target).abs()]]


def fooled(frame: pd.DataFrame, names: dict[str, str], method: str) -> Markdown:
    """In which numbers the controls, which unlearn nothing, look at least as good as a method: no such number shows unlearning."""
    names = {m: name for m, name in names.items() if m in frame}
    there = [c for c in NOTHING_UNLEARNED if (frame.method == c).any()]
    if not there:
        return Markdown("*Not available:* this preset has no controls.")
    parts = [f"**{label(c).removeprefix('control: ')}** in {len(near)}" + f" ({'; '.join(near)})" * bool(near)
             for c in there for near in [nearer(frame, names, method, c)]]
    return Markdown(f"*We measured*: in how many of these {len(names)} numbers is a control, which unlearns nothing, by its mean at least "
                    f"as near to the retrained model as the {label(method)} row? {', '.join(parts)}.")


def predictions(rows: list[tuple[str, Interval, tuple[float, float]]], digits: int = 1) -> Table:
    """The prediction box, scored: (quantity, measured interval, (low, high)) -> is the mean inside its band, or outside by how much?"""
    out = []
    for quantity, value, (low, high) in rows:
        miss = low - value.mean if value.mean < low else value.mean - high if value.mean > high else 0.0
        crosses = value.n > 1 and value.low <= high and value.high >= low and (value.low < low or value.high > high)
        verdict = f"outside by {miss:.{digits}f}" if miss else "inside"
        verdict += f", but the interval reaches {'into' if miss else 'out of'} the band" if crosses else ""
        out.append({"quantity": quantity, "our band": f"{low:g} to {high:g}", "we measured": value.text(digits, 1), "n": value.n,
                    "verdict": verdict})
    return Table(pd.DataFrame(out))
