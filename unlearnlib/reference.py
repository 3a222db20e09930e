"""Original and retrained models: trained once per (data, architecture, recipe, seed, retained set), then read from the cache."""

from __future__ import annotations

import io
import json
import time
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn
from tqdm import tqdm

from . import data, devices, models, train
from .files import DamagedFile, digest, locked, set_aside, write
from .methods import METHODS
from .provenance import environment

VERSION = 1
RETRAINED_SEED = 10_000         # retrained models draw their initialisation and batches far from the original's


@dataclass(frozen=True)
class Job:
    """One reference model. ``scenario`` is None for the original; ``recipe`` is canonical JSON of :func:`train.fit`'s arguments."""

    data: str
    model: str
    recipe: str
    seed: int
    scenario: str | None = None

    def split(self) -> data.Split:
        return split(self.data, self.scenario, self.seed)

    @property
    def key(self) -> str:
        d = dataset(self.data)
        retained = self.split().retain_hash if self.scenario else "all"
        content = [VERSION, fingerprint(self.data), d.name, self.model, self.recipe, self.seed, retained]
        if self.scenario and METHODS["retrain"].version > 1:
            content.append(METHODS["retrain"].version)
        return digest(json.dumps(content).encode())


@lru_cache(maxsize=4)
def dataset(name: str) -> data.Data:
    return data.load(name).to(devices.device())


@lru_cache(maxsize=4)
def fingerprint(name: str) -> str:
    return dataset(name).fingerprint


@lru_cache(maxsize=16)
def split(name: str, scenario: str, seed: int) -> data.Split:
    return data.split(dataset(name), scenario, seed)


@lru_cache(maxsize=12)
def trained(job: Job) -> tuple[nn.Module, dict]:
    """The model of a job in evaluation mode, and how it came about: ``seconds``, ``epochs``, ``environment``. Do not change it.

    Seconds are those of the whole training, the part before an interruption included (what was lost by it is not).

    Read from the cache where it is there; trained, and kept, where it is not. A second process that wants the same model waits.
    Raises DamagedFile, in one sentence, if the checkpoint's checksum is wrong; it is set aside, so the next call trains anew.
    """
    folder = data.cache_root() / "models"
    path = folder / f"{job.key}.pt"
    with locked(folder / f"{job.key}.lock"):
        model = _built(job, job.seed)
        if path.exists():
            return _read(path, model)
        resume = folder / f"{job.key}.resume"
        earlier, started = train.spent(resume), time.perf_counter()
        model = _train(job, model, resume)
        devices.synchronise()
        meta = {"seconds": earlier + time.perf_counter() - started, "epochs": json.loads(job.recipe)["epochs"],
                "environment": environment(), **vars(job)}
        buffer = io.BytesIO()
        torch.save({"state": model.state_dict(), "meta": json.dumps(meta)}, buffer)
        content = buffer.getvalue()
        write(path, digest(content).encode() + content)
        return model, meta


def _built(job: Job, seed: int) -> nn.Module:
    return models.build(job.model, dataset(job.data), seed).to(devices.device(), memory_format=devices.layout())


def _read(path, model: nn.Module) -> tuple[nn.Module, dict]:
    content = path.read_bytes()
    if digest(content[16:]).encode() != content[:16]:
        raise DamagedFile(f"the checkpoint {path} is damaged (its checksum is wrong); it must be as it was written, so it was set "
                          f"aside as {set_aside(path).name}: run again, and the model is trained anew.")
    saved = torch.load(io.BytesIO(content[16:]), weights_only=True, map_location=devices.device())
    model.load_state_dict(saved["state"])
    return model.eval(), json.loads(saved["meta"])


def _train(job: Job, fresh: nn.Module, resume) -> nn.Module:
    d, recipe = dataset(job.data), json.loads(job.recipe)
    images = len(d.train_labels) if job.scenario is None else len(job.split().retain)
    title = f"{'original' if job.scenario is None else 'retrained ' + job.scenario}, {job.data}, seed {job.seed}"
    with tqdm(total=recipe["epochs"] * images, unit="img", unit_scale=True, desc=title, leave=False, disable=None, position=1) as bar:
        def callback(images: int, **_) -> None:
            bar.update(images)
        if job.scenario is None:
            generator = torch.Generator().manual_seed(job.seed)
            return train.fit(fresh, d.train_images, d.train_labels, generator=generator, callback=callback, resume=resume, **recipe)
        seed = job.seed + RETRAINED_SEED
        return METHODS["retrain"].run(fresh, job.split().access(), generator=torch.Generator().manual_seed(seed), callback=callback,
                                      build=lambda: _built(job, seed), resume=resume, **recipe)


@lru_cache(maxsize=12)
def outputs(job: Job, part: str) -> Tensor:
    """Logits of a reference model on the whole ``train`` or ``test`` images, in their stored order (computed once a process)."""
    d = dataset(job.data)
    return train.logits(trained(job)[0], d.train_images if part == "train" else d.test_images)
