"""The figures of ISPF on made-up sessions: what is drawn against numbers looked up in the records."""

import statistics

import matplotlib.pyplot as plt
import numpy as np
import pytest
from datafree import World, at_epoch, end, epochs, every, like_cifar10, metric, of
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex

from unlearnlib import data, tables
from unlearnlib.claims import interval
from unlearnlib.papers import NotAvailable
from unlearnlib.papers.ispf import FIGURES
from unlearnlib.papers.ispf.figures import KINDS, STRATEGIES, _image, kinds, knob
from unlearnlib.plots import STYLE, label


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def world():
    return World(full=True)


@pytest.fixture(scope="module")
def small():
    return World(values=like_cifar10(), full=True)


def lines(ax):
    return {line.get_label(): np.asarray(line.get_xydata(), dtype=float) for line in ax.lines if not line.get_label().startswith("_")}


def points_of(numbers):
    return {(r["method"], r["metric"], r["epoch"]): (r["mean"], r["half"], r["n"]) for r in numbers.to_dict("records")}


CURVES = {"wrong_way": [("kept", ["blockf", "gkt_dfq"]), ("acc_test_forget", ["blockf", "gkt_dfq", "dfkd"])],
          "accuracy": [(m, [*STRATEGIES, "dfkd"]) for m in ("acc_test_retain", "acc_test_forget")],
          "filtering": [(m, [*STRATEGIES, "dfkd"]) for m in ("predicted_forget", "kept")]}


@pytest.mark.parametrize("name", CURVES)
def test_curves_are_means_over_seeds_of_the_focus_by_epoch(world, name):
    figure, numbers = FIGURES[name](world)
    found, wanted = points_of(numbers), set()
    for ax, (key, methods) in zip(figure.axes, CURVES[name], strict=True):
        drawn = lines(ax)
        assert set(drawn) - {"original", "retrained"} == {label(m) for m in methods}
        for method in methods:
            values = [at_epoch(world, method, key, e) for e in range(1, 11)]
            assert drawn[label(method)][:, 0].tolist() == list(range(1, 11))
            assert drawn[label(method)][:, 1] == pytest.approx([100 * statistics.mean(v) for v in values])
            for epoch, v in enumerate(values, 1):
                wanted.add((method, key, epoch))
                assert found[method, key, epoch] == pytest.approx((interval(v).mean, interval(v).half, 3))
        for reference, text in (("original", "original"), ("retrain", "retrained")):
            if text in drawn:
                assert drawn[text][:, 1] == pytest.approx(100 * statistics.mean(metric(world, reference, key)))
    assert set(found) == wanted and len(numbers) == len(wanted)                 # exactly what was drawn
    if name != "filtering":
        assert {"original", "retrained"} <= set(drawn)


def test_the_dashed_lines_are_those_of_balanced_classes(world):
    for name, at in (("wrong_way", 90), ("filtering", 10)):
        figure, _ = FIGURES[name](world)
        assert [line.get_ydata()[0] for line in figure.axes[0].lines if line.get_linestyle() == "-."] == [pytest.approx(at)]


def coinciding(ax):
    return [t.get_text() for t in ax.texts if ":" in t.get_text()]


def flat(level, **of_method):
    """A_f of every filtered strategy at a level in every epoch, and of some at another."""
    return World(edit=every(*(epochs(m, acc_test_forget=of_method.get(m, level)) for m in STRATEGIES)))


def test_lines_that_lie_on_each_other_are_named(world):
    assert coinciding(FIGURES["filtering"](world)[0].axes[1]) == ["PostFilter, ISPF, control: no filter: 100 %"]
    assert coinciding(FIGURES["accuracy"](flat(0.0))[0].axes[1]) == ["all filtered strategies: 0 %"]
    assert coinciding(FIGURES["accuracy"](flat(0.0, blockf=0.005))[0].axes[1]) == ["all filtered strategies: 0 to 0.5 %"]
    assert coinciding(FIGURES["accuracy"](flat(0.0, blockf=0.02))[0].axes[1]) == ["GKT, GKT + IS, PostFilter, ISPF: 0 %"]
    assert coinciding(FIGURES["wrong_way"](flat(0.0))[0].axes[1]) == ["BlockF, GKT: 0 %"]
    assert coinciding(FIGURES["wrong_way"](flat(0.0, blockf=0.02))[0].axes[1]) == []        # one line alone needs no name


def test_dots_are_mean_probabilities_of_classes_and_the_forgotten_one_is_shaded(world):
    figure, numbers = FIGURES["classes"](world)
    for ax, method in zip(figure.axes, STRATEGIES, strict=True):
        assert ax.get_title(loc="left") == label(method) and ax.get_yscale() == "log"
        for dots, who in zip(ax.containers, ("teacher", "student"), strict=True):
            values = [statistics.mean(r[who] for x in of(world, method) for r in x.rows if r["row"] == "class" and r["class"] == k)
                      for k in range(10)]
            assert dots.get_label() == who and dots.lines[0].get_ydata().tolist() == pytest.approx([100 * v for v in values])
            part = numbers[(numbers.method == method) & (numbers.who == who)].sort_values("class")
            assert part["mean"].tolist() == pytest.approx(values) and set(part.n) == {3}
        (shade,) = [p for p in ax.patches if p.get_alpha() == 0.12]
        assert shade.get_x() + shade.get_width() / 2 == pytest.approx(7)
    assert len(numbers) == 5 * 2 * 10


def test_pictures_are_those_of_the_first_seed_below_real_ones(world):
    figure, numbers = FIGURES["pictures"](world)
    d = data.load("digits")
    assert len(figure.axes) == 60 and len(numbers) == 50 and set(numbers.method) == set(STRATEGIES) and set(numbers.seed) == {0}
    assert "framed: 7, the forgotten class" in figure._suptitle.get_text()
    for k, ax in enumerate(figure.axes):
        line, column = divmod(k, 10)
        assert len(ax.patches) == ax.get_title().startswith("7")                # framed
        shown = np.asarray(ax.images[0].get_array())
        if line == 0:
            assert shown == pytest.approx(d.test_images[column, 0].clamp(0, 1).numpy())
            assert ax.get_title() == d.class_names[int(d.test_labels[column])]
        else:
            row = [r for r in of(world, STRATEGIES[line - 1])[0].rows if r["row"] == "picture"][column]
            assert shown == pytest.approx(np.frombuffer(bytes.fromhex(row["pixels"]), np.uint8).reshape(8, 8) / 255)
            assert ax.get_title() == f"{row['predicted']} ({100 * row['p_predicted']:.0f} %)"
    assert [figure.axes[10 * k].texts[0].get_text() for k in range(6)] == ["real", *map(label, STRATEGIES)]


def test_an_image_has_the_shape_that_was_kept(world):
    row = world.rows("unlearn").query("row == 'picture'").rename(columns={"shape": "shape_"}).iloc[0]
    assert tuple(_image(row).shape) == (1, 8, 8)
    assert _image(row.replace("1x8x8", "2x4x8")).flatten().tolist() == list(bytes.fromhex(row.pixels))


def test_red_yellow_and_blue_are_by_the_answer_and_the_gate(world):
    found = kinds(world)
    raw = [(m, p) for m in [*STRATEGIES, "dfkd"] for p in of(world, m)[0].rows if p["row"] == "point"]
    assert len(found) == len(raw) == 6 * 90 and set(found.seed) == {0}
    wanted = ["R" if p["predicted"] == 7 else "Y" if p["p_forget"] >= 0.01 else "B" for _, p in raw]
    keys = {(m, p["epoch"], p["x"], p["y"]): k for (m, p), k in zip(raw, wanted, strict=True)}
    assert {(r.method, r.epoch, r.x, r.y): r.kind for r in found.itertuples()} == keys
    assert {p["p_forget"] for _, p in raw} == {0.0, 0.0099, 0.01, 0.5} and {"R", "Y", "B"} == set(wanted)


def test_the_threshold_of_the_runs_is_that_of_the_colours():
    values = like_cifar10()
    values["methods"] = {k: {"class": v["class"] | {"threshold": 0.3}} for k, v in values["methods"].items()}
    found = kinds(World(values=values, full=True))
    assert set(found[(found.kind == "Y")].p_forget) == {0.5} and 0.01 in set(found[found.kind == "B"].p_forget)


def test_the_embedding_shows_three_strategies_at_three_epochs(world):
    figure, numbers = FIGURES["embedding"](world)
    found = kinds(world)
    for k, ax in enumerate(figure.axes):
        method, epoch = ("gkt_dfq", "is_gkt", "ispf")[k // 3], (1, 5, 10)[k % 3]
        part = found[(found.method == method) & (found.epoch == epoch)]
        shares = ", ".join(f"{c} {100 * (part.kind == c).mean():.0f} %" for c in "RYB")
        assert ax.get_title(loc="left") == f"{label(method)}, epoch {epoch}: {shares}"
        for (kind, (_, colour)), dots in zip(KINDS.items(), [c for c in ax.collections if isinstance(c, PathCollection)][:3], strict=True):
            k = part[part.kind == kind]
            assert np.asarray(dots.get_offsets()) == pytest.approx(k[["x", "y"]].to_numpy()) and to_hex(dots.get_facecolor()[0]) == colour
    assert set(numbers.method) == {"gkt_dfq", "is_gkt", "ispf"} and len(numbers) == 270
    axes = [label for ax in figure.axes for label in (ax.xaxis.label, ax.yaxis.label)]
    assert sum(bool(text.get_text()) and text.get_visible() for text in axes) == 6      # those of the last row and of the first column


def test_scenarios_are_means_at_the_end_in_the_order_of_the_preset(world):
    figure, numbers = FIGURES["scenarios"](world)
    wanted = list(world.settings["scenarios"])
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == wanted
    for ax, key in zip(figure.axes, ("acc_test_retain", "acc_test_forget", "kept"), strict=True):
        assert ax.get_yticks().tolist() == [0, 1, 2] and ax.get_xlim() == (-3, 104)
        for scenario in wanted:
            for method in ("retrain", "gkt_dfq", "ispf", *(("pf",) if "+" not in scenario else ())):
                part = numbers[(numbers.metric == key) & (numbers.method == method) & (numbers.scenario == scenario)]
                if key == "kept" and method == "retrain":
                    assert part.empty
                    continue
                values = at_epoch(world, method, key, 10, scenario) if key == "kept" else metric(world, method, key, scenario)
                assert part["mean"].iloc[0] == pytest.approx(statistics.mean(values))
                assert any(abs(c.lines[0].get_xydata()[0][0] - 100 * statistics.mean(values)) < 1e-6 and
                           abs(c.lines[0].get_xydata()[0][1] - wanted.index(scenario)) < 0.45 for c in ax.containers)


def test_the_knob_has_the_study_the_published_threshold_and_none(world):
    found = knob(world)
    assert found.groupby("hp_threshold").size().to_dict() == {0.001: 2, 0.01: 2, 0.1: 2, 1.0: 2} and set(found.seed) == {0, 1}
    assert found[found.hp_threshold == 0.01].kept.tolist() == metric(world, "gkt_dfq", "kept")[:2]
    assert set(found[found.hp_threshold == 1].method) == {"dfkd"} and set(found[found.hp_threshold < 1].method) == {"gkt_dfq"}
    figure, numbers = FIGURES["threshold"](world)
    for ax, key in zip(figure.axes, ("kept", "acc_test_retain", "acc_test_forget"), strict=True):
        (container,) = ax.containers
        turned = {r.spec.hyper_parameters["threshold"]: [] for r in of(world, "gkt_dfq", study="threshold")}
        for r in of(world, "gkt_dfq", study="threshold"):
            turned[r.spec.hyper_parameters["threshold"]].append(r.metrics[key])
        assert [t.get_text() for t in ax.get_xticklabels()] == ["0.001\nstricter", "0.01\npaper", "0.1", "1\noff"]
        drawn = lines(ax)
        assert container.get_label() == "GKT, threshold varied"
        assert set(drawn) >= ({"original", "retrained"} if key != "kept" else set())
        if key != "kept":                                                       # of the seeds of the study
            for who, name in (("original", "original"), ("retrained", "retrain")):
                assert drawn[who][0, 1] == pytest.approx(100 * statistics.mean(metric(world, name, key)[:2]))
        turned |= {0.01: metric(world, "gkt_dfq", key)[:2], 1.0: metric(world, "dfkd", key)[:2]}
        assert np.asarray(container.lines[0].get_xydata(), dtype=float) == pytest.approx(
            np.array([[t, 100 * statistics.mean(turned[t])] for t in (0.001, 0.01, 0.1, 1.0)]))
        assert sorted(numbers[key]) == sorted(sum(turned.values(), []))


@pytest.mark.parametrize("seeds", [1, 2])
def test_longer_runs_show_three_curves_a_method(world, seeds):
    world = World(longer=world.settings["longer"] | {"seeds": seeds})
    figure, numbers = FIGURES["longer"](world)
    keys, rows = ("acc_test_retain", "acc_test_forget", "kept"), numbers.set_index(["method", "seed", "epoch"])
    for ax, (method, last, step) in zip(figure.axes, (("gkt_dfq", 30, 1), ("gkt", 10, 4)), strict=True):     # 4 pseudo-batches a row
        drawn = [line for line in ax.lines if len(line.get_xdata()) > 2]
        levels = [line.get_ydata()[0] for line in ax.lines if len(line.get_xdata()) == 2]       # of the same seeds
        assert levels == pytest.approx([100 * statistics.mean(metric(world, m, k)[:seeds]) for m, k in
                                        (("retrain", "acc_test_retain"), ("original", "acc_test_forget"))])
        for line, key in zip(drawn, keys, strict=True):
            values = [at_epoch(world, method, key, e, study="longer") for e in range(1, last + 1)]
            assert line.get_xdata().tolist() == [step * e for e in range(1, last + 1)]
            assert line.get_ydata().tolist() == pytest.approx([100 * statistics.mean(v) for v in values])
            for seed in range(seeds):                                           # the numbers are those of the runs, one by one
                assert [rows[key][method, seed, step * e] for e in range(1, last + 1)] == [v[seed] for v in values]
    assert [ax.get_xlabel() for ax in figure.axes] == ["epoch", "steps of the generator"]
    styles = [line.get_linestyle() for line in figure.axes[0].lines if len(line.get_xdata()) > 1]
    assert styles == ["-", "--", "-.", ":", ":"]                               # what is kept is not drawn as the references are
    assert len(numbers) == len(set(rows.index)) == seeds * (30 + 10) and list(rows) == list(keys)
    assert f"| n = {seeds} |" in world.provenance(numbers)


@pytest.mark.parametrize("level, title", [(0.05, "Not seen, not testable at this length"), (0.06, "Yes")])
def test_the_longer_runs_say_whether_the_class_comes_back(level, title):
    def edit(spec, metrics, rows):
        for r in rows:
            if spec.study == "longer" and r["row"] == "epoch":
                r["acc_test_forget"] = level
    (legend,) = FIGURES["longer"](World(edit=edit))[0].legends
    assert legend.get_title().get_text() == f"Does the class come back? {title}" and len(legend.get_texts()) == 3


def test_equal_costs_are_drawn_side_by_side():
    world = World(edit=every(*(end(m, epochs=30.0) for m in ("pf", "ispf", "dfkd"))))
    figure, numbers = FIGURES["cost"](world)
    at = {c.get_label(): float(c.lines[0].get_xdata()[0]) for c in figure.axes[0].containers}
    span = 34 - 18                                                              # BlockF and retraining
    assert [at[label(m)] for m in ("gkt_dfq", "pf", "ispf", "dfkd")] == pytest.approx([30 + 0.03 * span * k for k in (-1.5, -.5, .5, 1.5)])
    assert (at["retrained"], at["BlockF"]) == (18, 34)
    assert set(numbers[numbers.method == "pf"].epochs) == {30.0}                # what is saved is what was measured
    low, high = figure.axes[0].get_ylim()
    assert (low, high) == (70, 103) and figure.axes[0].get_xlim()[0] > 0        # cut below the lowest run


def test_cost_and_ruler_have_every_strategy(world):
    figure, numbers = FIGURES["cost"](world)
    (ax,) = figure.axes
    marks = {c.get_label(): np.asarray(c.lines[0].get_xydata(), dtype=float)[0] for c in ax.containers}
    assert set(marks) == {label(m) for m in ("retrain", *STRATEGIES, "dfkd")}
    for method in ("retrain", *STRATEGIES, "dfkd"):
        assert marks[label(method)] == pytest.approx([statistics.mean(metric(world, method, "epochs")),
                                                      100 * statistics.mean(metric(world, method, "acc_test_retain"))])
    assert set(numbers.method) == {"original", "retrain", *STRATEGIES, "dfkd"} and len(numbers) == 24
    _, numbers = FIGURES["ruler"](world)
    part = numbers[numbers.metric == "auc_confidence"].set_index("method")
    assert part.position["ispf"] == pytest.approx((0.53 - 0.70) / (0.52 - 0.70)) and "dfkd" in part.index
    assert set(numbers.metric) == {"acc_test_forget", "loss_forget", "mia_confidence", "auc_confidence", "acc_test_retain"}


def test_single_images_and_relearning_are_those_of_the_runs(world):
    _, numbers = FIGURES["relearn"](world)
    assert set(numbers.method) == {"ispf", "gkt_dfq", "dfkd", "retrain"} and len(numbers) == 4 * 3 * 101
    mine = numbers[(numbers.method == "ispf") & (numbers.seed == 1)].acc_forget.tolist()
    assert mine == [r["acc_forget"] for r in of(world, "ispf")[1].rows if r["row"] == "relearn"]
    assert len(FIGURES["strip"](world)[1]) == 15 and len(FIGURES["forgotten"](world)[1]) == 3 * 3 * 12
    assert FIGURES["strip"](world)[1].p_label.tolist() == [r["p_label"] for r in of(world, "ispf")[0].rows if r["row"] == "strip"]


LACKING = {"wrong_way", "scenarios", "threshold", "longer", "relearn"}


@pytest.mark.parametrize("name", FIGURES)
def test_a_preset_of_two_methods_says_what_it_lacks_and_draws_the_rest(small, name):
    if name in LACKING:
        with pytest.raises(NotAvailable, match="preset made up"):
            FIGURES[name](small)
    shown = small.figure(name)
    assert isinstance(shown, tables.Markdown) == (name in LACKING), name
    if name in ("accuracy", "filtering", "classes", "pictures", "embedding"):
        assert set(FIGURES[name](small)[1].method) == {"gkt_dfq", "ispf"}


@pytest.mark.parametrize("name", ["strip", "forgotten", "relearn", "pictures", "embedding"])
def test_without_extras_there_are_no_single_images(name):
    bare = World(values=like_cifar10() | {"extras": []}, full=True)
    with pytest.raises(NotAvailable, match="preset made up"):
        FIGURES[name](bare)


def test_the_uncertain_bands_are_drawn_for_the_two_that_are_compared(world):
    figure, _ = FIGURES["accuracy"](world)
    shades = {c.get_facecolor()[0][:3].tolist().__repr__() for c in figure.axes[0].collections}
    assert len(figure.axes[0].collections) == 2 == len(shades)
    assert STYLE["ispf"][1] != STYLE["gkt_dfq"][1]
