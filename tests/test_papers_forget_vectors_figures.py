"""The figures of Forget Vectors on made-up sessions: what was drawn is what the records say."""

import itertools
import json

import matplotlib.pyplot as plt
import numpy as np
import pytest
from datafree import of
from fvectors import (
    ATTACK,
    BOTH,
    CLASS,
    FOUR,
    MINE,
    MIXED,
    RANDOM,
    SHARED,
    SINGLE,
    UNION,
    World,
    gap_of,
    gaps,
    mean_gap,
    mixed,
    noisy,
    swept,
    there,
    values,
)
from fvectors import rows as rows_in

from unlearnlib import data, tables
from unlearnlib.claims import interval
from unlearnlib.papers.forget_vectors import FIGURES
from unlearnlib.papers.forget_vectors.claims import USED
from unlearnlib.plots import label

METRICS = ("ua", *FOUR[1:])


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def noise():
    return World(edit=noisy, images=True)


@pytest.fixture
def drawn(noise):
    return lambda name: FIGURES[name](noise)


def is_interval(row, seeds):
    """Mean, half width and number of seeds of a line of the table."""
    wanted = interval(list(seeds))
    assert (row["mean"], row["half"], row["n"]) == (pytest.approx(wanted.mean), pytest.approx(wanted.half), 3)


def one(frame, **where):
    for key, value in where.items():
        frame = frame[frame[key] == value]
    assert len(frame) == 1, where
    return frame.iloc[0]


def marks(ax):
    """The centres of the error bars, by the label of their line."""
    return {c.get_label(): np.asarray(c.lines[0].get_xydata(), dtype=float) for c in ax.containers if not c.get_label().startswith("_")}


def points(ax):
    return np.concatenate([np.asarray(c.lines[0].get_xydata(), dtype=float) for c in ax.containers])


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_can_be_drawn_and_says_what_it_shows(drawn, name):
    figure, numbers = drawn(name)
    assert len(numbers) >= 3
    titles = [figure.get_suptitle(), *(ax.get_title(loc=at) for ax in figure.axes for at in ("left", "center", "right"))]
    assert any(titles) and not any("nan" in text.lower() for text in titles)
    for ax in figure.axes:
        if ax.axison and not ax.get_label().startswith("<colorbar"):
            shared = ax.get_xlabel() or name in ("strip", "ruler")
            assert shared and len(ax.get_xticklabels()) + len(ax.texts) > 0, ax.get_title(loc="left")


@pytest.mark.parametrize("name, order", [
    ("wrong_way", ["vector removed", "noise of the same norm", "learned without retain loss", USED]),
    ("controls", [USED, "vector removed", "on the forget set alone", "attack fitted to clean images",
                  "pixels clamped to [0, 1]"])])
def test_controls_stand_beside_the_retrained_model_of_their_scenario(noise, drawn, name, order):
    figure, numbers = drawn(name)
    assert set(numbers.name) == set(order) and len(numbers) == len(order) * 2 * 4
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == order
    for ax, metric in zip(figure.axes, METRICS, strict=False):
        key, flip = ("acc_forget", 1) if metric == "ua" else (metric, 0)
        wanted = set()
        for (k, scenario), (y, control) in itertools.product(enumerate(BOTH), enumerate(order)):
            seeds = abs(flip - rows_in(noise, scenario, "controls", "control", "as in the paper" if control == USED else control, key))
            is_interval(one(numbers, name=control, scenario=scenario, metric=metric), seeds)
            wanted.add((round(100 * seeds.mean(), 6), round(y + 0.2 * (2 * k - 1), 6)))
        assert {(round(x, 6), round(y, 6)) for x, y in points(ax)} == wanted
        goals = {line.get_label(): line.get_xdata()[0] for line in ax.lines if line.get_label().startswith("retrained")}
        assert goals == {f"retrained, {s}": pytest.approx(100 * abs(flip - values(noise, "retrain", key, [s])).mean()) for s in BOTH}


def test_random_samples_stand_against_the_diagonal(noise, drawn):
    figure, numbers = drawn("random")
    start, goal = (of(noise, m, RANDOM) for m in ("original", "retrain"))
    controls = of(noise, MINE, RANDOM, "controls")
    runs = {"original": [r.metrics for r in start], "retrained": [r.metrics for r in goal],
            "noise of the same norm": [next(x for x in r.rows if x["control"].startswith("noise")) for r in controls]}
    runs |= {f"vector, β = {b}": [x[b] for x in swept(noise, "beta", RANDOM)] for b in (1, 5, 10)}
    assert numbers.name.tolist() == list(runs) == [t.get_text() for t in figure.axes[0].get_legend().get_texts()]
    assert figure.axes[0].get_title(loc="left").startswith("Random samples") and not figure.axes[0].texts
    for name, seeds in runs.items():
        row = one(numbers, name=name)
        for key, mean, half in (("acc_forget", row.ua, row.ua_half), ("acc_retain", row.lost, row.lost_half)):
            wanted = interval([100 * (1 - x[key]) for x in seeds])
            assert (mean, half) == (pytest.approx(wanted.mean), pytest.approx(wanted.half))
        assert marks(figure.axes[0])[name][0] == pytest.approx([row.lost, row.ua])
        beyond = [o.metrics["acc_forget"] - x["acc_forget"] - o.metrics["acc_retain"] + x["acc_retain"]
                  for x, o in zip(seeds, start, strict=True)]
        assert row.beyond == pytest.approx(np.mean(beyond)) and row.half == pytest.approx(interval(beyond).half)
    without = World(studies=["controls"]).figure("random")
    assert "the vector on every image" in set(without.drawn.name)


def test_methods_show_the_gap_of_each(noise, drawn):
    figure, numbers = drawn("methods")
    for k, (name, scenarios) in enumerate((("one class", SHARED), ("random samples", (RANDOM,)))):
        shown = ["original", MINE, *([MIXED] if k else []), *there(noise, scenarios[0])]
        assert numbers[numbers.group == name].method.tolist() == shown
        for m in shown:
            is_interval(one(numbers, group=name, method=m), mean_gap(noise, m, scenarios))
        top, bottom = figure.axes[k], figure.axes[k + 2]
        assert [t.get_text() for t in bottom.get_yticklabels()] == [label(m) for m in shown]
        assert points(bottom)[:, 0] == pytest.approx([100 * mean_gap(noise, m, scenarios).mean() for m in shown])
        moved = float(top.get_xlabel().split()[-1].strip(")")) + 0.05           # to the side, so that none hides another
        assert marks(top)[label(MINE)][0][0] == pytest.approx(100 * (1 - values(noise, MINE, "acc_forget", scenarios)).mean(), abs=moved)
        assert marks(top)[label(MINE)][0][1] == pytest.approx(100 * values(noise, MINE, "acc_test", scenarios).mean())
        assert set(marks(top)) == {label(m) for m in ("retrain", *shown)}
        seeds = [line.get_xydata() for line in top.lines if line.get_markersize() == 4 and line.get_marker() not in ("_", "|", "None")]
        assert sum(len(xy) == 3 for xy in seeds) == len(shown) + 1


def test_vectors_are_those_of_the_first_seed_class_by_class(noise, drawn):
    figure, numbers = drawn("vectors")
    assert numbers["class"].tolist() == [3, 7, 8] and set(numbers.seed) == {0}
    for k, scenario in enumerate(SINGLE):
        pixels = np.array(next(json.loads(x["pixels"]) for x in of(noise, MINE, scenario)[0].rows if x["row"] == "delta"))
        assert (numbers.norm[k], numbers.largest[k]) == (pytest.approx(np.linalg.norm(pixels), rel=1e-5), pytest.approx(abs(pixels).max()))
        image, vector, both = (np.asarray(figure.axes[k + 3 * line].images[0].get_array()) for line in range(3))
        assert vector == pytest.approx(pixels.reshape(8, 8), abs=1e-6)
        d = data.load("digits")
        first = d.test_images[int((d.test_labels == int(scenario[-1])).nonzero()[0])][0].numpy()
        assert image == pytest.approx(first.clip(0, 1), abs=1e-6)
        assert both == pytest.approx((first + pixels.reshape(8, 8)).clip(0, 1), abs=1e-6)
        assert figure.axes[k].get_title(loc="center") == d.class_names[int(scenario[-1])]


@pytest.mark.parametrize("name, stops, used", [("beta", [1, 5, 10], {CLASS: 5, RANDOM: 1}), ("tau", [0, 1, 5], {CLASS: 1, RANDOM: 1})])
def test_sweeps_are_means_and_the_setting_in_use_is_marked(noise, drawn, name, stops, used):
    figure, numbers = drawn(name)
    assert len(numbers) == 2 * 3 * 5
    for ax, metric in zip(figure.axes, (*METRICS, "avg_gap"), strict=False):
        shown = {line.get_label(): np.asarray(line.get_xydata(), dtype=float) for line in ax.lines}
        for s in BOTH:
            lines = swept(noise, name, s)
            seeds = {v: [gap_of(x[v], b) if metric == "avg_gap" else 1 - x[v]["acc_forget"] if metric == "ua" else x[v][metric]
                         for x, b in zip(lines, of(noise, "retrain", s), strict=True)] for v in stops}
            for v in stops:
                is_interval(one(numbers, scenario=s, value=v, metric=metric), seeds[v])
            assert shown[f"vector, {s}"][:, 0].tolist() == stops
            assert shown[f"vector, {s}"][:, 1] == pytest.approx([100 * np.mean(seeds[v]) for v in stops])
            assert [used[s], pytest.approx(100 * np.mean(seeds[used[s]]))] in [line.get_xydata()[0].tolist() for line in ax.lines
                                                                             if line.get_marker() == "o"]
            assert shown[f"original, {s}"][0, 1] == pytest.approx(100 * (
                mean_gap(noise, "original", [s]) if metric == "avg_gap" else 1 - values(noise, "original", "acc_forget", [s])
                if metric == "ua" else values(noise, "original", metric, [s])).mean())
            assert (f"retrained, {s}" in shown) == (metric != "avg_gap")
    assert figure.axes[0].get_xlabel().startswith(("weight", "margin"))


def test_shifts_are_rows_and_models_are_marks(noise, drawn):
    figure, numbers = drawn("shift")
    names = ["none", "Gaussian noise σ 0.2", "Gaussian noise σ 0.4", "elastic jitter 0.87", "PGD ε 0.1"]
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == names and len(numbers) == 5 * 4 * 2 * 4
    for (i, s), (j, metric) in itertools.product(enumerate(BOTH), enumerate(METRICS)):
        ax = figure.axes[4 * i + j]
        assert s in figure.axes[4 * i].get_title(loc="left")
        for m in ("original", "retrain", "finetune", MINE):
            key = "acc_forget" if metric == "ua" else metric
            seeds = np.array([[x[key] for x in r.rows] for r in of(noise, m, s, "shift")]).T
            seeds = 1 - seeds if metric == "ua" else seeds
            for name, line in zip(names, seeds, strict=True):
                is_interval(one(numbers, name=name, method=m, scenario=s, metric=metric), line)
            assert marks(ax)[label(m)][:, 0] == pytest.approx(100 * seeds.mean(axis=1))


def cells(ax):
    """{(column, row): number} of the printed cells."""
    return {tuple(int(v) for v in t.get_position()): float(t.get_text()) for t in ax.texts}


def test_the_plane_and_the_cross_table_print_their_means(noise, drawn):
    runs = of(noise, MINE, CLASS, "arithmetic")
    figure, numbers = drawn("plane")
    weights = [-1, 0, 0.5, 1]
    assert len(numbers) == 3 * 16 and "class 3" in figure.axes[0].get_title(loc="left")
    assert figure.axes[0].get_xlabel() == "weight of the vector of 3" and figure.axes[0].get_ylabel() == "weight of the vector of 7"
    for ax, metric in zip(figure.axes, ("acc_1", "acc_2", "acc_rest"), strict=False):
        shown = cells(ax)
        for (i, a), (j, b) in itertools.product(enumerate(weights), enumerate(weights)):
            seeds = [next(x[metric] for x in r.rows if (x["row"], x.get("w1"), x.get("w2")) == ("plane", a, b)) for r in runs]
            is_interval(one(numbers, w1=a, w2=b, metric=metric), seeds)
            assert shown[i, j] == pytest.approx(100 * np.mean(seeds), abs=0.56)
    figure, numbers = drawn("cross")
    left, right = cells(figure.axes[0]), cells(figure.axes[1])
    assert len(left) == 110 and len(right) == 100 and len(numbers) == 210
    for i, c in ((-1, 0), (0, 9), (4, 4), (9, 2)):
        under = [next(x["acc_test"] for x in r.rows if (x["row"], x.get("vector"), x.get("class")) == ("cross", i, c)) for r in runs]
        is_interval(one(numbers, metric="acc_test", vector=i, **{"class": c}), under)
        assert left[c, i + 1] == pytest.approx(100 * np.mean(under), abs=0.56)
        if i >= 0:
            angle = [next(x["cosine"] for x in r.rows if (x["row"], x.get("vector"), x.get("class")) == ("angle", i, c)) for r in runs]
            is_interval(one(numbers, metric="cosine", vector=i, **{"class": c}), angle)
            assert right[c, i] == pytest.approx(np.mean(angle), abs=0.051)


def test_composition_has_weights_and_what_each_mix_comes_to(noise, drawn):
    figure, numbers = drawn("composition")
    left, right = figure.axes[:2]
    dots = marks(left)
    for s in (RANDOM, UNION):
        w = np.array([[x["w"] for x in r.rows if x["row"] == "weight"] for r in of(noise, MIXED, s)]).T
        for k in range(10):
            is_interval(one(numbers, metric="w", scenario=s, **{"class": k}), w[k])
        assert dots[s][:, 1] == pytest.approx(w.mean(axis=1))
        is_interval(one(numbers, metric="avg_gap", scenario=s, mix="learned w"), gaps(noise, MIXED, s))
        is_interval(one(numbers, metric="avg_gap", scenario=s, mix="direct vector"), gaps(noise, MINE, s))
    names = [t.get_text() for t in right.get_yticklabels()]
    for name in ("mean (w = 1/K)", "sum (w = 1)"):
        is_interval(one(numbers, metric="avg_gap", scenario=RANDOM, mix=name), mixed(noise, name))
        y, x = names.index(name), 100 * mixed(noise, name).mean()
        assert any(abs(a - x) < 1e-6 and abs(b - y) < 0.3 for a, b in points(right))
    lines = {line.get_label(): line.get_xdata()[0] for line in right.lines if line.get_label().startswith("original")}
    assert lines == {f"original, {s}": pytest.approx(100 * gaps(noise, "original", s).mean()) for s in (RANDOM, UNION)}


def test_a_whisker_that_the_axis_cuts_is_named(drawn):
    """Avg.Gap and UA of one method on random samples, of seeds far apart."""
    far = World(edit=lambda spec, metrics, rows: metrics.update(acc_forget=(0.8, 0.45, 0.8)[spec.seed]) if (
        spec.scenario, spec.method) == (RANDOM, "salun") else None)
    axes = FIGURES["methods"](far)[0].axes
    assert ["cut at the axis" in ax.get_xlabel() for ax in axes[:4]] == [False, True, False, True]
    assert not any("cut at the axis" in ax.get_xlabel() for ax in FIGURES["methods"](World())[0].axes)


def test_transfer_has_training_and_unseen_images_class_by_class(noise, drawn):
    figure, numbers = drawn("transfer")
    for ax, metric in zip(figure.axes, ("acc_forget", "acc_test_forget"), strict=True):
        for m in ("original", MINE, "retrain"):
            seeds = [values(noise, m, metric, [s]) for s in SINGLE]
            for s, line in zip(SINGLE, seeds, strict=True):
                is_interval(one(numbers, method=m, metric=metric, scenario=s), line)
            assert sorted(marks(ax)[label(m)].tolist()) == pytest.approx(np.array([[c, 100 * v.mean()] for c, v in zip(
                (3, 7, 8), seeds, strict=True)]), abs=0.2)
        assert [t.get_text() for t in ax.get_xticklabels()] == ["3", "7", "8"]


def test_maps_and_single_images(noise, drawn):
    figure, numbers = drawn("saliency")
    maps = [x for x in of(noise, MINE, CLASS, "saliency")[0].rows if x["row"] == "map"]
    assert {(x.model, x.role, x.map) for x in numbers.itertuples()} == {(x["model"], x["role"], x["map"]) for x in maps}
    for x in numbers.itertuples():
        mine, first = (json.loads(next(m["map"] for m in maps if (m["model"], m["role"]) == (name, x.role)))
                       for name in (x.model, "original"))
        assert x.r == pytest.approx(np.corrcoef(np.ravel(mine), np.ravel(first))[0, 1])
    assert set(numbers.seed) == {0}                                             # one network is shown, and the stamp says so
    r = {m: one(numbers, model=m, role="role 0").r for m in ("retrain", MINE)}
    assert [figure.axes[k].get_title(loc="center") for k in (5, 10, 15)] == [
        "says 3", f"says 5, r = {r['retrain']:.2f}", f"says 4, r = {r[MINE]:.2f}"]                                # made up so
    assert "role 0" in figure.axes[0].get_title(loc="center") and len(figure.axes) == 20
    for name, kind in (("strip", "strip"), ("forgotten", "forgotten")):
        shown = drawn(name)[1]
        recorded = [x for r in of(noise, MINE, CLASS)[:1 if name == "strip" else 3] for x in r.rows if x["row"] == kind]
        assert shown.p_label.tolist() == [x["p_label"] for x in recorded] and shown.model.tolist() == [x["model"] for x in recorded]


def test_cost_counts_the_vectors_that_are_mixed(noise, drawn):
    figure, numbers = drawn("cost")
    for k, (name, scenarios) in enumerate((("one class", SHARED), ("random samples", (RANDOM,)))):
        for m in (MINE, "ssd", "retrain", *([MIXED] if k else [])):
            epochs = values(noise, m, "epochs", scenarios)
            if m in (MIXED, MINE):
                epochs = epochs + values(noise, m, "epochs_vectors", scenarios)
            part = numbers[(numbers.group == name) & (numbers.method == m)].sort_values("seed")
            assert part.epochs.tolist() == pytest.approx(epochs) and part.avg_gap.tolist() == pytest.approx(mean_gap(noise, m, scenarios))
            if m != "retrain":
                at = [epochs.mean(), 100 * mean_gap(noise, m, scenarios).mean()]
                assert marks(figure.axes[k])[label(m)][0] == pytest.approx(at)
        goal = next(line for line in figure.axes[k].lines if line.get_label() == "cost of retraining")
        assert goal.get_xdata()[0] == pytest.approx(values(noise, "retrain", "epochs", scenarios).mean())


def test_the_ruler_is_that_of_the_focus(noise, drawn):
    _, numbers = drawn("ruler")
    assert set(numbers.method) == {"original", "retrain", MINE, *there(noise, CLASS)}
    for metric in (ATTACK, "acc_test_forget", "loss_forget"):
        start, end = (values(noise, m, metric, [CLASS]).mean() for m in ("original", "retrain"))
        row = one(numbers, metric=metric, method=MINE)
        assert row.raw == pytest.approx(values(noise, MINE, metric, [CLASS]).mean())
        assert row.position == pytest.approx((row.raw - start) / (end - start))


def test_the_data_are_three_forgotten_and_five_kept_images(drawn):
    figure, numbers = drawn("data")
    assert numbers.set.tolist() == ["forget"] * 3 + ["retain"] * 5
    assert set(numbers.label[:3]) == {3} and 3 not in set(numbers.label[3:]) and len(figure.axes) == 16


def test_figures_of_what_a_session_lacks_say_so():
    less = World(studies=[], without=(MIXED,))
    for name in FIGURES:
        shown = less.figure(name)
        lacks = name in ("wrong_way", "controls", "random", "beta", "tau", "shift", "plane", "cross", "composition",
                         "saliency", "strip", "forgotten")
        assert isinstance(shown, tables.Markdown) == lacks, name
        assert ("ot available" in repr(shown)) == lacks and "\n" not in repr(shown)
