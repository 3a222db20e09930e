"""The studies of ∇τ against direct computation, on networks of a second."""

import copy
import itertools
import math
import statistics

import numpy as np
import pytest
import torch
from nabla import FAST, NAN, SMALL, WORDS, small

from unlearnlib import attacks, data, evaluation, records, reference, runs, tables, train
from unlearnlib.methods import METHODS
from unlearnlib.papers.nabla_tau import studies, text
from unlearnlib.plots import label
from unlearnlib.records import Record

# --- studies, on networks of a second


def direct(spec, access=None, split=None, **changes):
    """The method itself, without a study: (model, what its callback was told)."""
    told = []

    def callback(**values):
        told.append({k: v for k, v in values.items() if k != "model"})
    model = METHODS[spec.method].run(reference.trained(spec.original)[0], access or (split or spec.split()).access(),
                                     generator=spec.generator(), callback=callback, **spec.hyper_parameters | changes)
    return model, told


def scores(z, y):
    """Loss and entropy of logits, by their formulas."""
    p = z.double().softmax(1)
    return -p[range(len(y)), y].log(), -(p * p.log()).sum(1)


def seen(model, s, every=1):
    """What a curve shows of a model, computed on its own."""
    d, kept = s.data, s.retain[::every]
    with torch.no_grad():
        z_f, z_r, z_t = (model.eval()(x) for x in (d.train_images[s.forget], d.train_images[kept], d.test_images))
    y_f, y_r = d.train_labels[s.forget], d.train_labels[kept]
    (loss, entropy), (loss_t, entropy_t) = scores(z_f, y_f), scores(z_t, d.test_labels)
    share = [float((z.argmax(1) == y).float().mean()) for z, y in ((z_f, y_f), (z_r, y_r), (z_t, d.test_labels))]
    return {"mia_l": attacks.loss_lr(loss, loss_t), "mia_e": attacks.loss_lr(entropy, entropy_t),
            "acc_forget": share[0], "acc_retain": share[1], "acc_test": share[2], "loss_forget": float(loss.mean()),
            "loss_forget_sd": float(loss.std()), "loss_test": float(loss_t.mean())}


def shows(row, model, s, every=1):
    wanted = seen(model, s, every)
    assert {k: row[k] for k in wanted} == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize("scenario, values", [("random:0.1", SMALL), ("class:8", SMALL), ("random:0.1", WORDS)])
def test_the_papers_attacks_are_accuracies_on_losses_and_entropies(scenario, values):
    spec = small(name="original", scenario=scenario, values=values)
    s, d = spec.split(), spec.split().data
    found = studies.unlearn(spec).metrics
    z_train, z_test = (reference.outputs(spec.original, part) for part in ("train", "test"))
    (loss, entropy), (loss_t, entropy_t) = scores(z_train[s.forget], d.train_labels[s.forget]), scores(z_test, d.test_labels)
    assert found["mia_l"] == pytest.approx(attacks.loss_lr(loss, loss_t))
    assert found["mia_e"] == pytest.approx(attacks.loss_lr(entropy, entropy_t))
    if s.kind == "random":
        assert math.isnan(found["mia_l_class"]) and math.isnan(found["mia_e_class"])
    else:
        own = d.test_labels == 8                                                # non-members of the forgotten class
        assert found["mia_l_class"] == pytest.approx(attacks.loss_lr(loss, loss_t[own])) != found["mia_l"]
        assert found["mia_e_class"] == pytest.approx(attacks.loss_lr(entropy, entropy_t[own]))
    assert found["acc_test"] == pytest.approx(float((z_test.argmax(1) == d.test_labels).float().mean()))     # beside the common audit


def test_the_standard_run_measures_the_unlearned_model():
    spec = small(**FAST)
    model, told = direct(spec)
    outcome = studies.unlearn(spec)
    shows(outcome.metrics | {"loss_forget_sd": seen(model, spec.split())["loss_forget_sd"]}, model, spec.split())
    forward = sum(t["images"] for t in told if t.get("backward") is False)
    both = sum(t["images"] for t in told if t.get("backward") is not False)
    assert outcome.timing["epochs"] == pytest.approx((both + forward / 3) / 1000)


@pytest.fixture(scope="module")
def curve():
    """(spec, rows) of one curve, by kind of row."""
    spec = small("curve", options={"points": 2, "retain_at_most": 250}, **FAST)
    kinds = {}
    for row in studies.curve(spec).rows:
        kinds.setdefault(row["row"], []).append(row)
    return spec, kinds


def test_a_curve_starts_at_the_original_and_ends_at_the_unlearned_model(curve):
    spec, kinds = curve
    s, points = spec.split(), kinds["curve"]
    every = 4                                                                   # 900 retained, at most 250: one in four
    assert len(s.retain[::every]) <= 250
    assert points[0]["passes"] == 0
    shows(points[0], reference.trained(spec.original)[0], s, every)
    model, _ = direct(spec)
    shows(points[-1], model, s, every)
    assert points[0]["loss_forget"] != points[-1]["loss_forget"]


def test_a_curve_asks_every_model_once_about_forget_and_test_samples(monkeypatch):
    spec = small("curve", options={"points": 1, "retain_at_most": 250}, **FAST)
    asked, logits = [], train.logits
    monkeypatch.setattr(train, "logits", lambda model, x, *rest: asked.append((model, len(x))) or logits(model, x, *rest))
    studies.curve(spec)
    for model, sizes in ((reference.trained(spec.original)[0], [100, 399, 225]), (reference.trained(spec.retrained)[0], [100, 399])):
        assert [n for m, n in asked if m is model] == sizes


def test_a_curve_is_measured_so_many_times_a_pass(curve):
    spec, kinds = curve
    _, told = direct(spec)
    retained = len(spec.split().retain)
    at = np.cumsum([t["images"] for t in told if t.get("backward") is not False]) / retained
    inner = [at[np.argmax(at >= k / 2)] for k in range(1, int(2 * at[-1]) + 1)]  # the first step at or beyond each half pass
    passes = [p["passes"] for p in kinds["curve"]]
    assert passes == pytest.approx([0, *[p for p in inner if p < at[-1]], at[-1]])
    assert all(a < b for a, b in itertools.pairwise(passes)) and len(passes) >= 4


def test_a_curve_has_what_the_method_reported_forget_epoch_by_forget_epoch(curve):
    spec, kinds = curve
    _, told = direct(spec)
    steps = [t for t in told if "tau" in t]
    assert [row["epoch"] for row in kinds["epoch"]] == sorted({t["epoch"] for t in steps}) and len(kinds["epoch"]) > 5
    for row in kinds["epoch"]:
        mine = [t for t in steps if t["epoch"] == row["epoch"]]
        for key in ("tau", "alpha", "active", "forget_loss"):
            assert row[key] == pytest.approx(statistics.mean(float(t[key]) for t in mine)), key
    alphas = [row["alpha"] for row in kinds["epoch"]]
    assert alphas[0] == pytest.approx(5 / 3 * 0.1) and all(a > b for a, b in itertools.pairwise(alphas))


def test_densities_are_those_of_the_losses_and_integrate_to_one(curve):
    spec, kinds = curve
    s, d = spec.split(), spec.split().data
    named = {"original": reference.trained(spec.original)[0], "nabla_tau": direct(spec)[0], "retrain": reference.trained(spec.retrained)[0]}
    found = {}
    for row in kinds["density"]:
        found.setdefault((row["model"], row["part"]), {})[round(row["loss"] / 0.2)] = row["density"]
    assert set(found) == set(itertools.product(named, ("forget", "test")))
    for (name, part), bars in found.items():
        assert sum(bars.values()) * 0.2 == pytest.approx(1)
        x, y = (d.train_images[s.forget], d.train_labels[s.forget]) if part == "forget" else (d.test_images, d.test_labels)
        loss = scores(train.logits(named[name], x), y)[0]
        below = float((loss < 0.2).double().mean())
        assert bars.get(0, 0) * 0.2 == pytest.approx(below, abs=1.5 / len(loss)), (name, part)
    assert min(row["density"] for row in kinds["density"]) > 0                  # empty bars are not stored


def test_a_loss_beyond_the_histogram_is_in_its_last_bar():
    spec = small("curve")
    wrong = copy.deepcopy(reference.trained(spec.original)[0])
    with torch.no_grad():
        list(wrong.parameters())[-1].copy_(torch.tensor([1e4] + [0.0] * 9))     # everything is a nought, for certain
    rows = [r for r in studies._densities("x", studies._outputs(wrong, spec.split()), spec.split()) if r["part"] == "test"]
    noughts = float((spec.split().data.test_labels == 0).float().mean())
    assert {round(r["loss"], 1): pytest.approx(r["density"] * 0.2) for r in rows} == {0.0: noughts, 7.8: 1 - noughts}


def test_a_curve_of_another_method_has_no_target():
    spec = small("curve", "finetune", options={"points": 1, "retain_at_most": 50}, epochs=2, lr=0.01, batch_size=64)
    rows = studies.curve(spec).rows
    passes = [r["passes"] for r in rows if r["row"] == "curve"]
    assert not any(r["row"] == "epoch" for r in rows) and passes == pytest.approx([0, 1, 2], abs=0.08)
    model, _ = direct(spec)
    shows([r for r in rows if r["row"] == "curve"][-1], model, spec.split(), 18)
    assert {r["model"] for r in rows if r["row"] == "density"} == {"original", "finetune", "retrain"}


CHANGES = {"as published": {}, "off": {"alpha0": 0}, "seen": {"held_out": "retain"}, "two": {"two_sided": True, "alpha0": 0.9}}


@pytest.fixture(scope="module")
def variants():
    spec = small("variants", options={"variants": CHANGES}, **FAST)
    return spec, {row["variant"]: row for row in studies.variants(spec).rows}


@pytest.mark.parametrize("name", ["as published", "off", "two"])
def test_a_variant_is_the_method_with_one_thing_changed(variants, name):
    spec, rows = variants
    model, told = direct(spec, **CHANGES[name])
    shows(rows[name], model, spec.split())
    steps = [t for t in told if "tau" in t]
    assert rows[name]["tau"] == pytest.approx(steps[0]["tau"])
    assert rows[name]["active"] == pytest.approx(statistics.mean(float(t["active"]) for t in steps))


def test_without_weight_nothing_but_the_retain_set_is_used(variants):
    _, rows = variants
    assert rows["off"]["tau"] == rows["off"]["active"] == 0                     # no target is measured
    assert list(rows) == list(CHANGES) and len({row["loss_forget"] for row in rows.values()}) == len(CHANGES)


def test_a_target_from_seen_data_is_the_loss_on_retained_samples(variants):
    spec, rows = variants
    s, d = spec.split(), spec.split().data
    original = reference.trained(spec.original)[0]
    first = s.retain[:len(d.val_labels)]                                        # as many as there are held-out samples
    wanted = float(scores(train.logits(original, d.train_images[first]), d.train_labels[first])[0].mean())
    honest = float(scores(train.logits(original, d.val_images), d.val_labels)[0].mean())
    assert rows["seen"]["tau"] == pytest.approx(wanted, rel=1e-4) and rows["as published"]["tau"] == pytest.approx(honest, rel=1e-4)
    assert wanted < honest


@pytest.fixture(scope="module")
def tried():
    options = {"fractions": [0.1, 0.3], "alphas": [0.1, 0.5], "bn_mode": "train", "max_epochs": 2}
    spec = small("grid", options=options, batch_size=64, retain_epochs=2)
    return spec, studies.grid(spec).rows


def test_the_grid_has_every_cell_and_the_rule(tried):
    _, rows = tried
    assert [(r["fraction"], r["alpha0"]) for r in rows] == list(itertools.product((0.1, 0.3), (0.1, 0.5)))
    for row in rows:
        assert row["rule"] == pytest.approx(5 / 3 * row["fraction"])


@pytest.mark.parametrize("cell", range(4))
def test_a_cell_of_the_grid_is_a_run_of_its_own_fraction(tried, cell):
    spec, rows = tried
    split = data.split(data.load("digits"), f"random:{rows[cell]['fraction']}", spec.seed)
    model, told = direct(spec, split=split, alpha0=rows[cell]["alpha0"], bn_mode="train", max_epochs=2)
    shows(rows[cell], model, split)
    assert max(t["epoch"] for t in told if "epoch" in t) == 1                   # the cap on passes


def test_what_a_study_is_likely_to_cost():
    more = runs.EVALUATION_EPOCHS
    assert runs.run_epochs(small(batch_size=16)) == 6 + more and runs.run_epochs(small(retain_epochs=1)) == 1 + more
    assert runs.run_epochs(small(name="retrain")) == more and runs.run_epochs(small(name="finetune", epochs=4)) == 4 + more
    assert runs.run_epochs(small("curve", "finetune", epochs=4)) == 8 + more
    options = {"fractions": [0.1, 0.2, 0.3], "alphas": [0.1, 0.5], "bn_mode": "train", "max_epochs": 2}
    assert runs.run_epochs(small("grid", options=options)) == 36 + more
    assert runs.run_epochs(small("variants", options={"variants": CHANGES})) == 24 + more


# --- a model that diverged

def broken(model):
    out = copy.deepcopy(model)
    with torch.no_grad():
        next(out.parameters()).fill_(NAN)
    return out


@pytest.mark.parametrize("scenario", ["random:0.1", "class:8"])
def test_every_number_of_a_diverged_model_is_missing(scenario):
    spec = small(scenario=scenario, **FAST)
    original = reference.trained(spec.original)[0]
    sound, lost = (evaluation.measure(m, spec, studies.paper_metrics) for m in (original, broken(original)))
    assert list(lost) == list(sound) and {"mia_l", "mia_e", "acc_forget", "changed", "js_test"} <= set(lost)
    assert all(math.isnan(v) for v in lost.values()) and not math.isnan(sound["mia_l"])


def test_a_diverged_model_stops_no_study_and_no_table():
    spec = small("curve", "neggrad_plus", options={"points": 1, "retain_at_most": 100}, epochs=1, lr=1e18, batch_size=64, retain_weight=0.1)
    rows = studies.curve(spec).rows
    points = [r for r in rows if r["row"] == "curve"]
    assert math.isnan(points[-1]["mia_l"]) and math.isnan(points[-1]["loss_forget"]) and not math.isnan(points[0]["mia_l"])
    total = {}
    for r in rows:
        if r["row"] == "density":
            total[r["model"], r["part"]] = total.get((r["model"], r["part"]), 0) + r["density"] * 0.2
    assert total == pytest.approx(dict.fromkeys(total, 1.0)) and len(total) == 6
    run = small(name="neggrad_plus", epochs=1, lr=1e18, batch_size=64, retain_weight=0.1)
    made = [Record(s, studies.unlearn(s).metrics, [], {}, {}) for s in (small(name="original"), small(name="retrain"), run)]
    frame = records.frame([Record.parse(r.line()) for r in made])
    assert frame[frame.method == "neggrad_plus"][["mia_l", "acc_test"]].isna().all(axis=None)
    far = tables.with_distance(frame, "mia_l").set_index("method")
    assert math.isnan(far.avg_gap["neggrad_plus"]) and math.isnan(far.tow["neggrad_plus"])
    assert far.avg_gap["retrain"] == 0 and far.avg_gap["original"] > 0
    shown = tables.by_method(frame, text.COLUMNS).frame.set_index("method")
    assert set(shown.loc[label("neggrad_plus")].drop(["scenario", "n"])) == {"–"}
    assert "–" not in set(shown.loc[label("original")])
