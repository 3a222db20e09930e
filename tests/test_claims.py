"""Intervals against hand formulas, the words and verdicts they allow, and the fourteen claims of LFSSD on made-up sessions."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from unlearnlib import claims
from unlearnlib.claims import FAILS, HOLDS, OPEN, UNTESTED, Claim, Interval, Verdict, always, comparison, interval, judge
from unlearnlib.papers.lfssd.claims import CLAIMS, with_paper_metrics

NAN = float("nan")


# --- intervals

@pytest.mark.parametrize("values", [[0.1, 0.4], [0.3, 0.2, 0.7], list(np.linspace(-1, 2, 12) ** 2)])
def test_the_interval_is_students(values):
    i = interval(values)
    low, high = stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))
    assert (i.mean, i.low, i.high, i.n) == (pytest.approx(np.mean(values)), pytest.approx(low), pytest.approx(high), len(values))


def test_the_interval_of_two_and_of_three_by_hand():
    assert interval([1.0, 3.0]).half == pytest.approx(12.7062 * math.sqrt(2) / math.sqrt(2), rel=1e-5)      # s = sqrt(2), t(1) = 12.7062
    assert interval([1.0, 2.0, 3.0]).half == pytest.approx(4.30265 / math.sqrt(3), rel=1e-5)                # s = 1, t(2) = 4.30265


def test_no_value_and_one_value_have_no_width():
    none, one = interval([]), interval([0.25])
    assert none.n == 0 and math.isnan(none.mean) and math.isnan(none.half)
    assert one.n == 1 and one.mean == 0.25 and math.isnan(one.half)
    assert none.text() == "not available" and one.text() == "25.0"


@pytest.mark.parametrize("hole", [NAN, math.inf, -math.inf, None])
def test_what_is_not_finite_is_left_out(hole):
    assert interval([0.1, hole, 0.4]) == interval([0.1, 0.4])
    assert interval([hole, hole]).n == 0
    assert interval([hole, 0.5]).n == 1


def test_equal_values_have_an_interval_of_width_zero():
    i = interval([0.5, 0.5, 0.5])
    assert i.half == 0 and i.low == i.high == 0.5


def test_the_text_scales_and_rounds_mean_and_half_alike():
    assert Interval(0.9321, 0.0114, 5).text() == "93.2 ± 1.1"
    assert Interval(0.9321, 0.0114, 5).text(3, 1.0) == "0.932 ± 0.011"


# --- paired differences

def frame(rows, metric="m"):
    return pd.DataFrame(rows, columns=["scenario", "seed", "method", metric])


def test_pairs_share_scenario_and_seed_and_the_seed_is_the_unit():
    rows = [(s, seed, m, 10 * seed + {"x": 0, "y": 1}[s] + {"a": 0.5 + seed, "b": 0.0}[m])
            for s in "xy" for seed in range(3) for m in "ab"]
    difference = claims.paired(frame(rows), "m", "a", "b")
    assert difference == interval([0.5, 1.5, 2.5])                              # per seed; six pairs would give n = 6


def test_a_pairing_removes_what_the_seeds_have_in_common():
    rows = [("x", seed, m, 100.0 * seed + (2.0 if m == "a" else 0.0)) for seed in range(4) for m in "ab"]
    difference = claims.paired(frame(rows), "m", "a", "b")
    assert difference.mean == pytest.approx(2) and difference.half == pytest.approx(0, abs=1e-12)


def test_the_order_of_rows_does_not_matter():
    rows = [(s, seed, m, len(s) * seed**2 % 7 + (seed if m == "a" else 0)) for s in ("x", "yy") for seed in range(3) for m in "ab"]
    forward, backward = (claims.paired(frame(r), "m", "a", "b") for r in (rows, rows[::-1]))
    assert forward.mean == pytest.approx(backward.mean) and forward.half == pytest.approx(backward.half)
    assert claims.paired(frame(rows), "m", "b", "a").mean == pytest.approx(-forward.mean)


def test_a_run_without_its_partner_is_left_out():
    rows = [("x", 0, "a", 1.0), ("x", 0, "b", 0.0), ("x", 1, "a", 3.0), ("x", 1, "b", 0.0), ("x", 2, "a", 99.0), ("y", 0, "b", 50.0)]
    assert claims.paired(frame(rows), "m", "a", "b") == interval([1.0, 3.0])


@pytest.mark.parametrize("rows", [[("x", 0, "a", 1.0)], [("x", 0, "b", 1.0)], [("x", 0, "a", 1.0), ("x", 0, "b", NAN)]])
def test_a_missing_method_gives_no_pair(rows):
    assert claims.paired(frame(rows), "m", "a", "b").n == 0


# --- words

@pytest.mark.parametrize("low, high, word", [
    (0.001, 0.2, "higher"), (-0.2, -0.001, "lower"), (-0.1, 0.1, "no difference shown"), (0.0, 0.2, "no difference shown"),
    (-0.2, 0.0, "no difference shown")])
def test_a_comparing_word_needs_an_interval_without_zero(low, high, word):
    i = Interval((low + high) / 2, (high - low) / 2, 5)
    assert comparison(i) == word


def test_the_comparing_words_can_be_chosen():
    assert comparison(Interval(2, 1, 3), "slower", "faster") == "slower"
    assert comparison(Interval(-2, 1, 3), "slower", "faster") == "faster"


@pytest.mark.parametrize("values", [[], [5.0], [5.0, NAN]])
def test_fewer_than_two_seeds_are_not_compared(values):
    assert comparison(interval(values)) == "one seed: no interval"


# --- verdicts

@pytest.mark.parametrize("low, high, status", [
    (0.2, 0.8, HOLDS), (0.0, 1.0, HOLDS), (-0.1, 0.5, OPEN), (0.5, 1.1, OPEN), (-0.1, 1.1, OPEN), (1.01, 1.2, FAILS),
    (-0.4, -0.01, FAILS), (0.9, 1.0, HOLDS), (1.0, 1.5, OPEN)])
def test_within_looks_at_the_whole_interval(low, high, status):
    verdict = claims.within(Interval((low + high) / 2, (high - low) / 2, 3), 0.0, 1.0, "why")
    assert verdict.status == status and verdict.evidence == "why"


@pytest.mark.parametrize("value", [0.5, 7.0])
def test_one_seed_is_never_within_and_never_outside(value):
    verdict = claims.within(interval([value]), 0.0, 1.0, "why")
    assert verdict.status == UNTESTED and "why" in verdict.evidence and "n = 1" in verdict.evidence
    assert claims.within(interval([]), 0.0, 1.0, "why").status == UNTESTED


@pytest.mark.parametrize("values, status, count", [([1, 1, 1], HOLDS, "3 of 3"), ([1, 0, 1], FAILS, "2 of 3"), ([0], FAILS, "0 of 1"),
                                                   ([NAN, 1], FAILS, "1 of 2")])
def test_always_means_every_model(values, status, count):
    verdict = always(values, lambda v: v == 1, "exact")
    assert verdict.status == status and count in verdict.evidence and verdict.evidence.startswith("exact")


def test_always_of_nothing_is_untested_also_for_a_generator():
    assert always([], bool, "x").status == always(iter(()), bool, "x").status == UNTESTED
    assert always((v for v in (1, 2)), bool, "x").status == HOLDS


@pytest.mark.parametrize("parts, status", [
    ([HOLDS], HOLDS), ([HOLDS, HOLDS], HOLDS), ([HOLDS, OPEN], OPEN), ([OPEN, UNTESTED], UNTESTED), ([HOLDS, UNTESTED], UNTESTED),
    ([HOLDS, FAILS, OPEN], FAILS), ([UNTESTED, FAILS], FAILS)])
def test_a_compound_claim_is_as_strong_as_its_weakest_part(parts, status):
    for order in (parts, parts[::-1]):
        verdict = claims.weakest(*(Verdict(s, f"part {i}") for i, s in enumerate(order)))
        assert verdict.status == status
        assert all(f"part {i}" in verdict.evidence for i in range(len(order)))


def test_judge_asks_every_claim_once_in_order_and_keeps_the_evidence():
    asked = []

    def test(answer):
        def function(session):
            asked.append((session, answer))
            return Verdict(answer, f"because of {answer}")
        return function
    table = judge([Claim(7, "seven", "here", test(HOLDS)), Claim(2, "two", "there", test(OPEN))], "session")
    assert asked == [("session", HOLDS), ("session", OPEN)]
    assert table.to_dict("records") == [
        {"claim": 7, "what it says": "seven", "source": "here", "verdict": HOLDS, "evidence": f"because of {HOLDS}"},
        {"claim": 2, "what it says": "two", "source": "there", "verdict": OPEN, "evidence": f"because of {OPEN}"}]


def test_the_verdicts_are_saved_as_a_table_with_their_provenance(tmp_path):
    table = judge([Claim(1, "one", "here", lambda s: Verdict(HOLDS, "0.1 ± 0.2"))], None)
    claims.save(table, "preset x | n = 3", tmp_path / "deep" / "claims.md")
    text = (tmp_path / "deep" / "claims.md").read_text()
    assert text.endswith("\n\npreset x | n = 3\n")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    assert rows[0] == list(table.columns) and rows[2] == ["1", "one", "here", HOLDS, "0.1 ± 0.2"]


# --- the fourteen claims of LFSSD

EXACT = {"label_free": 1.0, "ssd_reads_labels": 1.0, "only_selected_change": 1.0, "no_weight_grows": 1.0, "no_sign_changes": 1.0,
         "bound_selects_nothing": 1.0, "nested": 1.0, "clamp_inert": 1.0, "batch_of_one_difference": 1e-7, "precomputed": 1.0,
         "scale_changes_mask": 0.0, "repeat_identical": 1.0}
JITTER = np.array([-1.0, 0.0, 1.0, 0.5, -0.5])
SCENARIOS = ("class:8", "class:3", "subclass:8", "random:0.1")
GOOD = {   # (D_r, D_f, MIA, epochs): a world in which every claim holds
    "original": (0.90, 0.88, 0.80, 20.0), "retrain": (0.90, 0.01, 0.30, 18.0), "ssd": (0.897, 0.01, 0.10, 1.2),
    "lfssd": (0.895, 0.01, 0.10, 1.1)}
RANDOM = {"original": (0.90, 1.00, 0.80, 20.0), "retrain": (0.90, 0.84, 0.50, 18.0), "lfssd": (0.895, 0.85, 0.45, 1.1)}


class Fake:
    """What a claim needs of a session: frames of two studies. Seeds differ in D_r, by 2 points, together for all methods."""

    def __init__(self, seeds=5, scenarios=SCENARIOS, methods=(), exact=None, without=(), noise=0.0):
        rows = []
        for scenario in scenarios:
            table = dict(RANDOM if scenario.startswith("random") else GOOD)
            table |= {name: values for (kind, name), values in dict(methods).items() if scenario.startswith(kind)}
            for name in [m for m in table if m not in without]:
                for seed in range(seeds):
                    d_r, d_f, mia, epochs = table[name]
                    own = noise * JITTER[seed] if name == "lfssd" else 0.0
                    kept, gone = d_r + 0.02 * JITTER[seed] + own, d_f + own
                    random = scenario.startswith("random")
                    rows.append({"scenario": scenario, "seed": seed, "method": name, "mia_entropy": mia + own, "epochs": epochs,
                                 "acc_test": kept if random else NAN, "acc_test_retain": NAN if random else kept,
                                 "acc_test_forget": NAN if random else gone, "acc_forget": gone if random else NAN})
        self.unlearn = pd.DataFrame(rows)
        tested = [] if exact is None else [EXACT | (exact if seed == 0 else {}) for seed in range(seeds)]
        self.exact = pd.DataFrame(tested)

    def frame(self, study="unlearn"):
        return {"unlearn": self.unlearn, "exact": self.exact}[study].copy()


def verdict(number, session):
    (claim,) = [c for c in CLAIMS if c.number == number]
    return claim.test(session)


def test_there_are_fourteen_claims_each_with_its_words_and_source():
    assert [c.number for c in CLAIMS] == list(range(1, 15))
    assert all(c.text.endswith(".") and c.source for c in CLAIMS)


@pytest.mark.parametrize("number", range(1, 15))
def test_in_a_world_where_every_claim_is_true_it_holds(number):
    found = verdict(number, Fake(exact={}))
    assert found.status == HOLDS, found


@pytest.mark.parametrize("number, broken", [
    (1, {"label_free": 0.0}), (1, {"ssd_reads_labels": 0.0}), (2, {"only_selected_change": 0.0}), (2, {"no_weight_grows": 0.0}),
    (2, {"no_sign_changes": 0.0}), (3, {"bound_selects_nothing": 0.0}), (4, {"nested": 0.0}), (5, {"clamp_inert": 0.0}),
    (6, {"batch_of_one_difference": 1e-3}), (7, {"precomputed": 0.0}), (8, {"scale_changes_mask": 0.01}), (10, {"label_free": 0.0}),
    (10, {"precomputed": 0.0}), (14, {"repeat_identical": 0.0})])
def test_one_model_that_breaks_an_exact_claim_refutes_it(number, broken):
    found = verdict(number, Fake(exact=broken))
    assert found.status == FAILS and "4 of 5 models" in found.evidence


@pytest.mark.parametrize("number, methods", [
    (9, {("class", "lfssd"): (0.85, 0.01, 0.1, 1.1)}),           # loses 5 points
    (9, {("subclass", "lfssd"): (0.85, 0.01, 0.1, 1.1)}),
    (9, {("class", "lfssd"): (0.895, 0.30, 0.1, 1.1)}),          # does not forget
    (9, {("subclass", "retrain"): (0.90, 0.14, 0.3, 18.0)}),     # forgets more of a sub-class than retraining does
    (9, {("class", "ssd"): (0.95, 0.01, 0.1, 1.1)}),             # keeps what the original has, but far less than SSD
    (10, {("class", "lfssd"): (0.895, 0.01, 0.1, 2.5)}),         # costs more than two epochs
    (11, {("class", "ssd"): (0.897, 0.01, 0.1, 9.0), ("subclass", "ssd"): (0.897, 0.01, 0.1, 9.0)}),     # half of a retraining
    (11, {("class", "ssd"): (0.80, 0.01, 0.1, 1.2), ("subclass", "ssd"): (0.80, 0.01, 0.1, 1.2)}),
    (11, {("class", "ssd"): (0.897, 0.5, 0.1, 1.2), ("subclass", "ssd"): (0.897, 0.5, 0.1, 1.2)}),
    (12, {("random", "lfssd"): (0.70, 0.85, 0.45, 1.1)}),        # utility gone
    (12, {("random", "lfssd"): (0.895, 0.99, 0.45, 1.1)}),       # forgotten samples still like members
    (12, {("random", "lfssd"): (0.895, 0.60, 0.45, 1.1)}),       # forgotten samples known worse than unseen ones
    (13, {("class", "lfssd"): (0.895, 0.01, 0.50, 1.1)}),        # above the retrained model
])
def test_an_empirical_claim_fails_where_its_reason_is_missing(number, methods):
    assert verdict(number, Fake(methods=methods, exact={})).status == FAILS
    others = {c.number: c.test(Fake(methods=methods, exact={})).status for c in CLAIMS}
    assert HOLDS in others.values()                                             # and not every claim with it


def test_seeds_that_do_not_differ_refute_the_claim_that_they_matter():
    session = Fake(exact={})
    for name in ("acc_test_retain", "acc_test_forget"):
        session.unlearn[name] = session.unlearn.groupby(["scenario", "method"])[name].transform("mean")
    assert verdict(14, session).status == FAILS
    session.unlearn.loc[(session.unlearn.method == "lfssd") & (session.unlearn.seed == 0) & (session.unlearn.scenario == "class:3"),
                        "acc_test_forget"] += 0.2                               # one scenario whose D_f depends on the seed is enough
    assert verdict(14, session).status == HOLDS


@pytest.mark.parametrize("number", [9, 12, 13])
def test_seeds_that_contradict_one_another_leave_a_claim_open(number):
    assert verdict(number, Fake(exact={}, noise=0.3)).status == OPEN


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5, 6, 7, 8, 10, 14])
def test_a_preset_without_the_exact_study_cannot_test_exact_claims(number):
    assert verdict(number, Fake(exact=None)).status == UNTESTED


@pytest.mark.parametrize("number", [9, 11, 12, 13, 14])
def test_one_seed_cannot_test_empirical_claims(number):
    found = verdict(number, Fake(seeds=1, exact={}))
    assert found.status == UNTESTED and found.evidence


def test_two_seeds_do_not_show_that_seeds_matter():
    assert verdict(14, Fake(seeds=2, exact={})).status == UNTESTED


@pytest.mark.parametrize("number, scenarios", [(9, ("random:0.1",)), (11, ("random:0.1",)), (12, ("class:8", "subclass:8")),
                                               (13, ("random:0.1", "subclass:8")), (14, ("random:0.1",))])
def test_a_claim_whose_scenarios_are_not_run_is_untested(number, scenarios):
    assert verdict(number, Fake(scenarios=scenarios, exact={})).status == UNTESTED


@pytest.mark.parametrize("number, absent", [(9, "ssd"), (9, "retrain"), (10, "lfssd"), (11, "ssd"), (11, "retrain"), (12, "lfssd"),
                                           (12, "retrain"),
                                            (13, "retrain"), (14, "lfssd")])
def test_a_claim_about_a_method_that_was_not_run_is_untested(number, absent):
    assert verdict(number, Fake(without=(absent,), exact={})).status == UNTESTED


@pytest.mark.parametrize("kind, alone", [("class:8", "class"), ("subclass:8", "subclass")])
def test_competitive_is_judged_kind_by_kind(kind, alone):
    """The good kind must not average out the bad one."""
    good = verdict(9, Fake(scenarios=(kind,), exact={}))
    assert good.status == HOLDS and good.evidence.startswith(f"{alone} (mean of {kind}): {HOLDS}")
    both = verdict(9, Fake(methods={(alone, "lfssd"): (0.85, 0.01, 0.1, 1.1)}, exact={}))
    assert f"{alone} (mean of " in both.evidence and f"): {FAILS}" in both.evidence and HOLDS in both.evidence


def test_a_little_left_of_the_class_is_forgotten_although_its_interval_reaches_below_zero():
    session = Fake(exact={})
    mine = session.unlearn.method == "lfssd"
    session.unlearn.loc[mine, "acc_test_forget"] = 0.01 * (session.unlearn.seed[mine] == 0)
    left = interval(session.unlearn[mine & session.unlearn.scenario.str.contains("class")].groupby("seed").acc_test_forget.mean())
    assert left.low < 0 < left.high < 0.05
    assert verdict(9, session).status == HOLDS


def test_random_forgetting_is_measured_on_the_forgotten_samples_and_the_whole_test_set():
    rows = pd.DataFrame({"scenario": ["class:1", "subclass:1", "random:0.1"], "acc_test_retain": [0.1] * 3, "acc_test": [0.2] * 3,
                         "acc_test_forget": [0.3] * 3, "acc_forget": [0.4] * 3, "mia_entropy": [0.5] * 3})
    found = with_paper_metrics(rows)
    assert found.D_r.tolist() == [0.1, 0.1, 0.2] and found.D_f.tolist() == [0.3, 0.3, 0.4] and found.MIA.tolist() == [0.5] * 3
    assert "D_r" not in rows


def test_a_claim_without_any_part_is_untested():
    assert claims.weakest() == claims.always([], bool, "") == claims.untested(claims.NO_RUN)
