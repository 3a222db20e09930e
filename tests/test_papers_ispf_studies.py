"""The plan and the studies of ISPF: which runs, and what they measure, on networks of a second."""

import time

import numpy as np
import pytest
import torch
from datafree import BUDGET, small

from unlearnlib import attacks, evaluation, metrics, papers, reference, train
from unlearnlib.filtering import postfilter
from unlearnlib.methods import METHODS
from unlearnlib.papers import settings
from unlearnlib.papers.ispf import studies

SNAPSHOTS = {"epochs": [1, 3], "points": 20, "pictures": 4}

# --- the plan


def planned(**changes):
    return papers.paper("ispf").plan(settings("ispf", "digits", **changes))


def test_extras_are_asked_for_in_the_focus_alone_and_snapshots_in_its_first_seed():
    for s in planned():
        wanted = {"relearn"} if s.method in ("retrain", "gkt_dfq", "ispf", "dfkd") else set()
        wanted |= ({"images"} if s.method == "ispf" else set()) | ({"snapshots"} if s.seed == 0 else set())
        assert set(s.settings) == (wanted if (s.study, s.scenario) == ("unlearn", "class:7") else set()), str(s)
    assert not any(s.settings for s in planned(extras=[]))
    assert {k for s in planned(focus="class:3") for k in s.settings if s.scenario == "class:7"} == set()


def test_where_several_classes_are_forgotten_only_some_methods_run_and_the_control_in_the_focus():
    every = {"original", "retrain", "gkt_dfq", "is_gkt", "pf", "ispf"}
    controls = {"dfkd", "mask_logit", "random_output", "head_only"}
    for scenario, wanted in (("class:7", every | controls | {"blockf"}), ("class:3", every),
                             ("class:3+7", {"original", "retrain", "gkt_dfq", "ispf"})):
        for seed in range(4):
            found = [s.method for s in planned() if (s.study, s.scenario, s.seed) == ("unlearn", scenario, seed)]
            assert set(found) == wanted and len(found) == len(wanted)


def test_the_studies_of_the_focus_have_seeds_and_settings_of_their_own():
    values = settings("ispf", "digits")
    own = [s for s in planned() if s.study != "unlearn"]
    assert {s.scenario for s in own} == {"class:7"}
    budget = values["methods"]["gkt_dfq"]["class"]
    longer = {(s.method, s.seed): s.hyper_parameters for s in own if s.study == "longer"}
    assert longer == {("gkt_dfq", 0): budget | {"epochs": 20}, ("gkt", 0): values["longer"]["methods"]["gkt"]}
    turned = [(s.method, s.seed, s.hyper_parameters) for s in own if s.study == "threshold"]
    assert turned == [("gkt_dfq", k, budget | {"threshold": 0.001}) for k in range(4)]
    two = [s.hyper_parameters["threshold"] for s in planned(threshold=values["threshold"] | {"seeds": 1, "thresholds": [0.2, 0.3]})
           if s.study == "threshold"]
    assert two == [0.2, 0.3]
    assert papers.paper("ispf").tuning(values) == []


# --- what a run measures

def followed(spec):
    """The method itself: (model, what it reported after each epoch, with the student's logits at that time)."""
    told = []

    def callback(*, epoch=0, **values):
        if epoch:
            told.append(values["measured"] | {"epoch": epoch, "z": train.logits(values["model"], spec.split().data.test_images),
                                              "x": studies.drawn(values["synthesis"], 256)})
    model = METHODS[spec.method].run(reference.trained(spec.original)[0], spec.split().access(), generator=spec.generator(),
                                     callback=callback, **spec.hyper_parameters)
    return model, told


def kind(rows, name):
    return [{k: v for k, v in row.items() if k != "row"} for row in rows if row["row"] == name]


@pytest.mark.parametrize("name, scenario, classes", [("ispf", "class:7", [7]), ("gkt_dfq", "class:3+7", [3, 7])])
def test_rows_by_epoch_are_the_student_measured_on_its_own(name, scenario, classes):
    spec = small(name, scenario, threshold=0.3)
    model, told = followed(spec)
    outcome = studies.unlearn(spec)
    y = spec.split().data.test_labels
    gone = torch.isin(y, torch.tensor(classes))
    found = kind(outcome.rows, "epoch")
    assert [row["epoch"] for row in found] == [1, 2, 3] and len(told) == 3
    for row, t in zip(found, told, strict=True):
        right = (t["z"].argmax(1) == y).double()
        assert row["acc_test_retain"] == pytest.approx(float(right[~gone].mean()))
        assert row["acc_test_forget"] == pytest.approx(float(right[gone].mean()))
        for key in ("predicted", "teacher"):
            assert row[f"{key}_forget"] == pytest.approx(sum(t[key][c] for c in classes))
        for key in ("kept", "updates", "skipped", "bn", "one_hot", "balance", "adversarial"):
            assert row[key] == t[key]
    last = told[-1]
    assert kind(outcome.rows, "class") == [{"class": k, "teacher": last["teacher"][k], "student": last["student"][k],
                                            "predicted": last["predicted"][k]} for k in range(10)]
    assert outcome.metrics["kept"] == pytest.approx(sum(t["kept"] for t in told) / 3)
    assert {row["row"] for row in outcome.rows} == {"epoch", "class"}           # extras only where asked for
    assert "batches" not in outcome.metrics and ("filter_conditional" in outcome.metrics) == (name == "ispf")
    z = train.logits(model, spec.split().data.test_images)                      # watching has changed nothing
    assert outcome.metrics["acc_test_retain"] == pytest.approx(float((z.argmax(1) == y)[~gone].double().mean()))


def test_the_filter_s_error_is_that_on_the_last_generator_s_images():
    spec = small("pf", threshold=0.05)
    outcome, (_, told) = studies.unlearn(spec), followed(spec)
    z = train.logits(reference.trained(spec.original)[0], told[-1]["x"])
    kept = [k for k in range(10) if k != 7]
    after = postfilter(z, [7], 0.05)
    assert outcome.metrics["filter_conditional"] == pytest.approx(float((after[:, kept].softmax(1) - z[:, kept].softmax(1)).abs().max()))
    assert outcome.metrics["filter_sum"] == pytest.approx(float((after.sum(1) - z.sum(1)).abs().max()))
    assert outcome.metrics["filter_conditional"] < 1e-5


def test_the_papers_attack_is_that_on_the_probability_of_the_label():
    spec = small("original")
    s, d = spec.split(), spec.split().data
    z_train, z_test = (reference.outputs(spec.original, part) for part in ("train", "test"))
    p = [metrics.label_probability(*pair) for pair in ((z_train[s.retain], d.train_labels[s.retain]), (z_test, d.test_labels),
                                                       (z_train[s.forget], d.train_labels[s.forget]))]
    outcome = studies.unlearn(spec)
    assert outcome.metrics["mia_confidence"] == pytest.approx(attacks.confidence_svc(*p)) and outcome.rows == []


@pytest.fixture(scope="module")
def asked():
    options = {"snapshots": SNAPSHOTS, "images": True, "relearn": {"lr": 0.01, "batches": 3, "batch_size": 16}}
    spec = small(options=options)
    return spec, studies.unlearn(spec)


def test_extras_are_measured_where_they_are_asked_for(asked):
    spec, outcome = asked
    assert {row["row"] for row in outcome.rows} == {"epoch", "class", "point", "picture", "relearn", "forgotten", "strip"}
    assert [r["batch"] for r in kind(outcome.rows, "relearn")] == [0, 1, 2, 3] and "target" in outcome.metrics
    other = studies.unlearn(small("gkt_dfq", options=spec.settings))
    assert {row["row"] for row in other.rows} == {row["row"] for row in outcome.rows}
    less = studies.unlearn(small("gkt_dfq", options={"relearn": spec.settings["relearn"]}))
    assert {row["row"] for row in less.rows} == {"epoch", "class", "relearn"}
    real = studies.unlearn(small("original", options=spec.settings))
    assert {row["row"] for row in real.rows} == {"real"} and "batches" not in real.metrics


def test_points_and_pictures_are_what_the_generator_draws(asked):
    spec, outcome = asked
    teacher = reference.trained(spec.original)[0]
    points = kind(outcome.rows, "point")
    assert [p["epoch"] for p in points] == [1] * 20 + [3] * 20
    pictures = kind(outcome.rows, "picture")
    assert len(pictures) == 4 and {p["shape"] for p in pictures} == {"1x8x8"}
    watch = studies.Watch(spec)
    evaluation.apply(spec, watch)                                               # its last generator
    for n, part in ((20, points[20:]), (4, pictures)):
        x = studies.drawn(watch.last["synthesis"], n)
        p = train.logits(teacher, x).softmax(1)
        assert [r["predicted"] for r in part] == p.argmax(1).tolist()
        if n == 20:
            at = watch.plane(studies.features(teacher, x))
            assert [r["p_forget"] for r in part] == pytest.approx(p[:, 7].tolist())
            assert np.array([[r["x"], r["y"]] for r in part]) == pytest.approx(at)
        else:
            assert [r["p_predicted"] for r in part] == pytest.approx(p.max(1).values.tolist())
            for r, image in zip(part, x, strict=True):
                back = torch.tensor(list(bytes.fromhex(r["pixels"]))).view(1, 8, 8) / 255
                assert float((back - image).abs().max()) <= 0.5 / 255 + 1e-6


def test_the_plane_is_that_of_the_real_images_alone():
    spec = small("original", options={"snapshots": SNAPSHOTS})
    watch = studies.Watch(spec)
    teacher, d = reference.trained(spec.original)[0], spec.split().data
    f = studies.features(teacher, d.test_images[:1000]).double().numpy()
    _, _, v = np.linalg.svd(f - f.mean(0), full_matrices=False)
    rows = watch.real()
    assert [r["label"] for r in rows] == d.test_labels[:1000].tolist()
    for of, where in ((f, rows), (10 * f[:5] + 3, None)):                       # synthetic ones, far away, do not move it
        found = np.array([[r["x"], r["y"]] for r in where]) if where else watch.plane(torch.tensor(of).float())
        wanted = (of - f.mean(0)) @ v[:2].T
        for k in range(2):
            sign = np.sign((found[:, k] * wanted[:, k]).sum())
            assert found[:, k] == pytest.approx(sign * wanted[:, k], abs=1e-3 * np.abs(wanted).max())


def test_the_time_of_watching_is_no_cost_of_the_method():
    spec = small(epochs=1)
    seen = []

    def slow(**values):
        seen.append(values)
        time.sleep(0.5 if values.get("epoch") else 0)
    started = time.perf_counter()
    model, timing = evaluation.apply(spec, slow)
    whole = time.perf_counter() - started
    assert timing["seconds"] <= whole - 0.5 and [v["epoch"] for v in seen if "epoch" in v] == [1]
    assert timing["epochs"] == pytest.approx(sum(v["images"] * (1 if v["backward"] else 1 / 3) for v in seen) / 1000)
    again, plain = evaluation.apply(spec)
    assert plain["epochs"] == pytest.approx(timing["epochs"])
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    evaluation.apply(small("original"), lambda **_: seen.append(None))
    assert None not in seen                                                     # a reference model has no steps


def test_what_a_run_is_likely_to_cost():
    cost = studies.STUDIES["unlearn"].epochs
    assert cost(small()) == 2 * 3 * 2 * 2 * 16 / 1000 and cost(small("retrain")) == 0 == cost(small("original"))
    assert cost(small("gkt", pseudo_batches=7, student_steps=3)) == 2 * 7 * 3 * 16 / 1000 and BUDGET["rounds"] == 2
