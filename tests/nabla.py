"""What the tests of ∇τ's package share: small specs, sessions made up by hand, and numbers looked up in the reference records."""

import itertools
import statistics

import numpy as np
import pandas as pd
import pytest

from unlearnlib import papers, runs
from unlearnlib.papers import NotAvailable, Session, domains

NAN = float("nan")
MINE = "nabla_tau"

# --- networks of a second

SMALL = {"model": "allcnn-4", "recipe": {"epochs": 2, "lr": 0.1, "batch_size": 64, "schedule": "onecycle"},
         "scenarios": {"random:0.1": "digits", "class:8": "digits"}}
WORDS = {"model": "bag-8", "recipe": {"epochs": 2, "lr": 0.01, "batch_size": 32, "optimizer": "adamw"},
         "scenarios": {"random:0.1": "scipy_docs"}}
FAST = {"batch_size": 32, "retain_epochs": 2}


def small(study="unlearn", name="nabla_tau", scenario="random:0.1", values=SMALL, seed=0, options=None, **params):
    return papers.make("nabla_tau", study, name, scenario, values, seed, params=params, options=options)


# --- a session made up

FRACTIONS = ("random:0.03", "random:0.15", "random:0.3")
KEYS = ("mia_l", "mia_e", "acc_test", "acc_forget", "acc_test_forget", "epochs")
GOOD = {   # a world in which every claim holds: random, class, text
    "random": {"original": (0.80, 0.70, 0.90, 1.0, NAN, 20), "retrain": (0.55, 0.55, 0.89, 0.9, NAN, 14),
               "finetune": (0.76, 0.66, 0.90, 1.0, NAN, 4), "amnesiac": (0.60, 0.60, 0.88, 0.9, NAN, 3),
               "ssd": (0.80, 0.70, 0.90, 1.0, NAN, 1), "nabla_tau": (0.555, 0.555, 0.896, 0.9, NAN, 5)},
    "class": {"original": (0.80, 0.70, 0.90, 1.0, 0.9, 20), "retrain": (0.90, 0.80, 0.80, 0.0, 0.00, 18),
              "nabla_tau": (0.85, 0.75, 0.80, 0.02, 0.02, 5)},
    "text": {"original": (0.95, 0.70, 0.80, 1.0, NAN, 20), "retrain": (0.60, 0.55, 0.79, 0.8, NAN, 14),
             "finetune": (0.90, 0.66, 0.80, 1.0, NAN, 4), "nabla_tau": (0.62, 0.56, 0.795, 0.8, NAN, 5)}}
JITTER = np.array([-1.0, 0.0, 1.0, 0.5])
TAU, SD, BATCH = 1.2, 0.8, 16


class World:
    """What claims and sentences need of a session, made up. Seeds differ in test accuracy, by 2 points, together for all methods.

    ``change``: {(kind, scenario or None, method): {metric: value}}. ``noise``: spread over seeds of the method's own values.
    """

    def __init__(self, seeds=3, change=None, scenarios=(*FRACTIONS, "class:8"), texts=("random:0.15", "random:0.3"), noise=0.0, without=(),
                 lacks=(), best=None, over=-1e-3, forget=None):
        self.settings = {"scenarios": dict.fromkeys(scenarios, "digits"), "seeds": seeds, "focus": "random:0.3"}
        if texts:
            self.settings["text"] = {"scenarios": dict.fromkeys(texts, "scipy_docs")}
        self.preset, self.unlearn = "made up", []
        cells = [(s.split(":")[0], s, "digits") for s in scenarios] + [("text", s, "scipy_docs") for s in texts]
        for (kind, scenario, name), seed in itertools.product(cells, range(seeds)):
            table = {m: dict(zip(KEYS, v, strict=True)) for m, v in GOOD[kind].items()}
            for (k, s, m), values in (change or {}).items():
                if k == kind and s in (None, scenario):
                    table[m] = table.get(m, table["original"]) | values
            for m in [m for m in table if m not in without]:
                own = noise * JITTER[seed] if m == "nabla_tau" else 0.0
                row = {k: v + own * (k != "epochs") for k, v in table[m].items()}
                row["acc_test"] += 0.02 * JITTER[seed]
                self.unlearn.append({"scenario": scenario, "data": name, "seed": seed, "method": m} | row)
        curves = []
        for name, seed in itertools.product(["digits", "scipy_docs"] if texts else ["digits"], range(seeds)):
            at = {"data": name, "seed": seed, "method": "nabla_tau", "hp_batch_size": BATCH, "scenario": "random:0.3"}
            limit = TAU + 2 * SD / BATCH ** 0.5
            losses = [0.5, limit + (over if seed == 0 else -1e-3), 1.0]
            curves += [at | {"row": "curve", "passes": p, "loss_forget": x, "loss_forget_sd": sd}
                       for p, x, sd in ((0.0, 0.1, 9.0), (6.0, 0.9, SD))]
            curves += [at | {"row": "epoch", "epoch": e, "tau": TAU, "forget_loss": x, "alpha": 0.5, "active": a}
                       for e, (x, a) in enumerate(zip(losses, (1.0, 0.6, 0.9), strict=True))]
        grid = []
        for f, seed in itertools.product((0.15, 0.3), range(seeds)):
            rule = 5 / 3 * f
            chosen = (best or {}).get(f, rule)
            grid += [{"seed": seed, "fraction": f, "rule": rule, "alpha0": a,
                      "mia_l": 0.5 + (-1) ** seed * (0.02 if a == chosen else 0.1)} for a in {rule / 3, rule / 2, rule, rule * 2, rule * 3}]
        effect = {"as published": 0.5, "alpha0 = 0 (off)": 0.1, "tau from seen data": 0.105} | (forget or {})
        rows = [{"data": "digits", "seed": seed, "variant": v, "loss_forget": x + noise * JITTER[seed] * (v == "tau from seen data")}
                for v, x in effect.items() for seed in range(seeds)]
        rows += [r | {"data": "scipy_docs", "loss_forget": 7.0 * (r["variant"] != "as published")} for r in rows] if texts else []
        self.studies = {k: pd.DataFrame(v) for k, v in (("curve", curves), ("grid", grid), ("variants", rows)) if k not in lacks}

    def has(self, study):
        return study in ("unlearn", *self.studies)

    def frame(self, study="unlearn"):
        return pd.DataFrame(self.unlearn)

    def rows(self, study):
        if study not in self.studies:
            raise NotAvailable(f"no runs of {study}.")
        return self.studies[study].copy()

    def need(self, study):
        return self.rows(study)


# --- the reference records

def reference_session(tmp_path_factory):
    """The session of the reference records, for a fixture; it must compute nothing."""
    def refuse(spec):
        raise AssertionError(f"computed: {spec}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNLEARNLIB_FIGURES", str(tmp_path_factory.mktemp("figures")))
        patch.setattr(runs, "compute", refuse)
        yield Session("nabla_tau", "digits")


def images_and_texts(lab):
    """(name of the kind, data, focus) of both domains, in the order of the panels."""
    return [(word, d["scenarios"][d["focus"]], d["focus"]) for word, d in zip(("images", "text"), domains(lab.settings), strict=True)]


def of(lab, study="unlearn", method=None, scenario=None, name="digits"):
    """Records of a study, seed by seed."""
    found = [r for r in lab.records if (r.spec.study, r.spec.data, r.spec.scenario) ==
             (study, name, scenario or lab.settings["focus"]) and method in (None, r.spec.method)]
    assert found, (study, method, scenario, name)
    return sorted(found, key=lambda r: r.spec.seed)


def metric(lab, key, method, scenario=None, name="digits"):
    return [r.metrics[key] for r in of(lab, "unlearn", method, scenario, name)]


def mean(lab, key, method, scenario=None, name="digits"):
    return statistics.mean(metric(lab, key, method, scenario, name))


def curve_of(lab, method, name, key, seed=None, **params):
    """One list a seed of the points of a curve; ``params`` choose between runs of one method."""
    return [[row[key] for row in r.rows if row["row"] == "curve"] for r in of(lab, "curve", method, name=name)
            if seed in (None, r.spec.seed) and params.items() <= r.spec.hyper_parameters.items()]
