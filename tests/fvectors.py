"""What the tests of the Forget Vectors package share: small specs of real runs, and a session made up by hand."""

import copy
import json
import statistics
import zlib
from functools import lru_cache

import numpy as np
from datafree import JITTER, NAN, MadeUp, end, every, of, pct

from unlearnlib import papers
from unlearnlib.claims import comparison, interval
from unlearnlib.papers.forget_vectors import text
from unlearnlib.papers.forget_vectors.claims import BASELINES

MINE, MIXED, ATTACK = "forget_vector", "forget_vector_composed", "mia_confidence"
FOUR = ("acc_forget", "acc_retain", "acc_test", ATTACK)
CLASS, OTHER, EXTRA, UNION, RANDOM = "class:3", "class:7", "class:8", "class:3+7", "random:0.1"
SHARED, SINGLE, BOTH = (CLASS, OTHER), (CLASS, OTHER, EXTRA), (CLASS, RANDOM)

# --- networks of a second

SMALL = {"model": "allcnn-4", "recipe": {"epochs": 4, "lr": 0.1, "batch_size": 64, "schedule": "onecycle"},
         "scenarios": {s: "digits" for s in (*[f"class:{c}" for c in range(10)], UNION, RANDOM)}}
FAST = {"beta": 3, "epochs": 1, "batch_size": 64}


def small(study="unlearn", name=MINE, scenario=CLASS, seed=0, options=None, **params):
    params = params if name in ("original", "retrain") else FAST | params
    return papers.make("forget_vectors", study, name, scenario, SMALL, seed, params=params, options=options)


# --- a session made up

KEYS = (*FOUR, "acc_test_forget", "epochs")
END = {   # a world in which every claim holds
    "class": {"original": (1.00, 1.00, 0.86, 0.02, 0.95, 20), "retrain": (0.00, 0.97, 0.85, 1.00, 0.00, 18),
              "finetune": (0.30, 1.00, 0.87, 0.70, 0.25, 4), "l1_sparse": (0.20, 0.99, 0.86, 0.80, 0.15, 4.1),
              "random_labels": (0.10, 0.99, 0.86, 0.90, 0.09, 4.2), "salun": (0.12, 0.99, 0.87, 0.88, 0.11, 5),
              "neggrad_plus": (0.08, 0.98, 0.88, 0.93, 0.07, 5.5), "scrub": (0.16, 0.98, 0.86, 0.85, 0.14, 3.5),
              "gradient_ascent": (0.05, 0.60, 0.55, 0.95, 0.04, 0.5), "ssd": (0.02, 0.80, 0.70, 0.97, 0.01, 0.4),
              "class_f": (0.01, 0.95, 0.80, 0.98, 0.01, 0.1), "influence": (0.40, 0.90, 0.80, 0.60, 0.35, 0.3),
              MINE: (0.02, 0.95, 0.82, 0.98, 0.03, 15), MIXED: (0.06, 0.94, 0.81, 0.93, 0.05, 8)},
    "random": {"original": (1.00, 1.00, 0.86, 0.02, NAN, 20), "retrain": (0.80, 0.95, 0.84, 0.30, NAN, 18),
               "finetune": (0.97, 0.99, 0.87, 0.08, NAN, 4), "l1_sparse": (0.93, 0.98, 0.86, 0.12, NAN, 4.1),
               "random_labels": (0.88, 0.97, 0.86, 0.20, NAN, 4.2), "salun": (0.90, 0.97, 0.87, 0.18, NAN, 5),
               "neggrad_plus": (0.86, 0.96, 0.85, 0.22, NAN, 5.5), "scrub": (0.98, 0.99, 0.88, 0.06, NAN, 3.5),
               "gradient_ascent": (0.95, 0.96, 0.83, 0.10, NAN, 0.5), "ssd": (0.60, 0.65, 0.55, 0.50, NAN, 0.4),
               "influence": (0.99, 0.99, 0.86, 0.03, NAN, 0.3), MINE: (0.84, 0.94, 0.83, 0.25, NAN, 15),
               MIXED: (0.86, 0.945, 0.84, 0.24, NAN, 8)}}
SHIFT = {OTHER: -0.02, EXTRA: -0.04, RANDOM: -0.01}         # of a scenario, in TA, the same for all methods
TRAINABLES = {MINE: 64, MIXED: 10, "original": 0}
MIXES = {"mean (w = 1/K)": (0.98, 0.99, 0.87, 0.05), "sum (w = 1)": (0.50, 0.55, 0.50, 0.60)}
CONTROLS = {   # class, random
    "as in the paper": ((0.02, 0.95, 0.82, 0.98), (0.84, 0.94, 0.83, 0.25)),
    "vector removed": ((1.00, 1.00, 0.86, 0.02), (1.00, 1.00, 0.86, 0.02)),
    "noise of the same norm": ((0.90, 0.91, 0.78, 0.12), (0.92, 0.93, 0.79, 0.11)),
    "on the forget set alone": ((0.02, 1.00, 0.86, 0.99), (0.84, 1.00, 0.86, 0.27)),
    "attack fitted to clean images": ((0.02, 0.95, 0.82, 0.97), (0.84, 0.94, 0.83, 0.26)),
    "pixels clamped to [0, 1]": ((0.15, 0.96, 0.83, 0.85), (0.89, 0.97, 0.84, 0.20)),
    "learned without retain loss": ((0.00, 0.40, 0.35, 1.00), (0.30, 0.31, 0.32, 0.70))}
BETA = {"class": {1: (0.40, 0.98, 0.85, 0.60), 5: (0.02, 0.95, 0.82, 0.98), 10: (0.00, 0.80, 0.70, 1.00)},
        "random": {1: (0.95, 0.99, 0.85, 0.08), 5: (0.84, 0.94, 0.83, 0.25), 10: (0.50, 0.60, 0.55, 0.60)}}
TAU = {"class": {0: (0.03, 0.95, 0.82, 0.97), 1: (0.02, 0.95, 0.82, 0.98), 5: (0.01, 0.94, 0.81, 0.99)},
       "random": {0: (0.85, 0.94, 0.83, 0.24), 1: (0.84, 0.94, 0.83, 0.25), 5: (0.82, 0.93, 0.82, 0.26)}}
MOVED = {   # change of UA, RA, TA, MIA
    ("none", ""): (0, 0, 0, 0), ("Gaussian noise", "σ 0.2"): (0.01, -0.05, -0.06, 0.02),
    ("Gaussian noise", "σ 0.4"): (0.02, -0.10, -0.12, 0.04),
    ("elastic", "jitter 0.87"): (0.04, -0.20, -0.25, 0.03), ("PGD", "ε 0.1"): (0.10, -0.60, -0.65, 0.08)}
ON_VECTOR = {("Gaussian noise", "σ 0.4"): (-0.04, -0.10, -0.12, -0.03), ("PGD", "ε 0.1"): (-0.50, -0.60, -0.65, -0.40)}
MAPS = {(MINE, "forget"): 0.40, (MINE, "retain"): 0.80, ("retrain", "forget"): 0.15, ("retrain", "retain"): 0.30}


@lru_cache
def preset():
    """The settings of digits with three classes and values of its own in the studies, whatever the preset spends."""
    values = papers.settings("forget_vectors", "digits")
    values["methods"] = {k: v for k, v in values["methods"].items() if k in END["class"]}                   # no controls
    shift = {"methods": ["original", "retrain", "finetune", MINE], "gaussian": [0.2, 0.4], "elastic": [[17.4, 6.1, 0.87]], "pgd": [0.1],
             "steps": 2}
    values["methods"][MINE]["class"]["beta"], values["methods"][MINE]["random"]["beta"] = 5, 1
    return values | {"scenarios": dict.fromkeys((*SINGLE, UNION, RANDOM), "digits"), "focus": CLASS, "compared": list(SHARED),
                     "beta": [1, 5, 10], "tau": [0, 1, 5], "shift": shift,
                     "arithmetic": {"pair": [3, 7], "weights": [-1, 0, 0.5, 1]}, "saliency": {"images": 100, "side": 4}}


class World(MadeUp):
    """A session from the tables above. ``images``: with single images."""

    def __init__(self, seeds=3, edit=None, without=(), images=False, **changes):
        values = copy.deepcopy(preset()) | {"seeds": seeds} | changes
        super().__init__("forget_vectors", values, lambda s: (ends(s), made_rows(s, values) + (single(s) if images else [])), edit, without)


def kind(spec):
    return spec.scenario.split(":")[0]


def drift(spec):
    """What a seed and a scenario add to TA, the same for all methods."""
    return 0.01 * JITTER[spec.seed % 4] + SHIFT.get(spec.scenario, 0.0)


def ends(spec):
    if spec.study != "unlearn":
        return {"n_forget": 100.0}
    out = dict(zip(KEYS, END[kind(spec)][spec.method], strict=True))
    out["acc_test"] += drift(spec)
    out |= {"seconds": 2 * out["epochs"] + spec.seed, "trainables": TRAINABLES.get(spec.method, 45722), "tpr1_confidence": 0.02,
            "auc_confidence": 0.5 + out["acc_forget"] / 4, "loss_forget": 4 - 3 * out["acc_forget"], "js_test": 0.1,
            "js_forget": 0.2 - 0.1 * (spec.method == MINE),
            "changed": 0.0 if spec.method in ("original", MINE, MIXED) else 0.98, "acc_test_retain": out["acc_test"]}
    if spec.method in (MINE, MIXED):
        number = float(spec.scenario.split(":")[1].split("+")[0])
        out |= {"norm": 2 + 0.5 * number + 0.1 * JITTER[spec.seed % 4], "largest": 0.5 + 0.05 * number,
                "epochs_vectors": 150.0 * (spec.method == MIXED)}
    return out


def numbers(values, spec, **more):
    """A row with the paper's four numbers, the attack's AUC, and what else is told."""
    row = dict(zip(FOUR, values, strict=True))
    row["acc_test"] += drift(spec)
    unseen = row["acc_forget"] if kind(spec) == "class" else NAN
    return more | row | {"acc_test_forget": unseen, "auc_confidence": 0.5 + row["acc_forget"] / 4}


def made_rows(spec, values):
    which = ("class", "random").index(kind(spec))
    if spec.study == "controls":
        return [numbers(v[which], spec, row="control", control=name) for name, v in CONTROLS.items()]
    if spec.study in ("beta", "tau"):
        table = {"beta": BETA, "tau": TAU}[spec.study][kind(spec)]
        return [numbers(v, spec, row="sweep", value=k, norm=3.0 + k) for k, v in table.items()]
    if spec.study == "shift":
        base, rows = np.array(END[kind(spec)][spec.method][:4]), []
        for (name, strength), change in MOVED.items():
            ua, ra, ta, mia = ON_VECTOR.get((name, strength), change) if spec.method == MINE else change
            rows.append(numbers(base + [-ua, ra, ta, mia], spec, row="shift", shift=name, strength=strength))
        return rows
    if spec.study == "arithmetic":
        return arithmetic(spec, values["arithmetic"]["weights"])
    if spec.study == "saliency":
        rows = [{"row": "correlation", "model": m, "part": p, "correlation": v + 0.01 * JITTER[spec.seed % 4] * (p == "retain"),
                 "images": 100} for (m, p), v in MAPS.items()]
        return rows + [r | {"row": "map", "map": json.dumps([[0.1 * i - 0.05 * k, 0.2], [0.0, 0.3]])}
                       for k, m in enumerate(("original", MINE, "retrain")) for i, r in enumerate(strip(m, k))]
    if spec.method not in (MINE, MIXED):
        return []
    pixels = np.roll(np.arange(64) - 32, int(spec.scenario[-1])) / (40 + spec.seed)
    rows = [{"row": "delta", "pixels": json.dumps([round(float(v), 3) for v in pixels]), "shape": "1x8x8"}]
    if spec.method == MIXED:
        rows += [{"row": "weight", "class": k, "w": 0.1 * (k - 4) + 0.01 * JITTER[spec.seed % 4] - (0.5 if kind(spec) == "class" else 0)}
                 for k in range(10)]
        rows += [numbers(v, spec, row="mix", mix=name) for name, v in MIXES.items()]
    return rows


def arithmetic(spec, weights):
    j, rows = 0.01 * JITTER[spec.seed % 4], []
    for i in range(-1, 10):
        rows += [{"row": "cross", "vector": i, "class": c, "acc_train": 0.99 - 0.01 * c,
                  "acc_test": (0.9 if i < 0 else 0.1 if i == c else 0.8 - 0.02 * abs(i - c) - 0.01 * (i > c)) + j} for c in range(10)]
    rows += [{"row": "plane", "w1": a, "w2": b, "acc_1": 0.5 - 0.4 * a + 0.01 * b + j, "acc_2": 0.5 - 0.4 * b + 0.02 * a + j,
              "acc_rest": 0.8 - 0.1 * a - 0.2 * b + j} for a in weights for b in weights]
    return rows + [{"row": "angle", "vector": i, "class": c, "cosine": 1.0 if i == c else 0.3 - 0.02 * abs(i - c) + j}
                   for i in range(10) for c in range(10)]


def strip(model, k):
    return [{"model": model, "role": f"role {i}", "part": "train" if i < 3 else "test", "image": 5 * i, "label": 3, "predicted": 3 + k}
            for i in range(5)]


def single(spec):
    rows = []
    for k, model in enumerate(("original", MINE, "retrain") if spec.settings.get("images") else ()):
        rows += [{"row": "forgotten", "model": model, "image": i, "p_label": 0.5, "confidence": 3.0 - 2 * k + 0.1 * i + spec.seed,
                  "predicted": 3 if k == 0 else (i + spec.seed) % 7} for i in range(12)]
        rows += [r | {"row": "strip", "p_label": 0.9 - 0.3 * k, "p_predicted": 0.9} for r in strip(model, k)]
    return rows


# --- changes of a world

def rows_of(study, where=lambda row: True, scenario=None, seed=None, method=None, **values):
    """Changes the rows of a study's runs that ``where`` picks; a function is given the number that was there."""
    def edit(spec, metrics, rows):
        if spec.study == study and scenario in (None, spec.scenario) and seed in (None, spec.seed) and method in (None, spec.method):
            for row in rows:
                if where(row):
                    row.update({k: v(row[k]) if callable(v) else v for k, v in values.items()})
    return edit


FIXED = {"value", "w1", "w2", "vector", "class", "image", "label", "predicted", "images", "trainables"}


def noisy(spec, metrics, rows):
    """Every number of every run and row is of its own."""
    rng = np.random.default_rng(zlib.crc32(repr(spec).encode()))
    for numbers in (metrics, *rows):
        for key in sorted(k for k, v in numbers.items() if k not in FIXED and isinstance(v, int | float)):
            numbers[key] *= 1 - 0.1 * rng.random()


def on(scenarios, method, **values):
    return every(*(end(method, s, **values) for s in scenarios))


def shifted(scenario, method, kind="σ 0.4", **values):
    return rows_of("shift", lambda r: r["strength"] == kind, scenario, method=method, **values)


def at(study, value, scenario, **values):
    return rows_of(study, lambda r: r["value"] == value, scenario, **values)


def mix(name, scenario, **values):
    return rows_of("unlearn", lambda r: r["row"] == "mix" and r["mix"].startswith(name), scenario, **values)


def weight(scenario, seed=None, **values):
    return rows_of("unlearn", lambda r: r["row"] == "weight", scenario, seed, **values)


def cam(model, part, **values):
    return rows_of("saliency", lambda r: (r["row"], r["model"], r.get("part")) == ("correlation", model, part), **values)


def plus(x):
    return lambda v: v + x


# --- independent look-ups

def values(world, method, key, scenarios=SHARED, study="unlearn", of_row=None):
    """Mean over scenarios, seed by seed."""
    found = []
    for s in scenarios:
        runs = of(world, method, s, study)
        found.append([statistics.mean(x[key] for x in r.rows if of_row(x)) if of_row else (r.metrics | r.timing)[key] for r in runs])
    return np.mean(found, axis=0)


def gap_of(numbers, retrained):
    return sum(abs(numbers[k] - retrained.metrics[k]) for k in FOUR) / 4


def gaps(world, method, scenario):
    return np.array([gap_of(a.metrics, b) for a, b in zip(of(world, method, scenario), of(world, "retrain", scenario), strict=True)])


def there(world, scenario):
    return [m for m in BASELINES if any((r.spec.method, r.spec.scenario) == (m, scenario) for r in world.records)]


def swept(world, study, scenario):
    """Rows by value, one list a seed."""
    return [{x["value"]: x for x in r.rows} for r in of(world, MINE, scenario, study)]


def mixed(world, name):
    return np.array([gap_of(next(x for x in r.rows if x.get("mix") == name), b)
                     for r, b in zip(of(world, MIXED, RANDOM), of(world, "retrain", RANDOM), strict=True)])


def rows(world, scenario, study, column, value, key, method=MINE):
    """One number a seed: the mean of the rows whose ``column`` is the value."""
    return np.array([statistics.mean(x[key] for x in r.rows if x.get(column) == value) for r in of(world, method, scenario, study)])


def mean_gap(world, method, scenarios=SHARED):
    return np.mean([gaps(world, method, s) for s in scenarios], axis=0)


# --- what the notebook says

BANDS = {"noise": [5, 15]}


def said(name, world=None, edit=None, bands=None):
    return repr(text.reading(world or World(edit=edit, images=True), name, bands))


def scored(name, world=None, edit=None, bands=None):
    """The table of a reading: {expected: (measured, verdict)}."""
    lines = [line.split(" | ") for line in said(name, world, edit, bands).splitlines() if line.startswith("| ")][1:]
    assert lines and all(len(cells) == 3 for cells in lines), lines
    return {a.removeprefix("| "): (b, c.removesuffix(" |").strip("*")) for a, b, c in lines}


def versus(one, other, digits=1):
    return f"{pct(one, digits)} against {pct(other, digits)}: {comparison(interval(one - other))}"


def control(world, scenario, name, key):
    return rows(world, scenario, "controls", "control", name, key)
