"""Tables cell by cell: what they may say, where each number comes from, and what they say when there is none."""

import csv
import itertools
import math
from dataclasses import fields, replace

import pandas as pd
import pytest

from unlearnlib import tables
from unlearnlib.access import Row
from unlearnlib.claims import Interval, interval
from unlearnlib.data import DATASETS
from unlearnlib.methods import METHODS
from unlearnlib.plots import label

PAPERS = ("ispf", "lfssd", "nabla_tau", "forget_vectors")
METRICS = ["D_r", "D_f", "MIA"]


def runs(methods=("original", "retrain", "lfssd"), scenarios=("class:0",), seeds=3, data="cifar10", **columns):
    rows = [{"scenario": s, "method": m, "seed": seed, "data": data, "value": 0.1 * k + 0.01 * seed * seed}
            for s in scenarios for k, m in enumerate(methods) for seed in range(seeds)]
    return pd.DataFrame(rows).assign(**columns)


def lines(table):
    """The cells of a Markdown table, row by row, without the rule beneath the heading."""
    text = [[cell.strip() for cell in line.strip("|").split("|")] for line in repr(table).splitlines()]
    return [text[0], *text[2:]]


# --- cells

def test_a_cell_is_mean_and_interval_with_its_digits_and_scale():
    i = interval([0.1, 0.2, 0.4])
    assert tables.cell([0.1, 0.2, 0.4]) == f"{100 * i.mean:.1f} ± {100 * i.half:.1f}"
    assert tables.cell([0.1, 0.2, 0.4], 3, 1) == f"{i.mean:.3f} ± {i.half:.3f}"
    assert tables.cell([0.25]) == "25.0"


def test_a_metric_that_does_not_exist_is_a_dash():
    assert tables.cell([]) == tables.cell([math.nan, math.nan]) == "–"
    assert tables.cell([math.nan, 0.5]) == "50.0"


def test_a_table_shows_its_cells_as_they_are():
    """Cells are text: neither "95.20" nor "1e3" may be read as a number and written differently."""
    table = tables.Table(pd.DataFrame({"a": ["95.20", "1e3"], "b": ["–", "0"]}))
    assert lines(table) == [["a", "b"], ["95.20", "–"], ["1e3", "0"]]
    assert table._repr_markdown_() == "| a | b |\n| :-- | :-- |\n| 95.20 | – |\n| 1e3 | 0 |"
    assert repr(table) != table._repr_markdown_()
    wide = tables.Table(pd.DataFrame({"a": ["x" * tables.WIDEST, "y"]}))
    assert repr(wide) == wide._repr_markdown_()                                 # padding would make every line as long
    assert tables.Markdown("*x*")._repr_markdown_() == repr(tables.Markdown("*x*")) == "*x*"


# --- rows

def test_by_method_has_one_row_a_scenario_and_method_in_the_order_of_the_registry():
    frame = runs(("lfssd", "retrain", "original", "finetune"), ("random:0.1", "class:0"))
    table = tables.by_method(frame, {"value (%)": ("value", 1, 100)}).frame
    names = [label(m) for m in ("original", *METHODS) if m in ("original", "retrain", "finetune", "lfssd")]
    assert list(zip(table.scenario, table.method, strict=True)) == list(itertools.product(("random:0.1", "class:0"), names))
    assert set(table.n) == {3}
    for row in table.itertuples():
        part = frame[(frame.scenario == row.scenario) & (frame.method.map(label) == row.method)]
        assert row[3] == tables.cell(part.value)


def test_by_method_shows_only_the_methods_asked_for_and_only_where_they_ran():
    frame = pd.concat([runs(("original", "lfssd")), runs(("original",), ("class:1",))])
    table = tables.by_method(frame, {"v": ("value", 1, 1)}, ["lfssd", "original", "ssd"]).frame
    assert list(zip(table.scenario, table.method, strict=True)) == [
        ("class:0", label("lfssd")), ("class:0", label("original")), ("class:1", label("original"))]


def test_n_counts_the_runs():
    frame = runs()
    frame = frame[(frame.method != "lfssd") | (frame.seed < 1)]
    table = tables.by_method(frame, {"v": ("value", 1, 100)}).frame.set_index("method")
    assert table.n[label("lfssd")] == 1 and "±" not in table.v[label("lfssd")]
    assert table.n[label("retrain")] == 3 and "±" in table.v[label("retrain")]


# --- what a method may see

def test_the_access_table_is_the_registry():
    heading, *rows = lines(tables.access())
    things = [f.name for f in fields(Row) if f.name != "changes"]
    assert heading == ["method", *(t.replace("_", " ") for t in things), "what it changes"]
    assert [r[0] for r in rows] == [label(m) for m in METHODS]
    for row, method in zip(rows, METHODS.values(), strict=True):
        granted = {t: getattr(method.access, t) for t in things}
        granted["forget_classes"] |= granted["forget_labels"]                   # who has the labels can name their classes
        assert row[1:] == ["yes" if granted[t] else "no" for t in things] + [method.access.changes]


@pytest.mark.parametrize("name, seen", [   # the rows of the papers themselves
    ("retrain", "no no no yes yes no"), ("lfssd", "yes no no yes no no"), ("ssd", "yes yes yes yes yes no"),
    ("finetune", "no no no yes yes no"), ("unsir", "no no yes yes yes no"), ("mask_logit", "no no yes no no no")])
def test_the_access_table_says_what_the_papers_say(name, seen):
    (row,) = lines(tables.access([name]))[1:]
    assert row[0] == label(name) and row[1:-1] == seen.split()


def test_a_changed_contract_changes_the_table(monkeypatch):
    before = repr(tables.access(["lfssd"]))
    monkeypatch.setitem(METHODS, "lfssd", replace(METHODS["lfssd"], access=Row(forget_images=True, held_out=True, changes="all")))
    (row,) = lines(tables.access(["lfssd"]))[1:]
    assert row[1:] == ["yes", "no", "no", "no", "no", "yes", "all"] and repr(tables.access(["lfssd"])) != before


def test_every_paper_has_a_column_of_letters():
    heading, *rows = lines(tables.letters())
    assert len(heading) == 1 + len(PAPERS) and rows
    assert all(len(set(row[1:]) - {"–"}) > 1 for row in rows), "a letter with one meaning needs no warning"


# --- published numbers

def known():
    with open(tables.PUBLISHED, newline="") as file:
        return list(csv.DictReader(file))


def test_every_published_number_has_its_source_and_its_place():
    assert known()
    for row in known():
        assert row["source"].strip(), f"no source: {row}"
        assert math.isfinite(float(row["value"])) and row["metric"] in METRICS
        assert row["paper"] in PAPERS and row["data"] in DATASETS and row["method"] in ("original", *METHODS) and row["model"]
    places = [tuple(row[k] for k in ("paper", "study", "data", "scenario", "method", "alpha", "metric")) for row in known()]
    assert len(set(places)) == len(places), "two numbers for one place"


def test_published_cells_come_from_the_file_and_from_nowhere_else():
    frame = runs(("original", "retrain", "finetune", "ssd", "lfssd"), ("class:0", "class:1"))
    table = tables.published(frame, "lfssd", tables.by_method(frame, {"v": ("value", 1, 100)}), METRICS).frame
    heading = "published: D_r / D_f / MIA"
    for row in table.to_dict("records"):
        mine = {k["metric"]: k for k in known() if (k["paper"], k["study"], k["data"], k["scenario"], label(k["method"])) ==
                ("lfssd", "unlearn", "cifar10", row["scenario"], row["method"])}
        setting = [f"; {word} {mine['D_r'][k]}" for k, word in tables.SETTING.items() if mine and mine["D_r"][k]]
        assert row[heading] == (f"{' / '.join(mine[m]['value'] for m in METRICS)} ({mine['D_r']['source']}{''.join(setting)})" if mine
                                else tables.MISSING)
    assert "alpha 8; lambda 1; batch size 256" in table.set_index(["scenario", "method"]).loc[("class:0", label("ssd")), heading]
    assert 0 < (table[heading] == tables.MISSING).sum() < len(table)


@pytest.mark.parametrize("frame, paper", [(runs(data="digits"), "lfssd"), (runs(), "ispf"), (runs(scenarios=("class:9",)), "lfssd")])
def test_other_data_papers_and_scenarios_have_no_published_value(frame, paper):
    table = tables.published(frame, paper, tables.by_method(frame, {"v": ("value", 1, 100)}), METRICS).frame
    assert set(table.iloc[:, -1]) == {tables.MISSING}


def test_an_empty_file_leaves_every_cell_empty_and_a_new_row_fills_one(monkeypatch, tmp_path):
    heading = "paper,study,data,model,scenario,method,alpha,lam,batch_size,metric,value,source\n"
    frame = runs()
    table = tables.by_method(frame, {"v": ("value", 1, 100)})
    monkeypatch.setattr(tables, "PUBLISHED", tmp_path / "published.csv")
    tables.PUBLISHED.write_text(heading)
    assert set(tables.published(frame, "lfssd", table, METRICS).frame.iloc[:, -1]) == {tables.MISSING}
    tables.PUBLISHED.write_text(heading + "lfssd,unlearn,cifar10,net,class:0,lfssd,,,,D_f,0.10,Table 9\n"
                                "lfssd,alpha,cifar10,net,class:0,lfssd,9,1,64,D_f,0.20,Table 9\n")
    cells = tables.published(frame, "lfssd", table, METRICS).frame.set_index("method").iloc[:, -1]
    assert cells[label("lfssd")] == f"{tables.MISSING} / 0.10 / {tables.MISSING} (Table 9)"
    assert set(cells.drop(label("lfssd"))) == {tables.MISSING}
    assert "published: D_r / D_f / MIA" not in table.frame                      # the table that was given is as it was


# --- distance to the retrained model

def audited():
    rows = []
    for seed in range(2):
        for name, shift in (("original", 0.2), ("retrain", 0.0), ("lfssd", -0.1)):
            base = 0.6 + 0.1 * seed
            rows.append({"scenario": "class:0", "seed": seed, "method": name, "acc_forget": base + shift, "acc_retain": base + shift / 2,
                         "acc_test": base - shift / 2, "mia_entropy": base + shift, "other_attack": base})
    return pd.DataFrame(rows)


def test_retrained_has_distance_nought_and_tug_of_war_one():
    found = tables.with_distance(audited())
    retrained = found[found.method == "retrain"]
    assert (retrained.avg_gap == 0).all() and (retrained.tow == 1).all() and len(retrained) == 2


def test_distances_are_taken_seed_by_seed():
    found = tables.with_distance(audited()).set_index(["method", "seed"])
    for seed in range(2):
        assert found.avg_gap["original", seed] == pytest.approx((0.2 + 0.1 + 0.1 + 0.2) / 4)
        assert found.tow["original", seed] == pytest.approx(0.8 * 0.9 * 0.9)
        assert found.avg_gap["lfssd", seed] == pytest.approx((0.1 + 0.05 + 0.05 + 0.1) / 4)
        assert found.tow["lfssd", seed] == pytest.approx(0.9 * 0.95 * 0.95)
    other = tables.with_distance(audited(), attack="other_attack").set_index(["method", "seed"])
    assert other.avg_gap["original", 0] == pytest.approx((0.2 + 0.1 + 0.1 + 0.0) / 4)


def test_without_its_retrained_model_a_run_has_no_distance():
    frame = audited()
    found = tables.with_distance(frame[(frame.method != "retrain") | (frame.seed == 0)]).set_index(["method", "seed"])
    assert math.isnan(found.avg_gap["lfssd", 1]) and math.isnan(found.tow["original", 1])
    assert found.avg_gap["lfssd", 0] > 0
    other = frame.assign(scenario=["class:0" if m == "retrain" else "class:1" for m in frame.method])
    assert tables.with_distance(other).query("method == 'lfssd'").avg_gap.isna().all()


def test_distances_leave_the_frame_as_it_was():
    frame = audited()
    columns = list(frame)
    tables.with_distance(frame)
    assert list(frame) == columns


# --- predictions

@pytest.mark.parametrize("value, verdict", [
    (5.0, "inside"), (2.0, "inside"), (8.0, "inside"), (1.5, "outside by 0.5"), (10.25, "outside by 2.2"), (-3.0, "outside by 5.0")])
def test_a_prediction_is_inside_its_band_or_outside_by_so_much(value, verdict):
    heading, row = lines(tables.predictions([("cost", Interval(value, math.nan, 1), (2, 8))]))
    assert row == ["cost", "2 to 8", f"{value:.1f}", "1", verdict] and heading[-1] == "verdict"


@pytest.mark.parametrize("mean, half, verdict", [
    (3.0, 0.5, "inside"), (3.0, 1.0, "inside"), (3.0, 1.5, "inside, but the interval reaches out of the band"),
    (3.0, 9.0, "inside, but the interval reaches out of the band"), (1.0, 0.5, "outside by 1.0"),
    (1.0, 1.5, "outside by 1.0, but the interval reaches into the band")])
def test_an_interval_that_crosses_the_edge_of_the_band_is_said_to(mean, half, verdict):
    assert tables.predictions([("cost", Interval(mean, half, 4), (2, 8))]).frame.verdict[0] == verdict


def test_predictions_keep_their_order_and_digits():
    table = tables.predictions([("b", Interval(1.234, 0.1, 3), (0, 2)), ("a", Interval(2.345, 0.2, 3), (0, 2))], digits=2).frame
    assert table.quantity.tolist() == ["b", "a"] and table["we measured"].tolist() == ["1.23 ± 0.10", "2.35 ± 0.20"]
    assert table.verdict.tolist() == ["inside", "outside by 0.35"]


# --- controls

def controlled(**change):
    """One number of each kind, two seeds: retrained, a method, and two controls that are nearer in some."""
    rows = {"retrain": (0.0, 0.9, 0.1), "ssd": (0.1, 0.8, 0.3), "mask_logit": (0.0, 0.95, 0.4), "head_only": (0.2, 0.7, 0.3)} | change
    return pd.DataFrame([{"method": m, "seed": s, "ua": a + 0.01 * s, "ra": b, "js_test": c}
                         for m, (a, b, c) in rows.items() for s in range(2)])


NUMBERS = {"ua": "UA", "ra": "RA", "js_test": "JS", "absent": "nothing"}


def test_the_numbers_that_a_control_fools_are_those_in_which_its_mean_is_at_least_as_near_to_retrained():
    """A divergence is a distance already: that of the retrained model itself is no target."""
    assert tables.nearer(controlled(), NUMBERS, "ssd", "mask_logit") == ["UA", "RA"]
    assert tables.nearer(controlled(), NUMBERS, "ssd", "head_only") == ["JS"]          # as near
    assert tables.nearer(controlled(head_only=(float("nan"),) * 3), NUMBERS, "ssd", "head_only") == []
    assert tables.nearer(controlled(), NUMBERS, "ssd", "random_output") == []


def test_the_sentence_on_controls_names_each_that_was_run():
    said = repr(tables.fooled(controlled(), NUMBERS, "ssd"))
    assert "of these 3 numbers" in said and said.endswith("**mask logit** in 2 (UA; RA), **head only** in 1 (JS).") and "random" not in said
    bare = controlled()
    assert "no controls" in repr(tables.fooled(bare[~bare.method.isin(tables.NOTHING_UNLEARNED)], NUMBERS, "ssd"))
