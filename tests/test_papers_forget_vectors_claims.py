"""The sixteen claims of Forget Vectors at Play on made-up sessions."""

import re

import numpy as np
import pytest
from datafree import JITTER, end, every, of
from fvectors import (
    ATTACK,
    BOTH,
    CLASS,
    EXTRA,
    FOUR,
    MINE,
    MIXED,
    OTHER,
    RANDOM,
    SHARED,
    SINGLE,
    UNION,
    World,
    at,
    cam,
    gap_of,
    gaps,
    mix,
    mixed,
    noisy,
    on,
    plus,
    preset,
    rows_of,
    shifted,
    swept,
    there,
    values,
    weight,
)

from unlearnlib import papers
from unlearnlib.claims import FAILS, HOLDS, OPEN, UNTESTED, interval
from unlearnlib.methods import METHODS
from unlearnlib.papers.forget_vectors import CLAIMS
from unlearnlib.papers.forget_vectors.claims import BASELINES, TUNED, VECTORS, compared, extreme, mixes, single, with_gap
from unlearnlib.plots import label
from unlearnlib.tables import NOTHING_UNLEARNED

LEAN = ("l1_sparse", "random_labels", "salun", "scrub", "influence")           # five baselines are enough for most
STUDY = {5: "beta", 9: "shift", 12: "tau", 13: "beta", 14: "saliency"}
ALL = range(1, 17)


def verdict(number, edit=None, world=None, **changes):
    (claim,) = [c for c in CLAIMS if c.number == number]
    return claim.test(world or World(edit=edit, **{"without": LEAN} | changes))


@pytest.fixture(scope="module")
def good():
    return World(without=LEAN)


@pytest.fixture(scope="module")
def noise():
    return World(edit=noisy)


def test_there_are_sixteen_claims_each_with_its_words_and_source():
    assert [c.number for c in CLAIMS] == list(ALL) and all(c.text.endswith(".") and c.source for c in CLAIMS)


def test_the_baselines_are_those_of_the_presets_and_tuned_ones_see_the_retain_set():
    planned = {m for p in papers.PRESETS for m in papers.settings("forget_vectors", p)["methods"]}
    assert set(BASELINES) == planned - {*VECTORS, *NOTHING_UNLEARNED} and len(BASELINES) == 10
    assert all(METHODS[m].access.retain_images for m in TUNED)
    assert set(TUNED) == set(BASELINES) - {"gradient_ascent", "ssd", "class_f", "influence"}


@pytest.mark.parametrize("number", ALL)
def test_in_a_world_where_every_claim_is_true_it_holds(number, good):
    found = verdict(number, world=good)
    assert found.status == HOLDS and re.search(r"\d", found.evidence) and "nan" not in found.evidence, found


# --- what makes a claim fail, what has no part in it, and what leaves it open

AS_RETRAINED = {"acc_forget": 0.80, "acc_retain": 0.95, "acc_test": plus(-0.03), ATTACK: 0.30}     # from 87 %
BAD = {"acc_forget": 0.55, "acc_retain": 1.0, "acc_test": 1.0, ATTACK: 0.5, "epochs": 0.1}
SPOILT = [
    (1, end(MINE, EXTRA, 1, acc_forget=0.11)), (1, on(SINGLE, MINE, mia_confidence=0.94)), (1, on(SINGLE, "retrain", mia_confidence=0.92)),
    (2, on(SHARED, MINE, mia_confidence=0.6)), (2, end(MINE, RANDOM, acc_forget=0.3)), (3, on(SHARED, MINE, mia_confidence=0.96)),
    (3, end(MINE, RANDOM, mia_confidence=0.05)), (3, end(MINE, RANDOM, mia_confidence=0.6)),       # on the other side of retrained
    (4, on(SHARED, MINE, acc_retain=0.99)), (4, end(MINE, RANDOM, acc_test=plus(0.03))), (4, end("neggrad_plus", RANDOM, acc_retain=0.93)),
    (4, on(SHARED, "finetune", acc_test=plus(-0.06))),
    (5, rows_of("beta", scenario=RANDOM, acc_retain=lambda v: 1.6 - v)),
    (5, rows_of("beta", scenario=RANDOM, acc_forget=lambda v: 1.4 - v)),
    (6, end(MIXED, RANDOM, mia_confidence=0.04)), (6, end(MINE, RANDOM, acc_forget=0.6)),          # better does not do as well
    (7, weight(RANDOM, 2, w=abs)), (8, mix("mean", RANDOM, **AS_RETRAINED)),
    (8, mix("sum", RANDOM, **AS_RETRAINED | {"acc_test": plus(0.34)})),
    (9, shifted(RANDOM, "finetune", acc_forget=plus(0.05))), (9, shifted(CLASS, "retrain", mia_confidence=plus(-0.07))),
    (9, shifted(CLASS, "finetune", acc_retain=plus(0.11))), (9, shifted(RANDOM, "retrain", acc_test=plus(0.13))),
    (10, on(SINGLE, MINE, acc_test_forget=0.2)), (10, on(SINGLE, MINE, acc_forget=0.2)), (10, shifted(CLASS, MINE, acc_forget=plus(0.07))),
    (11, end(MINE, EXTRA, 1, trainables=65)), (11, end("retrain", trainables=64)), (11, end(MIXED, RANDOM, trainables=9)),
    (12, at("tau", 5, RANDOM, mia_confidence=plus(0.2))), (12, at("tau", 0, CLASS, acc_retain=plus(-0.2))),
    *((13, at("beta", 10, s, **{k: v})) for s in BOTH for k, v in (("acc_forget", 1.0), ("acc_retain", 1.0), ("acc_test", 0.99))),
    (14, cam(MINE, "forget", correlation=0.95)), (14, cam(MINE, "retain", correlation=0.1)),
    (15, on(SHARED, MINE, epochs=3)), (15, end("finetune", RANDOM, epochs=16)),
    (16, on(SHARED, "class_f", mia_confidence=1.0)), (16, end("neggrad_plus", RANDOM, acc_forget=0.8, acc_retain=0.95))]


@pytest.mark.parametrize("number, edit", SPOILT)
def test_a_claim_fails_where_its_reason_is_missing(number, edit):
    assert verdict(number, edit).status == FAILS


OUTSIDE = every(end(MINE, UNION, **BAD), end(MIXED, UNION, **BAD), end("original", **BAD))         # of every comparison
UNSHARED = every(OUTSIDE, on([EXTRA], MINE, **BAD), end(MIXED, RANDOM, **BAD))
IMMUNE = [
    (1, every(OUTSIDE, end(MINE, RANDOM, **BAD), on(SINGLE, "finetune", **BAD), on(SINGLE, MINE, acc_retain=0.1, acc_test=0.1))),
    *((n, UNSHARED) for n in (2, 3, 4, 15, 16)), (3, on(BOTH, MINE, acc_forget=0.5, acc_retain=0.2, acc_test=0.2, auc_confidence=0.9)),
    (4, every(end("ssd", **BAD | {"acc_retain": 0, "acc_test": 0}), end("retrain", acc_test=0, acc_retain=0))),
    (5, every(rows_of("beta", scenario=CLASS, acc_retain=lambda v: 1.6 - v), rows_of("tau", acc_forget=0.3))),
    (6, every(OUTSIDE, on(SINGLE, MINE, **BAD), end("finetune", **BAD))), (7, weight(UNION, w=abs)),
    (8, every(mix("mean", UNION, **AS_RETRAINED), mix("sum", UNION, **AS_RETRAINED), OUTSIDE, end(MINE, RANDOM, **BAD))),
    (9, every(*(shifted(s, m, acc_forget=plus(0.5), acc_retain=plus(0.5), acc_test=plus(0.5), mia_confidence=plus(-0.5))
                for s in BOTH for m in ("original", MINE)), rows_of("shift", acc_test_forget=1.0, auc_confidence=0.1))),
    (9, end("retrain", acc_forget=0.9, acc_retain=0.1, acc_test=0.1)),          # its shifted rows have a start of their own
    (10, every(shifted(CLASS, MINE, "ε 0.1", acc_forget=plus(0.3)), shifted(RANDOM, MINE, acc_forget=plus(0.3)),
               shifted(CLASS, "retrain", acc_forget=plus(0.9)), *(end(m, UNION, acc_test_forget=0.9) for m in (MINE, "retrain")))),
    (11, every(end("original", trainables=1), end("finetune", trainables=1))), (12, every(rows_of("beta", mia_confidence=plus(0.3)))),
    (12, end(MINE, **BAD)), (13, every(at("beta", 5, CLASS, acc_forget=1.0, acc_retain=0.0), rows_of("tau", acc_forget=lambda v: 1 - v))),
    (14, every(cam("retrain", "forget", correlation=0.95), rows_of("saliency", lambda r: r["row"] == "map", correlation=0.9)))]


@pytest.mark.parametrize("number, edit", IMMUNE)
def test_a_claim_does_not_look_at_other_rows(number, edit, good):
    assert verdict(number, edit) == verdict(number, world=good)


def wobble(method, key, size, scenarios=BOTH + (OTHER, EXTRA)):
    return every(*(end(method, s, k, **{key: plus(size * JITTER[k])}) for s in scenarios for k in range(3)))


def sway(study, where, size, scenario=None, method=None, **keys):
    return every(*(rows_of(study, where, scenario, k, method, **{key: plus(size * JITTER[k]) for key in keys}) for k in range(3)))


CONTRADICT = [
    (1, wobble(MINE, ATTACK, 0.1, SINGLE)), (2, wobble(MINE, ATTACK, 1.0)), (3, wobble("ssd", ATTACK, 0.05)),
    (3, wobble(MINE, ATTACK, 0.3)), (4, wobble(MINE, "acc_retain", 0.05)), (4, wobble("neggrad_plus", "acc_test", 0.1)),
    (6, wobble(MIXED, ATTACK, 0.5)), (9, sway("shift", lambda r: r["shift"] == "elastic", 0.3, CLASS, "retrain", acc_test=0)),
    (9, sway("shift", lambda r: r["shift"] == "PGD", 0.2, RANDOM, "finetune", acc_forget=0)),
    (10, wobble(MINE, "acc_test_forget", 0.2)), (10, sway("shift", lambda r: r["shift"] == "elastic", 0.2, CLASS, MINE, acc_forget=0)),
    (13, sway("beta", lambda r: r["value"] == 10, 0.9, RANDOM, acc_retain=0)),
    (13, sway("beta", lambda r: r["value"] == 1, 0.9, CLASS, acc_test=0)),
    (14, sway("saliency", lambda r: r.get("part") == "forget" and r["row"] == "correlation", 0.4, correlation=0)),
    (15, wobble("finetune", "epochs", 9)), (16, wobble("class_f", "acc_retain", 0.02))]


@pytest.mark.parametrize("number, edit", CONTRADICT)
def test_seeds_that_contradict_one_another_leave_a_claim_open(number, edit):
    assert verdict(number, edit).status == OPEN


def test_correlations_mixes_and_spreads_that_move_with_the_seed_leave_their_claims_open():
    flipped = rows_of("beta", scenario=RANDOM, seed=1, acc_retain=lambda v: 1.6 - v)
    assert verdict(5, flipped).status == OPEN
    assert verdict(8, rows_of("unlearn", lambda r: r.get("mix", "").startswith("mean"), RANDOM, 1, **AS_RETRAINED)).status == OPEN
    assert verdict(12, rows_of("tau", lambda r: r["value"] == 5, CLASS, 1, acc_forget=plus(0.2))).status == OPEN


# --- margins

def test_the_margins_are_where_the_claims_put_them():
    for x, status in ((0.0499, HOLDS), (0.0501, FAILS)):                        # 1: close, on both sides
        assert verdict(1, on(SINGLE, MINE, mia_confidence=1 - x)).status == status
        assert verdict(1, on(SINGLE, MINE, mia_confidence=1 + x)).status == status
    for left, status in ((0.1, HOLDS), (0.1001, FAILS)):                        # 1: forgotten, exactly and beyond
        assert verdict(1, end(MINE, EXTRA, 2, acc_forget=left)).status == status
    for x, status in ((0.0299, HOLDS), (0.0301, FAILS)):                        # 6: of Avg.Gap, on both sides
        for ours, direct in ((x, 0), (0, x)):
            alike = {"acc_forget": 0.80, "acc_retain": 0.95}
            edit = every(end(MIXED, RANDOM, **alike, mia_confidence=0.3 + 4 * ours),
                         end(MINE, RANDOM, **alike, acc_test=plus(0.01), mia_confidence=0.3 - 4 * direct))
            assert verdict(6, edit).status == status, (ours, direct)
    for x, status in ((0.0199, HOLDS), (0.0201, FAILS)):                        # 9 and 12: little
        assert verdict(9, shifted(RANDOM, "finetune", acc_forget=plus(0.02 + x))).status == status
        assert verdict(9, shifted(CLASS, "retrain", mia_confidence=plus(-0.04 - x))).status == status
        same = rows_of("tau", scenario=CLASS, acc_forget=0.02, acc_retain=0.95, acc_test=0.8, mia_confidence=0.9)
        assert verdict(12, every(same, at("tau", 5, CLASS, mia_confidence=0.9 - 4 * x))).status == status
    for x, status in ((0.0999, HOLDS), (0.1001, FAILS)):                        # 10: as much; 98 % taken from training images
        assert verdict(10, on(SINGLE, MINE, acc_test_forget=0.95 * (0.02 + x))).status == status
        assert verdict(10, on(SINGLE, MINE, acc_test_forget=0.95 * (0.02 - x))).status == status
        assert verdict(10, shifted(CLASS, MINE, acc_forget=plus(x - 0.04))).status == status


def test_a_vector_takes_its_share_of_what_the_original_recognises():
    """Half of the unseen images are all that there is to take: that is not less than all."""
    half = every(on(SINGLE, "original", acc_test_forget=0.5), on(SINGLE, MINE, acc_test_forget=0.01))
    assert verdict(10, half).status == HOLDS and "takes 98.0 ± 0.0 and 98.0 ± 0.0 %" in verdict(10, half).evidence
    assert verdict(10, every(half, on(SINGLE, MINE, acc_test_forget=0.1))).status == FAILS


def test_as_good_as_the_median_is_competitive_and_as_good_as_the_best_is_not_worse():
    """Here the vector has the very numbers of a baseline, and no other is better than that."""
    twin = dict(zip(FOUR, (0.08, 0.98, 0.5, 0.93), strict=True))
    same = every(on(SHARED, MINE, **twin), *(on(SHARED, m, **twin) for m in BASELINES))
    assert verdict(2, same).status == verdict(3, same).status == verdict(16, same).status == HOLDS
    one = every(same, on(SHARED, "ssd", mia_confidence=0.931))                  # is better, the median is not
    assert (verdict(2, one).status, verdict(3, one).status, verdict(16, one).status) == (HOLDS, HOLDS, FAILS)
    two = every(one, on(SHARED, "class_f", mia_confidence=0.9301))
    assert (verdict(2, two).status, verdict(3, two).status, verdict(16, two).status) == (HOLDS, FAILS, FAILS)
    three = every(two, on(SHARED, "gradient_ascent", mia_confidence=0.9301))    # of five
    assert verdict(2, three).status == FAILS


# --- the numbers of the evidence, from runs that all differ

def beyond(world, rank, one=gaps, digits=1):
    """The vector's distance minus the rank of the baselines', for one class (mean of the two) and for random samples."""
    parts = {s: one(world, MINE, s) - rank([one(world, m, s) for m in there(world, s)]) for s in (*SHARED, RANDOM)}
    return [f"one class, WHAT: {interval((parts[CLASS] + parts[OTHER]) / 2).text(digits)} points",
            f"random samples, WHAT: {interval(parts[RANDOM]).text(digits)} points"]


def evidence(number, world):
    return verdict(number, world=world).evidence


def test_the_numbers_of_the_first_claim(noise):
    passed = sum(1 - r.metrics["acc_forget"] >= 0.9 for s in SINGLE for r in of(noise, MINE, s))
    gap = interval(values(noise, MINE, ATTACK, SINGLE) - values(noise, "retrain", ATTACK, SINGLE))
    said = f"UA of at least 90 %, class by class: {passed} of 9 models; MIA-Efficacy minus retrained: {gap.text()} points (margin 5)"
    assert evidence(1, noise) == said


@pytest.mark.parametrize("number, rank, what", [(2, np.median, "Avg.Gap minus the baselines' median"),
                                                (16, np.min, "Avg.Gap minus the smallest of any baseline")])
def test_the_numbers_of_the_comparisons(noise, number, rank, what):
    assert len(there(noise, CLASS)) == 10 and len(there(noise, RANDOM)) == 9
    parts = beyond(noise, lambda v: rank(v, axis=0), digits=2 if number == 16 else 1)
    assert evidence(number, noise) == "; ".join(parts).replace("WHAT", what)


def test_the_numbers_of_the_attack_s_rank(noise):
    def apart(world, method, scenario):
        return np.abs(values(world, method, ATTACK, [scenario]) - values(world, "retrain", ATTACK, [scenario]))
    wanted = beyond(noise, lambda v: np.sort(v, axis=0)[1], apart)
    what = "gap of MIA-Efficacy minus the second smallest of a baseline"
    assert evidence(3, noise) == "; ".join(wanted).replace("WHAT", what)


def decided(parts, low, high, pick):
    """How many hold, and the interval that the evidence must name: the outermost of those that fail, else of the open ones, else of all."""
    fail = {k: v for k, v in parts.items() if v.low > high or v.high < low}
    hold = {k: v for k, v in parts.items() if low <= v.low and v.high <= high}
    undecided = {k: v for k, v in parts.items() if k not in fail and k not in hold}
    deciding, of = (fail, f" of {len(fail)} that fail") if fail else \
        (undecided, f" of {len(undecided)} that are open") if undecided else (parts, "")
    name, value = pick(deciding.items(), key=lambda p: p[1].mean)
    return f"{len(hold)} of {len(parts)}, {'largest' if pick is max else 'smallest'}{of} {value.text()} points ({name})"


def test_the_numbers_of_utility(noise):
    said = evidence(4, noise)
    for key, word in (("acc_retain", "RA"), ("acc_test", "TA")):
        parts = {f"{label(m)}, {name}": interval(values(noise, MINE, key, s) - values(noise, m, key, s)) for m in TUNED
                 for name, s in (("one class", SHARED), ("random samples", (RANDOM,)))}
        assert f"{word} below that of a baseline trained on D_r: {decided(parts, -1, 0, max)}" in said


@pytest.mark.parametrize("wide, status, named", [(0.0, FAILS, "largest of 1 that fail 2.0 ± 0.0 points (b)"),
                                                 (0.5, OPEN, "largest of 2 that are open 5.0 ± 444.7 points (c)")])
def test_the_evidence_names_an_interval_that_decided(wide, status, named):
    """Not one that is farther out, but open, where another fails."""
    parts = [("a", interval([-0.01, -0.01])), ("b", interval([0.02 - wide, 0.02 + wide])), ("c", interval([-0.3, 0.4 if wide else -0.2]))]
    found = extreme(parts, -1, 0, "below", largest=True)
    assert found.status == status and found.evidence.endswith(named)


def test_the_numbers_of_the_sweeps(noise):
    ua, lost = ([[1 - x[k] for x in rows.values()] for rows in swept(noise, "beta", RANDOM)] for k in ("acc_forget", "acc_retain"))
    r = interval([np.corrcoef(a, b)[0, 1] for a, b in zip(ua, lost, strict=True)])
    assert evidence(5, noise) == f"correlation of UA with 100 - RA over beta, random samples: {r.text(2, 1)} (3 stops: any two curves " \
                                 "that rise together correlate)"
    for scenario in BOTH:
        spread = [np.ptp([gap_of(x, b) for x in rows.values()]) for rows, b in
                  zip(swept(noise, "tau", scenario), of(noise, "retrain", scenario), strict=True)]
        assert f"{scenario}, largest minus smallest Avg.Gap over tau: {interval(spread).text()} points" in evidence(12, noise)
        for key, word, sign in (("acc_forget", "UA", -1), ("acc_retain", "RA", 1), ("acc_test", "TA", 1)):
            change = interval([sign * (rows[10][key] - rows[1][key]) for rows in swept(noise, "beta", scenario)])
            assert f"{scenario}, {word} at the largest minus the smallest beta: {change.text()} points" in evidence(13, noise)


def test_the_numbers_of_composed_vectors(noise):
    gap = interval(gaps(noise, MIXED, RANDOM) - gaps(noise, MINE, RANDOM))
    assert evidence(6, noise) == f"Avg.Gap, composed minus direct vector, random samples: {gap.text()} points"
    wanted = [f"Avg.Gap, {m} minus learned, random samples: {interval(mixed(noise, m) - gaps(noise, MIXED, RANDOM)).text()} points"
              for m in ("mean (w = 1/K)", "sum (w = 1)")]
    assert evidence(8, noise) == "; ".join(wanted)
    assert "random samples: 2 of 3 models" in verdict(7, weight(RANDOM, 2, w=abs)).evidence
    table = mixes(noise).set_index(["mix", "scenario", "seed"]).avg_gap.sort_index()
    assert len(table) == 4 * 2 * 3 and set(table.index.unique("mix")) == {"direct vector", "learned w", "mean (w = 1/K)", "sum (w = 1)"}
    assert table["direct vector", UNION].tolist() == pytest.approx(gaps(noise, MINE, UNION))
    assert table["sum (w = 1)", RANDOM].tolist() == pytest.approx(mixed(noise, "sum (w = 1)"))


def test_the_numbers_of_the_shifts(noise):
    moved = {}
    for method in ("retrain", "finetune", MINE):
        for scenario in BOTH:
            for r in of(noise, method, scenario, "shift"):
                start, *others = r.rows
                for x in others:
                    change = {k: x[k] - start[k] for k in FOUR} | {"acc_forget": start["acc_forget"] - x["acc_forget"]}
                    moved.setdefault((method, scenario, x["shift"], x["strength"]), []).append(change)
    said = evidence(9, noise)
    for key, text, pick in (("acc_forget", "UA not below unshifted by more than 2 points", min), (ATTACK, "MIA-Efficacy likewise", min),
                            ("acc_retain", "RA falls", max), ("acc_test", "TA falls", max)):
        parts = {" ".join([label(k[0]), *k[1:]]): interval([c[key] for c in v]) for k, v in moved.items() if k[0] != MINE}
        assert len(parts) == 16 and f"{text}: {decided(parts, *((-1, 0) if pick is max else (-0.02, 1)), pick)}" in said
    ours = {" ".join(k[2:]): interval([c["acc_forget"] for c in v]) for k, v in moved.items() if k[:2] == (MINE, CLASS) and k[2] != "PGD"}
    name, value = min(ours.items(), key=lambda p: p[1].mean)
    taken = [np.mean([1 - values(noise, MINE, k, [s]) / values(noise, "original", k, [s]) for s in SINGLE], axis=0)
             for k in ("acc_test_forget", "acc_forget")]
    said = evidence(10, noise)
    assert (f"the vector takes {interval(taken[0]).text()} and {interval(taken[1]).text()} % (unseen, training images): "
            f"{interval(taken[0] - taken[1]).text()} points") in said
    assert said.endswith(f"of 3, smallest {value.text()} points ({name})")


def test_the_numbers_of_costs_and_of_maps(noise):
    for name, scenarios in (("one class", SHARED), ("random samples", (RANDOM,))):
        gap = interval(values(noise, MINE, "epochs", scenarios) - values(noise, "finetune", "epochs", scenarios))
        assert f"{name}, training-epoch equivalents (set by the preset), vector minus fine-tuning: {gap.text(1, 1)}" in evidence(15, noise)
    assert verdict(11).evidence == ("64 trainables (the pixels) against 45,722 weights: 15 of 15 models; "
                                    "for a composed vector one a class: 6 of 6 models")
    r = [values(noise, MINE, "correlation", [CLASS], "saliency", lambda x, p=p: (x["row"], x["model"], x["part"]) ==
                ("correlation", MINE, p)) for p in ("forget", "retain")]
    assert evidence(14, noise) == (f"correlation of the maps with and without the vector: forget {interval(r[0]).text(2, 1)}, retain "
                                   f"{interval(r[1]).text(2, 1)}, difference {interval(r[0] - r[1]).text(2, 1)} (images with "
                                   "a flat map are left out)")


# --- what a preset lacks

@pytest.mark.parametrize("number", [n for n in ALL if n not in (7, 11)])         # these are true of every model, or not
def test_one_seed_cannot_make_a_claim_hold(number):
    found = verdict(number, seeds=1)
    assert found.status == UNTESTED and found.evidence


@pytest.mark.parametrize("number", ALL)
def test_a_claim_about_a_study_that_was_not_run_is_untested_and_no_other(number):
    assert verdict(number, studies=[]).status == (UNTESTED if number in STUDY else HOLDS)


@pytest.mark.parametrize("number", ALL)
def test_without_random_samples_the_claims_about_them_are_untested(number):
    found = verdict(number, scenarios=dict.fromkeys((*SINGLE, UNION), "digits"))
    assert found.status == (UNTESTED if number in (5, 6, 7, 8) else HOLDS)


@pytest.mark.parametrize("number", ALL)
def test_without_composed_vectors_the_claims_about_them_are_untested(number):
    assert verdict(number, without=(*LEAN, MIXED)).status == (UNTESTED if number in (6, 7, 8) else HOLDS)


@pytest.mark.parametrize("number", ALL)
def test_without_single_classes_the_claims_about_them_are_untested(number):
    there = verdict(number, scenarios={RANDOM: "digits"}, focus=RANDOM, compared=[], studies=["beta", "tau", "shift", "saliency"])
    assert there.status == (UNTESTED if number in (1, 10) else HOLDS)


def test_a_preset_of_two_classes_at_once_alone_has_nothing_to_compare():
    world = World(without=LEAN, scenarios={UNION: "digits"}, focus=UNION, compared=[], studies=[])
    assert {c.number for c in CLAIMS if c.test(world).status != UNTESTED} == {11}


def test_at_the_larger_preset_only_the_claims_with_their_studies_can_be_tested():
    """One seed: what needs an interval waits, what is true of every model does not."""
    values = papers.settings("forget_vectors", "cifar10")
    scenarios = dict.fromkeys(values["scenarios"], "digits")
    world = World(**values | {"scenarios": scenarios, "methods": {k: v for k, v in preset()["methods"].items() if k in values["methods"]}})
    assert {c.number: c.test(world).status for c in CLAIMS} == {n: HOLDS if n == 11 else UNTESTED for n in ALL}


# --- frames

def test_frames_are_those_of_one_class_and_of_the_runs_that_all_methods_share(noise):
    assert set(single(noise).scenario) == set(SINGLE)
    parts = compared(noise)
    assert {k: set(v.scenario) for k, v in parts.items()} == {"one class": set(SHARED), "random samples": {RANDOM}}
    row = parts["random samples"].query("method == 'ssd' and seed == 1").iloc[0]
    assert row.avg_gap == pytest.approx(gaps(noise, "ssd", RANDOM)[1])
    rows = with_gap(noise, noise.rows("controls"))
    x = rows[(rows.scenario == RANDOM) & (rows.seed == 2)].iloc[3]
    assert x.control == "on the forget set alone" and x.avg_gap == pytest.approx(gap_of(x, of(noise, "retrain", RANDOM)[2]))
