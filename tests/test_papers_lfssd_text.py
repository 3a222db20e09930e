"""Sentences that score the expectations of LFSSD's notebook, and the parts of its figures that differ from the shared ones."""

import inspect
import re

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from unlearnlib.claims import Interval, interval, paired
from unlearnlib.methods import lfssd
from unlearnlib.papers import Session
from unlearnlib.papers.lfssd import figures, scores, text
from unlearnlib.papers.lfssd.claims import CLAIMS, with_paper_metrics
from unlearnlib.papers.lfssd.curves import alphas_in_words, curve, window
from unlearnlib.plots import LEAST_BAND, label

NAN = float("nan")
BANDS = {"relearning": [0.2, 0.8]}


@pytest.fixture(scope="module")
def lab():
    return Session("lfssd", "digits")


@pytest.fixture(scope="module")
def cifar():
    return Session("lfssd", "cifar10")


@pytest.fixture
def change(monkeypatch):
    """Changes what a session's frame, or its rows, of one study are: ``change(session, study, function of a DataFrame)``."""
    def apply(session, study, edit, what="frame"):
        before = getattr(session, what)
        monkeypatch.setattr(session, what, lambda s="unlearn": edit(before(s).copy()) if s == study else before(s), raising=False)
    return apply


def moved(method, metric, shift, scenario=None):
    """An edit of a frame: this method's metric, shifted."""
    def edit(frame):
        mine = (frame.method == method) & (frame.scenario == scenario if scenario else True)
        frame.loc[mine, metric] = frame.loc[mine, metric] + shift
        return frame
    return edit


def verdict(said, question):
    return re.search(rf"{re.escape(question)}.*?\*\*(.*?)\*\*", said)[1]


# --- the steps that the notebook prints

def test_the_printed_lines_have_what_each_step_names():
    lines = {n: [x for f in (lfssd._objective, lfssd.importance, lfssd.selected, lfssd.dampen) for x in inspect.getsource(f).splitlines()
                 if f"# step {n}" in x] for n in (1, 2, 3)}
    assert [len(v) for v in lines.values()] == [5, 1, 2]
    for n, names in {1: ("square()", "autograd.grad", "_foreach_abs", "len(images)", "value / terms"), 2: ("forget_importance", "alpha *"),
                     3: ("clamp(max=1)", "mask[name]")}.items():
        assert all(any(name in x for x in lines[n]) for name in names)


# --- words of an interval

@pytest.mark.parametrize("mean, half, word", [(0, 5, "yes"), (0, 5.1, "interval too wide: not decided"), (-14, 2, "no"), (7, 1.9, "no"),
                                               (7, 3, "interval too wide: not decided")])
def test_yes_and_no_need_the_whole_interval(mean, half, word):
    assert scores.decided(Interval(mean, half, 3), -5, 5) == word
    assert scores.decided(Interval(mean, NAN, 1), -5, 5) == "not decided at one seed"


@pytest.mark.parametrize("good, words", [([], "none"), ([3], "3"), ([1.5, 2, 3], "1.5 to 3")])
def test_a_window_in_words(good, words):
    assert alphas_in_words(good) == words


# --- the prediction box

def test_a_missed_relearning_band_says_how_many_never_came_back(lab, change):
    said = repr(text.misses(lab, BANDS))
    ratios = text.relearning(lab)
    never, others = sum(r == 0 for r in ratios), interval([r for r in ratios if r > 0])
    assert never and f"({never} of {len(ratios)}) count as infinitely slow, ratio 0" in said and f"{others.text(2, 1)}, inside" in said
    assert text.never(lab, 0.5, 0.8).endswith("outside the band.")
    assert repr(text.misses(lab, {"relearning": [0, 1]})) == "No mean missed its band this time."
    change(lab, "relearn", lambda frame: frame.fillna({"batches": 200}))
    assert "Every retrained model relearned" in text.never(lab, 0, 1)


# --- expectations under figures

def test_the_wrong_way_is_scored_in_both_halves(lab, change):
    said = repr(text.reading(lab, "wrong_way"))
    f = text.focus(lab)
    for metric, other in (("D_r", "original"), ("D_f", "original"), ("D_f", "lfssd")):
        assert paired(f, metric, "random_dampening", other).text() in said
    assert verdict(said, "everywhere?") == "only in part" and verdict(said, "class stay?") == "yes"
    change(lab, "unlearn", moved("random_dampening", "acc_test_forget", -3.0))
    said = repr(text.reading(lab, "wrong_way"))
    assert verdict(said, "everywhere?") == "yes" and verdict(said, "class stay?") == "no"


def test_the_rise_above_the_original_is_computed_and_explained_only_where_it_is_shown(lab, change):
    said = repr(text.reading(lab, "alpha_curve"))
    f, rows = text.focus(lab), curve(lab, lab.settings["focus"])
    means = rows.groupby("alpha").D_r.mean()
    gain = interval(rows[rows.alpha == means.idxmax()].set_index("seed").D_r - f[f.method == "original"].set_index("seed").D_r)
    assert f"greatest at alpha {means.idxmax():g}, the best of {len(means)}: higher ({gain.text()} points)" in said
    assert "a rise that needs no unlearning" in said
    change(lab, "unlearn", moved("mask_logit", "acc_test_retain", -0.5))
    assert "a rise that needs no unlearning" not in repr(text.reading(lab, "alpha_curve"))


def test_shuffled_against_sorted_has_a_verdict_and_no_other_method(lab, change):
    said = repr(text.reading(lab, "sensitivity"))
    rows = lab.rows("sensitivity")
    for alpha in lab.settings["sensitivity_alphas"]:
        at = rows[(rows.method == "lfssd") & (rows.alpha == alpha) & (rows.batch_size == 64)]
        at = at.pivot(index="seed", columns="order", values="D_r")
        assert f"at alpha {alpha:g}, batches of 64, shuffled minus sorted {interval(at.shuffled - at.given).text()} points" in said
    assert said.count("**yes**") == 2 and " SSD" not in said
    change(lab, "sensitivity", lambda r: r.assign(D_r=r.D_r.where(r.order != "shuffled", r.D_r + 3)), "rows")
    assert repr(text.reading(lab, "sensitivity")).count("**no**") == 2


def test_controls_are_named_ruler_by_ruler(lab, change):
    assert "mask logit is within it on accuracy;" in repr(text.reading(lab, "ruler"))
    change(lab, "unlearn", moved("mask_logit", "acc_test_forget", 0.5))
    assert "mask logit is within it on none;" in repr(text.reading(lab, "ruler"))


@pytest.mark.parametrize("shift, word", [(0, "yes"), (-20, "no")])
def test_log_odds_above_retrained(lab, change, shift, word):
    change(lab, "images", lambda r: r.assign(confidence=r.confidence + shift * (r.model == "lfssd")), "rows")
    assert verdict(repr(text.reading(lab, "forgotten")), "expected higher:") == word


def test_relearning_has_a_verdict(lab, change):
    assert verdict(repr(text.reading(lab, "relearn")), "expected below 1:") == "yes"
    change(lab, "relearn", lambda f: f.assign(batches=f.batches.where(f.method != "lfssd", 1000 + f.seed)))
    assert verdict(repr(text.reading(lab, "relearn")), "expected below 1:") == "no"
    change(lab, "relearn", lambda f: f.assign(batches=f.batches.where(f.method != "lfssd", 30 + 1000 * (f.seed == 0))))
    assert verdict(repr(text.reading(lab, "relearn")), "expected below 1:") == "not decided"


def test_a_median_counts_who_never_came_back():
    assert text.median_batches(pd.Series([3.0, NAN, NAN])) == "beyond the last batch"
    assert text.median_batches(pd.Series([3.0, NAN, 5])) == "5"


def test_the_rule_is_inside_or_outside_the_window(lab, change):
    said, table = repr(text.reading(lab, "scenarios")), text.windows(lab).frame.set_index("scenario")
    for scenario in lab.settings["scenarios"]:
        good, used = window(lab, scenario), float(table["alpha of the tables"][scenario])
        word = "there is no window" if not good else "**inside**" if used in good else "**outside**"
        assert f"{scenario} at alpha {used:g}: {word}" in said and table["window of alpha"][scenario] == alphas_in_words(good)
    change(lab, "unlearn", lambda f: f.assign(hp_alpha=f.hp_alpha.where(f.method != "lfssd", 100)))
    assert "**inside**" not in repr(text.reading(lab, "scenarios"))


# --- expectations under tables

def test_the_task_in_numbers(lab):
    assert "class:8 forgets 99 of 1,000 training images; 31 of 399 test images" in repr(scores.task(lab))
    assert "allcnn-16 has 45,722 weights" in repr(scores.task(lab))


def test_stops_are_scored(lab, change):
    off = repr(scores.stops(lab, [16, 2, 1]))
    assert "alpha = 16" in off and "**yes** (5 of 5 seeds)" in off and verdict(off, "Alpha = 1 costs") == "yes"
    low = repr(scores.stops(lab, [2, 5]))
    assert "**no** (0 of 5 seeds)" in low and verdict(low, "Alpha = 5 costs") == "no"
    change(lab, "unlearn", moved("original", "acc_test_retain", 0.001))
    assert "**no** (0 of 5 seeds)" in repr(scores.stops(lab, [16, 1]))


def test_the_paper_s_table_is_scored_in_three_ways(lab, change):
    said = repr(scores.expected(lab))
    assert [verdict(said, s) for s in lab.settings["scenarios"]] == ["yes", "yes", "no", "interval too wide: not decided"]
    assert verdict(said, "Trouble at random:0.1") == "yes"
    change(lab, "unlearn", moved("lfssd", "acc_test_forget", 0.5, "class:3"))
    assert verdict(repr(scores.expected(lab)), "class:3") == "no"


def test_the_paper_s_table_has_each_alpha(lab):
    table = text.paper_table(lab).frame.set_index(["scenario", "method"]).alpha
    for scenario in lab.settings["scenarios"]:
        kind = scenario.split(":")[0]
        assert [table[scenario, m] for m in ("SSD", "LFSSD", "original")] == [
            f"{lab.settings['methods'][m][kind]['alpha']:g}" for m in ("ssd", "lfssd")] + ["–"]


def test_a_pass_over_each_set_is_the_cost(lab, change):
    assert repr(scores.cost(lab)).endswith("1.10 equivalents; LFSSD 1.10: **yes**, SSD 1.10: **yes**.")
    change(lab, "unlearn", moved("lfssd", "epochs", 1.0))
    assert "LFSSD 2.10: **no**, SSD 1.10: **yes**" in repr(scores.cost(lab))


def swept(rows, method, alpha, lam):
    return rows[(rows.method == method) & (rows.alpha == alpha) & (rows.lam == lam)].iloc[0]


def test_a_third_party_s_value_is_judged_at_its_own_setting(cifar, change):
    said, rows = repr(scores.third_party(cifar)), cifar.rows("alpha")
    for name, title, alpha, lam in (("ssd", "SSD", 8, 1), ("lfssd", "LFSSD", 6, 0.1)):
        near = rows[(rows.method == name) & (rows.lam == lam) & (rows.D_f <= 0.05)].alpha
        assert (f"{title} at UnAct's alpha {alpha} and lambda {lam} leaves acc D_f {100 * swept(rows, name, alpha, lam).D_f:.1f} % (UnAct: "
                f"0): **not reproduced, at one seed**; alphas within 5 points of it: {near.min():g} to {near.max():g}.") in said
    assert "random dampening" not in said
    change(cifar, "alpha", lambda r: r.assign(D_f=0.0), "rows")
    assert repr(scores.third_party(cifar)).count("**as published, at one seed**; alphas within 5 points of it: 1 to 20.") == 2
    change(cifar, "alpha", lambda r: r.assign(D_f=0.5), "rows")
    assert repr(scores.third_party(cifar)).count("**not reproduced, at one seed**; alphas within 5 points of it: none.") == 2


def test_a_third_party_s_curve_stands_beside_ours(cifar):
    table, rows = scores.sweep(cifar).frame.set_index("alpha"), cifar.rows("alpha")
    assert list(table.index) == ["2", "4", "6", "8", "10"] and table.iloc[3, 0] == "95.33 / 28.1"
    for alpha, cell in table.iloc[:, 1].items():
        ours = swept(rows, "lfssd", float(alpha), 1)
        assert cell == f"{100 * ours.D_r:.1f} / {100 * ours.D_f:.1f}"


def test_what_may_be_behind_is_said_of_shares_of_what_the_network_knew(cifar, change):
    said, f = repr(scores.behind(cifar)), text.focus(cifar).set_index("method")
    assert "left in our network at 6, 8, as a share" in said and "not alpha alone" in said
    assert "shuffled at alpha 5, acc D_f is 0.0 % (acc D_r 69.2 %)" in said
    theirs = {2: 0, 4: 0, 6: 0, 8: 28.1, 10: 95.9}
    change(cifar, "alpha", lambda r: r.assign(D_f=r.alpha.map(theirs).fillna(0) / 95.9 * f.D_f["original"]), "rows")
    assert "left in our network at none" in repr(scores.behind(cifar)) and "so alpha may be all" in repr(scores.behind(cifar))


def test_the_other_scale_in_a_sentence(lab, cifar, monkeypatch):
    assert repr(scores.other_scale(cifar)) == "**Preset cifar10** (n = 1): one seed has no interval; LFSSD's acc D_f is 18.0 %."
    assert "interval" not in repr(scores.other_scale(lab)) and "(n = 5): LFSSD's acc D_f is 0.0 ± 0.0 %." in repr(scores.other_scale(lab))
    monkeypatch.setattr(cifar, "has", lambda study: study != "exact", raising=False)
    assert "no interval; the exact properties were not run; LFSSD's" in repr(scores.other_scale(cifar))


def test_the_answer_quotes_medians_and_the_other_scale(lab, cifar, change):
    said = repr(text.answer(lab, cifar))
    assert said.startswith("**In its answers, yes; underneath, no.**") and len(said.split()) < 120
    batches = text.focus(lab, "relearn").fillna({"batches": np.inf}).groupby("method").batches.median()
    assert f"back after {batches['lfssd']:.0f} mini-batches (median), retrained after {batches['retrain']:.0f} (1 of 5 never)." in said
    assert "**cifar10** (n = 1): acc D_f 83.9 to 18.0 % (retrained 0.0 %)." in said and "search for alpha not counted" in said
    assert repr(text.answer(cifar)).startswith("**No.**")
    change(lab, "relearn", lambda f: f.assign(batches=f.batches.where(f.method != "lfssd", 1000 + f.seed)))
    assert repr(text.answer(lab)).startswith("**In its answers, yes.**")


# --- figures

@pytest.fixture
def draw(lab):
    yield lambda name: figures.FIGURES[name](lab)[0]
    plt.close("all")


@pytest.mark.parametrize("name", ["alpha_curve", "sensitivity", "scenarios"])
def test_no_band_leaves_the_shares(draw, name):
    for ax in draw(name).axes:
        ends = np.concatenate([path.vertices[:, 1] for c in ax.collections for path in c.get_paths()])
        assert ends.min() >= 0 and ends.max() <= 100


def test_costs_are_side_by_side_with_marks_of_one_size_and_bars_above_0(draw):
    for ax in draw("cost").axes:
        at = {c.get_label(): c.lines[0] for c in ax.containers}
        assert {mark.get_markersize() for name, mark in at.items() if name != label("ssd")} == {8}
        assert at["SSD"].get_xdata()[0] == pytest.approx(0.88 * at["LFSSD"].get_xdata()[0])
        assert min(bar[:, 1].min() for c in ax.containers for bars in c.lines[2] for bar in bars.get_segments()) >= 0


def test_seeds_of_the_forgotten_are_beside_their_mean_and_the_axis_says_where_it_starts(draw):
    (ax,) = draw("wrong_way").axes
    seeds = [c.get_offsets()[:, 0] for c in ax.collections if type(c).__name__ == "PathCollection"]
    assert [x.max() for x in seeds if x.max() < 5] == [-2, 2]
    assert f"starts at {ax.get_ylim()[0]:.0f}" in ax.get_ylabel()


def test_a_few_confidences_far_below_do_not_press_the_others_flat(lab, draw, change):
    usual = draw("forgotten").axes[0]
    assert "not drawn" not in usual.get_ylabel()
    change(lab, "images", lambda r: r.assign(confidence=r.confidence.where(r.index != r[r.row == "forgotten"].index[0], -1000)), "rows")
    ax = draw("forgotten").axes[0]
    assert "not drawn: down to -1000" in ax.get_ylabel() and ax.get_ylim()[0] > -100


def test_every_ruler_shows_its_band_and_words_are_dark(draw):
    axes = draw("ruler").axes
    assert all(ax.patches[0].get_width() >= 2 * LEAST_BAND - 1e-9 for ax in axes if ax.patches) and axes[0].patches
    assert {t.get_color() for ax in axes for t in ax.texts} == {".15"}


def test_titles_give_the_windows_and_the_window_is_shaded(lab, draw):
    for ax, scenario in zip(draw("scenarios").axes, lab.settings["scenarios"], strict=True):
        good = window(lab, scenario)
        assert ax.get_title(loc="left") == f"{scenario}:\nwindow: {alphas_in_words(good)}" and bool(ax.patches) == bool(good)


def test_titles_of_the_sensitivity_have_its_means(lab, draw):
    rows = lab.rows("sensitivity")
    at = rows[(rows.method == "lfssd") & (rows.alpha == 2) & (rows.batch_size == 64)].groupby("order").D_r.mean()
    title = draw("sensitivity").axes[2].get_title(loc="left")
    assert "(as in the tables)" in title
    assert title.endswith(f"leave the others at {100 * at['given']:.0f} % sorted, {100 * at['shuffled']:.0f} % shuffled")


def test_the_answer_says_what_the_order_is_worth_sorted_shuffled_and_one_by_one(lab):
    said, rows = repr(text.answer(lab)), lab.rows("sensitivity")
    rows = rows[(rows.method == "lfssd") & (rows.alpha == 2)]
    for size, order in ((64, "given"), (64, "shuffled"), (1, "given")):
        part = rows[(rows.batch_size == size) & (rows.order == order)]
        assert interval(part.groupby("seed").D_r.mean()).text() in said, (size, order)
    assert "(alpha 2)" in said and "image by image (the equation)" in said


def test_the_spread_over_seeds_names_its_scenarios(lab):
    (claim,) = [c for c in CLAIMS if c.number == 14]
    named = with_paper_metrics(lab.frame())
    wanted = ", ".join(s for s in named.scenario.unique() if not s.startswith("random"))
    assert f"({wanted})" in claim.test(lab).evidence
