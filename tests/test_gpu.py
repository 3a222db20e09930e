"""A GPU gives what the CPU gives, within float32's rounding, and no training loop waits for it."""

import pytest
import torch
from conftest import g, states

from unlearnlib import data, devices, models, train
from unlearnlib.__main__ import main
from unlearnlib.methods import METHODS
from unlearnlib.methods.lfssd import importance

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
CLOSE = {"rtol": 2e-3, "atol": 2e-4}            # of float32 products added up in another order, after a few steps
SETTINGS = {
    "lfssd": {"alpha": 3.0}, "ssd": {"alpha": 3.0}, "nabla_tau": {"retain_epochs": 0.5}, "forget_vector": {"epochs": 1, "batch_size": 64},
    "finetune": {"epochs": 1}, "scrub": {"epochs": 1},
    "ispf": {"epochs": 1, "warmup": 0, "rounds": 1, "student_steps": 2, "batch_size": 16, "image_shape": (1, 8, 8), "latent": 8,
             "widths": (8, 8, 8)},
}


@pytest.fixture(autouse=True)
def exact(monkeypatch):
    """Products in float32, as the comparison needs."""
    monkeypatch.delenv("UNLEARNLIB_DEVICE", raising=False)
    monkeypatch.setenv("UNLEARNLIB_PRECISION", "float32")
    devices.precision.cache_clear()
    devices.prepare()
    yield
    devices.precision.cache_clear()


def both(digits, trained):
    """(data, model) on the CPU and on the GPU."""
    model = models.build("allcnn-4", digits, 0).to("cuda", memory_format=devices.layout())
    model.load_state_dict(trained.state_dict())
    return (digits, trained), (digits.to("cuda"), model.eval())


@pytest.fixture
def places(digits):
    fitted = train.fit(models.build("allcnn-4", digits, 0), digits.train_images, digits.train_labels, generator=g(), epochs=2, lr=0.05)
    return both(digits, fitted)


def assert_close(cpu, gpu):
    for name, value in states(cpu).items():
        torch.testing.assert_close(states(gpu)[name].cpu(), value, **CLOSE)


@pytest.mark.parametrize("recipe", [{}, {"augment": True}, {"optimizer": "adamw", "schedule": "onecycle"}])
def test_training_is_that_of_the_cpu(places, recipe):
    ends = []
    for d, model in places:
        ends.append(train.fit(model, d.train_images[:200], d.train_labels[:200], generator=g(), epochs=1, lr=1e-3, **recipe))
    assert_close(*ends)


@pytest.mark.parametrize("name", SETTINGS)
def test_a_method_gives_what_it_gives_on_the_cpu(places, name):
    ends = []
    for d, model in places:
        ends.append(METHODS[name].run(model, data.split(d, "class:8").access(), generator=g(), **SETTINGS[name]))
    assert_close(*ends)


@pytest.mark.parametrize("kind", ["l2", "fisher"])
def test_importances_are_those_of_the_cpu_and_samples_go_in_chunks(places, kind):
    for reduction in ("batch", "sample"):
        cpu, gpu = (importance(model, d.train_images[:70], d.train_labels[:70], kind=kind, reduction=reduction) for d, model in places)
        for name, value in cpu.items():
            torch.testing.assert_close(gpu[name].cpu(), value, rtol=1e-3, atol=1e-5 * float(value.max()))


@pytest.mark.parametrize("name", ["finetune", "forget_vector", "nabla_tau"])
def test_no_step_waits_for_the_gpu(places, name):
    """From the first step on, anything that would make the host wait for the device is an error."""
    d, model = places[1]
    steps = []

    def callback(backward=True, **values):
        if backward:
            steps.append(values)
            torch.cuda.set_sync_debug_mode("error")
    try:
        few = {"batch_size": 64, "retain_epochs": 6, "max_epochs": 4} if name == "nabla_tau" else {}    # one refresh of tau, at the start
        METHODS[name].run(model, data.split(d, "class:8").access(), generator=g(), callback=callback, **SETTINGS[name] | few)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len(steps) > 3


def test_training_in_bfloat16_and_tf32_ends_near_float32(digits, monkeypatch):
    d = digits.to("cuda")
    right = []
    for precision, recipe in (("float32", {}), ("tf32", {}), ("float32", {"bf16": True})):
        monkeypatch.setenv("UNLEARNLIB_PRECISION", precision)
        devices.precision.cache_clear()
        devices.prepare()
        model = models.build("allcnn-8", d, 0).to("cuda", memory_format=devices.layout())
        train.fit(model, d.train_images, d.train_labels, generator=g(), epochs=6, lr=0.05, schedule="onecycle", **recipe)
        right.append(float((train.logits(model, d.test_images).argmax(1) == d.test_labels).float().mean()))
    assert min(right) > 0.5 and max(right) - min(right) < 0.1


def test_every_run_of_every_paper_can_be_rehearsed(monkeypatch, tmp_path):
    """All studies on the device, each at its least budget."""
    monkeypatch.setenv("UNLEARNLIB_CACHE", str(tmp_path))
    assert main(["rehearse", "--samples", "300"]) == 0


def test_peak_memory_is_that_of_the_tensors():
    devices.reset_peak()
    before = devices.peak_memory()
    big = torch.ones(64 * 2 ** 20, device="cuda")                               # 256 MiB
    del big
    assert 250 < devices.peak_memory() - before < 262
