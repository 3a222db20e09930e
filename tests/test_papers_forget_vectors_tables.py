"""Tables, the prediction box and the answer of Forget Vectors, on made-up sessions."""

import ast
import json
import math
import re
import statistics

import numpy as np
import pytest
from datafree import every, of, pct
from fvectors import (
    ATTACK,
    BOTH,
    CLASS,
    CONTROLS,
    FOUR,
    MINE,
    MIXED,
    RANDOM,
    SHARED,
    SINGLE,
    UNION,
    World,
    at,
    gap_of,
    gaps,
    mean_gap,
    noisy,
    on,
    plus,
    preset,
    rows,
    there,
    values,
)

from unlearnlib import records, tables
from unlearnlib.claims import comparison, interval
from unlearnlib.papers.forget_vectors import text
from unlearnlib.papers.forget_vectors.claims import USED
from unlearnlib.papers.forget_vectors.comparisons import stops
from unlearnlib.plots import label


@pytest.fixture(scope="module")
def noise():
    return World(edit=noisy, images=True)


# --- tables

PARTS = (("mean of classes 3, 7", SHARED), ("random samples", (RANDOM,)), ("mean of all 3 classes", SINGLE))


def test_the_paper_s_table_has_means_over_classes_beside_random_samples(noise):
    table = text.paper_table(noise).frame.set_index(["scenario", "method"])
    assert list(table.index.unique("scenario")) == [name for name, _ in PARTS]
    for name, scenarios in PARTS:
        methods = ["original", "retrain", MINE, *(there(noise, CLASS) if scenarios == SHARED else [])]
        if scenarios == SINGLE:
            assert len(table.loc[name]) == 3
        for m in methods:
            row = table.loc[name, label(m)]
            assert row["UA (%)"] == pct(1 - values(noise, m, "acc_forget", scenarios)) and row.n == 3
            for heading, key, digits, scale in (("RA (%)", "acc_retain", 1, 100), ("TA (%)", "acc_test", 1, 100),
                                                ("MIA-Efficacy (%)", ATTACK, 1, 100), ("run time (s)", "seconds", 1, 1)):
                assert row[heading] == pct(values(noise, m, key, scenarios), digits, scale), (name, m, heading)
            assert row["Avg.Gap (0 is best)"] == pct(mean_gap(noise, m, scenarios))
    assert table.loc["random samples", label(MINE)].trainables == "64 ± 0" and label(MIXED) in table.loc["random samples"].index
    assert table.columns[-1] == "published: UA / RA / TA / MIA / Avg.Gap" and set(table.iloc[:, -1]) == {tables.MISSING}


def test_where_baselines_run_in_every_class_there_is_one_mean_of_classes():
    world = World(scenarios=dict.fromkeys((*SHARED, RANDOM), "digits"), studies=[])
    assert list(dict.fromkeys(text.paper_table(world).frame.scenario)) == ["mean of classes 3, 7", "random samples"]


def test_every_class_stands_beside_the_original_and_retraining_and_two_classes_at_once_on_their_own(noise):
    table = text.class_table(noise).frame.set_index(["scenario", "method"])
    assert list(table.index) == [(s, label(m)) for s in SINGLE for m in ("original", "retrain", MINE)]
    for s in SINGLE:
        for m in ("original", "retrain"):
            row = table.loc[s, label(m)]
            assert row["UA (%)"] == pct(1 - values(noise, m, "acc_forget", [s])) and row["norm of the vector"] == "–" and row.n == 3
            assert row["unseen images of the class (%)"] == pct(values(noise, m, "acc_test_forget", [s]))
            assert row["TA (%)"] == pct(values(noise, m, "acc_test", [s])) and row["Avg.Gap (0 is best)"] == pct(gaps(noise, m, s))
        row = table.loc[s, label(MINE)]
        assert row["unseen images of the class (%)"] == pct(values(noise, MINE, "acc_test_forget", [s]))
        assert row["norm of the vector"] == pct(values(noise, MINE, "norm", [s]), 1, 1)
        assert row["UA (%)"] == pct(1 - values(noise, MINE, "acc_forget", [s])) and row["Avg.Gap (0 is best)"] == pct(gaps(noise, MINE, s))
    union = text.union_table(noise).frame.set_index("method")
    assert set(union.scenario) == {UNION} and list(union.index) == [label(m) for m in ("original", "retrain", MINE, MIXED)]
    assert union["UA (%)"][label(MIXED)] == pct(1 - values(noise, MIXED, "acc_forget", [UNION]))
    assert "not available" in repr(text.union_table(World(scenarios={CLASS: "digits"}, compared=[CLASS], studies=[])))


def test_classes_stand_in_order_whatever_the_order_of_the_preset(noise):
    mixed_up = World(scenarios=dict.fromkeys(("class:8", CLASS, RANDOM, "class:7"), "digits"), studies=[], edit=noisy)
    assert list(dict.fromkeys(mixed_up.frame().scenario)) == ["class:8", CLASS, RANDOM, "class:7"]
    table = text.class_table(mixed_up).frame.set_index(["scenario", "method"])
    assert list(table.index.unique("scenario")) == list(SINGLE)
    for s in SINGLE:
        assert table.loc[s, label(MINE)]["UA (%)"] == pct(1 - values(mixed_up, MINE, "acc_forget", [s]))


def test_controls_have_the_gap_to_the_retrained_model_of_their_own_scenario(noise):
    table = text.control_table(noise).frame.set_index(["scenario", "the vector"])
    assert list(table.index.unique("scenario")) == list(BOTH) and len(table) == 16 and table.columns[-1] == "n" and set(table.n) == {3}
    assert set(text.control_table(World(seeds=2)).frame.n) == {2}
    for s in BOTH:
        assert list(table.loc[s].index) == [USED, *list(CONTROLS)[1:], "(retrained, no vector)"]
        goal = table.loc[s, "(retrained, no vector)"]
        assert goal["UA (%)"] == pct(1 - values(noise, "retrain", "acc_forget", [s])) and goal["Avg.Gap (0 is best)"] == "0.0 ± 0.0"
        for heading, key, digits, scale in (("RA (%)", "acc_retain", 1, 100), ("TA (%)", "acc_test", 1, 100),
                                            ("MIA-Efficacy (%)", ATTACK, 1, 100), ("AUC confidence", "auc_confidence", 2, 1)):
            assert goal[heading] == pct(values(noise, "retrain", key, [s]), digits, scale), (s, heading)
        for name in ("as in the paper", "vector removed", "pixels clamped to [0, 1]"):
            row = table.loc[s, USED if name == "as in the paper" else name]
            assert row["UA (%)"] == pct(1 - rows(noise, s, "controls", "control", name, "acc_forget"))
            assert row["AUC confidence"] == pct(rows(noise, s, "controls", "control", name, "auc_confidence"), 2, 1)
            own = [gap_of(next(x for x in r.rows if x["control"] == name), b)
                   for r, b in zip(of(noise, MINE, s, "controls"), of(noise, "retrain", s), strict=True)]
            assert row["Avg.Gap (0 is best)"] == pct(own)


def test_audit_and_costs(noise):
    audit = text.audit_table(noise).frame.set_index("method")
    assert set(audit.scenario) == {CLASS} and len(audit) == 13
    for m in (MINE, "ssd"):
        apart = [math.prod(1 - abs(a.metrics[k] - b.metrics[k]) for k in FOUR[:3])
                 for a, b in zip(of(noise, m, CLASS), of(noise, "retrain", CLASS), strict=True)]
        assert audit["ToW (1 is best)"][label(m)] == pct(apart, 2, 1)
        assert audit["Avg.Gap (0 is best)"][label(m)] == pct(gaps(noise, m, CLASS))
        for heading, key, digits, scale in (("JS forget", "js_forget", 2, 1), ("weights changed (%)", "changed", 0, 100),
                                            ("TPR at 1 % FPR (%)", "tpr1_confidence", 1, 100)):
            assert audit[heading][label(m)] == pct(values(noise, m, key, [CLASS]), digits, scale)
    cost = text.cost_table(noise).frame.set_index(["scenario", "method"])
    assert list(cost.index.unique("scenario")) == ["one class", "random samples"]
    assert cost.loc["one class", label(MINE)]["training-epoch equivalents"] == pct(values(noise, MINE, "epochs"), 1, 1)
    row = cost.loc["random samples", label(MIXED)]
    assert row["once, for the vectors that are mixed"] == pct(values(noise, MIXED, "epochs_vectors", [RANDOM]), 1, 1)
    assert row.trainables == "10 ± 0" and cost.loc["one class", label("finetune")]["once, for the vectors that are mixed"] == "–"


def test_the_worked_example_is_what_paper_and_pencil_give():
    """The first image is to be forgotten. Logits (0.9, 2.1, 0): a lead of -1.2, a loss of -1; the third image keeps its lead of 0.9."""
    table = text.by_hand([[1, 0, 0], [0, 1, 0], [0, 0, 1]], 3, [-0.7, 0.7, 0], 1).frame
    assert table.image.tolist() == ["e1", "e2", "e3"] and table["margin before"].tolist() == ["3", "3", "3"]
    assert table["margin with the vector"].tolist() == ["-1.2", "5.1", "0.9"] and table["forget loss"].tolist() == ["-1", "–", "–"]
    other = text.by_hand([[1, 0], [0.5, 2]], 2, [0, 0.75], 0.25).frame
    assert other["margin before"].tolist() == ["2", "3"] and other["margin with the vector"].tolist() == ["0.5", "4.5"]
    assert other["forget loss"].tolist() == ["0.5", "–"]                        # above the floor, it is the margin
    assert text.by_hand([[1, 0], [0, 1]], 1, [-2, 0], 0.5).frame["forget loss"][0] == "-0.5"


def test_the_settings_in_use_are_the_preset_s():
    table = text.in_use(World()).frame.set_index(["method", "scenarios"])
    wanted = {(label(m), kind): {k: str(v) for k, v in preset()["methods"][m][kind].items()} for m in (MINE, MIXED)
              for kind in ("class", "random")}
    names, found = set().union(*wanted.values()), table.to_dict("index")
    assert {at: {k: v for k, v in own.items() if "default" not in v} for at, own in found.items()} == wanted
    assert all(set(own) == names for own in found.values())
    assert found[label(MIXED), "class"]["gamma"] == "0.9 (default)" and found[label(MINE), "class"]["lr"] == "0.2 (default)"
    assert len(text.in_use(World(without=(MIXED,))).frame) == 4


# --- the prediction box

def test_the_measured_quantities_are_means_over_the_right_runs(noise):
    def own(study, pick, key):
        return [statistics.mean(x[key] for x in r.rows if key in x and pick(x)) for r in of(noise, MINE, CLASS, study)]
    wanted = {"forgotten": 100 * (1 - values(noise, MINE, "acc_forget", SINGLE)),
              "lost": 100 * (values(noise, MINE, "acc_test", SINGLE) - values(noise, "retrain", "acc_test", SINGLE)),
              "random": 100 * (1 - values(noise, MINE, "acc_forget", [RANDOM])),
              "noise": 100 * (1 - rows(noise, CLASS, "controls", "control", "noise of the same norm", "acc_forget")),
              "unseen": 100 * values(noise, MINE, "acc_test_forget", SINGLE),
              "composed": 100 * (gaps(noise, MIXED, RANDOM) - gaps(noise, MINE, RANDOM)),
              "cosine": own("arithmetic", lambda x: x["vector"] != x["class"], "cosine"),
              "saliency": own("saliency", lambda x: (x["model"], x["part"]) == (MINE, "retain"), "correlation")}
    found = text.measured(noise)
    assert set(found) == set(wanted) == set(text.QUANTITIES)
    for k, v in wanted.items():
        i = interval(v)
        assert (found[k].mean, found[k].half, found[k].n) == (pytest.approx(i.mean), pytest.approx(i.half), 3), k


def test_what_a_preset_lacks_is_not_measured():
    found = text.measured(World(studies=[], without=(MIXED,)))
    assert {k for k, v in found.items() if v.n == 0} == {"noise", "composed", "cosine", "saliency"}
    assert {k for k, v in text.measured(World(scenarios=dict.fromkeys(SINGLE, "digits"))).items() if v.n == 0} == {"random", "composed"}


def test_the_box_the_score_and_the_reasons_agree(noise, monkeypatch):
    found = text.measured(noise)
    monkeypatch.setattr(text, "measured", lambda session: found)                # once is enough
    assert set(text.MISSED) == {(quantity, side) for quantity in text.QUANTITIES for side in ("below", "above")}
    wide = {k: [v.mean - 1, v.mean + 1] for k, v in found.items()}
    assert len(text.box(wide).frame) == len(text.predictions(noise, wide).frame) == 8
    assert not any("outside" in v for v in text.predictions(noise, wide).frame.verdict)
    apart = " and ".join(f"{b} ({i.text()})" for b, i in stops(noise).items() if comparison(i) == "higher")
    what, why = text.QUANTITIES["random"]
    hit = (f" *{what}*: the band was hit, but its reason (\"{why}\") was not: at β = {apart} more "
           "points of UA are gained than of RA lost.") if apart else ""
    assert repr(text.misses(noise, wide)) == "No mean missed its band this time." + hit
    for key, v in found.items():
        for side, sign in (("below", 1), ("above", -1)):
            off = v.mean + sign * (5 + v.half)
            told = repr(text.misses(noise, wide | {key: [off - 1, off + 1]}))
            assert told == (f"*{text.QUANTITIES[key][0]}* came out {side} the band: {text.MISSED[key, side]}."
                            + (hit if key != "random" else ""))
            assert sum("outside" in v for v in text.predictions(noise, wide | {key: [off - 1, off + 1]}).frame.verdict) == 1


def test_a_band_that_was_hit_for_another_reason_says_so():
    """Random samples: UA of 16 %; gained against lost, 4, 10 and 10 points at the three stops of beta."""
    told = repr(text.misses(World(), {"random": [5, 25]}))
    assert told == ("No mean missed its band this time. *UA of the vector for random samples (%)*: the band was hit, but its reason (\"no "
                    "common direction tells them from the rest\") was not: at β = 1 (4.0 ± 0.0) and 5 (10.0 ± 0.0) and 10 (10.0 ± 0.0) "
                    "more points of UA are gained than of RA lost.")
    equal = every(*(at("beta", b, RANDOM, acc_retain=kept) for b, kept in ((1, 0.95), (5, 0.8), (10, 0.5))))
    assert "was not" not in repr(text.misses(World(edit=equal), {"random": [5, 25]}))
    assert "was not" not in repr(text.misses(World(), {"random": [20, 25]})) and "was not" not in repr(text.misses(World(), {}))


def test_a_side_without_a_reason_is_one_that_no_number_can_reach():
    assert {k for k, reason in text.MISSED.items() if not reason} == {("forgotten", "above"), ("unseen", "below"), ("saliency", "above")}
    cells = json.loads((records.ROOT / "notebooks" / "forget_vectors.ipynb").read_text())["cells"]
    (source,) = ["".join(c["source"]) for c in cells if "parameters" in c["metadata"].get("tags", [])]
    bands = ast.literal_eval(re.search(r"bands: dict = (\{.*?\})", source, re.S)[1])
    assert bands.keys() == text.QUANTITIES.keys()
    assert (bands["forgotten"][1], bands["unseen"][0], bands["saliency"][1]) == (100, 0, 1)


# --- the answer

def test_the_answer_is_made_of_measured_numbers(noise):
    found = repr(text.answer(noise))
    lost = interval(values(noise, MINE, "acc_test", SINGLE) - values(noise, "retrain", "acc_test", SINGLE))
    gone = pct(1 - values(noise, MINE, "acc_forget", SINGLE))
    assert found.startswith(f"*We measured* (preset made up, n = 3). **A class** (mean of 3): {gone} "
                            f"% misread; TA against retraining {comparison(lost)} ({lost.text()}). **AUC** (class:3): original ")
    auc = [pct(values(noise, m, "auc_confidence", [CLASS]), 2, 1) for m in ("original", MINE, "retrain")]
    assert "original {}, forget vector {}, retrained {}.".format(*auc) in found
    ua = {m: pct(1 - values(noise, m, "acc_forget", [RANDOM])) for m in (MINE, "retrain")}
    assert f"**Random samples:** UA {ua[MINE]} %, retrained {ua['retrain']} %. Told apart from the others? UA gained minus RA " in found
    median = interval(gaps(noise, MINE, RANDOM) - np.median([gaps(noise, m, RANDOM) for m in there(noise, RANDOM)], axis=0))
    assert f"random samples: {comparison(median)}. **So:**" in found
    worse = repr(text.answer(World(edit=every(on(SINGLE, MINE, acc_test=plus(0.05)), on(SHARED, MINE, mia_confidence=0.1)))))
    assert "one class: higher; random samples: lower." in worse and "by the labels that it gives, not shown; random" in worse
    apart = "random samples told from the others, yes as used, yes at β = 1 and 5 and 10"
    found = repr(text.answer(World(seeds=2)))
    assert f"by the labels that it gives, yes; {apart}; by its weights, no: without the vector all is back." in found
    costly = every(on([RANDOM], MINE, acc_retain=0.5), at("beta", 5, RANDOM, acc_retain=0.8), at("beta", 10, RANDOM, acc_retain=0.5))
    assert "told from the others, no as used, yes at β = 1; by its weights" in repr(text.answer(World(edit=costly)))
    assert "told from the others, one seed cannot tell as used; by its weights" in repr(text.answer(World(seeds=1)))
    for kept, word in ((0.99, "yes"), (0.5, "no")):
        assert re.search(rf" points: \*\*{word}\*\*", repr(text.answer(World(edit=on([RANDOM], MINE, acc_retain=kept)))))


def test_the_answer_counts_its_classes_and_leaves_out_what_was_not_run():
    two = repr(text.answer(World(scenarios=dict.fromkeys((*SHARED, RANDOM), "digits"), studies=[])))
    assert "n = 3). **A class** (mean of 2)" in two
    assert two.count("**Random samples:** UA 16.0 ± 0.0 %, retrained 20.0 ± 0.0 %. Told apart") == 1 and "β" not in two
    none = repr(text.answer(World(scenarios=dict.fromkeys(SINGLE, "digits"), studies=[])))
    assert "one class: lower. **So:**" in none and not re.search("random samples|not available|nan", none, re.I)


def test_one_glance_has_every_method(noise):
    found = repr(text.one_glance(noise))
    assert found.startswith("*We measured*, UA / TA / MIA-Efficacy / Avg.Gap (%): **one class (mean of 3, 7):** original ")
    assert "; **random samples:** original " in found and found.count("; ") == 2 * 13 - 1
    for scenarios, m in ((SHARED, MINE), ((RANDOM,), MIXED), (SHARED, "class_f")):
        assert (f"{label(m)} {pct(1 - values(noise, m, 'acc_forget', scenarios))} / {pct(values(noise, m, 'acc_test', scenarios))} / "
                f"{pct(values(noise, m, ATTACK, scenarios))} / {pct(mean_gap(noise, m, scenarios))}") in found
    alone = repr(text.one_glance(World(scenarios={CLASS: "digits"}, compared=[CLASS], studies=[])))
    assert "**one class (class 3):** original" in alone


def test_what_the_methods_need_is_counted_from_the_registry():
    assert repr(text.seen(["retrain", MINE, "gradient_ascent"])) == (
        "Of 3 methods, 0 see held-out images, 2 need retain images, 1 both retain and forget images.")
