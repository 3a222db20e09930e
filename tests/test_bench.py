"""The benchmark compares like with like: both forms of a row give the same result."""

import pandas as pd
import pytest
import torch

from unlearnlib import bench, data
from unlearnlib.methods import METHODS
from unlearnlib.methods.lfssd import importance

SIZE = {"rounds": 1, "batch_size": 16, "image_shape": (1, 8, 8), "latent": 8, "widths": (8, 8, 8)}


def test_both_forms_of_an_ispf_epoch_give_the_same_student(digits, trained):
    """To float32's rounding: in one round it does not grow far."""
    access = data.split(digits, "class:8").access()
    ours = METHODS["ispf"].run(trained, access, generator=torch.Generator().manual_seed(0), epochs=1, warmup=0, **SIZE)
    naive = bench.naive_distillation(trained, [8], generator=torch.Generator().manual_seed(0), **SIZE)
    with torch.no_grad():
        answers = [model(digits.test_images) for model in (ours, naive)]
    assert torch.allclose(*answers, atol=2e-3) and answers[0].std() > 0.01
    for a, b in zip(ours.parameters(), naive.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-3)


def test_both_forms_of_a_forget_vector_epoch_give_the_same_vector(digits, trained):
    access = data.split(digits, "class:8").access()
    ours = METHODS["forget_vector"].run(trained, access, generator=torch.Generator().manual_seed(0), epochs=1, beta=5.0, batch_size=64)
    naive = bench.naive_vector(trained, access, generator=torch.Generator().manual_seed(0), beta=5.0, batch_size=64)
    torch.testing.assert_close(ours.delta, naive, rtol=1e-3, atol=1e-4)
    assert naive.norm() > 0.1


def test_both_forms_of_an_importance_and_of_an_evaluation_agree(digits, trained):
    images, labels = digits.test_images[:96], digits.test_labels[:96]
    ours, plain = importance(trained, images, batch_size=32), bench.plain_importance(trained, images, 32)
    for name, value in plain.items():
        assert torch.allclose(ours[name], value, rtol=1e-4, atol=1e-6), name
    one, four = bench.one_pass(trained, images, labels), bench.one_metric_at_a_time(trained, images, labels)
    assert one[0] == pytest.approx(four[0]) and all(torch.allclose(a, b, atol=1e-5) for a, b in zip(one[1:], four[1:], strict=True))


def test_a_ratio_is_of_medians(monkeypatch):
    times = iter([(1.0, 4.0), (9.0, 6.0), (2.0, 5.0)])
    queue = [t for pair in times for t in pair]
    monkeypatch.setattr(bench, "seconds", lambda call: queue.pop(0))
    row = bench.compare("row", int, int, "other", repeats=3)
    assert (row["ours_seconds"], row["other_seconds"], row["ratio"]) == (2.0, 5.0, 2.5)


def test_the_figure_has_a_bar_for_each_row():
    table = pd.DataFrame([{"row": f"r{i}", "against": "a", "ours_seconds": 1.0, "other_seconds": r, "ratio": r, "repeats": 5}
                          for i, r in enumerate((0.5, 2.0, 2000.0))])
    assert bench.draw(table).drawn.ratio.tolist() == [0.5, 2.0, 2000.0]
