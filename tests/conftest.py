"""Conditions of every test: one thread, no window, and a cache folder of its own."""

import os
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

# Not through MPLBACKEND: notebooks that a test executes would inherit it and lose their figures.
matplotlib.use("Agg")


def pytest_unconfigure():
    shutil.rmtree(CACHE, ignore_errors=True)
