"""The sentences of ISPF on made-up sessions: every number against the records, none of which equals another."""

import re
import statistics

import pytest
from datafree import World, at_epoch, distance, end, every, less, like_cifar10, listed, metric, noisy, of, pct, ratio

from unlearnlib.claims import comparison
from unlearnlib.papers.ispf import FIGURES, text
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

def test_the_wrong_way_quotes_the_last_epoch_and_the_highest(world):
    peak = [max(r["acc_test_forget"] for r in x.rows if r["row"] == "epoch") for x in of(world, "blockf")]
    assert read(world, "wrong_way") == (
        f"*We measured:* rows kept in the last epoch (%): {listed(['blockf', 'gkt_dfq'], at(world, 'kept'))}; A_f there (%): "
        f"{listed(['blockf', 'gkt_dfq', 'dfkd'], at(world, 'acc_test_forget'))}; BlockF at its highest epoch {pct(peak)} %.")


def soonest(world, method):
    out = []
    for run, base in zip(of(world, method), of(world, "retrain"), strict=True):
        reached = [r["epoch"] for r in run.rows if r["row"] == "epoch" and r["acc_test_retain"] >= 0.75 * base.metrics["acc_test_retain"]]
        out.append(min(reached, default=11))
    return out


def test_accuracy_is_compared_with_gkt_and_with_retraining(world):
    said = read(world, "accuracy")
    assert soonest(world, "blockf")[1] == 11 > max(soonest(world, "ispf"))      # never, and sooner
    gaps = "; ".join(f"{label(m)} {comparison(g)} ({g.text()})" for m, g in
                     ((m, less(world, "acc_test_retain", m, "gkt_dfq")) for m in ("is_gkt", "pf", "ispf")))
    assert said == (
        f"*We measured:* A_r in the last epoch (%): {listed(STRATEGIES, at(world, 'acc_test_retain'))}; retrained "
        f"{pct(metric(world, 'retrain', 'acc_test_retain'))}. Against GKT, in points: {gaps}. First epoch at 75 % of retrained's A_r (one "
        f"after the last: never): {listed(STRATEGIES, lambda m: pct(soonest(world, m), 1, 1))}. A_f in the last epoch (%): "
        f"{listed([*STRATEGIES, 'dfkd'], at(world, 'acc_test_forget'))}.")


def test_filtering_quotes_first_and_last_epoch(world):
    assert read(world, "filtering") == (
        f"*We measured:* images taken for the class, first epoch (%): {listed(STRATEGIES, at(world, 'predicted_forget', 1))}; last: "
        f"{listed(STRATEGIES, at(world, 'predicted_forget'))}; rows kept in the last epoch (%): {listed(STRATEGIES, at(world, 'kept'))}.")


def test_scenarios_are_compared_one_by_one(world):
    parts = []
    for scenario in ("class:7", "class:3", "class:3+7"):
        gap = less(world, "acc_test_retain", "ispf", "gkt_dfq", scenario)
        ours, theirs = (pct(metric(world, m, "acc_test_forget", scenario)) for m in ("ispf", "gkt_dfq"))
        parts.append(f"{scenario} {comparison(gap)} ({gap.text()} points; A_f of ISPF {ours} %, of GKT {theirs} %)")
    assert read(world, "scenarios") == f"*We measured:* A_r of ISPF against GKT: {'; '.join(parts)}."


def test_the_audit_quotes_attack_memory_and_distance(world):
    memory = less(world, "acc_retain", "ispf", "retrain")
    o, i, r = (pct(metric(world, m, "auc_confidence"), 2, 1) for m in ("original", "ispf", "retrain"))
    assert read(world, "audit") == (
        f"*We measured:* AUC of the attack: original {o}, ISPF {i}, retrained {r}. Accuracy on kept *training* images, ISPF minus "
        f"retrained: {comparison(memory)} ({memory.text()} points). Avg.Gap: {listed(STRATEGIES, lambda m: pct(distance(world, m)[0]))}.")


def test_cost_is_a_share_of_retraining_seed_by_seed(world):
    gap = less(world, "acc_test_retain", "ispf", "retrain")
    assert read(world, "cost") == (
        f"*We measured:* ISPF costs {pct(ratio(world, 'epochs'), 0)} % of our retraining in training-epoch equivalents, "
        f"{pct(ratio(world, 'seconds'), 0)} % in seconds; its A_r against retraining: {comparison(gap)} ({gap.text()} points).")


@pytest.mark.parametrize("focus, gone, methods", [("class:7", (7,), STRATEGIES), ("class:3", (3,), STRATEGIES),
                                                  ("class:3+7", (3, 7), ["gkt_dfq", "ispf"])])
def test_classes_are_the_forgotten_ones_seed_by_seed(focus, gone, methods):
    world = World(edit=noisy, full=True, focus=focus)

    def one(m):
        of_seed = [[r for r in x.rows if r["row"] == "class" and r["class"] in gone] for x in of(world, m, focus)]
        return " / ".join(pct((statistics.mean(r[who] for r in rows) for rows in of_seed), 2) for who in ("teacher", "student"))
    assert read(world, "classes").endswith(f"teacher / student (%): {listed(methods, one)}.") and len(of(world, "ispf", focus)) == 3


def test_the_embedding_counts_what_is_taken_for_the_class(world, small):
    def shares(world, m):
        points = [r for r in of(world, m)[0].rows if r["row"] == "point"]
        return " → ".join(f"{100 * statistics.mean(r['predicted'] == 7 for r in points if r['epoch'] == e):.0f}"
                          for e in sorted({r["epoch"] for r in points}))
    for session, times, methods in ((world, "1, 5, 10", ("gkt_dfq", "is_gkt", "ispf")), (small, "1, 20, 40", ("gkt_dfq", "ispf"))):
        wanted = "; ".join(f"{label(m)} {shares(session, m)}" for m in methods)
        assert read(session, "embedding") == f"*We measured:* red (taken for the class, %) at epochs {times}: {wanted}."


def test_an_embedding_without_red_is_all_zero():
    def edit(spec, metrics, rows):
        rows[:] = [r | {"predicted": 1} if r["row"] == "point" else r for r in rows]
    assert "GKT 0 → 0 → 0" in read(World(full=True, edit=edit), "embedding")


def test_the_threshold_is_that_of_the_same_seeds(world):
    runs = {t: [r.metrics for r in of(world, "gkt_dfq", study="threshold") if r.spec.hyper_parameters["threshold"] == t]
            for t in (0.001, 0.1)}
    runs |= {0.01: [r.metrics for r in of(world, "gkt_dfq")[:2]], 1: [r.metrics for r in of(world, "dfkd")[:2]]}
    parts = [f"{t:g}: kept {pct([m['kept'] for m in runs[t]], 0)} %, A_r {pct([m['acc_test_retain'] for m in runs[t]], 0)} %, A_f "
             f"{pct([m['acc_test_forget'] for m in runs[t]], 0)} %" for t in (0.001, 0.01, 0.1, 1)]
    assert read(world, "threshold") == f"*We measured:* threshold {'; '.join(parts)} (n = 2)."


def test_longer_runs_quote_their_last_and_highest_epoch(world):
    parts = []
    for method, last in (("gkt_dfq", 30), ("gkt", 10)):
        curve = [r for r in of(world, method, study="longer")[0].rows if r["row"] == "epoch"]
        assert curve[-1]["epoch"] == last
        parts.append(f"{label(method)}, run on: A_r {100 * curve[-1]['acc_test_retain']:.1f} %, A_f "
                     f"{100 * curve[-1]['acc_test_forget']:.1f} % (highest {100 * max(r['acc_test_forget'] for r in curve):.1f} %)")
    assert read(world, "longer") == f"*We measured:* {'; '.join(parts)} (n = 1)."


RULER = ("acc_test_forget", "loss_forget", "auc_confidence", "acc_test_retain")


@pytest.mark.parametrize("key", RULER)
@pytest.mark.parametrize("spreads, near", [(0.0, True), (0.99, True), (-0.99, True), (1.01, False), (-1.01, False)])
def test_the_ruler_names_who_is_within_the_spread_in_all_four(key, spreads, near):
    values = {k: (1.0, 2.0, 4.0) for k in RULER}

    def edit(spec, metrics, rows):
        if spec.method in ("retrain", "pf"):
            moved = spreads * statistics.stdev(values[key]) * (spec.method == "pf")
            metrics |= {k: v[spec.seed] + moved * (k == key) for k, v in values.items()}
    assert read(World(edit=edit), "ruler").endswith(f"the AUC and A_r: {'PostFilter' if near else 'nobody'}.")


def test_relearning_is_quoted_seed_by_seed(world):
    assert read(world, "relearn") == ("*We measured:* mini-batches until 95 % of the original's forget accuracy, seed by seed: ISPF 30, "
                                      "31, 32; GKT 20, 21, 22; control: no filter 5, 6, 7; retrained 40, 42, never.")


def test_readings_are_those_of_figures_or_tables():
    assert set(text.READINGS) - set(FIGURES) == {"audit"}
    assert set(FIGURES) - set(text.READINGS) == {"data", "pictures", "strip", "forgotten"}


def test_one_glance_and_answer_quote_the_records(world):
    def one(m):
        tail = f", kept {at(world, 'kept')(m)}, taken for the class {at(world, 'predicted_forget')(m)}" if m in STRATEGIES else ""
        return f"A_r {pct(metric(world, m, 'acc_test_retain'))}, A_f {pct(metric(world, m, 'acc_test_forget'))}{tail}"
    parts = "; ".join(f"{label(m)} {one(m)}" for m in ("original", "retrain", *STRATEGIES))
    assert repr(text.one_glance(world)) == f"*We measured* (n = 3, %): {parts}."
    gap, lost = less(world, "acc_test_retain", "ispf", "gkt_dfq"), less(world, "acc_test_retain", "retrain", "ispf")
    start, now, other = (pct(metric(world, m, "acc_test_forget")) for m in ("original", "ispf", "retrain"))
    assert repr(text.answer(world)) == (
        "*We measured* (preset made up, n = 3). **Forgotten:** accuracy on the class falls from "
        f"{start} to {now} % (retrained {other} %). **Kept:** A_r {pct(metric(world, 'ispf', 'acc_test_retain'))} %, "
        f"{lost.text()} points less than retraining with data; against GKT {comparison(gap)} ({gap.text()} points). **Price:** "
        f"{pct(ratio(world, 'epochs'), 0)} % of retraining's cost. So it buys independence of the data, not speed.")


@pytest.mark.parametrize("cost, words", [(17.9, "and it is cheaper."), (18.1, "not speed.")])
def test_the_answer_says_cheaper_only_below_retraining(cost, words):
    assert repr(text.answer(World(edit=end("ispf", epochs=cost)))).endswith(words)


# --- what a session lacks

LACKING = {"wrong_way", "threshold", "longer", "relearn"}


@pytest.mark.parametrize("name", text.READINGS)
def test_a_preset_of_two_methods_says_what_it_lacks(small, name):
    bare = World(values=like_cifar10() | {"extras": []}, full=True)
    for session, lacking in ((small, LACKING), (bare, LACKING | {"embedding"})):
        said = read(session, name)
        assert said.startswith("*Not available:* preset made up " if name in lacking else "*We measured:* ") and said.endswith(".")
        assert "nan" not in said and "not available" not in said and (name == "ruler" or name in lacking or re.search(r"\d", said))


def test_a_preset_of_two_methods_has_its_tables_and_answers(small):
    found = text.measured(small)
    assert {k for k, v in found.items() if v.n} == {"dropped", "gain", "forgotten", "cost"} and {v.n for v in found.values()} == {0, 1}
    bands = {k: [0, 1] for k in text.QUANTITIES}
    assert len(text.predictions(small, bands).frame) == 4 and len(text.box(bands).frame) == 8
    said = repr(text.misses(small, bands))
    assert text.QUANTITIES["cost"][0] in said and text.QUANTITIES["leak"][0] not in said
    for table in (text.paper_table, text.audit_table, text.cost_table):
        frame = table(small).frame
        assert set(frame.method) == {"original", "retrained", "GKT", "ISPF"} and set(frame.n) == {1}
    a_r = [f"{100 * metric(small, m, 'acc_test_retain')[0]:.1f}" for m in ("original", "retrain", "gkt_dfq", "ispf")]
    assert re.findall(r"A_r ([\d.]+)", repr(text.one_glance(small))) == a_r and "n = 1" in repr(text.one_glance(small))
    assert "not comparable" in repr(text.answer(small)) and "nan" not in repr(text.answer(small))


def test_without_relearning_it_is_not_measured():
    def edit(spec, metrics, rows):
        metrics.pop("batches", None)
    assert text.measured(World(edit=every(noisy, edit)))["relearning"].n == 0
