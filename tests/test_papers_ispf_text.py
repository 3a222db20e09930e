"""The sentences of ISPF on made-up sessions: every number against the records, none of which equals another."""

import re
import statistics

import numpy as np
import pytest
from datafree import (
    SINGLE,
    World,
    at_epoch,
    by_seed,
    curve,
    distance,
    epochs,
    every,
    less,
    like_cifar10,
    listed,
    metric,
    noisy,
    of,
    pct,
    ratio,
)

from unlearnlib.claims import comparison, interval
from unlearnlib.papers.ispf import predictions, readings, text
from unlearnlib.papers.ispf.figures import STRATEGIES
from unlearnlib.plots import label


@pytest.fixture(scope="module")
def world():
    return World(edit=noisy, full=True)


@pytest.fixture(scope="module")
def small():
    return World(values=like_cifar10(), edit=noisy, full=True)


def read(world, name):
    return repr(text.reading(world, name))


def at(world, key, epoch=10):
    return lambda m: pct(at_epoch(world, m, key, epoch))


# --- sentences

def status(values, low=1e-9, high=1.0):
    """The verdict on an interval that should lie in [low, high]."""
    i = interval(values)
    if low <= i.mean - i.half and i.mean + i.half <= high:
        return "holds"
    return "does not hold" if i.mean + i.half < low or i.mean - i.half > high else "inconclusive"


def trace(world):
    """What is said of BlockF's trace, from the records."""
    def student(m):
        return [next(r["student"] for r in x.rows if r["row"] == "class" and r["class"] == 7) for x in of(world, m)]
    says = comparison(interval(np.subtract(student("blockf"), student("gkt_dfq"))))
    loss = comparison(less(world, "loss_forget", "blockf", "gkt_dfq"))
    lost = [pct(metric(world, m, "loss_forget"), 1, 1) for m in ("blockf", "gkt_dfq", "retrain")]
    assert loss == "lower"
    return (f"By a softer measure **a trace comes through**: BlockF's student against GKT's: loss on forgotten images {loss} ({lost[0]} "
            f"and {lost[1]}; retrained {lost[2]}). Its probability of the class, on other images (each student's on those that it was "
            "shown): "
            f"{says} ({pct(student('blockf'), 2)} and {pct(student('gkt_dfq'), 2)} %).")


def test_the_wrong_way_quotes_the_last_epoch_and_the_highest(world):
    def lost(run):
        return statistics.mean(1 - r["predicted_forget"] - r["kept"] for r in run.rows if r["row"] == "epoch" and r["epoch"] > 5)
    peak = curve("acc_test_forget", of_all=max)
    over = np.subtract(by_seed(world, peak, "blockf"), by_seed(world, lambda r: r.metrics["acc_test_forget"], "retrain"))
    leak, drops = status(over, 0.05), status(by_seed(world, lost, "gkt_dfq"))
    assert read(world, "wrong_way") == (
        f"*We measured:* GKT drops more than the class: **{drops}** (kept in the last epoch: "
        f"{listed(['blockf', 'gkt_dfq'], at(world, 'kept'))} %). BlockF lets the class through, by at least 5 points of A_f: **{leak}** "
        f"(at its highest epoch {pct(map(peak, of(world, 'blockf')))} %; in the last "
        f"epoch {listed(['gkt_dfq', 'dfkd'], at(world, 'acc_test_forget'))} %). {trace(world)}") and drops == leak == "holds"


def soonest(world, method):
    out = []
    for run, base in zip(of(world, method), of(world, "retrain"), strict=True):
        reached = [r["epoch"] for r in run.rows if r["row"] == "epoch" and r["acc_test_retain"] >= 0.75 * base.metrics["acc_test_retain"]]
        out.append(min(reached, default=11))
    return out


def test_accuracy_is_compared_with_gkt_and_with_retraining(world):
    ran = [*STRATEGIES, "dfkd"]
    of_all = listed(["pf", "ispf"], lambda m: comparison(less(world, "acc_test_retain", m, "gkt_dfq")))
    ours, theirs = (pct(metric(world, m, "acc_test_retain")) for m in ("ispf", "retrain"))
    lower = sum(comparison(less(world, "acc_test_retain", m, "retrain")) == "lower" for m in ran)
    highest = {m: max(max(at_epoch(world, m, "acc_test_forget", e)) for e in range(1, 11)) for m in ran}
    left = ", ".join(f"{label(m)} (in one seed up to {100 * v:.1f} %{', below the margin of 5 points' if v < 0.05 else ''})"
                     for m, v in highest.items() if v)
    assert left.count("below the margin") == 2                                  # PostFilter and ISPF, not BlockF and the control
    assert {m for m, v in highest.items() if not v} == {"gkt_dfq", "is_gkt"}
    assert read(world, "accuracy") == (
        f"*We measured:* A_r of strategies that use every image, against GKT: **{of_all}**; of ISPF against retrained: "
        f"**{comparison(less(world, 'acc_test_retain', 'ispf', 'retrain'))}** ({ours} and {theirs} %), and lower for {lower} of 6 in all. "
        f"A_f, at 0 in every epoch and seed: GKT, GKT + IS; not: {left}. That every filter keeps it at exactly 0: **does not "
        "hold**.")


def test_progress_has_the_references_and_every_strategy_in_its_last_epoch(world):
    assert soonest(world, "blockf")[1] == 11 > max(soonest(world, "ispf"))      # never, and sooner
    goal, wanted = "seeds that reach 75 % of retrained's A_r", []
    for m in ("original", "retrain"):
        wanted.append({"model": label(m), "A_r (%)": pct(metric(world, m, "acc_test_retain")), "minus GKT (points)": "–", goal: "–",
                       "A_f (%)": pct(metric(world, m, "acc_test_forget")), "rows kept, last epoch (%)": "–",
                       "drawn as the class (%)": "–", "n": 3})
    for m in (*STRATEGIES, "dfkd"):
        gap, there = less(world, "acc_test_retain", m, "gkt_dfq"), [e for e in soonest(world, m) if e < 11]
        wanted.append({"model": label(m), "A_r (%)": at(world, "acc_test_retain")(m),
                       "minus GKT (points)": "–" if m == "gkt_dfq" else f"{gap.text()}: {comparison(gap)}",
                       goal: f"{len(there)} of 3, median epoch {statistics.median(there):g}", "A_f (%)": at(world, "acc_test_forget")(m),
                       "rows kept, last epoch (%)": at(world, "kept")(m),
                       "drawn as the class (%)": at(world, "predicted_forget")(m), "n": 3})
    assert text.progress(world).frame.to_dict("records") == wanted and wanted[2][goal].startswith("2 of 3")


def test_who_never_reaches_the_goal_has_no_median():
    found = text.progress(World(edit=epochs("gkt_dfq", acc_test_retain=0.1))).frame.set_index("model")
    assert found.loc["GKT", "seeds that reach 75 % of retrained's A_r"] == "0 of 3"


def test_filtering_quotes_first_and_last_epoch(world):
    verdicts, kept = [], [by_seed(world, curve("kept"), m) for m in ("is_gkt", "gkt_dfq")]
    for key in ("predicted_forget", "teacher_forget"):
        for mine, other in (("is_gkt", "gkt_dfq"), ("ispf", "pf")):
            verdicts.append(status(np.subtract(*(by_seed(world, curve(key), m) for m in (mine, other))), -1, -1e-9))
            for e in range(1, 11):
                a, b = (sum(sum(at_epoch(world, m, key, e, s)) for s in SINGLE) for m in (mine, other))
                assert a < b
    ends = [by_seed(world, lambda r, e=e: next(x["predicted_forget"] for x in r.rows if x.get("epoch") == e and x["row"] == "epoch"),
                    "gkt_dfq") for e in (10, 1)]
    assert set(verdicts) == {status(np.subtract(*ends))} == {"holds"}
    rise = {m: interval(np.subtract(*(at_epoch(world, m, "predicted_forget", e) for e in (10, 1))))
            for m in ("blockf", "pf", "ispf", "dfkd")}
    over = {m: np.subtract(*(at_epoch(world, m, "predicted_forget", e) for e in (10, 1))) for m in ("gkt_dfq", "dfkd")}
    more, share = interval(over["gkt_dfq"] - over["dfkd"]), at(world, "predicted_forget")
    assert read(world, "filtering") == (
        "*We measured:* IS lowers the share of the class: **holds** (claim 2, over all classes; this class alone: GKT + IS below GKT in 10 "
        "of 10 epochs, ISPF below PostFilter in 10 of 10 epochs); it grows under GKT: **holds** (from GKT "
        f"{at(world, 'predicted_forget', 1)('gkt_dfq')} to GKT {share('gkt_dfq')} %; last epoch: {listed(['is_gkt', 'pf', 'ispf'], share)} "
        f"%); IS lets more through the gate: **{status(np.subtract(*kept))}**. Without GKT's gate, last minus first epoch: "
        f"{', '.join(f'{label(m)} **{comparison(g)}** ({g.text()} points)' for m, g in rise.items())}: the rise needs no gate ("
        f"{', '.join(label(m) for m, g in rise.items() if comparison(g) == 'higher')}). GKT's rise minus the control's: {more.text()} "
        f"points (**{comparison(more)}**), {readings.HABIT[comparison(more)]}.")


def test_filtering_counts_the_epochs_of_its_own_class():
    said = read(World(edit=epochs("is_gkt", "class:7", at=[1, 2], predicted_forget=0.13)), "filtering")
    assert "this class alone: GKT + IS below GKT in 8 of 10 epochs, ISPF below PostFilter in 10 of 10 epochs)" in said
    assert "IS lowers the share of the class: **holds** (claim 2, over" in said


def test_a_rise_that_is_not_shown_without_the_gate_is_not_claimed():
    flat = every(*(epochs(m, predicted_forget=0.1) for m in ("blockf", "pf", "ispf", "dfkd")))
    assert ": a rise without the gate is not shown. GKT's rise" in read(World(edit=flat), "filtering")


def test_scenarios_are_compared_one_by_one_and_several_classes_with_one(world):
    parts, names = [], ("class:7", "class:3", "class:3+7")
    gaps = {s: np.subtract(*(metric(world, m, "acc_test_retain", s) for m in ("ispf", "gkt_dfq"))) for s in names}
    beyond = {s: 1 - np.add(*(at_epoch(world, "gkt_dfq", k, 10, s) for k in ("kept", "predicted_forget"))) for s in names}
    for scenario in names:
        gap, kept = interval(gaps[scenario]), pct(at_epoch(world, "gkt_dfq", "kept", 10, scenario))
        parts.append(f"{scenario}: GKT keeps {kept} % of the rows and drops {pct(beyond[scenario])} % beyond the "
                     f"class{'es' * (scenario == 'class:3+7')}, A_r of ISPF against GKT **{comparison(gap)}** ({gap.text()} points)")
    more, wider = (interval(v["class:3+7"] - (v["class:7"] + v["class:3"]) / 2) for v in (beyond, gaps))
    assert read(world, "scenarios") == (
        f"*We measured:* {'; '.join(parts)}. Several classes against one: rows dropped beyond the class or classes "
        f"**{comparison(more)}** ({more.text()} points), gap between ISPF and GKT **{comparison(wider, 'larger', 'smaller')}** "
        f"({wider.text()} points).")


def test_attacks_are_compared_with_the_retrained_model(world):
    parts = []
    for key, name in (("mia_confidence", "called non-members by the confidence attack"), ("mia_entropy", "members by the entropy attack")):
        ours, theirs = (pct(metric(world, m, key)) for m in ("ispf", "retrain"))
        parts.append(f"{name}: ISPF {ours} %, retrained {theirs} % (**{comparison(less(world, key, 'ispf', 'retrain'))}**)")
    assert read(world, "attacked") == f"*We measured:* forgotten images {'; '.join(parts)}."


def test_the_audit_quotes_distance_memory_and_attack(world):
    memory, gaps, other = less(world, "acc_retain", "ispf", "retrain"), *(distance(world, m)[0] for m in ("ispf", "gkt_dfq"))
    apart = interval(np.subtract(gaps, other))
    part = np.abs(np.subtract(*(metric(world, m, "acc_retain") for m in ("ispf", "retrain")))) / 4 / gaps
    auc = ", ".join(f"{label(m)} {pct(metric(world, m, 'auc_confidence'), 2, 1)}" for m in ("original", "dfkd", "ispf", "retrain"))
    assert read(world, "audit") == (
        f"*We measured:* Avg.Gap of ISPF {pct(gaps)} points, against GKT's **{comparison(apart, 'larger', 'smaller')}** ({apart.text()} "
        f"points); {pct(part, 0)} % of it is the accuracy on kept *training* images, against retrained **{comparison(memory)}** "
        f"({memory.text()} points). AUC: {auc}.")


def test_cost_is_a_share_of_retraining_seed_by_seed(world):
    gap = less(world, "acc_test_retain", "ispf", "retrain")
    assert read(world, "cost") == (
        f"*We measured:* ISPF costs {pct(ratio(world, 'epochs'), 0)} % of our retraining in training-epoch equivalents (cheaper than "
        f"retraining: **does not hold**), {pct(ratio(world, 'seconds'), 0)} % in seconds; its A_r against retraining: "
        f"{comparison(gap)} ({gap.text()} points).")


@pytest.mark.parametrize("focus, gone, methods", [("class:7", (7,), STRATEGIES), ("class:3", (3,), STRATEGIES),
                                                  ("class:3+7", (3, 7), ["gkt_dfq", "ispf"])])
def test_classes_are_the_forgotten_ones_seed_by_seed(focus, gone, methods):
    world = World(edit=noisy, full=True, focus=focus)

    def one(m):
        of_seed = [[r for r in x.rows if r["row"] == "class" and r["class"] in gone] for x in of(world, m, focus)]
        return " / ".join(pct((statistics.mean(r[who] for r in rows) for rows in of_seed), 2) for who in ("teacher", "student"))
    who = ", ".join(map(label, methods))
    assert len(of(world, "ispf", focus)) == 3
    assert len(of(world, "ispf", focus)) == 3
    assert read(world, "classes") == (f"*We measured:* student's mean below 1 %: **nobody**; above: **{who}**: a trace of the class comes "
                                      f"through. Teacher / student, last epoch (%): {listed(methods, one)}.")


def test_the_embedding_counts_what_is_taken_for_the_class(world, small):
    def shares(world, m):
        points = [r for r in of(world, m)[0].rows if r["row"] == "point"]
        return [statistics.mean(r["predicted"] == 7 for r in points if r["epoch"] == e) for e in sorted({r["epoch"] for r in points})]
    for session, methods in ((world, ("gkt_dfq", "is_gkt", "ispf")), (small, ("gkt_dfq", "ispf"))):
        red = {m: shares(session, m) for m in methods}
        wanted = "; ".join(f"{label(m)} {', '.join(f'{100 * v:.0f}' for v in red[m])}" for m in methods)
        fewer = []
        for m in methods[1:]:
            later, first = int(np.less(red[m], red["gkt_dfq"])[1:].sum()), red["gkt_dfq"][0] - red[m][0]
            fewer.append(f"{label(m)}, fewer than GKT: later columns **{later} of 2** (**{'holds' if later == 2 else 'does not hold'}**); "
                         f"first column: {'fewer' if first > 0 else 'more' if first < 0 else 'as many'}.")
        assert read(session, "embedding") == f"*We measured:* red, by column (%): {wanted} (n = 1). {' '.join(fewer)}"


def test_the_threshold_is_that_of_the_same_seeds(world):
    runs = {0.001: [r.metrics for r in of(world, "gkt_dfq", study="threshold") if r.spec.hyper_parameters["threshold"] == 0.001],
            0.01: [r.metrics for r in of(world, "gkt_dfq")[:2]], 1: [r.metrics for r in of(world, "dfkd")[:2]]}

    def one(key, t):
        word = comparison(interval([a[key] - b[key] for a, b in zip(runs[t], runs[0.01], strict=True)]))
        return word, " and ".join(pct((m[key] for m in runs[k]), 0) for k in (t, 0.01))
    (kept, both), (a_r, of_a_r), off = one("kept", 0.001), one("acc_test_retain", 0.001), one("acc_test_retain", 1)[0]
    assert off == "no difference shown"
    assert read(world, "threshold") == (
        f"*We measured:* at 0.001 against 0.01: rows kept **{kept}** ({both} %), A_r **{a_r}** ({of_a_r} %). Off, against 0.01: A_f "
        f"**{one('acc_test_forget', 1)[0]}**, A_r **{off}**: no cost of the gate is shown.")


def test_longer_runs_quote_their_last_and_highest_epoch(world):
    parts = []
    for method, last in (("gkt_dfq", 30), ("gkt", 10)):
        rows = [r for r in of(world, method, study="longer")[0].rows if r["row"] == "epoch"]
        assert rows[-1]["epoch"] == last
        parts.append(f"{label(method)}: A_r {100 * rows[-1]['acc_test_retain']:.1f} %, A_f at most "
                     f"{100 * max(r['acc_test_forget'] for r in rows):.1f} %, rows kept **fall** ({100 * rows[0]['kept']:.1f} to "
                     f"{100 * rows[-1]['kept']:.1f} %)")
        assert rows[-1]["kept"] < rows[0]["kept"]
    assert read(world, "longer") == (f"*We measured:* {'; '.join(parts)} (n = 1). The class **comes back** (steps of the generator: GKT "
                                     "160, GKT as published 40; in that log it stays away for the first 750).")


# --- what a session lacks

LACKING = {"wrong_way", "threshold", "longer", "relearn"}


@pytest.mark.parametrize("name", readings.READINGS)
def test_a_preset_of_two_methods_says_what_it_lacks(small, name):
    bare = World(values=like_cifar10() | {"extras": []}, full=True)
    for session, lacking in ((small, LACKING), (bare, LACKING | {"embedding", "forgotten", "pictures", "strip"})):
        said = read(session, name)
        assert said.startswith("*Not available:* preset made up " if name in lacking else "*We measured:* ") and said.endswith(".")
        assert "nan" not in said and "not available" not in said and (name == "ruler" or name in lacking or re.search(r"\d", said))


def test_a_preset_of_two_methods_has_its_tables_and_answers(small):
    found = text.measured(small)
    assert {k for k, v in found.items() if v.n} == {"dropped", "gain", "forgotten", "cost"} and {v.n for v in found.values()} == {0, 1}
    bands = {k: [0, 1] for k in predictions.QUANTITIES}
    assert len(text.predictions(small, bands).frame) == 4 and len(text.box(bands).frame) == 8
    said = repr(text.misses(small, bands))
    assert predictions.QUANTITIES["cost"][0] in said and predictions.QUANTITIES["leak"][0] not in said
    for table in (text.paper_table, text.audit_table, text.cost_table):
        frame = table(small).frame
        assert set(frame.method) == {"original", "retrained", "GKT", "ISPF"} and set(frame.n) == {1}
    a_r = [f"{100 * metric(small, m, 'acc_test_retain')[0]:.1f}" for m in ("original", "retrain", "gkt_dfq", "ispf")]
    assert re.findall(r"A_r ([\d.]+)", repr(text.one_glance(small))) == a_r and "n = 1" in repr(text.one_glance(small))
    said = repr(text.answer(small))
    assert "answers, not shown:" in said and "one seed: no interval" in said and "nan" not in said and "relearning" not in said
    assert set(text.progress(small).frame.model) == {"original", "retrained", "GKT", "ISPF"}


def test_curves_are_of_one_class_and_a_session_on_several_says_so():
    several = World(full=True, focus="class:3+7")
    assert read(several, "accuracy") == ("*Not available:* preset made up has curves of one forgotten class alone, not of class:3+7.")
    for name in ("accuracy", "filtering"):
        assert "of one forgotten class alone" in repr(several.figure(name))


def test_without_relearning_it_is_not_measured():
    def edit(spec, metrics, rows):
        metrics.pop("batches", None)
    assert text.measured(World(edit=every(noisy, edit)))["relearning"].n == 0
