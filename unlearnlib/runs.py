"""Specs in, records out: read what is there, compute what is missing, on any executor, surviving interruption."""

from __future__ import annotations

import importlib
import json
import math
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from tempfile import TemporaryDirectory

import torch
from tqdm import tqdm

from . import devices, evaluation, models, reference, train
from .files import SHARED, ensure_writable, locked
from .provenance import environment
from .records import Record, Spec, Store

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
BAR = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}"
SLOW_STEP = 2.0             # seconds: a step that takes longer is timed once
EVALUATION_EPOCHS = 0.5     # a study's own measuring, in training-epoch equivalents, where it states nothing else


def single_thread() -> None:
    """One thread a process: the only reproducible choice, and the faster one where several processes share the cores. A GPU is prepared,
    and what the process runs on is noted, before its code may change on the disk."""
    for name in THREADS:
        os.environ[name] = "1"
    torch.set_num_threads(1)
    devices.prepare()
    environment()


def _start_worker(shared: str) -> None:
    """A worker computes with one thread, and ends when it is interrupted or the process that started it ends, however that one ends."""
    signal.signal(signal.SIGINT, lambda *_: os._exit(1))
    single_thread()
    os.environ[SHARED] = shared

    def end_with_parent() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


@contextmanager
def pool(jobs: int) -> Iterator[Executor | None]:
    """A pool of ``jobs`` single-threaded processes; None, which computes in this process, for one job."""
    if jobs <= 1:
        yield None
        return
    for name in THREADS:                                                        # inherited by the workers, read when they import torch
        os.environ[name] = "1"
    spawn = multiprocessing.get_context("spawn")
    with TemporaryDirectory() as shared, ProcessPoolExecutor(jobs, spawn, initializer=_start_worker, initargs=(shared,)) as executor:
        yield executor


def compute(spec: Spec) -> Record:
    """Run one spec, wherever this is called: the paper's module names the function of the study.

    The record's ``timing`` has the ``memory`` that the run took at most, in MiB (see :func:`unlearnlib.devices.peak_memory`): the whole
    process with its data and libraries, or what tensors took on the GPU; not that of training a reference model, which came before.
    Where a reference model was trained in another environment, the record's has that as ``training``: its seconds come from there.
    """
    paper = importlib.import_module(f"unlearnlib.papers.{spec.paper}")
    devices.reset_peak()
    with tqdm(total=run_epochs(spec), desc=str(spec), bar_format=BAR, leave=False, disable=None, position=1) as bar:
        following = evaluation.PROGRESS.set(bar.update)
        try:
            outcome = paper.STUDIES[spec.study].function(spec)
        finally:
            evaluation.PROGRESS.reset(following)
    timing = outcome.timing | {"memory": devices.peak_memory()}
    training = timing.pop("training", environment())
    elsewhere = {} if training == environment() else {"training": training}
    return Record(spec, outcome.metrics, outcome.rows, timing, environment() | elsewhere)


def _prepare(job: reference.Job) -> None:
    """Have a reference model in the cache (a worker's task; the model itself stays there)."""
    reference.trained(job)


def jobs_of(specs: Iterable[Spec]) -> list[reference.Job]:
    """The distinct reference models that specs need, originals first."""
    jobs = {job: None for job in [s.original for s in specs] + [s.retrained for s in specs]}
    return list(jobs)


def runs(specs: list[Spec], store: Store, *, reuse: Store | None = None, executor: Executor | None = None,
         progress: bool = True) -> list[Record]:
    """The records of ``specs``, in their order: those in ``store`` (or ``reuse``) are read, the others computed and added to ``store``.

    Parameters
    ----------
    reuse: a second store to read from, such as the committed reference; nothing is ever written to it.
    executor: anything with the interface of ``concurrent.futures.Executor``; None computes here, one after the other. Workers
        only return records (and keep reference models in the cache); this process alone writes the store, after each run.

    An interrupted call loses the run in flight. A second process that wants records of the same store waits, then finds them.
    """
    known = _read(store, reuse)
    if any(s.key not in known for s in specs):
        with locked(store.lock.with_suffix(".computing")):
            known = _read(store, reuse)
            missing = [s for s in dict.fromkeys(specs) if s.key not in known]
            ensure_writable(store.path.parent)                                  # refused now rather than after the first run
            for record in _computed(missing, executor, progress):
                store.add([record])
                known[record.spec.key] = Record.parse(record.line())            # as it will be read: rounded, keys sorted
    return [known[s.key] for s in specs]


def _read(store: Store, reuse: Store | None) -> dict[str, Record]:
    return store.read() | (reuse.read() if reuse else {})


def _computed(specs: list[Spec], executor: Executor | None, progress: bool) -> Iterator[Record]:
    weights = {job: training_epochs(job) for job in jobs_of(specs)} | {spec: run_epochs(spec) for spec in specs}
    total = sum(weights.values())
    with tqdm(total=round(total), unit="epoch", disable=None if progress else True, desc="computing",
              bar_format=BAR) as bar:
        if executor is None:
            for job in jobs_of(specs):
                _prepare(job)
                bar.update(weights[job])
            for spec in specs:
                bar.set_description(str(spec))
                yield compute(spec)
                bar.update(weights[spec])
            return
        for task, arguments in ((_prepare, jobs_of(specs)), (compute, specs)):
            submitted = {executor.submit(task, argument): argument for argument in arguments}
            try:
                for done in as_completed(submitted):
                    if (record := done.result()):
                        yield record
                    bar.update(weights[submitted[done]])
            finally:
                for future in submitted:
                    future.cancel()


def training_epochs(job: reference.Job) -> float:
    return float(json.loads(job.recipe)["epochs"])


def run_epochs(spec: Spec) -> float:
    """What a run is likely to cost in training-epoch equivalents, its evaluation included: for estimates and progress only."""
    paper = importlib.import_module(f"unlearnlib.papers.{spec.paper}")
    return paper.STUDIES[spec.study].epochs(spec) + EVALUATION_EPOCHS


def estimate(specs: list[Spec], jobs: int) -> tuple[float, float]:
    """(training-epoch equivalents, seconds) that computing ``specs`` is likely to take with ``jobs`` processes on this machine.

    Reference models that are cached cost nothing. Times a few training steps of each model, so it takes some seconds itself.
    """
    cached = {p.stem for p in (reference.data.cache_root() / "models").glob("*.pt")}
    costs: dict[tuple[str, str, int, bool], float] = {}                         # epochs by what decides the speed of a step
    for s in specs:
        at = s.data, s.model, s.hyper_parameters.get("batch_size", train.BATCH_SIZE), False
        costs[at] = costs.get(at, 0.0) + run_epochs(s)
    for j in jobs_of(specs):
        recipe = json.loads(j.recipe)
        at = j.data, j.model, recipe.get("batch_size", train.BATCH_SIZE), recipe.get("bf16", False)
        costs[at] = costs.get(at, 0.0) + (0.0 if j.key in cached else training_epochs(j))
    epochs = sum(costs.values())
    seconds = sum(cost * len(reference.dataset(at[0]).train_labels) / _images_per_second(*at) for at, cost in costs.items() if cost)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return epochs, seconds / max(1, min(jobs, cores))


def _images_per_second(name: str, architecture: str, batch_size: int, bf16: bool) -> float:
    """The best of three training steps, which shows the machine at rest; of fewer where a step takes seconds."""
    d = reference.dataset(name)
    model = models.build(architecture, d, 0).to(devices.device(), memory_format=devices.layout())
    images, labels = d.train_images[:batch_size], d.train_labels[:batch_size]
    best = math.inf
    for _ in range(3):
        devices.synchronise()
        started = time.perf_counter()
        train.fit(model, images, labels, generator=torch.Generator().manual_seed(0), epochs=1, lr=0.0, batch_size=batch_size, bf16=bf16)
        devices.synchronise()
        best = min(best, time.perf_counter() - started)
        if best > SLOW_STEP:
            break
    return len(images) / best
