"""The ten claims of ISPF on made-up sessions."""

import math
import re
from dataclasses import replace

import pytest
from datafree import JITTER, World, end, epochs, every, like_cifar10

from unlearnlib import papers
from unlearnlib.claims import FAILS, HOLDS, OPEN, UNTESTED
from unlearnlib.papers.ispf import CLAIMS
from unlearnlib.papers.ispf.claims import class_grows, curves, first_epochs, lost_rows, over_filtering, single


def verdict(number, world):
    (claim,) = [c for c in CLAIMS if c.number == number]
    return claim.test(world)


def everywhere(world, sets=("cifar10", "cifar100", "svhn")):
    """The same runs, as if they had been made on other data sets."""
    world.specs = [replace(world.specs[0], data=d) for d in sets]
    return world


def test_there_are_ten_claims_each_with_its_words_and_source():
    assert [c.number for c in CLAIMS] == list(range(1, 11))
    assert all(c.text.endswith(".") and c.source for c in CLAIMS)


@pytest.mark.parametrize("number", range(1, 11))
def test_in_a_world_where_every_claim_is_true_it_holds(number):
    found = verdict(number, everywhere(World()))
    assert found.status == HOLDS and re.search(r"\d", found.evidence), found


def spoilt(world, number):
    return verdict(number, everywhere(world)).status


SPOILT = [
    (1, epochs("gkt_dfq", kept=lambda v: v + 0.3)),                             # nothing is lost beyond the class
    (1, epochs("gkt_dfq", at=range(6, 11), kept=lambda v: v + 0.3)),            # nor in the second half alone
    (1, epochs("gkt_dfq", at=[1], predicted_forget=0.5)), (1, epochs("gkt_dfq", at=[10], predicted_forget=0.05)),
    (2, epochs("is_gkt", predicted_forget=0.5)), (2, epochs("ispf", predicted_forget=0.5)),
    (2, epochs("is_gkt", teacher_forget=0.5)), (2, epochs("ispf", teacher_forget=0.5)),
    (2, epochs("ispf", at=[4], teacher_forget=0.2)), (2, epochs("is_gkt", at=[1], predicted_forget=0.12)),      # at one epoch
    (3, epochs("is_gkt", kept=0.5)), (3, epochs("gkt_dfq", kept=0.95)),
    (4, epochs("pf", at=[3], seed=1, kept=0.999)), (4, epochs("ispf", at=[10], seed=2, kept=0.5)),
    (4, end("ispf", seed=0, scenario="class:3+7", filter_conditional=2e-5)), (4, end("pf", seed=2, filter_conditional=0.1)),
    (5, end("ispf", acc_test_retain=0.7)), (5, end("pf", acc_test_retain=0.7)), (5, end("is_gkt", acc_test_retain=0.7)),
    (6, end("ispf", acc_test_forget=0.1)), (6, end("ispf", scenario="class:3", acc_test_forget=0.2)),
    (6, end("ispf", scenario="class:3+7", acc_test_forget=0.2)), (6, end("retrain", acc_test_forget=0.1)),
    (7, end("ispf", auc_confidence=0.58)), (7, end("ispf", auc_confidence=0.46)),                               # either side
    (7, end("ispf", mia_confidence=0.84)), (7, end("ispf", mia_confidence=0.96)),
    (8, epochs("ispf", acc_test_retain=lambda v: v - 0.3)), (8, epochs("gkt_dfq", acc_test_retain=0.9)),
    (9, end("pf", acc_test_retain=0.7)),
    (10, epochs("blockf", acc_test_forget=0.02)), (10, end("retrain", acc_test_forget=0.28))]


@pytest.mark.parametrize("number, edit", SPOILT)
def test_a_claim_fails_where_its_reason_is_missing(number, edit):
    world = everywhere(World(edit=edit))
    assert verdict(number, world).status == FAILS
    assert HOLDS in {verdict(n, world).status for n in (3, 6)}                  # and not every claim with it


@pytest.mark.parametrize("number, edit", [
    (1, epochs("gkt_dfq", at=range(1, 6), kept=1.0)),                           # the first half may do as it likes
    (1, epochs("gkt_dfq", at=range(2, 10), predicted_forget=0.01)),             # the share is compared at the ends
    (3, epochs("is_gkt", at=[10], kept=0.1)), (5, epochs("ispf", acc_test_retain=0.1)),
    (8, end("ispf", acc_test_retain=0.1)), (10, epochs("blockf", at=[1, 2, 3, 4, 6, 7, 8, 9, 10], acc_test_forget=0.0))])
def test_a_claim_looks_at_the_epochs_that_it_names_alone(number, edit):
    assert spoilt(World(edit=edit), number) == HOLDS


@pytest.mark.parametrize("number", [1, 2, 3, 5, 7, 8])
def test_several_classes_at_once_have_no_part_in_claims_on_one(number):
    bad = every(*(end(m, "class:3+7", acc_test_retain=v, auc_confidence=0.9, mia_confidence=0.1)
                  for m, v in (("gkt_dfq", 0.99), ("ispf", 0.1))),
                epochs("gkt_dfq", "class:3+7", kept=1.0, acc_test_retain=0.99, predicted_forget=0.0, teacher_forget=0.0),
                epochs("ispf", "class:3+7", kept=0.1, acc_test_retain=0.1, predicted_forget=0.9, teacher_forget=0.9))
    assert spoilt(World(edit=bad), number) == HOLDS


def test_the_margins_are_where_the_claims_put_them():
    for gap, status in ((0.049, HOLDS), (0.051, FAILS), (-0.049, HOLDS), (-0.051, FAILS)):
        assert spoilt(World(edit=end("ispf", acc_test_forget=gap)), 6) == status
        assert spoilt(World(edit=end("ispf", auc_confidence=0.52 + gap)), 7) == status
        assert spoilt(World(edit=end("ispf", mia_confidence=0.90 + gap)), 7) == status
    for peak, status in ((0.051, HOLDS), (0.049, FAILS)):
        assert spoilt(World(edit=epochs("blockf", acc_test_forget=peak)), 10) == status
    for moved, status in ((0.9e-5, HOLDS), (1.1e-5, FAILS)):
        assert spoilt(World(edit=end("pf", filter_conditional=moved)), 4) == status


@pytest.mark.parametrize("number, edit", [
    (1, epochs("gkt_dfq", kept=0.76, predicted_forget=0.24)), (1, epochs("gkt_dfq", predicted_forget=0.1)),
    (2, epochs("ispf", predicted_forget=0.1, teacher_forget=0.1)), (3, epochs("is_gkt", kept=0.65)),
    (8, epochs("ispf", acc_test_retain=0.6)), (5, end("pf", acc_test_retain=0.8))])
def test_no_difference_is_no_gain(number, edit):
    """Two methods that are the same, in every seed, do not make a claim true."""
    alike = every(edit, epochs("pf", predicted_forget=0.1, teacher_forget=0.1), epochs("gkt_dfq", kept=0.65, acc_test_retain=0.6)
                  if number in (3, 8) else edit, end("gkt_dfq", acc_test_retain=0.8), epochs("dfkd", acc_test_retain=0.9))
    assert spoilt(World(edit=alike), number) in (FAILS, UNTESTED)


def test_as_many_epochs_are_not_fewer():
    """Every run reaches the goal in the same epoch: the interval is 0, without width."""
    same = every(*(epochs(m, at=range(1, 5), acc_test_retain=0.1) for m in ("ispf", "gkt_dfq")),
                 *(epochs(m, at=range(5, 11), acc_test_retain=0.9) for m in ("ispf", "gkt_dfq")))
    found = verdict(8, World(edit=same))
    assert found.status == FAILS and "0.0 ± 0.0" in found.evidence


def contradicting(edit_of, **values):
    """The values of a method, seed by seed, far on either side."""
    return every(*(edit_of(seed=s, **{k: (lambda v, m=m, w=w, j=j: m + w * j) for k, (m, w) in values.items()})
                   for s, j in enumerate(JITTER)))


@pytest.mark.parametrize("number, method, on, values", [
    (1, "gkt_dfq", epochs, {"kept": (0.75, 0.2)}), (2, "ispf", epochs, {"predicted_forget": (0.1, 0.3)}),
    (2, "is_gkt", epochs, {"teacher_forget": (0.1, 0.3)}), (3, "is_gkt", epochs, {"kept": (0.7, 0.3)}),
    (5, "ispf", end, {"acc_test_retain": (0.82, 0.2)}), (5, "pf", end, {"acc_test_retain": (0.82, 0.2)}),
    (6, "ispf", end, {"acc_test_forget": (0.02, 0.1)}), (7, "ispf", end, {"auc_confidence": (0.52, 0.1)}),
    (7, "ispf", end, {"mia_confidence": (0.9, 0.1)}), (8, "ispf", epochs, {"acc_test_retain": (0.7, 0.3)}),
    (10, "blockf", epochs, {"acc_test_forget": (0.1, 0.1)})])
def test_seeds_that_contradict_one_another_leave_a_claim_open(number, method, on, values):
    edit = contradicting(lambda **k: on(method, **k), **values)
    assert verdict(number, World(edit=edit)).status == OPEN


# --- what a session lacks

TESTED_BY_ONE_SEED = {4}        # an exact property of every run


@pytest.mark.parametrize("number", range(1, 11))
def test_one_seed_decides_nothing_but_exact_properties(number):
    found = verdict(number, World(seeds=1))
    assert found.status == (HOLDS if number in TESTED_BY_ONE_SEED else UNTESTED) and found.evidence


@pytest.mark.parametrize("number", range(1, 11))
def test_a_preset_of_one_seed_and_two_methods_gets_its_verdicts(number):
    found = verdict(number, World(values=like_cifar10()))
    assert found.status == (HOLDS if number in TESTED_BY_ONE_SEED else UNTESTED) and found.evidence


@pytest.mark.parametrize("kept", [("gkt_dfq", "ispf"), ("ispf",), ("gkt_dfq",), ("is_gkt", "pf"), ("blockf",), ("dfkd",)])
@pytest.mark.parametrize("number", range(1, 11))
def test_without_its_methods_a_claim_is_not_tested(number, kept):
    needs = {1: {"gkt_dfq"}, 2: {"gkt_dfq", "is_gkt", "pf", "ispf"}, 3: {"is_gkt", "gkt_dfq"}, 4: set(),
             5: {"gkt_dfq", "is_gkt", "pf", "ispf"}, 6: {"ispf"}, 7: {"ispf"}, 8: {"ispf", "gkt_dfq"}, 9: {"everything"}, 10: {"blockf"}}
    world = World(without={"blockf", "gkt_dfq", "is_gkt", "pf", "ispf", "dfkd"} - set(kept))
    testable = needs[number] <= set(kept) and (number != 4 or {"pf", "ispf"} & set(kept))
    assert verdict(number, world).status == (HOLDS if testable else UNTESTED)


@pytest.mark.parametrize("name", ["gkt_dfq", "is_gkt", "pf", "ispf"])
def test_a_part_that_cannot_be_tested_leaves_the_others_to_be_seen(name):
    found = verdict(2, World(without=(name,)))
    assert found.status == UNTESTED and "n = 0" in found.evidence and re.search(r"-\d", found.evidence)


def test_a_claim_that_fails_in_one_part_fails_though_another_cannot_be_tested():
    world = World(without=("pf",), edit=epochs("is_gkt", predicted_forget=0.5))
    assert verdict(2, world).status == FAILS


def test_all_data_sets_are_needed_and_named():
    assert verdict(9, World()).evidence.startswith("data sets of the paper here: none; cifar10, cifar100, svhn are needed")
    world = everywhere(World(), ["svhn"])
    assert "here: svhn;" in verdict(9, world).evidence and verdict(9, world).status == UNTESTED


# --- the numbers behind them

def test_one_class_is_what_has_no_plus():
    frame = World().frame()
    assert set(single(None, frame).scenario) == {"class:7", "class:3"} < set(frame.scenario)


def test_a_curve_has_one_row_an_epoch_and_its_place_in_the_run():
    world = World()
    rows = curves(world)
    assert len(rows) == 3 * (2 * 5 + 1) * 10 and set(rows.row) == {"epoch"}     # seeds, scenarios, methods (dfkd in the focus), epochs
    assert rows.share.tolist() == pytest.approx((rows.epoch / 10).tolist())


def test_the_first_epoch_is_that_at_three_quarters_of_the_same_seed_and_scenario():
    def edit(spec, metrics, rows):
        for row in rows:
            if spec.method == "ispf" and row["row"] == "epoch":                 # the goal is 0.75 * 0.8 = 0.6 in seed 0, 0.75 in others
                row["acc_test_retain"] = {1: 0.5, 2: 0.61, 3: 0.59, 4: 0.75}.get(row["epoch"], 0.1)
        if spec.method == "retrain":
            metrics["acc_test_retain"] = 0.8 if (spec.seed, spec.scenario) == (0, "class:3") else 1.0
        if spec.method == "pf":
            for row in rows:
                row["acc_test_retain"] = 0.1
    first = first_epochs(World(edit=edit)).set_index(["method", "scenario", "seed"])["first"]
    assert first["ispf"].to_dict() == {(s, k): 2.0 if (s, k) == ("class:3", 0) else 4.0 for s in ("class:7", "class:3") for k in range(3)}
    assert set(first["pf"]) == {11.0}                                           # never: one more than the last


def test_where_nobody_gets_there_nothing_is_said_about_speed():
    nobody = every(*(epochs(m, acc_test_retain=0.1) for m in preset_methods()))
    found = verdict(8, World(edit=nobody))
    assert found.status == UNTESTED and "75 %" in found.evidence
    one = every(*(epochs(m, acc_test_retain=0.1) for m in preset_methods() if m != "gkt_dfq"))
    assert verdict(8, World(edit=one)).status == FAILS                          # GKT alone gets there


def test_claim_two_counts_epochs_of_the_mean_and_class_by_class():
    found = verdict(2, World(edit=epochs("is_gkt", "class:7", at=[1], predicted_forget=0.12)))
    assert "(mean of the 2 classes, lower in 10 of 10 epochs; alone: class:7 9 of 10, class:3 10 of 10)" in found.evidence
    assert found.status == HOLDS                                                # the claim is on the mean
    found = verdict(2, World(edit=every(*(epochs("is_gkt", s, at=[1], predicted_forget=0.12) for s in ("class:7", "class:3")))))
    assert "lower in 9 of 10 epochs; alone: class:7 9 of 10, class:3 9 of 10)" in found.evidence and found.status == FAILS


def test_claim_six_says_what_accuracy_does_not_show():
    assert verdict(6, World()).evidence.endswith(" points (judged by A_f alone; class:7: relearning sooner than retrained in 3 of 3 seeds; "
                                                 "loss on forgotten images against retrained: lower (-0.2 ± 0.0))")
    late = every(*(end("ispf", "class:7", s, batches=50, loss_forget=6.0) for s in (0, 2)), end("ispf", "class:7", 1, loss_forget=6.0))
    assert "sooner than retrained in 1 of 3 seeds; loss on forgotten images against retrained: no difference shown (0.0 " in verdict(
        6, World(edit=late)).evidence
    assert "relearning" not in verdict(6, World(values=like_cifar10() | {"extras": []})).evidence


def test_claim_four_counts_every_run_of_either_part():
    found = verdict(4, World(edit=epochs("ispf", "class:3+7", at=[2], seed=1, kept=0.9)))
    assert found.status == FAILS and "used: 14 of 15 models; " in found.evidence


def test_claim_seven_has_its_sign_class_by_class():
    opposite = every(end("ispf", "class:7", auc_confidence=0.42), end("ispf", "class:3", auc_confidence=0.62))
    found = verdict(7, World(edit=opposite))
    assert ("minus retrained: 0.0 ± 0.0 points (with its sign, mean of the 2 classes; alone: class:7 -10.0 ± 0.0, class:3 10.0 ± 0.0)"
            in found.evidence.replace("-0.0", "0.0")) and found.evidence.endswith("the entropy attack, LFSSD's, has no part")


def preset_methods():
    return list(papers.settings("ispf", "digits")["methods"])


def test_evidence_has_the_numbers():
    world = World()
    found = verdict(1, world).evidence                                          # epochs 6 to 10: 1 - share - kept
    lost = [1 - (0.11 + 0.13 * k / 9) - (0.70 - 0.10 * k / 9) for k in range(5, 10)]
    assert found == (f"rows dropped beyond those of the forget class: {100 * sum(lost) / 5:.1f} ± 0.5 % of a batch; "
                     "share of the forget class, last minus first epoch: 13.0 ± 0.0 points")
    gaps = {"share of the forget class": (-14.0, -13.5), "its mean probability": (-15.0, -14.5)}           # half-way between the ends
    assert verdict(2, world).evidence == "; ".join(
        f"{name}, {pair} minus {other}: {gap:.1f} ± 0.0 points (mean of the 2 classes, lower in 10 of 10 epochs; alone: class:7 10 of "
        "10, class:3 10 of 10)"
        for name, both in gaps.items()
        for (pair, other), gap in zip((("GKT + IS", "GKT"), ("ISPF", "PostFilter")), both, strict=True))
    assert verdict(3, world).evidence == "rows kept, GKT + IS minus GKT: 22.5 ± 0.0 points"
    assert verdict(5, world).evidence == "; ".join(f"A_r, {name} minus GKT: {gap} ± 0.0 points" for name, gap in
                                                   (("ISPF", 8.0), ("PostFilter", 6.0), ("GKT + IS", 4.0)))
    assert "of the retrained model's A_r, ISPF minus GKT: -2" in verdict(8, world).evidence
    assert verdict(10, world).evidence.endswith(f"minus retrained: {100 * 0.20 * (1 + 0.5 * math.sin(math.pi * 4 / 9)):.1f} ± 0.0 points")
    assert "by construction, every synthetic image used: 15 of 15 models" in verdict(4, world).evidence
    assert "as the teacher's: 15 of 15 models" in verdict(4, world).evidence


@pytest.mark.parametrize("edit, lost, grown", [
    (None, HOLDS, HOLDS), (epochs("gkt_dfq", kept=lambda v: v + 0.3), FAILS, HOLDS),
    (epochs("gkt_dfq", at=[10], predicted_forget=0.05), HOLDS, FAILS),
    (epochs("gkt_dfq", kept=0.9, predicted_forget=0.1), FAILS, FAILS)])
def test_over_filtering_has_two_parts_that_are_judged_apart(edit, lost, grown):
    world = World(edit=edit)
    parts = lost_rows(world), class_grows(world)
    assert [p.status for p in parts] == [lost, grown]
    assert over_filtering(world).status == (HOLDS if lost == grown == HOLDS else FAILS)
    assert over_filtering(world).evidence == "; ".join(p.evidence for p in parts)
