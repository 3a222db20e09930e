"""Tables, sentences and the prediction box of ∇τ, on made-up sessions and on the reference records."""

import itertools
import math
import re
import statistics
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from nabla import (
    FAST,
    FRACTIONS,
    JITTER,
    MINE,
    NAN,
    SMALL,
    WORDS,
    World,
    curve_of,
    images_and_texts,
    mean,
    metric,
    of,
    reference_session,
    small,
)

from unlearnlib import data, tables
from unlearnlib.claims import FAILS, HOLDS, OPEN, UNTESTED, comparison, interval, paired
from unlearnlib.papers import Session, domains
from unlearnlib.papers.nabla_tau import FIGURES, STUDIES, predictions, text
from unlearnlib.papers.nabla_tau.claims import fraction, largest, runs_of
from unlearnlib.papers.nabla_tau.readings import READINGS, reading, variant_shown
from unlearnlib.plots import label


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    yield from reference_session(tmp_path_factory)


@pytest.fixture(scope="module")
def less(lab):
    """A session without the detailed studies, but for the curves of the texts."""
    return Session("nabla_tau", "digits", studies=[], text=lab.settings["text"] | {"studies": ["curve"]})


# --- sentences on made-up sessions

def test_the_share_of_the_gap_that_is_closed():
    world = World(noise=0.01)
    found = predictions.closed(largest(runs_of(world)))
    wanted = [(0.80 - 0.555 - 0.01 * j) / (0.80 - 0.55) for j in JITTER[:3]]
    assert (found.mean, found.half) == (pytest.approx(interval(wanted).mean), pytest.approx(interval(wanted).half)) and found.n == 3
    assert predictions.closed(largest(runs_of(World(without=("retrain",))))).n == 0


def test_the_measured_quantities_by_hand(monkeypatch):
    world = World()
    monkeypatch.setattr(predictions, "_relearning", lambda session: [0.5, 0.7, 0.9])
    found = {k: v.mean for k, v in predictions.measured(world).items()}
    assert found == pytest.approx({"closed": 98, "settles": 75, "lost": 0.4, "fine-tuning": 20.5, "text": 100 * 33 / 35, "cost": 500 / 14,
                                   "relearning": 0.7})
    assert set(found) == set(predictions.QUANTITIES)


def test_what_a_preset_lacks_is_not_measured():
    found = predictions.measured(World(texts=(), without=("finetune",)))
    assert {k for k, v in found.items() if v.n == 0} == {"text", "fine-tuning", "relearning"}


def test_without_curves_the_other_quantities_are_still_measured():
    found = predictions.measured(World(lacks=("curve",)))
    assert found["settles"].n == 0 and found["closed"].n == 3


@pytest.mark.parametrize("mia_l, word", [(0.555, "yes"), (0.579, "yes"), (0.581, "no"), (0.521, "yes"), (0.50, "no")])
def test_the_answer_says_yes_only_within_three_points(mia_l, word):
    said = repr(text.answer(World(change={("random", "random:0.3", MINE): {"mia_l": mia_l}})))
    assert said.startswith("**Yes.** " if word == "yes" else "**Partly.** ")
    assert "(preset made up)" in said and f"**Images: 3 % yes, 15 % yes, 30 % {word}** (at 30 % " in said
    assert f"yes in {5 - (word == 'no')} of 5 cases, no in {int(word == 'no')}." in said
    assert "**Text: 15 % yes, 30 % yes** (at 30 % " in said
    way = rf"{100 * (0.80 - mia_l) / 0.25:.1f} ± 0.0 % of the way"
    assert re.search(rf"at 30 % {way}, test accuracy lost 0.[45] ± 0.0; by retraining 1.0 ± 0.0\)", said)
    assert "Text" not in repr(text.answer(World(texts=()))) and "over-forgets" not in said


def test_the_answer_names_over_forgetting_relearning_and_the_other_text_data():
    world = World(change={("text", "random:0.15", MINE): {"acc_forget": 0.7}})
    assert "; over-forgets at 15 %)." in repr(text.answer(world)) and "from the original" not in repr(text.answer(world))
    other = World(change={("text", None, MINE): {"mia_l": 0.93}})
    assert repr(text.answer(world, other)).endswith("scipy_docs, published settings: lower from the original.")
    assert repr(text.answer(world, World(texts=()))) == repr(text.answer(world))
    batches = {MINE: (0, 1, 2), "retrain": (7, 8, 9)}
    runs = pd.DataFrame([{"method": m, "seed": s, "batches": v, "scenario": "random:0.3", "data": "digits"}
                         for m, values in batches.items() for s, v in enumerate(values)])
    world.studies["relearn"], frame = runs, world.frame()
    world.frame = lambda study="unlearn": runs if study == "relearn" else frame
    assert "Relearned after 0 to 2 batches (retrained 7 to 9)." in repr(text.answer(world))


def test_claims_that_another_preset_misses_have_their_evidence():
    table = pd.DataFrame({"claim": [1, 2, 3], "verdict": [HOLDS, FAILS, OPEN], "evidence": ["fine", "9 points", "5 points"]})
    said = repr(text.unmet(SimpleNamespace(preset="large", verdicts=lambda: table)))
    assert said == "*We measured* (preset large): claim 2 **does not hold**: 9 points; claim 3 **inconclusive**: 5 points."
    assert "no claim is refuted" in repr(text.unmet(SimpleNamespace(preset="large", verdicts=lambda: table[:1])))


def test_the_answer_is_no_where_the_attack_falls_for_nothing():
    still = {(kind, None, MINE): {"mia_l": v} for kind, v in (("random", 0.80), ("text", 0.95))}
    assert repr(text.answer(World(change=still))).startswith("**No.** ")
    assert repr(text.answer(World(change={k: v for k, v in still.items() if k[0] == "text"}))).startswith("**Partly.** ")
    assert repr(text.answer(World(seeds=1))).startswith("**Not to be said from one seed.** ")


def test_the_answer_says_so_where_the_rate_of_the_text_was_tuned():
    world = World()
    assert "no evidence" not in repr(text.answer(world))
    world.settings["text"]["grids"] = {"nabla_tau": {"lr": [0.1, 0.2]}}
    assert repr(text.answer(world)).endswith('Text\'s rate was tuned: no evidence for "no tuning".')


def test_the_answer_is_inconclusive_where_seeds_contradict_one_another_and_says_so_of_one_seed():
    assert "Images: 3 % inconclusive, 15 % inconclusive, 30 % inconclusive**" in repr(text.answer(World(noise=0.2)))
    assert "Images: 3 % one seed, 15 % one seed, 30 % one seed**" in repr(text.answer(World(seeds=1)))


def test_the_expectation_is_scored_fraction_by_fraction():
    change = {("random", "random:0.15", MINE): {"mia_l": 0.59, "acc_forget": 0.95}}
    said = repr(text.expected(World(change=change)))
    assert ("3 % **yes** (MIA_L 0.5 ± 0.0 points above, the original's 25.0 ± 0.0 points above; forget accuracy 0.0 ± 0.0 points below); "
            "15 % **no** (MIA_L 4.0 ± 0.0 points above") in said
    assert "forget accuracy 5.0 ± 0.0 points above); 30 % **yes**" in said and "one seed" in repr(text.expected(World(seeds=1)))
    assert tables.MISSING in repr(text.expected(World(texts=()), text=True))
    same = "**no difference shown** (0.0 ± 0.0)"
    assert f"MIA_L of SSD against the original: 3 % {same}, 15 % {same}, 30 % {same}." in said and "cannot be decided" not in said
    moved = repr(text.expected(World(change={("random", "random:0.15", "ssd"): {"mia_l": 0.77}})))
    assert f"3 % {same}, 15 % **lower** (-3.0 ± 0.0), 30 % {same}." in moved
    assert "SSD" not in repr(text.expected(World(), text=True)) and "SSD" not in repr(text.expected(World(without=("ssd",))))


@pytest.mark.parametrize("epochs, word", [(2.8, "inside"), (5.6, "inside"), (2.7, "outside"), (5.7, "outside")])
def test_the_cost_is_scored_against_its_band(epochs, word):
    """Retraining costs 14 epochs."""
    said = repr(text.cost_reading(World(change={("random", "random:0.3", MINE): {"epochs": epochs}}), [20, 40]))
    assert said.startswith(f"*We measured:* at 30 %, ∇τ costs {100 * epochs / 14:.1f} ± 0.0 % of our retraining: **{word}** our band")
    costs = "more" if epochs > 4 else "less"                                    # fine-tuning costs 4
    assert said.endswith(f"30 % {100 * epochs / 14:.1f} ± 0.0 % (fine-tuned 28.6 ± 0.0 %: ∇τ costs **{costs}**).")
    assert "Fraction by fraction: 3 % 35.7 ± 0.0 % (fine-tuned 28.6 ± 0.0 %: ∇τ costs **more**), 15 % " in said


CLASS_LOSSES = {("class", None, m): {"loss_forget": x, "mia_l_class": a} for m, x, a in
                (("original", 0.1, 0.8), ("retrain", 5.0, 0.6), (MINE, 1.25, 0.55))}


def test_class_removal_in_a_sentence():
    said = repr(text.class_reading(World(change=CLASS_LOSSES)))
    assert "target at the start is 1.20 ± 0.00 nats, the forget loss at the end 1.25 ± 0.00 (retrained 5.00 ± 0.00)" in said
    assert "on the class **higher** (2.0 ± 0.0 points)" in said and "own test images **lower** (-5.0 ± 0.0)" in said
    assert "forget loss **lower** (-3.75 ± 0.00 nats)" in said
    assert repr(text.class_reading(World(scenarios=FRACTIONS))) == ""
    assert f"target at the start is {tables.MISSING}" in repr(text.class_reading(World(change=CLASS_LOSSES, lacks=("curve",))))


def test_the_audit_names_who_is_nearest():
    """Neither reference is a candidate."""
    near = {m: {"acc_retain": 0.9, "js_forget": x} for m, x in (("original", 0.3), ("retrain", 0.0), (MINE, 0.1), ("finetune", 0.2),
                                                                ("amnesiac", 0.2), ("ssd", 0.3))}
    change = {("random", None, m): v for m, v in near.items()}
    gap = (0 + 0 + 0.6 + 0.5) / 4                                               # forget, retain and test accuracy, and MIA_L, in points
    said = repr(text.audit_reading(World(change=change)))
    assert f"nearest to retrained by Avg.Gap: ∇τ ({gap:.1f} ± 0.0; ∇τ {gap:.1f} ± 0.0), by ToW: ∇τ (0.99 ± 0.00" in said
    before = (100 * (0.1 + 0.01 + 0.25) + 0) / 4                                # the original, likewise
    assert f"against the original: Avg.Gap **lower** ({gap - before:.1f} ± 0.0 points), JS on forget samples **lower** (-0.200" in said
    change["random", None, "amnesiac"] = near["amnesiac"] | {"mia_l": 0.55, "acc_test": 0.89}
    said = repr(text.audit_reading(World(change=change)))
    assert f"nearest to retrained by Avg.Gap: amnesiac (0.0 ± 0.0; ∇τ {gap:.1f} ± 0.0; amnesiac minus ∇τ {-gap:.1f} ± 0.0: **low" in said


def test_one_glance_has_every_method_beside_retrained():
    said = repr(text.one_glance(World(seeds=2)))
    head, *lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in said.splitlines() if line.startswith("| ")]
    assert head[1:] == [label(m) for m in ("original", "finetune", "amnesiac", "ssd", MINE)]
    table = {line[0]: dict(zip(head, line, strict=True)) for line in lines}
    for title, value in (("MIA_L", "0.5 ± 0.0"), ("MIA_E", "0.5 ± 0.0"), ("test accuracy", "0.6 ± 0.0")):
        assert table[f"images (n = 2), {title}"][label(MINE)] == value
    assert table["text (n = 2), MIA_L"][label("finetune")] == "30.0 ± 0.0" and table["text (n = 2), MIA_L"][label("ssd")] == "–"
    assert said.endswith("MIA_L of ∇τ against the original: images **lower** (-24.5 ± 0.0 points), text **lower** (-33.0 ± 0.0 points).")


def test_the_noise_is_binomial_in_the_size_of_the_smaller_set():
    """1.96 standard deviations of a share of n guesses, both sides counted; each scenario once."""
    values = SMALL | {"scenarios": SMALL["scenarios"] | {"random:0.45": "digits"}}
    specs = [small(scenario=s, seed=k, values=values) for k in range(2) for s in values["scenarios"]] + [small(values=WORDS)]
    said = repr(text.noise(SimpleNamespace(specs=specs)))
    for name, n in (("digits 10 %", 200), ("digits 45 %", 2 * 399), ("scipy_docs 10 %", 240)):
        assert said.count(f"{name} ±{98 / n ** 0.5:.1f}") == 1
    assert "class" not in said and said.endswith(".")


def reads(seeds=2):
    """A session with single texts: two seeds, of which the first is shown, two roles, three models; and single images beside them."""
    world, rows = World(), []
    for name, seed, (role, said), (model, p) in itertools.product(
            ("digits", "scipy_docs"), range(seeds), (("kept, surest", "solve it"), ("held out, surest", "read me")),
            (("original", 0.9), ("nabla_tau", 0.5), ("retrain", 0.25))):
        rows.append({"row": "strip", "data": name, "seed": seed, "role": role, "model": model, "p_label": p - 0.1 * seed,
                     "text": f"{said} {seed}" if name == "scipy_docs" else NAN, "name": "linalg" if name == "scipy_docs" else NAN})
        rows.append(rows[-1] | {"row": "forgotten", "text": NAN})
    world.studies["images"] = pd.DataFrame(rows)
    return world


def test_examples_and_five_texts_are_those_of_the_first_seed():
    shown = text.examples(reads()).frame
    assert shown.label.tolist() == ["linalg"] * 2 and shown.text.tolist() == ["solve it 0", "read me 0"]
    assert len(text.examples(reads(), texts=1).frame) == 1
    shown = text.five_texts(reads()).frame
    assert shown.role.tolist() == ["kept, surest", "test, surest"] and shown.text.tolist() == ["solve it 0", "read me 0"]
    for model, p in (("original", "90.0"), ("nabla_tau", "50.0"), ("retrain", "25.0")):
        assert shown[f"{label(model)} (%)"].tolist() == [p, p]


def test_without_single_texts_it_is_said():
    images = reads()
    images.studies["images"] = images.studies["images"].query("data == 'digits'")
    for world in (World(), World(texts=()), images):
        for show in (text.examples, text.five_texts):
            assert repr(show(world)) == "*Not available:* preset made up has no single texts."


@pytest.mark.parametrize("scenario, values", [("random:0.1", SMALL), ("random:0.1", WORDS)])
def test_single_samples_keep_their_words_where_they_are_texts(scenario, values):
    spec = small("images", scenario=scenario, values=values, **FAST)
    d = data.load(spec.data)
    strip = [r for r in STUDIES["images"].function(spec).rows if r["row"] == "strip"]
    assert len(strip) == 15 and {r["model"] for r in strip} == {"original", "nabla_tau", "retrain"}
    for row in strip:
        if d.words:
            x = (d.train_images if row["part"] == "train" else d.test_images)[row["image"]]
            assert row["text"] == d.read(x) and row["name"] == d.class_names[row["label"]]
        else:
            assert "text" not in row


def test_the_example_by_hand():
    tau, alpha, retain = 1.5, 0.4, 0.2
    shown = text.by_hand(tau, alpha, retain, [0.5, 2.0]).frame
    assert shown["objective"].tolist() == [f"{0.4 * 1.0 + 0.6 * 0.2:.4g}", f"{0.6 * 0.2:.4g}"]
    assert shown["push on the forget loss"].tolist() == ["-0.8", "0"] and shown["forget loss"].tolist() == [0.5, 2.0]


# --- the reference records: sentences and tables

@pytest.mark.parametrize("name", READINGS)
def test_every_reading_is_a_sentence_with_numbers(lab, name):
    said = repr(reading(lab, name))
    assert said.startswith("*We measured:* ") and said.endswith(".") and ("\n" in said) == (name == "curves")
    assert re.search(r"\d", said) or name == "ruler"                            # it names methods
    assert "nan" not in said and "not available" not in said and ".." not in said


def test_every_figure_with_numbers_has_its_reading():
    assert set(READINGS) == set(FIGURES) - {"data", "strip"}


def test_readings_quote_the_records(lab):
    said = {name: repr(reading(lab, name)) for name in READINGS}
    for word, name, focus in images_and_texts(lab):
        share = f"{100 * fraction(focus):g} %"
        assert f"| {share} forgotten, %" in said["curves"]
        for key, title in (("mia_l", "MIA_L"), ("mia_e", "MIA_E"), ("acc_test", "test accuracy")):
            (line,) = [x for x in said["curves"].splitlines() if x.startswith(f"| {word}, {title} ")]
            cells = [c.strip() for c in line.strip("|").split("|")][1:]
            values = {m: metric(lab, key, m, focus, name) for m in ("original", "finetune", MINE, "retrain")}
            gaps = [interval(np.subtract(values[MINE], values[m])) for m in ("original", "finetune", "retrain")]
            assert cells == [interval(v).text() for v in values.values()] + [f"{g.text()} ({comparison(g)})" for g in gaps]
        apart = {m: np.subtract(*(metric(lab, k, m, focus, name) for k in ("loss_forget", "loss_test")))
                 for m in ("original", MINE, "retrain")}
        told = [f"{label(m)} **{comparison(interval(values))}**" for m, values in apart.items()]
        assert f"loss of forget against test samples: {', '.join(told)}" in said["histograms"]
        both = [f"{label(m)} {' / '.join(interval(metric(lab, k, m, focus, name)).text(2, 1) for k in ('loss_forget', 'loss_test'))}"
                for m in ("original", MINE, "retrain")]
        assert f"{word}, forget / test samples: mean loss {', '.join(both)}; share in the first bar" in said["histograms"]
        low = [[sum(r["density"] for r in x.rows if [r.get(k) for k in ("row", "model", "part", "loss")] == ["density", MINE, part, 0.0])
                for x in of(lab, "curve", MINE, focus, name)] for part in ("forget", "test")]
        assert f"{label(MINE)} {' / '.join(interval([0.2 * v for v in part]).text(0) for part in low)}" in said["histograms"]
        epochs = [[r for r in x.rows if r["row"] == "epoch"] for x in of(lab, "curve", MINE, focus, name)]
        assert (f"{name}: target {interval([e[0]['tau'] for e in epochs]).text(2, 1)} at first, "
                f"{interval([e[-1]['tau'] for e in epochs]).text(2, 1)} at the last refresh") in said["inside"]
        assert f"in {interval([e[0]['active'] for e in epochs]).text()} % of the first" in said["inside"]
    end = [c[-1] for c in curve_of(lab, MINE, "digits", "loss_forget")]
    assert f"∇τ: {interval(end).text(2, 1)} and" in said["wrong_way"]
    for params in (lab.settings["methods"]["neggrad_plus"]["random"], lab.settings["wrong_way"]):
        weight = params["retain_weight"]
        ends = [c[-1] for c in curve_of(lab, "neggrad_plus", "digits", "loss_forget", retain_weight=weight)]
        rose = comparison(interval(np.subtract(ends, metric(lab, "loss_forget", "original"))))
        beyond = sum(np.greater(ends, metric(lab, "loss_forget", "retrain")))
        assert (f"(retain weight {weight:g}): forget loss {interval(ends).text(2, 1)} (against the original: **{rose}**; above retrained "
                f"in **{beyond} of {len(ends)}** seeds)") in said["wrong_way"]
    ratio = [a.timing["epochs"] / b.timing["epochs"] for a, b in zip(of(lab, "unlearn", MINE), of(lab, "unlearn", "retrain"), strict=True)]
    assert f"∇τ costs {interval(ratio).text()} % of our retraining" in said["cost"]
    for method in ("nabla_tau", "finetune", "retrain"):
        batches = sorted(math.inf if math.isnan(r.metrics["batches"]) else r.metrics["batches"] for r in of(lab, "relearn", method))
        start = interval([r.rows[0]["acc_forget"] for r in of(lab, "relearn", method)])
        assert f"{label(method)} {', '.join(f'{b:g}' for b in batches)} (starting from {start.text()} %)" in said["relearn"]
    sooner = sum(np.less(*([np.nan_to_num(r.metrics["batches"], nan=math.inf) for r in of(lab, "relearn", m)] for m in (MINE, "retrain"))))
    assert said["relearn"].endswith(f"; ∇τ sooner than retrained in **{sooner} of {lab.settings['seeds']}** seeds.")
    for name, domain in zip(("digits", "scipy_docs"), domains(lab.settings), strict=True):
        rows = [r for x in of(lab, "variants", MINE, name=name) for r in x.rows]
        value = {v: [r["mia_l"] for r in rows if r["variant"] == v] for v in domain["variants"]}
        base = next(v for v in value if v.startswith("as "))
        for v in value:
            gap = interval(np.subtract(value[v], value[base])).text()
            assert (f"{name}, {variant_shown(v)}: " in said["variants"]) == (v != base) and (v == base or f"({gap})" in said["variants"])
    slow = interval(np.subtract(value["published rate and budget"], metric(lab, "mia_l", "original", name="scipy_docs")))
    wanted = f"scipy_docs, published rate and budget against the original: **{comparison(slow)}** ({slow.text()})"
    assert wanted in said["variants"] and "digits, published" not in said["variants"]


def test_the_readings_of_the_grid_name_the_best_weight_of_every_fraction(lab):
    said = repr(reading(lab, "grid"))
    cells = {}
    for r in of(lab, "grid", MINE):
        for row in r.rows:
            cells.setdefault((row["fraction"], row["alpha0"]), []).append(abs(row["mia_l"] - 0.5))
    for f in lab.settings["grid"]["fractions"]:
        best = min(lab.settings["grid"]["alphas"], key=lambda a: statistics.mean(cells[f, a]))
        ruled = min(lab.settings["grid"]["alphas"], key=lambda a: abs(a - 5 / 3 * f))
        shown = [f"{interval(cells[f, a]).text()} at {word}{a:g}" for a, word in ((best, "α₀ = "), (ruled, "the rule's "))]
        told = "the same" if best == ruled else comparison(interval(np.subtract(cells[f, ruled], cells[f, best])), "farther", "nearer")
        assert f"{100 * f:g} %: {', '.join(shown)} (**{told}**)" in said


def test_the_ruler_names_who_is_within_the_spread_of_retrained_seeds(lab, monkeypatch):
    frame = lab.frame()
    assert reading(lab, "ruler").text.count(label("retrain")) == 0
    as_retrained = frame[frame.method == "retrain"].assign(method="scrub")
    spread = as_retrained[as_retrained.scenario == lab.settings["focus"]].query("data == 'digits'").mia_e.std()
    near, far = (as_retrained.assign(mia_e=as_retrained.mia_e + k * spread) for k in (0.99, 1.01))
    lost = as_retrained.assign(acc_test=9.0)
    for mine, said in ((as_retrained, label("scrub")), (near, label("scrub")), (far, "nobody"), (lost, "nobody")):
        other = pd.concat([frame[frame.method.isin(["original", "retrain"])], mine])
        monkeypatch.setattr(lab, "frame", lambda study="unlearn", other=other: other)
        assert repr(reading(lab, "ruler")).endswith(f"test accuracy: {said}.")


def test_tables_have_ours_beside_retrained_and_nothing_published(lab):
    for index, domain in enumerate(domains(lab.settings)):
        table = text.paper_table(lab, text=bool(index)).frame
        scenarios = [s for s in domain["scenarios"] if s.startswith("random")]
        words = {f"{100 * fraction(s):g} % at random": s for s in scenarios}
        assert list(dict.fromkeys(table.scenario)) == list(words) and set(table.n) == {domain["seeds"]}
        for scenario, part in table.groupby("scenario"):
            assert {"original", "retrained", "fine-tuned", "∇τ"} <= set(part.method)
            scenario = words[scenario]
            for method in ("retrain", MINE):
                row = part[part.method == label(method)].iloc[0]
                for heading, key in (("MIA_L (%)", "mia_l"), ("MIA_E (%)", "mia_e"), ("retain acc (%)", "acc_retain"),
                                     ("test acc (%)", "acc_test"), ("forget acc (%)", "acc_forget")):
                    assert row[heading] == interval(metric(lab, key, method, scenario, domain["scenarios"][scenario])).text()
        assert table.columns[-1] == "published: MIA_L / MIA_E" and set(table.iloc[:, -1]) == {tables.MISSING}
    assert {"amnesiac", "SCRUB", "SCRUB+R", "NegGrad+", "SSD"} <= set(text.paper_table(lab).frame.method)


def test_the_class_has_its_own_attack(lab):
    table = text.class_table(lab).frame.set_index("method")
    (scenario,) = set(table.scenario)
    assert scenario == "class 8"
    for heading, key in (("MIA_L, the class's own (%)", "mia_l_class"), ("MIA_L, all test images (%)", "mia_l"),
                         ("test acc, the class (%)", "acc_test_forget"), ("test acc, others (%)", "acc_test_retain")):
        assert table[heading]["∇τ"] == interval(metric(lab, key, MINE, "class:8")).text() and "–" not in table[heading].tolist()


def test_audit_and_cost_tables(lab):
    audit = text.audit_table(lab).frame.set_index("method")
    assert set(audit.scenario) == {"30 % at random"} and set(audit.n) == {lab.settings["seeds"]}
    assert audit["Avg.Gap (0 is best)"]["retrained"] == "0.0 ± 0.0" and audit["ToW (1 is best)"]["retrained"] == "1.00 ± 0.00"
    keys = ("acc_forget", "acc_retain", "acc_test", "mia_l")                    # the paper's own attack, not LFSSD's
    gaps = [statistics.mean(abs(a.metrics[k] - b.metrics[k]) for k in keys)
            for a, b in zip(of(lab, "unlearn", MINE), of(lab, "unlearn", "retrain"), strict=True)]
    assert audit["Avg.Gap (0 is best)"]["∇τ"] == interval(gaps).text()
    cost = text.cost_table(lab).frame.set_index("method")
    assert cost["training-epoch equivalents"]["original"] == f"{lab.settings['recipe']['epochs']:.2f} ± 0.00"
    assert float(cost["training-epoch equivalents"]["∇τ"].split()[0]) < float(cost["training-epoch equivalents"]["retrained"].split()[0])


def test_the_box_the_score_and_the_reasons_agree(lab):
    values = predictions.measured(lab)
    assert set(values) == set(predictions.QUANTITIES) and all(v.n >= 2 for k, v in values.items() if k != "relearning")
    assert set(predictions.MISSED) == {(quantity, side) for quantity in predictions.QUANTITIES for side in ("below", "above")}
    wide = {k: [v.mean - 1, v.mean + 1] for k, v in values.items() if v.n}
    assert len(predictions.box(wide).frame) == len(predictions.scores(lab, wide).frame) == len(wide)
    assert not any("outside" in v for v in predictions.scores(lab, wide).frame.verdict)
    assert repr(predictions.misses(lab, wide)) == "No mean missed its band this time."
    for key in wide:
        for side, sign in (("below", 1), ("above", -1)):
            shift = sign * (5 + values[key].half)                               # beyond chance
            moved = wide | {key: [values[key].mean + shift - 1, values[key].mean + shift + 1]}
            said = repr(predictions.misses(lab, moved))
            assert predictions.MISSED[key, side] in said and said.count(" the band: ") == 1
            assert sum("outside" in v for v in predictions.scores(lab, moved).frame.verdict) == 1


def test_the_measured_quantities_are_means_over_seeds(lab):
    values = predictions.measured(lab)
    of_each = {m: metric(lab, "mia_l", m) for m in ("original", "retrain", MINE, "finetune")}
    share = [(o - n) / (o - r) for o, n, r in zip(of_each["original"], of_each[MINE], of_each["retrain"], strict=True)]
    assert values["closed"].mean == pytest.approx(100 * statistics.mean(share))
    assert values["fine-tuning"].mean == pytest.approx(100 * (mean(lab, "mia_l", "finetune") - mean(lab, "mia_l", MINE)))
    assert values["lost"].mean == pytest.approx(100 * (mean(lab, "acc_test", "original") - mean(lab, "acc_test", MINE)))
    ends = [c[-1] for c in curve_of(lab, MINE, "digits", "loss_forget")]
    targets = [[r["tau"] for r in x.rows if r["row"] == "epoch"][-1] for x in of(lab, "curve", MINE)]
    assert values["settles"].mean == pytest.approx(100 * statistics.mean(e / t for e, t in zip(ends, targets, strict=True)))


def test_the_answer_is_made_of_measured_numbers(lab):
    said = repr(text.answer(lab))
    assert said.startswith("**Partly.** *We measured* (preset digits)")
    assert not any(word in said for word in ("one seed", "nan", "not available"))
    for _, name, focus in images_and_texts(lab):
        start, end, goal = (np.array(metric(lab, "mia_l", m, focus, name)) for m in ("original", MINE, "retrain"))
        before, after, fair = (np.array(metric(lab, "acc_test", m, focus, name)) for m in ("original", MINE, "retrain"))
        assert (f"{interval((start - end) / (start - goal)).text()} % of the way, test accuracy lost {interval(before - after).text()}; "
                f"by retraining {interval(before - fair).text()}") in said


def test_other_sentences_of_the_notebook(lab):
    for kind in (False, True):
        said = repr(text.expected(lab, text=kind))
        assert re.findall(r"(\d+) % \*\*(?:yes|no|inconclusive)\*\* \(", said) == ["3", "15", "30"]
    for said in map(repr, (text.noise(lab), text.class_reading(lab), text.audit_reading(lab), text.one_glance(lab))):
        assert said.endswith(".") and "nan" not in said and "not available" not in said and re.search(r"\d", said)
    assert repr(text.noise(lab)).count("±") == 6                                # three fractions of two data sets
    assert interval(metric(lab, "loss_forget", MINE, "class:8")).text(2, 1) in repr(text.class_reading(lab))


def test_five_texts_are_in_the_records(lab):
    shown = text.five_texts(lab).frame
    assert shown.role.is_unique and all(len(t.split()) > 3 for t in shown.text)
    strip = [r for r in of(lab, "images", MINE, name="scipy_docs")[0].rows if r["row"] == "strip"]
    for row in shown.to_dict("records"):
        mine = {r["model"]: r for r in strip if r["role"] == row["role"].replace("test", "held out")}
        assert row["text"] == mine["original"]["text"] and row["label"] == mine["original"]["name"]
        assert all(row[f"{label(m)} (%)"] == f"{100 * r['p_label']:.1f}" for m, r in mine.items())
    known = {r["text"] for r in strip if r["text"].split().count("[rare]") <= len(r["text"].split()) / 2}
    assert set(shown.text) == known and len(known) == 4                         # the fifth is all unknown words
    assert set(text.examples(lab).frame.text) <= set(shown.text) and len(text.examples(lab).frame) == 3


def test_verdicts_rest_on_numbers_of_the_records(lab):
    table = lab.verdicts()
    assert table.claim.tolist() == list(range(1, 13)) and set(table.verdict) <= {HOLDS, FAILS, OPEN, UNTESTED}
    gap = paired(largest(runs_of(lab)), "mia_l", MINE, "retrain")
    assert f"MIA_L minus retrained {gap.text()} points" in table.evidence[0]
    assert all(re.search(r"\d", e) and "nan" not in e for e in table.evidence)


@pytest.mark.parametrize("name", READINGS)
def test_readings_of_what_a_session_lacks_say_so(less, name):
    said = repr(reading(less, name))
    assert said.endswith(".") and "nan" not in said
    assert said.startswith("*We measured:* " if name in ("curves", "inside", "histograms", "cost", "ruler") else "*Not available:* "), said


def test_what_a_session_lacks_stops_no_table_and_no_verdict(lab, less):
    found = predictions.measured(less)
    assert found["settles"].n == found["relearning"].n == 0 < found["closed"].n
    table = less.verdicts().set_index("claim")
    assert {table.verdict[9], table.verdict[12]} == {UNTESTED} and table.verdict[1] == lab.verdicts().verdict[0]
    assert "no single texts" in repr(text.five_texts(less)) and "no single texts" in repr(text.examples(less))


def test_a_focus_of_ones_own_moves_the_detailed_figures_of_images_alone(lab):
    """The studies of another focus are other runs: none of them is there, so the standard runs alone are asked for."""
    session = Session("nabla_tau", "digits", focus="random:0.15", studies=[])
    assert session.figure("ruler").drawn.raw.tolist() != lab.figure("ruler").drawn.raw.tolist()
    assert set(text.audit_table(session).frame.scenario) == {"15 % at random"}
    assert {s.scenario for s in session.specs if s.study == "curve"} == {lab.settings["text"]["focus"]}
