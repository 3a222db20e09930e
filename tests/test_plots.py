"""Figures by what they hold: artists against hand formulas, every paper's figures, those of LFSSD against the records, the files."""

import io
import math
import re
import statistics
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from unlearnlib import data, papers, plots, runs
from unlearnlib.claims import interval
from unlearnlib.methods import METHODS
from unlearnlib.papers import forget_vectors, ispf, nabla_tau
from unlearnlib.papers.lfssd.figures import CONTROLS, REAL, layer_of
from unlearnlib.plots import LEAST_BAND, SHARE, STYLE, Drawn, band, label, panels, reference_line, ruler, stamp, summarise, tradeoff
from unlearnlib.records import figures_root

NAN = float("nan")


@pytest.fixture(autouse=True)
def closed():
    yield
    left = plt.get_fignums()
    plt.close("all")
    assert not left, "a figure was left open"


@pytest.fixture
def axes():
    """A row of five axes, closed afterwards."""
    figure, axes = panels(5)
    yield axes[0]
    plt.close(figure)


def frame(values, metric="m"):
    """Rows from {method: [one value a seed]}."""
    return pd.DataFrame([{"method": m, "seed": s, metric: v} for m, row in values.items() for s, v in enumerate(row)])


def lines(ax):
    return {line.get_label(): np.asarray(line.get_xydata(), dtype=float) for line in ax.lines if not line.get_label().startswith("_")}


def marks(ax):
    """Where the large marks of :func:`tradeoff` stand, by label."""
    return {c.get_label(): np.asarray(c.lines[0].get_xydata(), dtype=float)[0] for c in ax.containers}


def words(ax):
    return [t.get_text() for t in ax.texts]


# --- the parts

def test_every_method_has_one_look_of_its_own():
    assert set(STYLE) >= {"original", *METHODS}
    looks = [(str(colour), marker) for _, colour, marker in STYLE.values()]
    assert len(set(looks)) == len(looks) and len({name for name, *_ in STYLE.values()}) == len(STYLE)
    assert len({str(colour) for _, colour, _ in STYLE.values()}) == len(STYLE)
    assert label("retrain") == "retrained"


def test_every_method_is_drawn_by_some_paper():
    drawn = {*REAL, *CONTROLS, *nabla_tau.figures.REAL, *ispf.figures.STRATEGIES, "dfkd", "gkt", *forget_vectors.figures.DRAWN}
    assert drawn == {"original", *METHODS}


def test_a_summary_counts_seeds_not_rows():
    rows = pd.DataFrame({"x": [1, 1, 1, 1, 2], "seed": [0, 0, 1, 1, 0], "y": [0.0, 1.0, 2.0, 3.0, 7.0]})
    s = summarise(rows, ["x"], "y").set_index("x")
    i = interval([0.5, 2.5])
    assert (s["mean"][1], s["half"][1], s["n"][1]) == (pytest.approx(i.mean), pytest.approx(i.half), 2)
    assert s["mean"][2] == 7 and np.isnan(s["half"][2]) and s["n"][2] == 1


def test_a_band_is_mean_and_interval_over_seeds(axes):
    rows = pd.DataFrame([{"x": x, "seed": s, "y": x + s * x} for x in (10, 1, 5) for s in range(3)])
    assert band(rows, "x", "y", ax=axes[0], label="here") is axes[0]
    drawn = lines(axes[0])["here"]
    assert drawn[:, 0].tolist() == [1, 5, 10]                                   # sorted, whatever the order of the rows
    assert drawn[:, 1] == pytest.approx([100 * 2 * x for x in (1, 5, 10)])
    (shade,) = axes[0].collections
    corners = {tuple(np.round(v, 6)) for v in shade.get_paths()[0].vertices}
    for x in (1, 5, 10):
        i = interval([x, 2 * x, 3 * x])
        assert {(x, round(100 * i.low, 6)), (x, round(100 * i.high, 6))} <= corners


def test_a_band_of_one_seed_has_no_width(axes):
    band(pd.DataFrame({"x": [1, 2], "seed": [0, 0], "y": [0.1, 0.2]}), "x", "y", ax=axes[0], scale=1)
    (shade,) = axes[0].collections
    assert np.ptp(shade.get_paths()[0].vertices[:, 1]) == pytest.approx(0.1)


def test_a_reference_line_is_the_mean_with_its_interval(axes):
    rows = frame({"retrain": [0.1, 0.2, 0.4], "original": [0.9, 0.9, 0.9]})
    reference_line(rows, "m", "retrain", ax=axes[0])
    i = interval([0.1, 0.2, 0.4])
    assert lines(axes[0])["retrained"][:, 1] == pytest.approx(100 * i.mean)
    (shade,) = axes[0].patches
    assert (shade.get_y(), shade.get_y() + shade.get_height()) == (pytest.approx(100 * i.low), pytest.approx(100 * i.high))
    reference_line(rows, "m", "lfssd", ax=axes[1])                              # nobody ran it: nothing is drawn
    assert not axes[1].lines
    reference_line(rows[rows.seed == 0], "m", "retrain", ax=axes[2])            # one seed: no interval
    assert len(axes[2].lines) == 1 and not axes[2].patches


def test_a_tradeoff_has_a_dot_a_seed_and_a_mark_a_method(axes):
    rows = frame({"ssd": [0.1, 0.3], "lfssd": [0.5, 0.6], "retrain": [0.2, 0.4]}).assign(y=lambda r: r.m * 2)
    assert tradeoff(rows, "m", "y", ["lfssd", "ssd", "finetune"], ax=axes[0]) is axes[0]
    found = marks(axes[0])
    assert list(found) == [label("lfssd"), label("ssd")]
    assert found[label("ssd")] == pytest.approx([20, 40]) and found[label("lfssd")] == pytest.approx([55, 110])
    dots = [c.get_offsets() for c in axes[0].collections if hasattr(c, "get_sizes") and len(c.get_offsets()) == 2]
    assert any(np.allclose(d, [[10, 20], [30, 60]]) for d in dots)
    x, y = (c[0] for c in (s.get_segments() for s in axes[0].containers[1].lines[2]))
    i = interval([0.1, 0.3])
    assert x[:, 0] == pytest.approx([100 * i.low, 100 * i.high]) and y[:, 1] == pytest.approx([200 * i.low, 200 * i.high])


def test_intervals_of_shares_are_cut_where_no_share_can_be(axes):
    rows = frame({"ssd": [0.0, 0.4], "lfssd": [0.7, 1.0]}).assign(y=lambda r: r.m)
    tradeoff(rows, "m", "y", ["lfssd", "ssd"], ax=axes[0], within=SHARE)
    ends = [np.concatenate(s.get_segments()) for container in axes[0].containers for s in container.lines[2]]
    assert min(e.min() for e in ends) == 0 and max(e.max() for e in ends) == 100 and interval([0.0, 0.4]).low < 0
    band(rows.assign(x=rows.method == "ssd"), "x", "m", ax=axes[1], within=SHARE)
    corners = np.concatenate([p.vertices for p in axes[1].collections[0].get_paths()])
    assert (corners[:, 1].min(), corners[:, 1].max()) == (0, 100)


# --- the ruler

def test_on_the_ruler_the_original_is_0_and_the_retrained_1(axes):
    rows = frame({"original": [0.9, 1.0, 1.1], "retrain": [0.1, 0.2, 0.3], "lfssd": [0.6, 0.6, 0.6], "ssd": [0.0, 0.0, 0.0]})
    drawn = ruler(rows, {"m": "metric"}, ["original", "retrain", "lfssd", "ssd", "finetune"], axes=axes[:1]).set_index("method")
    assert list(drawn.index) == ["original", "retrain", "lfssd", "ssd"]
    assert drawn.position.to_dict() == pytest.approx({"original": 0, "retrain": 1, "lfssd": 0.5, "ssd": 1.25})
    assert drawn.raw.to_dict() == pytest.approx({"original": 1, "retrain": 0.2, "lfssd": 0.6, "ssd": 0}) and set(drawn.n) == {3}
    assert drawn.half["retrain"] == pytest.approx(interval([0.1, 0.2, 0.3]).half / 0.8)
    assert [c.lines[0].get_xydata()[0][0] for c in axes[0].containers] == pytest.approx([0, 1, 0.5, 1.25])
    assert [t.get_text() for t in axes[0].get_yticklabels()] == [label(m) for m in drawn.index]
    (spread,) = axes[0].patches
    assert (spread.get_x(), spread.get_width()) == (pytest.approx(1 - 0.1 / 0.8), pytest.approx(2 * 0.1 / 0.8))
    assert not words(axes[0]) and "raw" not in axes[0].get_title()


def test_the_band_of_retrained_seeds_that_agree_is_still_seen(axes):
    rows = frame({"original": [0.9, 1.0, 1.1], "retrain": [0.0, 0.0, 0.0]})
    ruler(rows, {"m": "metric"}, ["original", "retrain"], axes=axes[:1])
    (spread,) = axes[0].patches
    assert (spread.get_x(), spread.get_width()) == (pytest.approx(1 - LEAST_BAND), pytest.approx(2 * LEAST_BAND))


def test_off_the_ruler_stands_an_arrow_with_the_number(axes):
    rows = frame({"original": [0.0, 0.0], "retrain": [1.0, 1.0], "lfssd": [7.0, 7.0], "ssd": [-3.0, -3.0]})
    ruler(rows, {"m": "metric"}, ["original", "retrain", "lfssd", "ssd"], axes=axes[:1])
    assert words(axes[0]) == ["7.0 >", "< -3.0"] and len(axes[0].containers) == 2
    low, high = axes[0].get_xlim()
    assert all(low <= t.get_position()[0] <= high for t in axes[0].texts)


@pytest.mark.parametrize("original, retrained, meaningless", [
    ([0.5, 0.5, 0.5], [0.5, 0.5, 0.5], True), ([0.9, 0.9, 0.9], [0.8, 0.9, 1.0], True), ([0.79, 0.79, 0.79], [0.5, 0.6, 0.7], True),
    ([0.81, 0.81, 0.81], [0.5, 0.6, 0.7], False), ([0.5], [0.5], True), ([0.6], [0.5], False)])
def test_where_original_and_retrained_coincide_the_ruler_gives_raw_values(axes, original, retrained, meaningless):
    """Coincide: closer than twice the standard deviation of retrained seeds."""
    rows = frame({"original": original, "retrain": retrained, "lfssd": [0.25] * len(original)})
    ruler(rows, {"m": "metric"}, ["original", "retrain", "lfssd"], axes=axes[:1])
    if meaningless:
        wanted = [interval(v).text(2, 1.0) for v in (original, retrained, [0.25] * len(original))]
        assert words(axes[0]) == wanted and not axes[0].containers and not len(axes[0].get_xticks())
        assert "too close: raw" in axes[0].get_title(loc="left")
    else:
        assert not words(axes[0]) or ">" in words(axes[0])[0]
        assert axes[0].get_xticks().tolist() == [0, 1, 2] and "raw" not in axes[0].get_title(loc="left")


# --- a finished figure

def small(value=0.5, provenance="preset x | n = 3 | commit abc"):
    figure, axes = panels(1, width=4, height=3)
    axes[0, 0].plot([0, 1], [0, value])
    stamp(figure, provenance)
    return figure, pd.DataFrame({"x": [0, 1], "y": [0, value]})


def test_a_drawn_figure_is_a_picture_and_a_digest():
    drawn = Drawn("curve", *small())
    picture = Image.open(io.BytesIO(drawn._repr_png_()))
    assert picture.format == "PNG" and picture.size == (4 * plots.DPI, 3 * plots.DPI)
    assert len(picture.convert("L").getcolors()) > 2
    assert re.fullmatch(r"curve: 2 rows drawn, digest [0-9a-f]{16}", repr(drawn))


def test_saving_writes_the_picture_and_exactly_what_was_drawn(tmp_path):
    drawn = Drawn("curve", *small(1 / 3))
    drawn.save(tmp_path / "a" / "b")
    assert sorted(p.name for p in (tmp_path / "a" / "b").iterdir()) == ["curve.csv", "curve.png"]
    assert (tmp_path / "a/b/curve.png").read_bytes() == drawn.png
    assert (tmp_path / "a/b/curve.csv").read_text() == "x,y\n0,0\n1,0.333333\n"


def test_the_same_figure_gives_the_same_bytes_and_replaces_the_old_one(tmp_path):
    Drawn("curve", *small(0.9)).save(tmp_path)
    Drawn("curve", *small()).save(tmp_path)
    first = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    Drawn("curve", *small()).save(tmp_path)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == first


def test_the_digest_sees_a_changed_number_and_forgives_the_last_digits():
    same, other, nearly = (repr(Drawn("curve", *small(v))) for v in (0.5, 0.501, 0.5 + 1e-9))
    assert same != other and same == nearly
    figure, numbers = small()
    assert repr(Drawn("curve", figure, numbers.rename(columns={"y": "z"}))) != same


def test_another_provenance_is_another_picture_of_the_same_numbers():
    a, b = (Drawn("curve", *small(provenance=text)) for text in ("preset digits", "preset cifar10"))
    assert a.png != b.png and repr(a) == repr(b)


# --- the figures of every paper, from the reference records

EVERY = [(paper, name) for paper in papers.PAPERS for name in papers.paper(paper).FIGURES]


@pytest.fixture(scope="module")
def labs(tmp_path_factory):
    """A function from a paper to its reference session, opened once; it must compute nothing."""
    def refuse(spec):
        raise AssertionError(f"computed: {spec}")

    kept = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNLEARNLIB_FIGURES", str(tmp_path_factory.mktemp("figures")))
        patch.setattr(runs, "compute", refuse)

        def get(paper):
            if paper not in kept:
                kept[paper] = papers.Session(paper, "digits", write=True)
            return kept[paper]
        yield get


@pytest.fixture(scope="module")
def pictures(labs):
    """A function from a paper and a figure's name to (figure, what was drawn), each drawn once."""
    kept = {}

    def get(paper, name):
        if (paper, name) not in kept:
            kept[paper, name] = papers.paper(paper).FIGURES[name](labs(paper))
            plt.close(kept[paper, name][0])
        return kept[paper, name]
    return get


@pytest.fixture(scope="module")
def lab(labs):
    return labs("lfssd")


@pytest.fixture(scope="module")
def drawn(pictures):
    return lambda name: pictures("lfssd", name)


def records(lab, study, method=None, scenario=None):
    scenario = scenario or lab.settings["focus"]
    return [r for r in lab.records if (r.spec.study, r.spec.scenario) == (study, scenario) and method in (None, r.spec.method)]


def metric(lab, name, method):
    """One metric of the focus scenario, seed by seed."""
    return [r.metrics[name] for r in sorted(records(lab, "unlearn", method), key=lambda r: r.spec.seed)]


def mean_of(recorded, key, **wanted):
    """Mean over records of a row's value, the row chosen by ``wanted``."""
    values = [row[key] for r in recorded for row in r.rows if all(row.get(k) == v for k, v in wanted.items())]
    assert values, wanted
    return statistics.mean(values)


def below(figure, ax):
    """The lowest panel of the same column, which carries the label that the column shares."""
    column = ax.get_subplotspec().colspan
    return [other for other in figure.axes if other.get_subplotspec() and other.get_subplotspec().colspan == column][-1]


@pytest.mark.parametrize("paper, name", EVERY)
def test_every_figure_draws_something_and_its_axes_say_what(pictures, paper, name):
    figure, numbers = pictures(paper, name)
    assert len(numbers) and not numbers.isna().all(axis=None) and numbers.columns.is_unique
    for ax in figure.axes:
        if ax.axison and ax.get_label() != "<colorbar>":
            title = ax.get_title(loc="left") or ax.get_title()
            assert title or ax.get_xlabel(), f"{name}: an axis without a word"
            assert ax.lines or ax.patches or ax.collections or ax.texts, f"{name}: an empty panel"
            assert all(np.isfinite(ax.get_xlim())) and all(np.isfinite(ax.get_ylim()))
            numeric = [t.get_text() for t in ax.get_xticklabels() if t.get_text()]
            said = ax.get_xlabel() or below(figure, ax).get_xlabel() or "(%)" in title
            assert said or not numeric, f"{name}: numbers without a quantity"
    first = figure.axes[0]
    assert not first.axison or first.get_ylabel() or any(t.get_text() for t in first.get_yticklabels())


@pytest.mark.parametrize("paper, name", EVERY)
def test_every_figure_carries_its_provenance_inside_the_picture(labs, monkeypatch, paper, name):
    kept = []
    monkeypatch.setattr(plots, "Drawn", lambda name, figure, numbers: kept.append((figure, numbers)) or Silent())

    class Silent:
        def save(self, folder):
            pass
    labs(paper).figure(name)
    ((figure, numbers),) = kept
    figure.canvas.draw()                                                        # lays it out
    both = paper == "lfssd" or name in ("curves", "inside", "histograms", "variants")        # else images alone
    wanted = labs(paper).provenance(None if both else pd.DataFrame())
    if "seed" in numbers:                                                       # of one domain: as many as are drawn
        wanted = re.sub(r"n = \d+ ", f"n = {numbers.seed.nunique()} ", wanted)
    (text,) = [t for t in figure.texts if t.get_text() == wanted]
    box, all_of_it = text.get_window_extent(), figure.get_tightbbox().transformed(figure.dpi_scale_trans)
    width, height = figure.canvas.get_width_height()
    for part in (box, all_of_it):
        assert part.x0 >= -1 and part.y0 >= -1 and part.x1 <= width + 1 and part.y1 <= height + 1, f"{name}: text is cut off"
    plt.close(figure)


@pytest.mark.parametrize("paper, name", EVERY)
def test_every_figure_is_saved_as_picture_and_numbers_twice_the_same(labs, pictures, paper, name):
    folder = figures_root() / "digits" / paper
    first = labs(paper).figure(name)
    png, table = (folder / f"{name}.png").read_bytes(), (folder / f"{name}.csv").read_bytes()
    assert png == first.png and png.startswith(b"\x89PNG")
    assert len(pd.read_csv(io.BytesIO(table))) == len(pictures(paper, name)[1]) == len(first.drawn)
    if name in ("data", "alpha_curve", "grid"):                                 # kinds: pictures, curves with a legend, a map
        again = labs(paper).figure(name)
        assert ((folder / f"{name}.png").read_bytes(), (folder / f"{name}.csv").read_bytes()) == (png, table)
        assert repr(again) == repr(first)


@pytest.mark.parametrize("paper", papers.PAPERS)
def test_provenance_names_preset_data_models_seeds_and_commit(labs, paper):
    lab, text = labs(paper), labs(paper).provenance()
    assert text.startswith("preset digits | ")
    for domain in papers.domains(lab.settings):
        assert all(d in text for d in set(domain["scenarios"].values()))
        assert domain["model"] in text and str(domain["seeds"]) in re.search(r"\| n = ([\d, ]+) \|", text)[1].split(", ")
    assert {r.environment["commit"] for r in lab.records} == set(text.split("commit ")[1].split(", "))


def test_the_provenance_of_a_figure_names_only_what_is_drawn(labs):
    lab = labs("nabla_tau")
    for drawn, wanted in ((pd.DataFrame({"x": [1]}), "digits | allcnn-16 | n = 3"),
                          (pd.DataFrame({"data": ["digits"]}), "digits | allcnn-16 | n = 3"),
                          (pd.DataFrame({"data": ["scipy_docs"]}), "scipy_docs | bag-32 | n = 4"),
                          (pd.DataFrame({"data": ["scipy_docs", "digits"]}), "digits, scipy_docs | allcnn-16, bag-32 | n = 3, 4")):
        assert f"preset digits | {wanted} | commit " in lab.provenance(drawn)
    assert "| digits, digits5 |" in labs("lfssd").provenance(pd.DataFrame({"x": [1]}))


@pytest.mark.parametrize("drawn, n", [
    ({"seed": [0]}, "1"), ({"seed": [1, 1, 2, 2]}, "2"), ({"seed": [0, 1, 2], "method": ["ssd"] * 3}, "3"), ({"method": ["ssd"]}, "3"),
    ({"data": ["digits"] * 2, "seed": [0, 2]}, "2"), ({"data": ["scipy_docs"] * 3, "seed": [0, 1, 1]}, "2"),
    ({"data": ["digits", "scipy_docs"], "seed": [0, 0]}, "3, 4")])              # of two domains the settings' seeds, domain by domain
def test_the_provenance_of_a_figure_counts_the_seeds_that_are_drawn(labs, drawn, n):
    lab = labs("nabla_tau")
    assert f"| n = {n} | commit " in lab.provenance(pd.DataFrame(drawn)) and "| n = 3, 4 |" in lab.provenance()


# --- the figures of LFSSD

def test_a_changed_record_changes_the_digest(lab, monkeypatch):
    before = repr(lab.figure("wrong_way"))
    (one,) = [r for r in records(lab, "unlearn", "lfssd") if r.spec.seed == 0]
    changed = [replace(r, metrics=r.metrics | {"acc_test_retain": r.metrics["acc_test_retain"] - 0.01}) if r is one else r
               for r in lab.records]
    monkeypatch.setattr(lab, "records", changed)
    assert repr(lab.figure("wrong_way")) != before


def test_data_shows_forgotten_and_retained_training_images(lab, drawn):
    figure, numbers = drawn("data")
    focus = lab.settings["focus"]
    d = data.load(lab.settings["scenarios"][focus])
    s = data.split(d, focus, 0)
    for row in numbers.itertuples():
        assert row.label == int(d.train_labels[row.image])
        assert row.image in (s.forget if row.set == "forget" else s.retain).tolist()
    assert numbers.set.value_counts().to_dict() == {"retain": 5, "forget": 3}
    top, bottom = figure.axes[:8], figure.axes[8:]
    for ax, row in zip(top, numbers.itertuples(), strict=True):
        assert ax.get_title().endswith(f": {row.set}") and ax.get_title().startswith(d.class_names[row.label])
    for ax, row in zip(bottom, numbers.itertuples(), strict=True):
        assert np.allclose(ax.images[0].get_array(), d.train_images[row.image, 0].clamp(0, 1).numpy())


def test_wrong_way_marks_are_means_of_the_records(lab, drawn):
    figure, numbers = drawn("wrong_way")
    found = marks(figure.axes[0])
    assert set(found) == {label(m) for m in ("original", "retrain", "random_dampening", "lfssd")}
    for name in ("retrain", "lfssd", "random_dampening"):
        wanted = [statistics.mean(metric(lab, m, name)) for m in ("acc_test_forget", "acc_test_retain")]
        assert found[label(name)] == pytest.approx([100 * v for v in wanted])
        assert numbers[numbers.method == name].D_f.tolist() == metric(lab, "acc_test_forget", name)


def test_importance_bars_are_the_selected_shares_and_the_density_counts_weights(lab, drawn):
    figure, numbers = drawn("importance")
    density, bars = figure.axes[:2]
    recorded = records(lab, "anatomy")
    layers = [row for row in recorded[0].rows if row["row"] == "layer"]
    share = sum(r["selected"] for r in layers) / sum(r["weights"] for r in layers)
    assert share == pytest.approx(recorded[0].metrics["selected"], rel=1e-4)
    names = list(dict.fromkeys(layer_of(row["layer"]) for row in layers))
    assert [text.get_text().split(" (")[0] for text in bars.get_yticklabels()] == names
    for name, bar in zip(names, bars.patches, strict=True):
        shares = []
        for r in recorded:
            mine = [x for x in r.rows if x["row"] == "layer" and layer_of(x["layer"]) == name]
            shares.append(sum(x["selected"] for x in mine) / sum(x["weights"] for x in mine))
        assert bar.get_width() == pytest.approx(100 * statistics.mean(shares), abs=1e-9)
    assert bars.yaxis_inverted()                                                # the input is on top
    first = next(r for r in recorded if r.spec.seed == 0)
    counts = [row["count"] for row in first.rows if row["row"] == "density"]
    assert np.nansum(density.collections[0].get_array()) == sum(counts) == numbers["count"].sum() <= first.metrics["weights"]
    alpha = first.spec.hyper_parameters["alpha"]
    (line,) = [xy for text, xy in lines(density).items() if text.startswith("selected")]
    assert line[:, 1] - line[:, 0] == pytest.approx(np.log10(alpha))


@pytest.mark.parametrize("name, wanted", [("body.0.0.weight", "conv 1"), ("body.3.1.bias", "conv 4"), ("fc.weight", "last layer"),
                                          ("layer1.0.bn1.weight", "layer1.0"), ("conv1.weight", "stem")])
def test_a_parameter_belongs_to_a_layer(name, wanted):
    assert layer_of(name) == wanted


SERIES = {"SSD": ("ssd", None), "LFSSD": ("lfssd", None), "LFSSD, per sample": ("lfssd", "sample")}


@pytest.mark.parametrize("series", SERIES)
@pytest.mark.parametrize("panel, key", list(enumerate(("D_f", "D_r", "selected"))))
def test_alpha_curves_are_the_means_of_the_records(lab, drawn, series, panel, key):
    figure, numbers = drawn("alpha_curve")
    method, reduction = SERIES[series]
    recorded = [r for r in records(lab, "alpha", method) if r.spec.hyper_parameters.get("reduction") == reduction]
    curve = lines(figure.axes[panel])[series]
    assert curve[:, 0].tolist() == sorted(lab.settings["alphas"])
    for alpha, value in curve:
        mean = mean_of(recorded, key, alpha=alpha, lam=1)
        assert value == pytest.approx(100 * mean)
        cell = numbers[(numbers.series == series) & (numbers.alpha == alpha) & (numbers.metric == key)]
        assert cell["mean"].tolist() == [pytest.approx(mean)] and cell.n.tolist() == [lab.settings["seeds"]]


def test_the_alpha_figure_marks_the_bound_and_the_reference_models(lab, drawn):
    figure, _ = drawn("alpha_curve")
    bound = records(lab, "alpha", "lfssd")[0].metrics["bound"]
    for ax, key in zip(figure.axes, ("acc_test_forget", "acc_test_retain", None), strict=True):
        (at,) = [xy for text, xy in lines(ax).items() if text.startswith("|D|/|D_f|")]
        assert at[:, 0] == pytest.approx(bound)
        for name in ("original", "retrain") if key else ():
            assert lines(ax)[label(name)][:, 1] == pytest.approx(100 * statistics.mean(metric(lab, key, name)))
    assert figure.axes[0].get_ylim() == figure.axes[1].get_ylim()               # the two accuracies have one scale


def test_scenarios_has_a_panel_each_with_the_retrained_level(lab, drawn):
    figure, _ = drawn("scenarios")
    assert [ax.get_title(loc="left").split(":\n")[0] for ax in figure.axes] == list(lab.settings["scenarios"])
    for ax, scenario in zip(figure.axes, lab.settings["scenarios"], strict=True):
        random = scenario.startswith("random")
        recorded = [r for r in records(lab, "alpha", "lfssd", scenario) if "reduction" not in r.spec.hyper_parameters]
        for key, recorded_key in {"D_r": "acc_test" if random else "acc_test_retain",
                                  "D_f": "acc_forget" if random else "acc_test_forget"}.items():
            for alpha, value in lines(ax)[f"LFSSD acc {key}"]:
                assert value == pytest.approx(100 * mean_of(recorded, key, alpha=alpha, lam=1))
            level = statistics.mean(r.metrics[recorded_key] for r in records(lab, "unlearn", "retrain", scenario))
            assert lines(ax)[f"retrained acc {key}"][:, 1] == pytest.approx(100 * level)
        used = records(lab, "unlearn", "lfssd", scenario)[0].spec.hyper_parameters["alpha"]
        assert lines(ax)[r"$\alpha$ used in the tables"][:, 0] == pytest.approx(used)


def test_sensitivity_lines_are_batch_sizes_and_orders(lab, drawn):
    figure, _ = drawn("sensitivity")
    panels = [(a, key) for key in ("selected", "D_r", "D_f") for a in sorted(lab.settings["sensitivity_alphas"])]
    for ax, (alpha, key) in zip(figure.axes, panels, strict=True):
        assert f"= {alpha:g}" in ax.get_title(loc="left")
        for order, word in (("given", "class-sorted"), ("shuffled", "shuffled")):
            curve = lines(ax)[f"LFSSD, {word}"]
            assert curve[:, 0].tolist() == sorted(lab.settings["batch_sizes"])
            for size, value in curve:                                           # batches of one have no order
                at = {"alpha": alpha, "batch_size": size, "order": "given" if size == 1 else order}
                assert value == pytest.approx(100 * mean_of(records(lab, "sensitivity", "lfssd"), key, **at))
        if key != "selected":
            recorded = {"D_r": "acc_test_retain", "D_f": "acc_test_forget"}[key]
            for name in ("original", "retrain"):
                assert lines(ax)[label(name)][:, 1] == pytest.approx(100 * statistics.mean(metric(lab, recorded, name)))


def test_cost_marks_are_epochs_and_accuracies(lab, drawn):
    figure, numbers = drawn("cost")
    for ax, key in zip(figure.axes, ("acc_test_forget", "acc_test_retain"), strict=True):
        found = marks(ax)
        for name in ("retrain", "finetune", "lfssd"):
            epochs = statistics.mean(r.timing["epochs"] for r in records(lab, "unlearn", name))
            assert found[label(name)] == pytest.approx([epochs, 100 * statistics.mean(metric(lab, key, name))])
        assert ax.get_xscale() == "log" and label("original") in lines(ax)
    assert {m for m in REAL if metric(lab, "acc_forget", m)} == set(numbers.method)


def test_the_ruler_places_every_method_between_original_and_retrained(lab, drawn):
    figure, numbers = drawn("ruler")
    for key, recorded_key in {"loss_forget": "loss_forget", "D_f": "acc_test_forget", "D_r": "acc_test_retain"}.items():
        part = numbers[numbers.metric == key].set_index("method")
        start, end = (statistics.mean(metric(lab, recorded_key, m)) for m in ("original", "retrain"))
        for name in ("lfssd", "ssd", "finetune"):
            mean = statistics.mean(metric(lab, recorded_key, name))
            assert part.raw[name] == pytest.approx(mean) and part.position[name] == pytest.approx((mean - start) / (end - start))
        spread = statistics.stdev(metric(lab, recorded_key, "retrain"))
        (ax,) = [a for a, m in zip(figure.axes, numbers.metric.unique(), strict=True) if m == key]
        assert ("too close: raw" in ax.get_title(loc="left")) == (abs(end - start) <= 2 * spread)
    assert set(numbers.method) == {m for m in STYLE if metric(lab, "acc_forget", m)}


def test_the_strip_shows_five_images_under_three_models(lab, drawn):
    figure, numbers = drawn("strip")
    first = next(r for r in records(lab, "images") if r.spec.seed == 0)
    rows = [row for row in first.rows if row["row"] == "strip"]
    roles = list(dict.fromkeys(row["role"] for row in rows))
    assert len(roles) == 5 and len(numbers) == 15
    d = data.load(first.spec.data)
    for ax, role in zip([a for a in figure.axes if a.axison], roles, strict=True):
        mine = {row["model"]: row for row in rows if row["role"] == role}
        order = [mine[m] for m in ("original", "lfssd", "retrain")]
        assert [p.get_width() for p in ax.patches] == pytest.approx([100 * row["p_label"] for row in order])
        assert words(ax) == [f"says {d.class_names[row['predicted']]}" for row in order]


def test_all_forgotten_images_are_drawn_once_a_seed_and_model(lab, drawn):
    figure, numbers = drawn("forgotten")
    left, right = figure.axes
    recorded = records(lab, "images")
    forgotten = [row | {"seed": r.spec.seed} for r in recorded for row in r.rows if row["row"] == "forgotten"]
    assert len(numbers) == len(forgotten)
    curves = [np.asarray(line.get_ydata()) for line in left.lines]
    for model in ("original", "lfssd", "retrain"):
        own = sorted(row["confidence"] for row in forgotten if (row["model"], row["seed"]) == (model, 0))
        assert any(len(c) == len(own) and np.allclose(c, own) for c in curves), model
    for bars, model in zip(right.containers[1::2], ("original", "lfssd", "retrain"), strict=True):
        assert sum(bar.get_height() for bar in bars) == pytest.approx(100)
        eight = [[row["predicted"] == 8 for row in forgotten if (row["model"], row["seed"]) == (model, s)] for s in range(len(recorded))]
        assert bars[8].get_height() == pytest.approx(100 * statistics.mean(statistics.mean(map(float, e)) for e in eight))


def test_relearning_has_a_line_a_seed_from_the_unlearned_model_on(lab, drawn):
    figure, _ = drawn("relearn")
    (ax,) = figure.axes
    curves = [line.get_xydata() for line in ax.lines if len(line.get_xydata()) > 2]
    recorded = [r for name in ("lfssd", "ssd", "retrain") for r in records(lab, "relearn", name)]
    assert len(curves) == len(recorded) == 3 * lab.settings["seeds"]
    for curve, r in zip(curves, recorded, strict=True):
        assert curve[:, 0].tolist() == [row["batch"] for row in r.rows]
        assert curve[:, 1] == pytest.approx([100 * row["acc_forget"] for row in r.rows])
    never = [r for r in recorded if math.isnan(r.metrics["batches"])]           # said once a method, with the number of seeds
    said = [re.fullmatch(r"never in (\d+)\n\((\d+) seeds?\)", text.get_text()) for text in ax.texts]
    assert sum(int(m[2]) for m in said) == len(never) and len(said) == len({r.spec.method for r in never})
    assert all(int(m[1]) == lab.settings["relearn"]["batches"] for m in said)
    target = statistics.mean(r.metrics["target"] for r in records(lab, "relearn"))
    assert lines(ax)["95 % of the original: counts as back"][:, 1] == pytest.approx(100 * target)
    assert target == pytest.approx(0.95 * statistics.mean(metric(lab, "acc_forget", "original")), rel=1e-4)


def test_an_axis_that_does_not_start_at_zero_says_so(axes):
    for ax, low in zip(axes, (0, 61.4), strict=False):
        ax.set(ylim=(low, 90), ylabel="acc (%)")
        plots.mind_start(ax)
    assert [ax.get_ylabel() for ax in axes[:2]] == ["acc (%)", "acc (%)\nmind: the axis starts at 61"]
