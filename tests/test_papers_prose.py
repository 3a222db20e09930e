"""Sentences and small tables that every paper's notebook prints."""

import math

import pandas as pd
import pytest
from nabla import NAN

from unlearnlib.claims import Interval, interval
from unlearnlib.papers import NotAvailable, prose

QUANTITIES = {"a": ("quantity a (%)", "because"), "b": ("quantity b (%)", "since")}
REASONS = {(k, side): f"{k} is {side}" for k in QUANTITIES for side in ("below", "above")}
BANDS = {"a": [2, 4], "b": [0.5, 1.5]}


def test_a_box_has_every_band_with_its_reason():
    assert prose.box(QUANTITIES, BANDS).frame.to_dict("records") == [
        {"quantity": "quantity a (%)", "our band": "2 to 4", "reason": "because"},
        {"quantity": "quantity b (%)", "our band": "0.5 to 1.5", "reason": "since"}]


def test_predictions_leave_out_what_was_not_measured():
    values = {"a": Interval(5.25, 0.5, 3), "b": interval([])}
    assert prose.predictions(values, QUANTITIES, BANDS).frame.to_dict("records") == [
        {"quantity": "quantity a (%)", "our band": "2 to 4", "we measured": "5.25 ± 0.50", "n": 3, "verdict": "outside by 1.25"}]


@pytest.mark.parametrize("mean, side", [(1.99, "below"), (4.01, "above"), (2.0, None), (4.0, None), (3.0, None)])
def test_only_a_missed_band_is_explained_on_its_own_side(mean, side):
    values = {"a": Interval(mean, 0.001, 3), "b": Interval(1, 0, 3)}
    said = repr(prose.misses(values, QUANTITIES, REASONS, BANDS, {"a": "A note.", "b": "No."}))
    assert said == (f"*quantity a (%)* came out {side} the band: a is {side}. A note." if side else "No mean missed its band this time.")


@pytest.mark.parametrize("mean, half, chance", [(1.5, 0.5, True), (1.5, 0.49, False), (4.5, 0.5, True), (4.5, 0.49, False),
                                               (9.0, 9.0, True)])
def test_no_reason_is_given_for_a_mean_whose_interval_reaches_into_the_band(mean, half, chance):
    said = repr(prose.misses({"a": Interval(mean, half, 3), "b": Interval(1, 0, 3)}, QUANTITIES, REASONS, BANDS, {"a": "A note."}))
    if chance:
        assert said == "Outside by their mean alone, which may be chance: *quantity a (%)*."
    else:
        assert "came out" in said and said.endswith("A note.")


def test_what_was_not_measured_missed_no_band():
    said = prose.misses({"a": interval([]), "b": Interval(3, NAN, 1)}, QUANTITIES, REASONS, BANDS)
    assert repr(said) == "*quantity b (%)* came out above the band: b is above."


def test_a_reading_says_we_measured_or_what_is_missing():
    assert repr(prose.reading(3, lambda session: f"{session} of 4.")) == "*We measured:* 3 of 4."

    def lacks(session):
        raise NotAvailable("no runs.")
    assert repr(prose.reading(3, lacks)) == "*Not available:* no runs."


def test_relearning_is_relative_to_retrained_seed_by_seed():
    rows = [(0, "x", 4.0), (0, "retrain", 8.0), (1, "x", NAN), (1, "retrain", 5.0), (2, "x", 3.0), (2, "retrain", NAN), (3, "x", NAN),
            (3, "retrain", NAN), (0, "y", 1.0), (1, "y", 1.0), (2, "y", 1.0), (3, "y", 1.0)]
    frame = pd.DataFrame(rows, columns=["seed", "method", "batches"])
    assert prose.relearning(frame, "x") == [0.5, math.inf, 0.0, 1.0]            # both never: as the retrained model


def test_scaling_moves_mean_and_width_alike():
    assert prose.scaled(Interval(0.5, 0.25, 3), 100) == Interval(50, 25, 3)


def test_numbers_of_one_method():
    frame = pd.DataFrame({"method": ["x", "x", "y"], "m": [0.1, 0.3, 0.9]})
    assert prose.of_method(frame, "x", "m") == interval([0.1, 0.3]).text() == "20.0 ± 127.1"
    assert prose.of_method(frame, "y", "m", 2, 1) == "0.90"
