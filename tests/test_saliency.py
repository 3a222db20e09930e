"""Grad-CAM against its definition, computed by hand on a network whose gradient is known."""

import pytest
import torch
from torch import nn

from unlearnlib import models, saliency
from unlearnlib.methods.forget_vectors import ForgetVector


class Pooled(nn.Module):
    """One convolution of one pixel with weights 1 and 2, mean pooling, two classes."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 2, 1, bias=False))
        self.fc = nn.Linear(2, 2, bias=False)
        self.body[0].weight.data = torch.tensor([1.0, 2.0]).view(2, 1, 1, 1)
        self.fc.weight.data = torch.tensor([[1.0, 0.0], [-1.0, 3.0]])

    def forward(self, x):
        return self.fc(self.body(x).mean((2, 3)))


def test_the_map_is_the_weighted_sum_of_the_channels():
    """d z_c / d A_k is fc[c, k] / places everywhere, so the map of class 1 is (-1 * 1 + 3 * 2) x / 16."""
    x = torch.rand(3, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    maps = saliency.grad_cam(Pooled(), x, torch.tensor([0, 1, 1]), batch_size=2)
    torch.testing.assert_close(maps, torch.tensor([1.0, 5.0, 5.0]).view(3, 1, 1) * x[:, 0] / 16)


def test_a_vector_in_front_moves_the_image_that_is_looked_at():
    x, delta = torch.zeros(1, 1, 4, 4), torch.full((1, 4, 4), 0.5)
    maps = saliency.grad_cam(ForgetVector(Pooled(), delta), x, torch.tensor([0]))
    torch.testing.assert_close(maps, delta / 16)


@pytest.mark.parametrize("model", [models.AllCNN(4, channels=1), models.ResNet(4, channels=1)])
def test_the_stage_is_the_last_that_is_large_enough_and_the_model_is_left_alone(model):
    model.train()
    x, before = torch.rand(2, 1, 16, 16), {k: v.clone() for k, v in model.state_dict().items()}
    for side in (4, 8):
        assert saliency.grad_cam(model, x, torch.tensor([0, 1]), side=side).shape == (2, side, side)
    assert model.training and all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters()) and not any(m._forward_hooks for m in model.modules())


def test_too_large_a_side_and_a_model_without_stages_are_refused_in_one_sentence(one_sentence):
    with pytest.raises(ValueError) as error:
        saliency.grad_cam(Pooled(), torch.rand(1, 1, 4, 4), torch.tensor([0]), side=5)
    assert "5" in one_sentence(error) and "4" in str(error.value)
    with pytest.raises(ValueError) as error:
        saliency.grad_cam(nn.Linear(2, 2), torch.rand(1, 2), torch.tensor([0]))
    assert "Linear" in one_sentence(error)


def test_maps_correlate_with_themselves_and_not_with_a_constant():
    a = torch.rand(3, 4, 4, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(saliency.map_correlation(a, 2 * a + 1), torch.ones(3, dtype=torch.float64))
    torch.testing.assert_close(saliency.map_correlation(a, -a), -torch.ones(3, dtype=torch.float64))
    assert saliency.map_correlation(a, torch.ones(3, 4, 4)).isnan().all()
