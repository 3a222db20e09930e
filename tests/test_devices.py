"""Which device, which precision, how much memory. What needs a GPU is in test_gpu."""

import os

import pytest
import torch
from torch import nn

from unlearnlib import devices, train


@pytest.fixture(autouse=True)
def anew(monkeypatch):
    monkeypatch.delenv("UNLEARNLIB_PRECISION", raising=False)
    devices.precision.cache_clear()
    yield
    devices.precision.cache_clear()


@pytest.fixture
def pretended(monkeypatch):
    """A GPU, as far as the choice of settings goes; what is set is noted."""
    noted = []
    monkeypatch.setattr(devices, "on_gpu", lambda: True)
    monkeypatch.setattr(devices, "_multiply", noted.append)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    return noted


def test_the_device_is_the_gpu_unless_the_environment_says_otherwise(monkeypatch):
    monkeypatch.delenv("UNLEARNLIB_DEVICE", raising=False)
    for there, name in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        assert devices.device() == torch.device(name) and devices.on_gpu() == there
        assert devices.layout() == (torch.channels_last if there else torch.contiguous_format)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("UNLEARNLIB_DEVICE", "cpu")
    assert devices.device() == torch.device("cpu") and not devices.on_gpu()


def test_a_cpu_multiplies_float32_and_is_left_as_it_is(monkeypatch):
    monkeypatch.setenv("UNLEARNLIB_DEVICE", "cpu")
    monkeypatch.setattr(devices, "_multiply", lambda name: pytest.fail("a setting of GPUs was touched"))
    devices.prepare()
    assert devices.precision() == "float32"


def test_one_of_several_gpus_becomes_the_current_one(monkeypatch, pretended):
    chosen = []
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setenv("UNLEARNLIB_PRECISION", "float32")
    for name in ("cuda", "cuda:1"):
        monkeypatch.setenv("UNLEARNLIB_DEVICE", name)
        devices.prepare()
    assert chosen == [torch.device("cuda:1")]


@pytest.mark.parametrize("ratio, wanted", [(8.0, "tf32"), (1.21, "tf32"), (1.19, "float32"), (0.5, "float32")])
def test_tf32_is_taken_where_the_probe_finds_it_faster(monkeypatch, pretended, ratio, wanted):
    monkeypatch.setattr(devices, "PROBE", 2)
    monkeypatch.setattr(devices, "_product_seconds", lambda x, name: {"float32": ratio, "tf32": 1.0}[name])
    monkeypatch.setenv("UNLEARNLIB_DEVICE", "cpu")
    devices.prepare()
    assert devices.precision() == wanted and pretended == [wanted] and torch.backends.cudnn.benchmark


@pytest.mark.parametrize("name", devices.PRECISIONS)
def test_the_environment_overrules_the_probe(monkeypatch, pretended, name):
    monkeypatch.setattr(devices, "_probe", lambda: pytest.fail("probed"))
    monkeypatch.setenv("UNLEARNLIB_PRECISION", name)
    devices.prepare()
    assert pretended == [name]


@pytest.mark.parametrize("name", ["bf16", "tf32"])
def test_a_precision_that_the_device_lacks_is_refused(monkeypatch, one_sentence, name):
    monkeypatch.setenv("UNLEARNLIB_DEVICE", "cpu")
    monkeypatch.setenv("UNLEARNLIB_PRECISION", name)
    with pytest.raises(ValueError, match=repr(name)) as error:
        devices.precision()
    assert "float32" in one_sentence(error)


def test_both_kinds_of_products_are_switched():
    before = torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision
    try:
        for name, mode in (("tf32", "tf32"), ("float32", "ieee")):
            devices._multiply(name)
            assert torch.backends.cuda.matmul.fp32_precision == torch.backends.cudnn.conv.fp32_precision == mode
    finally:
        torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision = before


def test_training_goes_through_the_compiled_model_on_request_alone(monkeypatch):
    calls = []

    def compile_(model):
        def run(x):
            calls.append(len(x))
            return model(x)
        return run
    monkeypatch.setattr(torch, "compile", compile_)
    x, y = torch.randn(8, 3, generator=torch.Generator().manual_seed(0)), torch.zeros(8).long()

    def trained():
        torch.manual_seed(0)
        return train.fit(nn.Linear(3, 2), x, y, generator=torch.Generator().manual_seed(0), epochs=1, lr=0.1, batch_size=4)
    plain = trained()
    assert calls == []
    monkeypatch.setenv("UNLEARNLIB_COMPILE", "1")
    assert torch.equal(trained().weight, plain.weight) and calls == [4, 4]


@pytest.mark.skipif(not os.access(devices.PEAKS, os.W_OK), reason="needs a system that can start to measure anew")
def test_peak_memory_sees_what_was_taken_and_given_back_and_starts_anew(monkeypatch):
    monkeypatch.setenv("UNLEARNLIB_DEVICE", "cpu")
    devices.reset_peak()
    before = devices.peak_memory()
    big = torch.ones(64 * 2 ** 20)                                              # 256 MiB
    assert float(big[-1]) == 1
    del big
    peak = devices.peak_memory()
    assert 10 < before and 200 < peak - before < 320
    devices.reset_peak()
    assert devices.peak_memory() < peak - 200


def test_peak_memory_where_the_system_cannot_start_anew(monkeypatch, tmp_path):
    monkeypatch.setenv("UNLEARNLIB_DEVICE", "cpu")
    monkeypatch.setattr(devices, "STATUS", tmp_path / "status")
    monkeypatch.setattr(devices, "PEAKS", tmp_path / "clear_refs")
    devices.reset_peak()
    assert 10 < devices.peak_memory() < 2 ** 20
