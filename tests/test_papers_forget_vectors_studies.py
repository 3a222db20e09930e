"""The studies of Forget Vectors against direct computation, on networks of a second."""

import json
import math

import pytest
import torch
from fvectors import ATTACK, CLASS, FAST, FOUR, MINE, MIXED, OTHER, RANDOM, SMALL, UNION, small
from sklearn.metrics import roc_auc_score

from unlearnlib import attacks, evaluation, files, papers, reference, saliency, shifts, train
from unlearnlib.methods import METHODS
from unlearnlib.methods.forget_vectors import ForgetVector
from unlearnlib.papers.forget_vectors import STUDIES, studies
from unlearnlib.records import canonical

# --- the paper's numbers

def accuracy(z, y):
    return sum(int(row.argmax()) == label for row, label in zip(z, y.tolist(), strict=True)) / len(y) if len(y) else math.nan


def shown(model, spec, changed=lambda z_train, z_test: None):
    """What a study shows of a model, image by image; ``changed`` may exchange logits first."""
    s, d = spec.split(), spec.split().data
    with torch.no_grad():
        z, z_test = model.eval()(d.train_images), model(d.test_images)
    changed(z, z_test)
    c = [int(v) for v in spec.scenario.split(":")[1].split("+")] if "class" in spec.scenario else []
    gone = torch.tensor([int(y) in c for y in d.test_labels])
    y, y_test = d.train_labels, d.test_labels
    p, p_test = (logits.softmax(1)[range(len(labels)), labels] for logits, labels in ((z, y), (z_test, y_test)))
    unseen = gone if c else ~gone
    sure = [torch.log(v / (1 - v)).tolist() for v in (p[s.forget].double(), p_test[unseen].double())]
    return {"acc_forget": accuracy(z[s.forget], y[s.forget]), "acc_retain": accuracy(z[s.retain], y[s.retain]),
            "acc_test": accuracy(z_test[~gone], y_test[~gone]), "acc_test_forget": accuracy(z_test[gone], y_test[gone]),
            ATTACK: attacks.confidence_svc(p[s.retain], p_test[~gone], p[s.forget]),
            "auc_confidence": roc_auc_score([1] * len(sure[0]) + [0] * len(sure[1]), sure[0] + sure[1])}


def same(found, wanted):
    assert {k: found[k] for k in wanted} == pytest.approx(wanted, abs=2e-3, nan_ok=True)
    assert [found[k] for k in FOUR[:3]] == pytest.approx([wanted[k] for k in FOUR[:3]], abs=1e-9)


def vector(spec, scenario=None, **changes):
    """The method itself, without a study."""
    part = small(scenario=scenario or spec.scenario, seed=spec.seed)
    return METHODS[MINE].run(reference.trained(spec.original)[0], part.split().access(), generator=part.generator(),
                             **spec.hyper_parameters | changes)


@pytest.mark.parametrize("scenario", [CLASS, UNION, RANDOM])
def test_every_number_of_a_model_is_its_definition(scenario):
    """TA and the attack leave the test images of forgotten classes out."""
    spec = small(name="original", scenario=scenario)
    model = reference.trained(spec.original)[0]
    wanted = shown(model, spec)
    same(studies.readout(*studies.outputs(model, spec.split().data), spec.split()), wanted)
    standard = studies.unlearn(spec)
    same(standard.metrics, {k: wanted[k] for k in FOUR})
    assert standard.metrics["trainables"] == 0 and standard.rows == [] and set(standard.timing) == {"seconds", "epochs", "training"}
    everything = accuracy(studies.outputs(model, spec.split().data)[1], spec.split().data.test_labels)
    assert (wanted["acc_test"] == everything) == (scenario == RANDOM)


def test_the_attack_on_a_diverged_model_is_missing():
    s = small().split()
    z, z_test = torch.randn(len(s.data.train_labels), 10), torch.randn(len(s.data.test_labels), 10)
    sound = studies.paper_metrics(z, z_test, s)
    for part, index in ((z, s.forget[0]), (z, s.retain[5]), (z_test, (~s.test_forget).nonzero()[0, 0])):
        kept = part[index].clone()
        part[index] = math.nan
        assert math.isnan(studies.paper_metrics(z, z_test, s)[ATTACK]) and not math.isnan(sound[ATTACK])
        part[index] = kept
    assert studies.paper_metrics(z, z_test, s) == sound


# --- a vector, learned once

def test_the_standard_run_measures_the_model_behind_its_vector():
    spec = small(options={"images": True})
    mine = vector(spec)
    outcome = studies.unlearn(spec)
    same(outcome.metrics, {k: v for k, v in shown(mine, spec).items() if k in FOUR})
    assert outcome.metrics["norm"] == pytest.approx(float(mine.delta.square().sum().sqrt()))
    assert outcome.metrics["largest"] == pytest.approx(float(mine.delta.abs().max()))
    assert (outcome.metrics["trainables"], outcome.metrics["changed"], outcome.metrics["epochs_vectors"]) == (64, 0, 0)
    (delta,) = [r for r in outcome.rows if r["row"] == "delta"]
    assert delta["shape"] == "1x8x8" and json.loads(delta["pixels"]) == pytest.approx(mine.delta.flatten().tolist(), abs=5.1e-4)
    assert {r["row"] for r in outcome.rows} == {"delta", "forgotten", "strip"}
    assert {r["row"] for r in studies.unlearn(small()).rows} == {"delta"}
    own = [r for r in outcome.rows if (r["row"], r.get("model")) == ("forgotten", MINE)]
    z = mine(spec.split().data.train_images[spec.split().forget])
    assert [r["predicted"] for r in own] == z.argmax(1).tolist()
    assert outcome.timing["epochs"] == pytest.approx(1.0)                       # one pass over all training images
    assert studies.unlearn(small(name="retrain")).metrics["trainables"] == sum(p.numel() for p in mine.parameters())


@pytest.fixture
def forgetful():
    """No vector is kept from other tests, or for them."""
    studies._learned.cache_clear()
    yield
    studies._learned.cache_clear()


def test_all_studies_of_a_process_share_a_vector(forgetful, monkeypatch):
    asked, apply = [], evaluation.apply
    monkeypatch.setattr(evaluation, "apply", lambda spec: asked.append((spec.scenario, spec.hyper_parameters)) or apply(spec))
    first, cost = studies.learned(small(), **FAST)
    again, _ = studies.learned(small("controls", options={"x": 1}), **FAST)
    assert again is first and asked == [(CLASS, FAST)] and cost["epochs"] == pytest.approx(1.0)
    studies.learned(small(scenario=OTHER), CLASS, **FAST)
    assert len(asked) == 1
    other, _ = studies.learned(small(), **FAST | {"beta": 1})
    assert len(asked) == 2 and not torch.equal(other.delta, first.delta)
    studies.learned(small(seed=1), **FAST)
    assert len(asked) == 3
    clamped, _ = studies.learned(small(), **FAST | {"clamp": True})
    assert clamped.clamp and not first.clamp


def test_the_processes_of_a_run_share_a_vector(forgetful, monkeypatch, tmp_path):
    monkeypatch.setenv(files.SHARED, str(tmp_path))
    first, cost = studies.learned(small(), **FAST)
    studies._learned.cache_clear()                                              # as another process would start
    monkeypatch.setattr(evaluation, "apply", lambda spec: pytest.fail(f"learned again: {spec}"))
    again, told = studies.learned(small("beta", options={"beta": [3]}), **FAST)
    assert torch.equal(again.delta, first.delta) and again is not first and told == cost
    assert again.model is reference.trained(small().original)[0] and not again.training


# --- composed vectors

VECTORS_OF = {"class_settings": FAST}


@pytest.fixture(scope="module")
def classwise():
    """The vectors of all classes, each by the method itself."""
    return [vector(small(), f"class:{c}").delta for c in range(10)]


def test_a_composed_vector_mixes_those_of_all_classes_and_its_cost_is_the_search_alone(classwise):
    spec = small(name=MIXED, scenario=RANDOM, options=VECTORS_OF, lr=0.1, epochs=2)
    outcome = studies.unlearn(spec)
    w = [r["w"] for r in sorted((r for r in outcome.rows if r["row"] == "weight"), key=lambda r: r["class"])]
    (delta,) = [json.loads(r["pixels"]) for r in outcome.rows if r["row"] == "delta"]
    mixed = sum(a * v for a, v in zip(w, classwise, strict=True))
    assert delta == pytest.approx(mixed.flatten().tolist(), abs=6e-4) and max(map(abs, w)) > 1e-3
    same(outcome.metrics, {k: v for k, v in shown(ForgetVector(reference.trained(spec.original)[0], mixed), spec).items() if k in FOUR})
    assert outcome.metrics["trainables"] == 10 and outcome.metrics["norm"] == pytest.approx(float(mixed.norm()), rel=1e-4)
    assert outcome.timing["epochs"] == pytest.approx(2.0) and outcome.metrics["epochs_vectors"] == pytest.approx(10.0)
    rows = {r["mix"]: r for r in outcome.rows if r["row"] == "mix"}
    assert list(rows) == ["mean (w = 1/K)", "sum (w = 1)"]
    for name, share in zip(rows, (0.1, 1.0), strict=True):
        same(rows[name], shown(ForgetVector(reference.trained(spec.original)[0], share * sum(classwise)), spec))


def test_the_vectors_of_a_composed_one_have_the_settings_of_classes(classwise):
    """Not those of the scenario at hand, whose weight for forgetting is another."""
    found, cost = studies.class_vectors(small(scenario=RANDOM, beta=0.1), FAST)
    assert torch.equal(found, torch.stack(classwise)) and cost == pytest.approx(10.0)


# --- the vector in use

@pytest.fixture(scope="module", params=[CLASS, RANDOM])
def used(request):
    spec = small("controls", scenario=request.param)
    return spec, {r["control"]: r for r in studies.controls(spec).rows}


def test_controls_are_the_vector_the_original_and_what_lies_between(used):
    spec, rows = used
    original, mine = reference.trained(spec.original)[0], vector(spec)
    same(rows["as in the paper"], shown(mine, spec))
    same(rows["vector removed"], shown(original, spec))
    same(rows["pixels clamped to [0, 1]"], shown(ForgetVector(original, mine.delta, clamp=True), spec))
    same(rows["learned without retain loss"], shown(vector(spec, alpha=0), spec))
    forget = spec.split().forget
    with torch.no_grad():
        moved = mine(spec.split().data.train_images[forget])

    def only(z, z_test):
        z[forget] = moved
    wanted = shown(original, spec, only)
    same(rows["on the forget set alone"], wanted)
    fair = shown(mine, spec) | {k: wanted[k] for k in (ATTACK, "auc_confidence")}
    same(rows["attack fitted to clean images"], fair)
    assert len(rows) == 7 and all(r["row"] == "control" for r in rows.values())
    assert len({rows[k]["acc_forget"] for k in ("as in the paper", "vector removed")}) == 2


def test_noise_has_the_norm_of_the_vector_and_several_draws_are_averaged(used, monkeypatch):
    spec, rows = used
    tried, built = [], studies.ForgetVector

    def note(model, delta, **more):
        tried.append((delta, more))
        return built(model, delta, **more)
    monkeypatch.setattr(studies, "ForgetVector", note)
    again = {r["control"]: r for r in studies.controls(spec).rows}
    monkeypatch.undo()
    assert {k: v for k, v in again["noise of the same norm"].items() if v == v} == {
        k: v for k, v in rows["noise of the same norm"].items() if v == v}     # the same draws every time
    mine = vector(spec).delta
    noise = [delta for delta, more in tried if not more and not torch.equal(delta, mine)]
    assert len(noise) == studies.NOISE_DRAWS == 3 and len({float(n.flatten()[0]) for n in noise}) == 3
    assert [float(n.norm()) for n in noise] == pytest.approx([float(mine.norm())] * 3, rel=1e-5)
    each = [shown(ForgetVector(reference.trained(spec.original)[0], n), spec) for n in noise]
    same(rows["noise of the same norm"], {k: sum(e[k] for e in each) / 3 for k in each[0]})


@pytest.mark.parametrize("study, values", [("beta", [1, 4]), ("tau", [0, 2])])
def test_a_sweep_turns_one_setting_alone(study, values):
    spec = small(study, options={study: values}, gamma=0.5)
    rows = studies.sweep(spec).rows
    assert [r["value"] for r in rows] == values and {r["row"] for r in rows} == {"sweep"}
    for row in rows:
        mine = vector(spec, **{study: row["value"]})
        same(row, shown(mine, spec))
        assert row["norm"] == pytest.approx(float(mine.delta.norm()), rel=1e-5)
    assert rows[0]["norm"] != rows[1]["norm"]


OPTIONS = {"gaussian": [0.2, 0.4], "elastic": [[17.4, 6.1, 0.87]], "pgd": [0.1], "steps": 2}


@pytest.mark.parametrize("name, scenario", [(MINE, CLASS), ("retrain", RANDOM), ("finetune", CLASS)])
def test_shifts_move_training_and_test_images_alike(name, scenario):
    params = {"epochs": 1, "lr": 0.05, "batch_size": 64}
    spec = small("shift", name, scenario, options=OPTIONS) if name != "finetune" else papers.make(
        "forget_vectors", "shift", name, scenario, SMALL, 0, params=params, options=OPTIONS)
    model = vector(spec) if name == MINE else evaluation.apply(spec)[0]
    rows = {(r["shift"], r["strength"]): r for r in studies.shift(spec).rows}
    same(rows["none", ""], shown(model, spec))
    d = spec.split().data
    g = torch.Generator().manual_seed(studies.SHIFT_SEED + spec.seed)
    for key, move in ((("Gaussian noise", "σ 0.2"), lambda x, y: shifts.gaussian_noise(x, 0.2, generator=g)),
                      (("Gaussian noise", "σ 0.4"), lambda x, y: shifts.gaussian_noise(x, 0.4, generator=g)),
                      (("elastic", "jitter 0.87"), lambda x, y: shifts.elastic(x, 17.4, 6.1, 0.87, generator=g)),
                      (("PGD", "ε 0.1"), lambda x, y: shifts.pgd(model, x, y, generator=g, epsilon=0.1, step=0.025, steps=2))):
        x, x_test = move(d.train_images, d.train_labels), move(d.test_images, d.test_labels)
        with torch.no_grad():
            z, z_test = model(x), model(x_test)

        def changed(old, old_test, z=z, z_test=z_test):
            old.copy_(z)
            old_test.copy_(z_test)
        same(rows.pop(key), shown(model, spec, changed))
    assert list(rows) == [("none", "")]


# --- arithmetic

@pytest.fixture(scope="module")
def plane():
    spec = small("arithmetic", options={"pair": [3, 7], "weights": [0, 0.5, 1]})
    return spec, studies.arithmetic(spec)


def of_class(model, spec, c, part="train"):
    d = spec.split().data
    x, y = (d.train_images, d.train_labels) if part == "train" else (d.test_images, d.test_labels)
    hit = torch.isin(y, torch.tensor(c if isinstance(c, list) else [c]))
    return accuracy(train.logits(model, x[hit]), y[hit])


@pytest.mark.parametrize("w1, w2", [(0, 0), (1, 0), (0, 1), (0.5, 1)])
def test_a_point_of_the_plane_is_the_weighted_sum_of_two_vectors(plane, classwise, w1, w2):
    """(0, 0) is the original, (1, 0) the first vector alone, (0, 1) the second."""
    spec, outcome = plane
    (row,) = [r for r in outcome.rows if (r["row"], r.get("w1"), r.get("w2")) == ("plane", w1, w2)]
    original = reference.trained(spec.original)[0]
    model = {(0, 0): original, (1, 0): ForgetVector(original, classwise[3]), (0, 1): ForgetVector(original, classwise[7])}.get(
        (w1, w2), ForgetVector(original, w1 * classwise[3] + w2 * classwise[7]))
    rest = [c for c in range(10) if c not in (3, 7)]
    assert [row[k] for k in ("acc_1", "acc_2", "acc_rest")] == pytest.approx([of_class(model, spec, c) for c in (3, 7, rest)])


def test_every_class_is_measured_under_every_vector_and_under_none(plane, classwise):
    spec, outcome = plane
    cross = {(r["vector"], r["class"]): r for r in outcome.rows if r["row"] == "cross"}
    assert set(cross) == {(i, c) for i in range(-1, 10) for c in range(10)} and outcome.metrics == {"n_forget": len(spec.split().forget)}
    original = reference.trained(spec.original)[0]
    for i, model in ((-1, original), (0, ForgetVector(original, classwise[0])), (9, ForgetVector(original, classwise[9]))):
        for c in (0, 4, 9):
            for part in ("train", "test"):
                assert cross[i, c][f"acc_{part}"] == pytest.approx(of_class(model, spec, c, part)), (i, c, part)
    angles = {(r["vector"], r["class"]): r["cosine"] for r in outcome.rows if r["row"] == "angle"}
    for i, j in ((0, 0), (2, 5), (5, 2), (9, 1)):
        a, b = classwise[i].flatten().double(), classwise[j].flatten().double()
        assert angles[i, j] == pytest.approx(float(a @ b / (a @ a * (b @ b)).sqrt()), abs=1e-5)
    assert len(angles) == 100 and sum(r["row"] == "plane" for r in outcome.rows) == 9


# --- where the network looks

def test_maps_are_those_of_grad_cam_for_the_true_label():
    spec = small("saliency", options={"images": 30, "side": 2})
    rows, s, d = studies.cam(spec).rows, spec.split(), spec.split().data
    models = {"original": reference.trained(spec.original)[0], MINE: vector(spec), "retrain": reference.trained(spec.retrained)[0]}
    for part, index in (("forget", s.forget), ("retain", s.retain)):
        step = math.ceil(len(index) / 30)
        chosen = index[list(range(0, len(index), step))]
        assert 15 <= len(chosen) <= 30
        maps = {m: saliency.grad_cam(v, d.train_images[chosen], d.train_labels[chosen], side=2) for m, v in models.items()}
        for m in (MINE, "retrain"):
            (row,) = [r for r in rows if (r["row"], r["model"], r.get("part")) == ("correlation", m, part)]
            pairs = [torch.stack([a.flatten(), b.flatten()]).double() for a, b in zip(maps["original"], maps[m], strict=True)]
            r = torch.stack([torch.corrcoef(pair)[0, 1] for pair in pairs])
            assert row["correlation"] == pytest.approx(float(r[r.isfinite()].mean()), abs=1e-4) and row["images"] == len(chosen)
    pictures = [r for r in rows if r["row"] == "map"]
    assert len(rows) == 19 and {r["model"] for r in pictures} == set(models) and len({r["role"] for r in pictures}) == 5
    for row in pictures:
        x, y = (d.train_images, d.train_labels) if row["part"] == "train" else (d.test_images, d.test_labels)
        one, label = x[row["image"]][None], y[row["image"]][None]
        wanted = saliency.grad_cam(models[row["model"]], one, label, side=2)[0].clamp(min=0)
        assert row["label"] == int(label) and row["predicted"] == int(models[row["model"]](one).argmax())
        assert torch.tensor(json.loads(row["map"])).flatten().tolist() == pytest.approx(wanted.flatten().tolist(), abs=6e-4)
        assert min(min(line) for line in json.loads(row["map"])) >= 0


def test_every_study_makes_a_record_that_can_be_written(plane):
    spec, outcome = plane
    assert canonical(outcome.rows) and canonical(outcome.metrics) and spec.study == "arithmetic"
    assert STUDIES["beta"].function is STUDIES["tau"].function is studies.sweep and STUDIES["saliency"].function is studies.cam
