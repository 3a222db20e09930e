"""Sessions made up by hand from the plan of a preset, for any paper; and what the tests of ISPF's package share."""

import copy
import math
import statistics
import zlib
from functools import lru_cache

import numpy as np

from unlearnlib import papers
from unlearnlib.claims import interval
from unlearnlib.papers import Session
from unlearnlib.plots import label
from unlearnlib.records import Record

NAN = float("nan")

# --- networks of a second

BUDGET = {"epochs": 3, "warmup": 1, "rounds": 2, "student_steps": 2, "batch_size": 16, "image_shape": [1, 8, 8], "latent": 8,
          "widths": [8, 6, 4]}
SMALL = {"model": "allcnn-4", "recipe": {"epochs": 2, "lr": 0.1, "batch_size": 64, "schedule": "onecycle"},
         "scenarios": {"class:7": "digits", "class:3+7": "digits"}}


def small(name="ispf", scenario="class:7", seed=0, study="unlearn", options=None, **changes):
    params = {} if name in ("original", "retrain") else BUDGET | changes
    return papers.make("ispf", study, name, scenario, SMALL, seed, params=params, options=options)


# --- a session made up

ENDS = ("acc_test_retain", "acc_test_forget", "auc_confidence", "mia_confidence", "loss_forget", "acc_retain", "epochs")
END = {   # after the last epoch, in a world in which every claim holds
    "original": (0.98, 0.97, 0.70, 0.10, 0.05, 0.999, 20), "retrain": (0.97, 0.00, 0.52, 0.90, 6.0, 0.999, 18),
    "blockf": (0.82, 0.20, 0.55, 0.70, 3.0, 0.85, 34), "gkt_dfq": (0.80, 0.00, 0.50, 0.85, 5.0, 0.82, 30),
    "is_gkt": (0.84, 0.00, 0.51, 0.86, 5.2, 0.86, 33), "pf": (0.86, 0.005, 0.515, 0.87, 5.4, 0.88, 35),
    "ispf": (0.88, 0.01, 0.53, 0.89, 5.8, 0.90, 36), "dfkd": (0.90, 0.70, 0.60, 0.30, 0.6, 0.92, 37),
    "gkt": (0.70, 0.30, 0.55, 0.60, 2.0, 0.72, 12)}
DRAWN = {   # first and last epoch: predicted as the class, its probability, kept rows
    "blockf": ((0.10, 0.20), (0.12, 0.22), (0.90, 0.80)), "gkt_dfq": ((0.11, 0.24), (0.13, 0.26), (0.70, 0.60)),
    "is_gkt": ((0.04, 0.03), (0.05, 0.04), (0.85, 0.90)), "pf": ((0.10, 0.22), (0.12, 0.24), (1, 1)),
    "ispf": ((0.03, 0.02), (0.04, 0.03), (1, 1)), "dfkd": ((0.10, 0.18), (0.12, 0.20), (1, 1)),
    "gkt": ((0.10, 0.30), (0.12, 0.32), (0.5, 0.4))}
BATCHES = {"ispf": 30, "pf": 25, "gkt_dfq": 20, "dfkd": 5, "retrain": 40, "blockf": 10, "is_gkt": 22, "original": 0}
JITTER = (-1.0, 0.0, 1.0, 0.5)                  # of a seed, the same for all methods
SHIFT = {"class:7": 0.0, "class:3": -0.02}      # of a scenario, in A_r
LAST = 10


@lru_cache
def preset(name):
    """The settings of a preset, without controls; those of digits with a budget and studies of their own, whatever the preset spends."""
    values = papers.settings("ispf", name)
    values["methods"] = {k: v for k, v in values["methods"].items() if k in END}
    if name == "digits":
        values["methods"] = {k: {"class": v["class"] | {"epochs": LAST}} for k, v in values["methods"].items()}
        values |= {"focus_only": ["dfkd"], "relearn": values["relearn"] | {"batches": 100},
                   "snapshots": values["snapshots"] | {"epochs": [1, 5, LAST]},
                   "longer": values["longer"] | {"seeds": 1, "methods": values["longer"]["methods"] | {"gkt_dfq": {"epochs": 30}}},
                   "threshold": values["threshold"] | {"seeds": 2, "thresholds": [0.001, 0.1]}}
    return values


def like_cifar10():
    """The settings of cifar10, one seed and two methods, on data that is there."""
    return copy.deepcopy(preset("cifar10")) | {"scenarios": {"class:7": "digits"}, "focus": "class:7"}


class MadeUp(Session):
    """A session of any paper without a run: ``make(spec)`` says the metrics (with ``epochs`` and ``seconds``) and the rows of each.

    ``edit(spec, metrics, rows)`` changes the numbers of a run in place.
    """

    def __init__(self, name, values, make, edit=None, without=()):
        self.module, self.name, self.preset, self.write = papers.paper(name), name, "made up", False
        self.settings, self.specs = values, [s for s in self.module.plan(values) if s.method not in without]
        self.records = []
        for spec in self.specs:
            metrics, rows = make(spec)
            if edit:
                edit(spec, metrics, rows)
            timing = {k: metrics.pop(k) for k in ("epochs", "seconds") if k in metrics}
            self.records.append(Record(spec, metrics, rows, timing, {"commit": "abc1234"}))
        self.tables = {}

    def table(self, read, study):                                               # a session does not change: read once
        if (read, study) not in self.tables:
            self.tables[read, study] = read(study)
        return self.tables[read, study].copy()

    def frame(self, study="unlearn"):
        return self.table(super().frame, study)

    def rows(self, study):
        return self.table(super().rows, study)


class World(MadeUp):
    """A session of ISPF from the tables above. ``full``: with single images, points and pictures."""

    def __init__(self, seeds=3, edit=None, without=(), full=False, values=None, **changes):
        values = copy.deepcopy(preset("digits")) | {"seeds": seeds} if values is None else values
        super().__init__("ispf", values | changes, lambda s: (ends(s), by_epoch(s) + (extras(s) if full else [])), edit, without)


def shift(spec):
    return 0.01 * JITTER[spec.seed % 4] + SHIFT.get(spec.scenario, -0.05)


def ends(spec):
    out = dict(zip(ENDS, END[spec.method], strict=True))
    out["acc_test_retain"] += shift(spec)
    if "+" in spec.scenario and spec.method == "ispf":
        out["acc_test_retain"] -= 0.2                                           # several classes have no part in the claims on one
    threshold = spec.hyper_parameters.get("threshold", 0.01)
    out |= {"acc_forget": out["acc_test_forget"], "acc_test": out["acc_test_retain"] - 0.08, "mia_entropy": 0.5, "js_test": 0.1,
            "tpr1_confidence": 0.02, "seconds": 2 * out["epochs"] + spec.seed}
    if spec.method in DRAWN:
        out["kept"] = statistics.mean(row["kept"] for row in by_epoch(spec) if row["row"] == "epoch") + (threshold > 0.01) * 0.2
    if spec.method in ("pf", "ispf"):
        out |= {"filter_conditional": 3e-7, "filter_sum": 2e-6}
    if "relearn" in spec.settings and spec.method != "original":
        never = spec.method == "retrain" and spec.seed == 1
        out |= {"batches": NAN if never else BATCHES[spec.method] + spec.seed, "target": 0.95}
    return out


def by_epoch(spec):
    if spec.method not in DRAWN:
        return []
    last = spec.hyper_parameters.get("epochs", LAST)
    predicted, teacher, kept = DRAWN[spec.method]
    end, rows = dict(zip(ENDS, END[spec.method], strict=True)), []
    for epoch in range(1, last + 1):
        done = (epoch - 1) / (last - 1)
        far = 1 + 0.5 * np.sin(np.pi * done)                                    # A_f is highest halfway
        of = {name: a + (b - a) * done + 0.002 * JITTER[spec.seed % 4] for name, (a, b) in
              (("predicted_forget", predicted), ("teacher_forget", teacher))}
        rows.append({"row": "epoch", "epoch": epoch, "acc_test_retain": end["acc_test_retain"] * (epoch / last) ** 0.5 + shift(spec),
                     "acc_test_forget": end["acc_test_forget"] * far, **of, "kept": kept[0] + (kept[1] - kept[0]) * done})
    return rows + [{"row": "class", "class": k, "teacher": 0.1 + 0.001 * k, "student": 0.2 - 0.001 * k * (spec.seed + 1), "predicted": 0.1}
                   for k in range(10)]


def relearned(spec):
    if "relearn" not in spec.settings or spec.method == "original":
        return []
    return [{"row": "relearn", "batch": i, "acc_forget": min(1, i / BATCHES[spec.method])}
            for i in range(spec.settings["relearn"]["batches"] + 1)]


def extras(spec):
    """Everything that a run of the focus scenario may be asked for."""
    rng, rows, snapshots = np.random.default_rng(len(spec.method) + 10 * spec.seed), relearned(spec), spec.settings.get("snapshots")
    if snapshots and spec.method == "original":
        rows += [{"row": "real", "x": x, "y": y, "label": i % 10} for i, (x, y) in enumerate(rng.normal(size=(120, 2)))]
    if snapshots and spec.method in DRAWN:
        for epoch in snapshots["epochs"]:
            rows += [{"row": "point", "epoch": epoch, "x": x, "y": y, "predicted": i % 10 if i % 3 or epoch > 1 else 7, "p_forget": p}
                     for i, ((x, y), p) in enumerate(zip(rng.normal(size=(30, 2)), rng.choice([0.0, 0.01, 0.0099, 0.5], 30), strict=True))]
        rows += [{"row": "picture", "image": i, "pixels": rng.integers(0, 256, 64, dtype=np.uint8).tobytes().hex(), "shape": "1x8x8",
                  "predicted": i % 10, "p_predicted": 0.5 + 0.01 * i} for i in range(snapshots["pictures"])]
    if spec.settings.get("images") and spec.method == "ispf":
        for k, model in enumerate(("original", "ispf", "retrain")):
            rows += [{"row": "forgotten", "model": model, "image": i, "p_label": 0.5, "confidence": 3.0 - 2 * k + 0.1 * i,
                      "predicted": 7 if k == 0 else (i + spec.seed) % 7} for i in range(12)]
            rows += [{"row": "strip", "model": model, "role": f"role {i}", "part": "train" if i < 3 else "test", "image": 5 * i, "label": 7,
                      "p_label": 0.9 - 0.3 * k + 0.01 * i, "predicted": 7 - k, "p_predicted": 0.9} for i in range(5)]
    return rows


# --- changes of a world

def end(method, scenario=None, seed=None, **values):
    """Changes the metrics of a method's runs; a function is given the number that was there."""
    def edit(spec, metrics, rows):
        if spec.study == "unlearn" and spec.method == method and scenario in (None, spec.scenario) and seed in (None, spec.seed):
            metrics.update({k: v(metrics[k]) if callable(v) else v for k, v in values.items()})
    return edit


def epochs(method, scenario=None, seed=None, at=None, **values):
    """Changes the curve of a method's runs: at every epoch, or ``at`` some."""
    def edit(spec, metrics, rows):
        if spec.study == "unlearn" and spec.method == method and scenario in (None, spec.scenario) and seed in (None, spec.seed):
            for row in rows:
                if row["row"] == "epoch" and (at is None or row["epoch"] in at):
                    row.update({k: v(row[k]) if callable(v) else v for k, v in values.items()})
    return edit


def every(*edits):
    def edit(*run):
        for one in edits:
            one(*run)
    return edit


def noisy(spec, metrics, rows):
    """Every run has numbers of its own; one strategy never gets to three quarters of the retrained model's A_r in one seed."""
    rng = np.random.default_rng(zlib.crc32(repr(spec).encode()))
    for values in (metrics, *(r for r in rows if r["row"] in ("epoch", "class"))):
        for key in sorted(set(values) - {"row", "epoch", "class", "batches", "target"}):
            values[key] *= 1 - 0.1 * rng.random()
        if "epoch" in values and (spec.method, spec.seed) == ("blockf", 1):
            values["acc_test_retain"] *= 0.5


# --- independent look-ups

def of(world, method, scenario="class:7", study="unlearn"):
    """Records, seed by seed."""
    found = [r for r in world.records if (r.spec.study, r.spec.method, r.spec.scenario) == (study, method, scenario)]
    assert found, (method, scenario, study)
    return sorted(found, key=lambda r: r.spec.seed)


def metric(world, method, key, scenario="class:7"):
    return [(r.metrics | r.timing)[key] for r in of(world, method, scenario)]


def at_epoch(world, method, key, epoch, scenario="class:7", study="unlearn"):
    """One value a seed."""
    return [next(x[key] for x in r.rows if x["row"] == "epoch" and x["epoch"] == epoch) for r in of(world, method, scenario, study)]


def pct(values, digits=1, scale=100):
    return interval(list(values)).text(digits, scale)


def less(world, key, a, b, scenario="class:7"):
    return interval(np.subtract(metric(world, a, key, scenario), metric(world, b, key, scenario)))


def listed(methods, of_one):
    return ", ".join(f"{label(m)} {of_one(m)}" for m in methods)


def ratio(world, key, a="ispf", b="retrain"):
    return np.divide(metric(world, a, key), metric(world, b, key))


def distance(world, method):
    """Avg.Gap and ToW, seed by seed, with the confidence attack."""
    gaps, tows = [], []
    for a, b in zip(of(world, method), of(world, "retrain"), strict=True):
        apart = [abs(a.metrics[k] - b.metrics[k]) for k in ("acc_forget", "acc_retain", "acc_test", "mia_confidence")]
        gaps.append(statistics.mean(apart))
        tows.append(math.prod(1 - d for d in apart[:3]))
    return gaps, tows


SINGLE = ("class:7", "class:3")


def by_seed(world, of_run, method, scenarios=SINGLE):
    """Mean over scenarios of a number a run, seed by seed."""
    return [statistics.mean(of_run(of(world, method, s)[k]) for s in scenarios) for k in range(3)]


def curve(key, first=1, of_all=statistics.mean):
    return lambda run: of_all([r[key] for r in run.rows if r["row"] == "epoch" and r["epoch"] >= first])
