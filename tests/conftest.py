"""Conditions of every test: one thread, no window, and a cache folder of its own; and what several tests compare with."""

import os
import re
import shutil
import tempfile

# Before torch or numpy is imported: thread counts are read once, and results depend on them.
for name in ("OMP", "MKL", "OPENBLAS", "NUMEXPR"):
    os.environ[f"{name}_NUM_THREADS"] = "1"
os.environ["VECLIB_MAXIMUM_THREADS"] = "1"

# Before unlearnlib is imported; processes that a test starts inherit it.
CACHE = tempfile.mkdtemp(prefix="unlearnlib-tests-")
os.environ["UNLEARNLIB_CACHE"] = CACHE

import matplotlib  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402

# Not through MPLBACKEND: notebooks that a test executes would inherit it and lose their figures.
matplotlib.use("Agg")


def pytest_unconfigure():
    shutil.rmtree(CACHE, ignore_errors=True)


@pytest.fixture(scope="session")
def digits():
    """The embedded data set; do not change it."""
    from unlearnlib import data
    return data.load("digits")


@pytest.fixture(scope="session")
def trained(digits):
    """A small network that knows the digits fairly well; do not change it."""
    from unlearnlib import models, train
    model = models.build("allcnn-8", digits, seed=0)
    return train.fit(model, digits.train_images, digits.train_labels, generator=torch.Generator().manual_seed(0), epochs=8, lr=0.1,
                     schedule="onecycle", weight_decay=5e-4)


@pytest.fixture
def one_sentence():
    """Checks that an error says what is wrong, and what to do, in one sentence."""
    def check(error) -> str:
        text = str(getattr(error, "value", error))
        assert text.endswith(".") and len(text) > 20, text
        assert "\n" not in text and not re.search(r"[.!?] +[A-Z]", text), f"more than one sentence: {text}"
        return text
    return check


# --- imported by the tests of methods and of training

def g(seed=0):
    return torch.Generator().manual_seed(seed)


def states(model):
    """A copy of the weights and statistics of a network."""
    return {k: v.clone() for k, v in model.state_dict().items()}


def same(a, b):
    """The same tensors, bit for bit."""
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def close(a, b, atol=1e-11):
    """The same tensors, to an absolute error; for computations in float64."""
    assert a.keys() == b.keys()
    for k in a:
        torch.testing.assert_close(a[k], b[k], rtol=0, atol=atol, msg=lambda m, k=k: f"{k}: {m}")


def cross_entropy(outputs, labels):
    """Mean of logsumexp(row) - row[label], written out."""
    return sum(torch.logsumexp(row, 0) - row[y] for row, y in zip(outputs, labels.tolist(), strict=True)) / len(labels)
