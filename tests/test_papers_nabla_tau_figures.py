"""The figures of ∇τ against the reference records."""

import itertools
import statistics

import matplotlib.pyplot as plt
import numpy as np
import pytest
from nabla import MINE, curve_of, images_and_texts, mean, metric, of, reference_session

from unlearnlib import tables
from unlearnlib.claims import interval
from unlearnlib.papers import Session, domains
from unlearnlib.papers.nabla_tau import FIGURES
from unlearnlib.papers.nabla_tau.claims import fraction
from unlearnlib.papers.nabla_tau.readings import variant_shown
from unlearnlib.plots import label


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    yield from reference_session(tmp_path_factory)


# --- the reference records: figures


@pytest.fixture
def drawn(lab):
    return lambda name: FIGURES[name](lab)


def lines(ax):
    return {line.get_label(): np.asarray(line.get_xydata(), dtype=float) for line in ax.lines if not line.get_label().startswith("_")}


def test_curves_are_means_over_seeds_against_passes(lab, drawn):
    figure, numbers = drawn("curves")
    for row, (word, name, focus) in enumerate(images_and_texts(lab)):
        for ax, key in zip(figure.axes[3 * row:3 * row + 3], ("mia_l", "mia_e", "acc_test"), strict=True):
            assert ax.get_title(loc="left").startswith(f"{word}, 30 %: ") and ax.get_title(loc="left").endswith("?")
            assert set(lines(ax)) >= {label(m) for m in ("nabla_tau", "finetune", "original", "retrain")}
            for method in ("nabla_tau", "finetune"):
                found = lines(ax)[label(method)]
                wanted = [[statistics.mean(point) for point in zip(*curve_of(lab, method, name, k), strict=True)] for k in ("passes", key)]
                assert found[:, 0] == pytest.approx(wanted[0]) and found[:, 1] == pytest.approx([100 * v for v in wanted[1]])
                part = numbers[(numbers.data == name) & (numbers.method == method) & (numbers.metric == key)].sort_values("point")
                assert part["mean"].tolist() == pytest.approx(wanted[1]) and set(part.n) == {len(of(lab, "curve", method, name=name))}
            for method in ("original", "retrain"):
                assert lines(ax)[label(method)][:, 1] == pytest.approx(100 * mean(lab, key, method, focus, name))
        assert figure.axes[3 * row].get_ylim() == figure.axes[3 * row + 1].get_ylim()       # the two attacks have one scale


def test_the_wrong_way_has_a_line_a_seed_the_stronger_push_dashed(lab, drawn):
    figure, numbers = drawn("wrong_way")
    beyond = {k: lab.settings["wrong_way"][k] for k in ("lr", "retain_weight")}
    tuned = {k: lab.settings["methods"]["neggrad_plus"]["random"][k] for k in ("lr", "retain_weight")}
    wanted = [("neggrad_plus", tuned, "-"), ("nabla_tau", {}, "-"), ("neggrad_plus", beyond, "--")]
    for ax, (key, scale) in zip(figure.axes, (("loss_forget", 1), ("acc_test", 100)), strict=True):
        found = [line for line in ax.lines if len(line.get_xdata()) > 2]
        curves = [(c, x, dash) for m, params, dash in wanted for c, x in
                  zip(curve_of(lab, m, "digits", key, **params), curve_of(lab, m, "digits", "passes", **params), strict=True)]
        assert len(found) == len(curves) == 3 * lab.settings["seeds"]
        for line, (curve, passes, dash) in zip(found, curves, strict=True):
            assert line.get_xdata().tolist() == passes and line.get_ydata().tolist() == pytest.approx([scale * v for v in curve])
            assert line.get_linestyle() == dash
        assert lines(ax)["retrained"][:, 1] == pytest.approx(scale * mean(lab, key, "retrain"))
    assert set(numbers.beyond) == {False, True} and set(numbers[numbers.beyond].method) == {"neggrad_plus"}


def test_inside_a_loss_over_several_labels_has_the_unit_of_its_target():
    """Records sum it over the 28 labels of a comment, training averages it: retrained and target lie in one picture."""
    session = Session("nabla_tau", "cifar10")
    figure, _ = FIGURES["inside"](session)
    for ax, name in ((figure.axes[0], "cifar10"), (figure.axes[2], "goemotions")):
        (line,) = [v for v in ax.lines if v.get_label() == label("retrain")]
        losses = [r.metrics["loss_forget"] for r in of(session, "unlearn", "retrain", name=name)]
        assert line.get_ydata()[0] == pytest.approx(statistics.mean(losses) / (28 if name == "goemotions" else 1), rel=1e-4)


def test_inside_are_the_means_of_each_forget_epoch(lab, drawn):
    figure, _ = drawn("inside")
    for row, (word, name, focus) in enumerate(images_and_texts(lab)):
        left, right = figure.axes[2 * row:2 * row + 2]
        assert left.get_title(loc="left").startswith(word) and right.get_title(loc="left").startswith(word)
        (target,) = left.containers
        shown = {"tau": target.lines[0].get_xydata(), "forget_loss": lines(left)["forget loss of the batches"],
                 "alpha": lines(right)["weight α"], "active": lines(right)["batches below target"]}
        for key, points in shown.items():
            epochs = [{row["epoch"]: row[key] for row in r.rows if row["row"] == "epoch"} for r in of(lab, "curve", "nabla_tau", name=name)]
            for epoch, value in points:
                assert value == pytest.approx(statistics.mean(e[epoch] for e in epochs))
            assert len(points) == len(epochs[0]) > 3
        assert lines(left)["retrained"][:, 1] == pytest.approx(mean(lab, "loss_forget", "retrain", focus, name))


def areas(numbers):
    return (0.2 * numbers.groupby(["data", "model", "part"]).density.sum()).tolist()


def test_histograms_are_mean_densities(lab, drawn):
    figure, numbers = drawn("histograms")
    assert areas(numbers) == pytest.approx([1] * 12, rel=1e-4)
    for row, (word, name, focus) in enumerate(images_and_texts(lab)):
        for ax, model in zip(figure.axes[3 * row:3 * row + 3], ("original", "nabla_tau", "retrain"), strict=True):
            forget, test = (mean(lab, key, model, name=name, scenario=focus) for key in ("loss_forget", "loss_test"))
            title = ax.get_title(loc="left")
            assert title.startswith(f"{word}, 30 %, ") and title.endswith(f"?\nmean loss: forget {forget:.2f}, test {test:.2f}")
            assert ax.get_yscale() == "log"
            recorded, shares = of(lab, "curve", "nabla_tau", name=name), {}
            for bars, part in zip(ax.patches, ("test", "forget"), strict=True):
                first = [sum(r["density"] for r in x.rows if (r["row"], r.get("model"), r.get("part")) == ("density", model, part)
                             and r["loss"] < 0.1) for x in recorded]
                heights, edges, _ = bars.get_data()
                assert heights[0] == pytest.approx(statistics.mean(first)) and heights.sum() * 0.2 == pytest.approx(1, rel=1e-4)
                assert (edges[0], edges[-1], bars.get_fill()) == (0, 8, part == "test")
                shares[part] = 20 * statistics.mean(first)
            (said,) = ax.texts
            assert said.get_text() == f"in the first bar: forget {shares['forget']:.0f} %, test {shares['test']:.0f} %"


def test_densities_integrate_to_one_also_where_texts_have_seeds_of_their_own(lab):
    fewer = Session("nabla_tau", "digits", text=lab.settings["text"] | {"seeds": 2})
    seeds = [len(of(fewer, "curve", "nabla_tau", name=name)) for _, name, _ in images_and_texts(fewer)]
    assert seeds[1] == 2 < seeds[0]
    assert areas(FIGURES["histograms"](fewer)[1]) == pytest.approx([1] * 12, rel=1e-4)


def test_variants_are_means_and_the_unchanged_one_is_on_top(lab, drawn):
    figure, _ = drawn("variants")
    for row, (_, name, focus) in enumerate(images_and_texts(lab)):
        recorded = of(lab, "variants", "nabla_tau", name=name)
        names = [t.get_text() for t in figure.axes[3 * row].get_yticklabels()]
        assert names[0].startswith("as ") and sorted(names) == sorted(map(variant_shown, domains(lab.settings)[row]["variants"]))
        for ax, key in zip(figure.axes[3 * row:3 * row + 3], ("mia_l", "acc_forget", "acc_test"), strict=True):
            (container,) = ax.containers
            for x, y in container.lines[0].get_xydata():
                values = [r[key] for x_ in recorded for r in x_.rows if variant_shown(r["variant"]) == names[int(y)]]
                assert x == pytest.approx(100 * statistics.mean(values)) and len(values) == domains(lab.settings)[row]["seeds"]
            for method in ("original", "retrain"):
                assert lines(ax)[label(method)][:, 0] == pytest.approx(100 * mean(lab, key, method, focus, name))
        assert ax.yaxis_inverted()


def test_cells_of_the_grid_are_means_and_the_rule_is_where_it_belongs(lab, drawn):
    figure, numbers = drawn("grid")
    options = lab.settings["grid"]
    recorded = of(lab, "grid", "nabla_tau")
    start = dict(enumerate(metric(lab, "acc_test", "original")))
    show = {0: lambda r, seed: abs(r["mia_l"] - 0.5), 1: lambda r, seed: start[seed] - r["acc_test"], 2: lambda r, seed: r["acc_forget"]}
    for k, ax in enumerate(figure.axes[:3]):
        cells = {t.get_position(): t.get_text() for t in ax.texts}
        assert len(cells) == len(options["fractions"]) * len(options["alphas"])
        for (j, f), (i, a) in itertools.product(enumerate(options["fractions"]), enumerate(options["alphas"])):
            values = [show[k](row, r.spec.seed) for r in recorded for row in r.rows if (row["fraction"], row["alpha0"]) == (f, a)]
            assert len(values) == lab.settings["seeds"]
            assert float(cells[j, i]) == pytest.approx(100 * statistics.mean(values), abs=0.051)
            kept = numbers[(numbers.fraction == f) & (numbers.alpha0 == a)].iloc[k]         # each seed against its own original
            assert (kept["mean"], kept.half) == (pytest.approx(interval(values).mean), pytest.approx(interval(values).half))
        framed = {(round(r.get_x() + 0.44), round(r.get_y() + 0.44)) for r in ax.patches}
        assert framed == {(j, min(range(3), key=lambda i, f=f: abs(options["alphas"][i] - 5 / 3 * f))) for j, f in
                          enumerate(options["fractions"])}
        for f, tick in zip(options["fractions"], ax.get_xticklabels(), strict=True):
            goal = {0: [abs(v - 0.5) for v in metric(lab, "mia_l", "retrain", f"random:{f}")],
                    1: np.subtract(metric(lab, "acc_test", "original"), metric(lab, "acc_test", "retrain", f"random:{f}")),
                    2: metric(lab, "acc_forget", "retrain", f"random:{f}")}[k]
            assert tick.get_text() == f"{100 * f:g}\nretrained: {100 * statistics.mean(goal):.1f}"
    colours = figure.axes[2].images[0].get_array()                              # yellow, the low end, is near retrained
    far = [[abs(float(cells[j, i]) - 100 * mean(lab, "acc_forget", "retrain", f"random:{f}")) for j, f in enumerate(options["fractions"])]
           for i in range(len(options["alphas"]))]
    assert np.allclose(colours, far, atol=0.06)


def test_cost_is_that_of_the_largest_fraction(lab, drawn):
    figure, numbers = drawn("cost")
    ends = np.concatenate([bar[:, 1] for ax in figure.axes for c in ax.containers for bars in c.lines[2] for bar in bars.get_segments()])
    assert len(ends) > 10 and 0 <= ends.min() and ends.max() <= 100 + 1e-9
    scenario = max((s for s in lab.settings["scenarios"] if s.startswith("random")), key=fraction)
    for ax, key in zip(figure.axes, ("mia_l", "acc_test"), strict=True):
        found = {c.get_label(): np.asarray(c.lines[0].get_xydata(), dtype=float)[0] for c in ax.containers}
        assert set(found) == {label(m) for m in numbers.method.unique()} >= {label(MINE), label("scrub_r"), label("original")}
        for method in ("original", "retrain", "ssd", MINE, "scrub"):
            epochs = [r.timing["epochs"] for r in of(lab, "unlearn", method, scenario)]
            assert found[label(method)] == pytest.approx([statistics.mean(epochs), 100 * mean(lab, key, method, scenario)])
        assert lines(ax)["original"][:, 1] == pytest.approx(100 * mean(lab, key, "original", scenario))
        assert {c.lines[0].get_markersize() for c in ax.containers} == {8}
        places = [tuple(p) for dots in ax.collections if len(dots.get_offsets()) == 3 for p in dots.get_offsets().tolist()]
        assert len(places) == 3 * len(found) and len({x for x, _ in places}) > 2 * len(found)       # seeds stand side by side


def test_the_ruler_has_every_method_of_the_focus(lab, drawn):
    _, numbers = drawn("ruler")
    assert set(numbers.method) == {r.spec.method for r in of(lab)} and set(numbers.n) == {lab.settings["seeds"]}
    part = numbers[numbers.metric == "mia_l"].set_index("method")
    start, end = (mean(lab, "mia_l", m) for m in ("original", "retrain"))
    assert part.position[MINE] == pytest.approx((mean(lab, "mia_l", MINE) - start) / (end - start))
    assert part.position["original"] == pytest.approx(0) and part.position["retrain"] == pytest.approx(1)


def test_relearning_and_the_strip_show_the_images(lab, drawn):
    _, numbers = drawn("relearn")
    assert set(numbers.method) == {MINE, "finetune", "retrain"} and set(numbers.seed) == set(range(lab.settings["seeds"]))
    first = of(lab, "relearn", MINE)[0]
    assert numbers[(numbers.method == MINE) & (numbers.seed == 0)].acc_forget.tolist() == [r["acc_forget"] for r in first.rows]
    _, numbers = drawn("strip")
    assert len(numbers) == 15 and set(numbers.model) == {"original", MINE, "retrain"}
    shown = [r["p_label"] for r in of(lab, "images", MINE)[0].rows if r["row"] == "strip"]
    assert numbers.p_label.tolist() == shown


@pytest.fixture(scope="module")
def less(lab):
    """A session without the detailed studies, but for the curves of the texts."""
    return Session("nabla_tau", "digits", studies=[], text=lab.settings["text"] | {"studies": ["curve"]})


def test_figures_of_what_a_session_lacks_say_so(less):
    for name in ("wrong_way", "variants", "grid", "strip", "relearn"):
        shown = less.figure(name)
        assert isinstance(shown, tables.Markdown) and "ot available" in repr(shown) and "\n" not in repr(shown)
    for name in ("curves", "inside", "histograms", "cost", "ruler"):
        assert "rows drawn" in repr(less.figure(name))                          # of the texts, or of the standard runs
