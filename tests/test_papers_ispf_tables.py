"""The tables and the prediction box of ISPF on made-up sessions: every number against the records, none of which equals another."""

import math
import statistics

import numpy as np
import pytest
from datafree import World, by_seed, curve, distance, metric, noisy, pct

from unlearnlib import tables
from unlearnlib.claims import interval
from unlearnlib.methods.ispf import STRATEGIES
from unlearnlib.papers.ispf import predictions, text
from unlearnlib.plots import label


@pytest.fixture(scope="module")
def world():
    return World(edit=noisy, full=True)


# --- tables

COLUMNS = {
    "paper_table": {"A_r (%)": ("acc_test_retain", 1, 100), "A_f (%)": ("acc_test_forget", 1, 100),
                    "all test images (%)": ("acc_test", 1, 100), "confidence attack: non-member (%)": ("mia_confidence", 1, 100),
                    "entropy attack: member (%)": ("mia_entropy", 1, 100)},
    "audit_table": {"AUC confidence": ("auc_confidence", 2, 1), "TPR at 1 % FPR (%)": ("tpr1_confidence", 1, 100),
                    "train acc, kept (%)": ("acc_retain", 1, 100), "JS test": ("js_test", 2, 1)},
    "cost_table": {"training-epoch equivalents": ("epochs", 1, 1), "seconds": ("seconds", 1, 1), "A_r (%)": ("acc_test_retain", 1, 100)}}


@pytest.mark.parametrize("name", COLUMNS)
def test_tables_are_the_runs_seed_by_seed(world, name):
    found = getattr(text, name)(world).frame
    there = {(r.spec.scenario, r.spec.method) for r in world.records if r.spec.study == "unlearn"}
    wanted = {(s, label(m)): (s, m) for s, m in there if name == "paper_table" or s == "class:7"}
    assert {(row["scenario"], row["method"]) for row in found.to_dict("records")} == set(wanted) and len(found) == len(wanted)
    for row in found.to_dict("records"):
        scenario, method = wanted[row["scenario"], row["method"]]
        for heading, (key, digits, scale) in COLUMNS[name].items():
            assert row[heading] == pct(metric(world, method, key, scenario), digits, scale), (heading, method)
        if name == "paper_table":
            assert row["published: A_r / A_f"] == tables.MISSING and row["n"] == 3
        if name == "audit_table":
            gaps, tows = distance(world, method)
            assert (row["Avg.Gap (0 is best)"], row["ToW (1 is best)"]) == (pct(gaps), pct(tows, 2, 1))
        if name == "cost_table":
            kept = "–" if method in ("original", "retrain") else pct(metric(world, method, "kept"), 0)
            assert row["rows kept, all epochs (%)"] == kept


def test_the_worked_example_by_hand():
    logits = [3.0, -1.0, 2.0, 0.0]
    p = [math.exp(v) / sum(map(math.exp, logits)) for v in logits]
    for gone, threshold, after in (([0], 0.01, [-1, -1 + 4 / 3, 2 + 4 / 3, 4 / 3]), ([0, 3], 0.01, [-1, 1.5, 4.5, -1]),
                                   ([0, 3], 0.1, [-1, 1, 4, 0]), ([3], 0.1, logits)):
        shown = text.by_hand(logits, gone, threshold).frame
        q = [math.exp(v) / sum(map(math.exp, after)) for v in after]
        assert shown.columns.tolist() == ["class", "logit before", "probability before", "logit after", "probability after"]
        assert shown["class"].tolist() == [0, 1, 2, 3] and shown["logit before"].tolist() == ["3", "-1", "2", "0"]
        assert shown["logit after"].tolist() == [f"{v:g}" for v in after]
        assert shown["probability before"].tolist() == [f"{v:.3f}" for v in p]
        assert shown["probability after"].tolist() == [f"{v:.3f}" for v in q]


def test_strategies_are_named_as_in_the_library():
    found = text.strategies().frame.set_index("in the library")
    assert set(found.index) == {f"`{name}`" for name in STRATEGIES}
    for name, one in STRATEGIES.items():
        row = found.loc[f"`{name}`"]
        assert row["strategy"] == label(name) and row["`inhibited`"] == ("yes" if one.inhibited else "no")
        for key in ("keep", "target"):
            function = getattr(one, key)
            assert row[f"`{key}`"] == (f"`{function.__name__}`" if function else "–")
    assert found["`keep`"]["`gkt_dfq`"] == "`gate`" and found["`target`"]["`ispf`"] == "`postfilter`"


# --- the prediction box

def test_the_quantities_by_hand(world):
    def lost(run):
        return statistics.mean(1 - r["predicted_forget"] - r["kept"] for r in run.rows if r["row"] == "epoch" and r["epoch"] > 5)

    def final(key):
        return lambda run: (run.metrics | run.timing)[key]
    wanted = {
        "dropped": (by_seed(world, lost, "gkt_dfq"), 100),
        "share": (np.divide(*(by_seed(world, curve("predicted_forget"), m) for m in ("ispf", "pf"))), 100),
        "let through": (np.subtract(*(by_seed(world, curve("kept"), m) for m in ("is_gkt", "gkt_dfq"))), 100),
        "gain": (np.subtract(*(by_seed(world, final("acc_test_retain"), m) for m in ("ispf", "gkt_dfq"))), 100),
        "forgotten": (by_seed(world, final("acc_test_forget"), "ispf"), 100),
        "leak": (by_seed(world, curve("acc_test_forget", of_all=max), "blockf"), 100),
        "cost": (np.divide(*(by_seed(world, final("epochs"), m) for m in ("ispf", "retrain"))), 100),
        "relearning": ([30 / 40, 31 / 101, 32 / 42], 1)}                        # never: one more than the hundred that were tried
    found = text.measured(world)
    assert list(found) == list(wanted) == list(predictions.QUANTITIES)
    for key, (values, factor) in wanted.items():
        i = interval(values)
        assert (found[key].mean, found[key].half, found[key].n) == (pytest.approx(factor * i.mean), pytest.approx(factor * i.half), 3), key


def test_box_score_and_reasons_agree(world):
    values = text.measured(world)
    inside = {k: [v.mean - 1, v.mean + 1] for k, v in values.items()}
    box, score = text.box(inside).frame, text.predictions(world, inside).frame
    assert box.quantity.tolist() == score.quantity.tolist() == [q for q, _ in predictions.QUANTITIES.values()]
    assert box.reason.tolist() == [why for _, why in predictions.QUANTITIES.values()] and len(set(box.reason)) == 8
    assert score["we measured"].tolist() == [v.text(2, 1) for v in values.values()] and score.verdict.str.startswith("inside").all()
    assert repr(text.misses(world, inside)) == "No mean missed its band this time."
    assert set(predictions.MISSED) == {(k, side) for k in predictions.QUANTITIES for side in ("below", "above")}
    assert len(set(predictions.MISSED.values())) == len(predictions.MISSED)
    for k, side in predictions.MISSED:
        far = (1 if side == "below" else -1) * (5 + values[k].half)             # beyond chance
        moved = inside | {k: [inside[k][0] + far, inside[k][1] + far]}
        why = f"we think that {predictions.MISSED[k, side]}."
        assert repr(text.misses(world, moved)) == f"*{predictions.QUANTITIES[k][0]}* came out {side} the band: {why}"
        assert text.predictions(world, moved).frame.verdict.str.startswith("outside").tolist() == [q == k for q in predictions.QUANTITIES]


