"""What Forget Vectors says under its controls and tables: expectations, measurements, verdicts, on made-up sessions."""


import numpy as np
import pytest
from datafree import end, every, pct
from fvectors import (
    ATTACK,
    BANDS,
    BOTH,
    CLASS,
    CONTROLS,
    MINE,
    MIXED,
    RANDOM,
    SHARED,
    SINGLE,
    UNION,
    World,
    at,
    control,
    gaps,
    mean_gap,
    noisy,
    on,
    plus,
    rows_of,
    said,
    scored,
    there,
    values,
    versus,
)

from unlearnlib.claims import comparison, interval
from unlearnlib.papers.forget_vectors.claims import BASELINES
from unlearnlib.papers.forget_vectors.scores import Row as Scored
from unlearnlib.papers.forget_vectors.scores import judged, moved, not_above, page
from unlearnlib.plots import label


@pytest.fixture(scope="module")
def noise():
    return World(edit=noisy, images=True)


@pytest.fixture(scope="module")
def good():
    return World(images=True)


# --- the words

def test_a_verdict_needs_an_interval_on_one_side():
    up, down, open_, same, one = (interval(v) for v in ([0.1, 0.11, 0.12], [-0.1, -0.11, -0.12], [-0.1, 0, 0.2], [0, 0, 0], [0.1]))
    assert [moved(i, "higher") for i in (up, down, open_, same, one)] == ["yes", "no", "inconclusive", "no", "one seed: no interval"]
    assert [moved(i, "lower") for i in (up, down)] == ["no", "yes"]
    assert [not_above(i) for i in (up, down, open_, one)] == ["no", "yes", "inconclusive", "one seed: no interval"]
    assert [judged(i, 0, 0.2) for i in (up, down, open_, one)] == ["yes", "no", "inconclusive", "one seed: no interval"]


def test_a_reason_is_printed_on_a_miss_alone_and_once():
    missed = [Scored("a", "1", "no", "Why."), Scored("b", "2", "no", "Why.")]
    found = page([*missed, Scored("c", "3", "inconclusive", "Not this.")], "More.", "")
    assert found == "\n\n| expected | measured | as expected |\n|:--|:--|:--|\n| a | 1 | **no** |\n| b | 2 | **no** |\n" \
                    "| c | 3 | **inconclusive** |\n\nWhy. More."


# --- controls

def test_noise_is_held_against_the_box_and_against_no_vector(noise, good):
    found = scored("wrong_way", noise, bands=BANDS)
    for s in BOTH:
        ua, ra = ({n: abs(flip - control(noise, s, n, k)) for n in CONTROLS} for k, flip in (("acc_forget", 1), ("acc_retain", 0)))
        some, off, used = "noise of the same norm", "vector removed", "as in the paper"
        assert found[f"{s}: UA of noise from 5 to 15 % (box)"][0] == f"{pct(ua[some])} %"
        assert found[f"{s}: RA of noise as with the vector removed, to 2 points (%)"][0] == versus(ra[some], ra[off])
        assert found[f"{s}: without retain term, RA below the vector's (%)"][0] == versus(ra["learned without retain loss"], ra[used])
        assert (f"{s}: and below the vector's" in found) == (s == CLASS)
    assert found["class:3: and below the vector's"][0] == versus(*(1 - control(noise, CLASS, n, "acc_forget") for n in
                                                                  ("noise of the same norm", "as in the paper")))
    told = said("wrong_way", good, bands=BANDS)
    assert "**no** |" in told and "class:3: without any aim, noise of this norm moves RA by -9.0 ± 0.0 points" in told
    assert [v for k, (_, v) in scored("wrong_way", good, bands=BANDS).items() if "box" in k] == ["yes", "yes"]
    much = rows_of("controls", lambda r: r["control"].startswith("noise"), CLASS, acc_forget=0.0, acc_retain=1.0)
    told = scored("wrong_way", edit=much, bands=BANDS)
    assert told["class:3: UA of noise from 5 to 15 % (box)"] == ("100.0 ± 0.0 %", "no")
    assert told["class:3: and below the vector's"] == ("100.0 ± 0.0 against 98.0 ± 0.0: higher", "no")
    assert told["class:3: RA of noise as with the vector removed, to 2 points (%)"][1] == "yes"
    assert "moves RA" not in said("wrong_way", edit=rows_of("controls", lambda r: r["control"].startswith("noise"), acc_retain=1.0))
    assert not any("box" in k for k in scored("wrong_way", good))


def test_the_vector_removed_is_compared_run_by_run_and_clamping_by_its_gap(noise, good):
    assert scored("controls", noise)["vector removed: UA is the original's"] == ("0 of 6 runs", "no")
    assert scored("controls", good)["vector removed: UA is the original's"] == ("6 of 6 runs", "yes")
    one = rows_of("controls", lambda r: r["control"] == "vector removed", RANDOM, 1, acc_forget=plus(-0.01))
    assert scored("controls", edit=one)["vector removed: UA is the original's"] == ("5 of 6 runs", "no")
    # clamped pixels: a quarter of 15 + 1 + 2 + 15 points; then of 2 alone
    assert scored("controls", good)["class:3: clamped, a larger Avg.Gap"] == (
        "8.3 ± 0.0 against 2.3 ± 0.0: higher (UA 85.0 ± 0.0 against 98.0 ± 0.0: lower)", "yes")
    near = rows_of("controls", lambda r: r["control"].startswith("pixels"), CLASS, acc_forget=0.0, acc_retain=0.97, mia_confidence=1.0)
    assert scored("controls", edit=near)["class:3: clamped, a larger Avg.Gap"][1] == "no"
    assert "class:3: pixels beyond black and white are not needed." in said("controls", edit=near)


def test_an_attack_fitted_to_clean_images(noise, good):
    found, told = scored("clean", noise), said("clean", noise)
    for s in BOTH:
        assert found[f"{s}: fitted to clean images, a higher MIA-Efficacy (%)"][0] == versus(
            control(noise, s, "attack fitted to clean images", ATTACK), control(noise, s, "as in the paper", ATTACK))
        assert f"{s} {pct(control(noise, s, 'on the forget set alone', 'auc_confidence'), 2, 1)}" in told
    assert scored("clean", good)["on the forget set alone: RA is the original's"] == ("6 of 6 runs", "yes")
    assert scored("clean", good)["random:0.1: fitted to clean images, a higher MIA-Efficacy (%)"][1] == "yes"
    lost = rows_of("controls", lambda r: r["control"] == "on the forget set alone", CLASS, 0, acc_retain=plus(-0.1))
    assert scored("clean", edit=lost)["on the forget set alone: RA is the original's"] == ("5 of 6 runs", "no")
    full = rows_of("controls", lambda r: r["control"] in ("as in the paper", "attack fitted to clean images"), CLASS, mia_confidence=1.0)
    assert "class:3: both are at 100 %: there is no room above." in said("clean", edit=full)
    assert "class:3: to the attack it is not strange." in said("clean", good)


def test_random_samples_are_told_apart_only_where_more_forgotten_ones_break_than_others(noise):
    gained = (1 - values(noise, MINE, "acc_forget", [RANDOM])) - (1 - values(noise, "original", "acc_forget", [RANDOM]))
    paid = values(noise, "original", "acc_retain", [RANDOM]) - values(noise, MINE, "acc_retain", [RANDOM])
    assert scored("random", noise)["or UA gained no more than RA lost"][0] == (
        f"{pct(gained - paid)} points: {comparison(interval(gained - paid))}")
    ua = [1 - control(noise, RANDOM, n, "acc_forget") for n in ("as in the paper", "noise of the same norm")]
    assert scored("random", noise)["UA no higher than with noise of the same norm (%)"][0] == versus(*ua)
    for kept, verdict, word in ((0.99, "no", "**yes**"), (0.5, "yes", "**no**")):
        change = on([RANDOM], MINE, acc_retain=kept)
        assert scored("random", edit=change)["or UA gained no more than RA lost"][1] == verdict
        assert f" points: {word}" in said("random", edit=change)
        assert ("does hit them more than the others" in said("random", edit=change)) == (verdict == "no")

    def disagree(spec, metrics, rows):
        if (spec.scenario, spec.method, spec.study) == (RANDOM, MINE, "unlearn"):
            metrics["acc_retain"] = (0.99, 0.80, 0.85)[spec.seed]
    told = said("random", edit=disagree)
    assert "**inconclusive**, more seeds are needed" in told and "or UA gained no more than RA lost | 4.0 ± 24.5" in told


def test_the_stops_of_beta_say_where_random_samples_are_told_apart():
    """Gained against lost: 5 and 1, 16 and 6, 50 and 40 points."""
    assert "; yes at β = 1 (4.0 ± 0.0) and 5 (10.0 ± 0.0) and 10 (10.0 ± 0.0)." in said("random", World())
    told = said("random", edit=every(at("beta", 5, RANDOM, acc_retain=0.80), at("beta", 10, RANDOM, acc_retain=0.50)))
    assert "; yes at β = 1 (4.0 ± 0.0)." in told
    found = scored("beta", edit=at("beta", 5, RANDOM, acc_retain=0.80))
    assert found["random:0.1: UA gained no more than RA lost at β = 5"] == ("-4.0 ± 0.0 points: lower", "yes")
    assert found["random:0.1: UA gained no more than RA lost at β = 10"] == ("10.0 ± 0.0 points: higher", "no")


def test_noise_that_costs_more_is_said_only_where_its_ua_is_no_other():
    def like(spec, metrics, rows):
        for r in rows:
            if spec.study == "controls" and spec.scenario == RANDOM and r["control"].startswith("noise"):
                r["acc_forget"] = 0.84 + 0.01 * (spec.seed - 1)
    assert "but noise costs 1.0 ± 0.0 points more of RA." in said("random", edit=like)
    assert "but noise costs" not in said("random", World())


# --- tables

def test_methods_name_the_nearest_and_the_farthest_of_the_baselines(noise):
    found, told = scored("methods", noise), said("methods", noise)
    for name, shown, scenarios in (("one class", "one class (mean of 3, 7)", SHARED), ("random samples", "random samples", (RANDOM,))):
        ranked = sorted((m for m in BASELINES if m in there(noise, scenarios[0])), key=lambda m, s=scenarios: mean_gap(noise, m, s).mean())
        median = interval(np.mean([gaps(noise, MINE, s) - np.median([gaps(noise, m, s) for m in there(noise, s)], axis=0)
                                   for s in scenarios], axis=0))
        near, far, own = ranked[0], ranked[-1], {m: pct(mean_gap(noise, m, scenarios)) for m in (MINE, *ranked)}
        assert (f"Avg.Gap, {shown}: vector {own[MINE]}, nearest {label(near)} {own[near]}, farthest {label(far)} {own[far]}; against the "
                f"baselines' median **{comparison(median)}** ({median.text()} points).") in told
        if name == "one class":
            gap = {k: interval(values(noise, MINE, k, scenarios) - values(noise, "retrain", k, scenarios))
                   for k in ("acc_forget", "acc_test")}
            assert found["one class: its TA below retraining's"][0] == f"{gap['acc_test'].text()} points: {comparison(gap['acc_test'])}"
            assert found["one class: the vector's, too"][0].split()[0] == f"{-100 * gap['acc_forget'].mean:.1f}"
    assert scored("methods", World())["one class: the vector's, too"] == ("-2.0 ± 0.0 points", "yes")
    far = scored("methods", edit=on(SHARED, MINE, acc_forget=0.06, acc_test=plus(0.05)))
    assert far["one class: the vector's, too"][1] == far["one class: its TA below retraining's"][1] == "no"


def test_a_baseline_that_works_on_one_class_alone_is_named(good):
    """More than 20 points of UA apart."""
    assert "much better" not in said("methods", good)
    for apart, named in ((0.19, False), (0.21, True)):
        found = said("methods", edit=every(end("ssd", CLASS, acc_forget=0.02), end("ssd", "class:7", acc_forget=0.02 + apart)))
        assert ("UA more than 20 points apart between classes: SSD." in found) == named


def test_one_class_is_as_expected_if_all_but_three_baselines_are_close_and_a_miss_is_counted_class_by_class():
    """SSD, Class-F and gradient ascent are; then one method more at a time. Of two baselines it takes one."""
    more, name = ("finetune", "l1_sparse", "random_labels", "salun"), "one class: UA of all but 3 baselines within 5 points of retraining's"
    for n, word in ((3, "no"), (4, "yes")):
        edit = every(*(on(SHARED, m, acc_forget=0.04) for m in ("gradient_ascent", *more[:n])))
        assert scored("methods", edit=edit)[name] == (f"{3 + n} of 10", word)
        assert ("Settings were tuned on class:3 alone: 6 of 10 are that close on class:3, 6 of 10 are that close on class:7."
                in said("methods", edit=edit)) == (word == "no")
    told = said("methods", edit=every(end("gradient_ascent", CLASS, acc_forget=0.04), end("gradient_ascent", "class:7", acc_forget=0.2)))
    assert "alone: 3 of 10 are that close on class:3, 2 of 10 are that close on class:7." in told
    for far, word, close in ((0.02, "yes", 1), (0.06, "no", 0)):
        found = scored("methods", World(edit=on(SHARED, "ssd", acc_forget=far), without=set(BASELINES) - {"finetune", "ssd"}))
        assert found[name] == (f"{close} of 2", word)


def test_random_samples_are_as_expected_if_fewer_than_half_of_the_baselines_are_nearer_to_retrained():
    """Random labels, NegGrad+ and SSD are; then l1-sparse, then fine-tuning, of nine; or without influence, of eight."""
    start = every(end("salun", RANDOM, acc_forget=0.91), end("ssd", RANDOM, acc_forget=0.61))
    for n, word, without in ((1, "yes", ()), (2, "no", ()), (0, "yes", ("influence",)), (1, "no", ("influence",))):
        world = World(edit=every(start, *[end(m, RANDOM, acc_forget=0.85) for m in ("l1_sparse", "finetune")[:n]]), without=without)
        total = 9 - len(without)
        assert scored("methods", world)["random samples: most baselines nearer in UA to the original"] == (
            f"{total - 3 - n} of {total}", word)
        assert ("On random samples, nearer to retraining are " in said("methods", world)) == (word == "no")


def test_what_never_saw_random_samples_reads_them_like_test_images(noise, good):
    name = "random samples, retrained: UA about 100 − TA (%)"
    ua, lost = (1 - values(noise, "retrain", k, [RANDOM]) for k in ("acc_forget", "acc_test"))
    assert scored("paper", noise)[name][0] == versus(ua, lost)
    assert scored("paper", good)[name] == ("20.0 ± 0.0 against 17.0 ± 2.5: higher", "no")
    assert "every seed has the same test images" in said("paper", good)

    def same(spec, metrics, rows):
        if (spec.scenario, spec.method) == (RANDOM, "retrain") and spec.study == "unlearn":
            metrics["acc_forget"] = metrics["acc_test"] + 0.01 * (spec.seed - 1)
    assert scored("paper", edit=same)[name][1] == "yes" and "every seed has" not in said("paper", edit=same)
    assert scored("paper", good)["a class, retrained: UA and MIA-Efficacy of 100 %"] == ("100.0 ± 0.0 and 100.0 ± 0.0", "yes")
    assert scored("paper", edit=end("retrain", CLASS, mia_confidence=0.9))["a class, retrained: UA and MIA-Efficacy of 100 %"][1] == "no"
    for kept, idle in ((0.995, True), (0.985, False)):
        told = said("paper", edit=end("influence", RANDOM, acc_forget=kept))
        assert ("Random samples, UA of at most 1 %, as before: influence." in told) == idle
    alone = World(scenarios={CLASS: "digits"}, compared=[CLASS])
    assert list(scored("paper", alone)) == ["a class, retrained: UA and MIA-Efficacy of 100 %"]


def test_classes_are_counted_against_retraining_and_those_that_miss_are_named(noise, good):
    own = {s: {k: values(noise, MINE, k, [s]).mean() - values(noise, "retrain", k, [s]).mean() for k in ("acc_retain", "acc_test")}
           for s in SINGLE}
    far = {s.split(":")[1]: 100 * gaps(noise, MINE, s).mean() for s in SINGLE}
    best, worst = min(far, key=far.get), max(far, key=far.get)
    found = scored("classes", noise)
    for name, key in (("RA", "acc_retain"), ("TA", "acc_test")):
        sure = [comparison(interval(values(noise, MINE, key, [s]) - values(noise, "retrain", key, [s]))) for s in SINGLE].count("lower")
        assert found[f"mean {name} below retraining's in every class (means only)"][0] == (
            f"{sum(v[key] < 0 for v in own.values())} of 3 classes; with an interval below 0: {sure}")
    assert f"Avg.Gap from {far[best]:.1f} (class {best}) to {far[worst]:.1f} (class {worst})." in said("classes", noise)
    norms = {s: values(noise, MINE, "norm", [s]) for s in SINGLE}
    most = max(norms, key=lambda s: np.ptp(norms[s]))
    assert f"Norms differ most between the seeds of {most}: {', '.join(f'{v:.1f}' for v in norms[most])}." in said("classes", noise)
    assert {v for _, v in scored("classes", good).values()} == {"yes"}
    edit = every(end(MINE, CLASS, acc_retain=0.98), on(("class:7", "class:8"), MINE, acc_test=plus(0.04)))
    assert list(scored("classes", edit=edit).values()) == [("2 of 3 classes; with an interval below 0: 2", "no"),
                                                           ("1 of 3 classes; with an interval below 0: 1", "no")]
    assert "interval below" not in said("classes", World(seeds=1))
    assert "Not below it in RA: class 3 (+1.0) points. Not below it in TA: class 7 (+1.0), 8 (+1.0) points." in said("classes", edit=edit)


def test_two_classes_and_the_pattern_of_another_preset(noise, good):
    gap = interval(gaps(noise, MIXED, UNION) - gaps(noise, MINE, UNION))
    (found,) = scored("union", noise).values()
    assert found[0] == f"{gap.text()} points: {comparison(gap)}"
    assert scored("union", edit=on([UNION], MIXED, acc_forget=0.5))["Avg.Gap of the mix within 3 points of the own vector's"][1] == "no"
    assert said("union", World(scenarios={CLASS: "digits"}, compared=[CLASS])).startswith("*Not available:*")
    assert [v for _, v in scored("pattern", good).values()] == ["yes"] * 4
    edit = every(end(MINE, CLASS, acc_forget=0.11), on(SHARED, MINE, acc_retain=0.98, acc_test=plus(0.1)))
    assert list(scored("pattern", edit=edit).values()) == [("2 of 3", "no"), ("1 of 3 classes", "no"), ("1 of 3 classes", "no"),
                                                           ("6 of 6 runs", "yes")]


def test_costs_the_ruler_and_the_audit(noise, good):
    found, told = scored("cost", noise), said("cost", noise)
    for name, scenarios in (("one class", SHARED), ("random samples", (RANDOM,))):
        mine, share = values(noise, MINE, "epochs", scenarios), values(noise, MINE, "epochs", scenarios) / values(
            noise, "retrain", "epochs", scenarios)
        most = max(there(noise, scenarios[0]), key=lambda m, s=scenarios: values(noise, m, "epochs", s).mean())
        rival = values(noise, most, "epochs", scenarios)
        assert found[f"{name}: the dearest approximate method but the mix"][0] == (
            f"{pct(mine, 1, 1)} against {pct(rival, 1, 1)} ({label(most)}): {comparison(interval(mine - rival))}")
        assert f"{name}: {pct(share, 0)} % of our retraining, with 0.14 % of its trainables." in told
    assert scored("cost", edit=on(SHARED, "scrub", epochs=16))["one class: the dearest approximate method but the mix"] == (
        "15.0 ± 0.0 against 16.0 ± 0.0 (SCRUB): lower", "no")
    whole = sum(values(noise, MIXED, k, [RANDOM]) for k in ("epochs", "epochs_vectors")) / values(noise, "retrain", "epochs", [RANDOM])
    assert f"random samples: the mix with its class vectors costs {pct(whole, 1, 1)} times a retraining." in told
    assert "one class: the mix" not in told and "the mix with" not in said("cost", World(without=(MIXED,)))
    loss = interval(values(noise, MINE, "loss_forget", [CLASS]) - values(noise, "retrain", "loss_forget", [CLASS]))
    assert scored("ruler", noise)["mean loss on forget images below retraining's"][0] == f"{loss.text(1, 1)}: {comparison(loss)}"
    for edit, kept, less in ((end(MINE, CLASS, loss_forget=3.0), "yes", "yes"),
                             (end(MINE, CLASS, loss_forget=5.0, acc_forget=0.06), "no", "no")):
        assert [v for _, v in scored("ruler", edit=edit).values()] == [kept, less]
    auc = {m: values(noise, m, "auc_confidence", [CLASS]) for m in ("original", MINE, "retrain")}
    near = interval(abs(auc[MINE] - 0.5) - abs(auc["original"] - 0.5))
    audit = scored("audit", noise)
    assert audit["its AUC is nearer 0.5 than the original's"][0] == (
        "original {}, vector {}, retrained {}; distance to 0.5: ".format(*(pct(v, 2, 1) for v in auc.values())) + comparison(near))
    below = end(MINE, CLASS, auc_confidence=0.1)                                # as far from 0.5 as 0.9: no nearer
    assert scored("audit", edit=below)["its AUC is nearer 0.5 than the original's"][1] == "no"
    assert scored("audit", good)["the vector changes 0 % of the weights"] == ("0.0 ± 0.0 %", "yes")
    assert scored("audit", edit=end(MINE, CLASS, 1, changed=0.01))["the vector changes 0 % of the weights"][1] == "no"
    assert said("audit", edit=end(MINE, js_forget=0.3)).endswith("networks: **higher**.")
