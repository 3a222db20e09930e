"""Retraining, fine-tuning, distillation, noise and the controls: what they train on, and what they leave alone."""

import copy
import inspect
import math

import pytest
import torch
import torch.nn.functional as F
from conftest import close, g, same, states
from torch import nn

from unlearnlib import data, models, train
from unlearnlib.access import Access
from unlearnlib.methods import METHODS, distillation, finetuning, noise, retraining


@pytest.fixture(scope="module")
def split(digits):
    small = data.Data(**{k: v[:200] if k.startswith("train") else v for k, v in vars(digits).items()})
    return data.split(small, "class:3")


@pytest.fixture(scope="module")
def access(split):
    return split.access()


@pytest.fixture
def captured(monkeypatch):
    """The calls of the training loop by any method: (model's state before, images, targets, arguments)."""
    calls = []

    def capture(model, images, targets, **kwargs):
        calls.append((states(model), images.clone(), targets.clone(), kwargs))
        return train.fit(model, images, targets, **kwargs)

    for module in (retraining, finetuning, distillation, noise):
        monkeypatch.setattr(module, "fit", capture)
    return calls


@pytest.mark.parametrize(("name", "defaults"), [
    ("finetune", {"epochs": 5, "lr": 0.02, "batch_size": 64, "momentum": 0.9, "weight_decay": 5e-4}),
    ("amnesiac", {"epochs": 3, "lr": 1e-4, "batch_size": 128}),
    ("bad_teacher", {"epochs": 1, "lr": 1e-4, "batch_size": 256, "retain_share": 0.3}),
    ("unsir", {"noises": 32, "steps": 25, "noise_lr": 0.1, "norm_weight": 0.1, "copies": 80, "per_class": 500, "lr": 1e-4,
               "impair_batch": 32, "repair_batch": 128, "epochs": 1}),
])
def test_defaults_are_the_published_ones(name, defaults):
    parameters = inspect.signature(METHODS[name].function).parameters
    assert {k: p.default for k, p in parameters.items() if k in defaults} == defaults


# --- retraining

def test_a_retrained_model_shares_no_weight_with_the_original(trained, access):
    original = copy.deepcopy(trained)
    with torch.no_grad():                                                       # values that no training of another model ends at
        for i, p in enumerate(original.parameters()):
            p.add_(0.123 + 0.01 * i)
    result = METHODS["retrain"].run(original, access, epochs=2, lr=0.05, batch_size=32)
    for (name, before), after in zip(original.named_parameters(), result.parameters(), strict=True):
        assert not torch.isin(after, before).any(), name
    for name, buffer in result.named_buffers():
        assert "normalise" in name or "batches" in name or not torch.isin(buffer, original.get_buffer(name)).any(), name


def test_retraining_starts_from_a_new_initialisation_and_from_nothing_else(trained, access):
    """Two originals that have nothing in common give the same retrained model."""
    other = models.build("allcnn-8", data.load("digits"), 77)
    runs = [METHODS["retrain"].run(m, access, generator=g(4), epochs=1, lr=0.05, batch_size=32) for m in (trained, other)]
    assert same(*(states(m) for m in runs))


def test_retraining_is_the_training_loop_on_the_retain_set(trained, split, access):
    recipe = {"epochs": 2, "lr": 0.05, "batch_size": 32, "schedule": "onecycle", "weight_decay": 5e-4}
    built = []

    def build():
        built.append(models.build("allcnn-8", split.data, 11))
        return built[-1]

    result = METHODS["retrain"].run(trained, access, generator=g(3), build=build, **recipe)
    kept = split.retain
    by_hand = train.fit(models.build("allcnn-8", split.data, 11), split.data.train_images[kept], split.data.train_labels[kept],
                        generator=g(3), **recipe)
    assert result is built[0] and len(built) == 1 and same(states(result), states(by_hand))


@pytest.mark.parametrize("reset", ["all", "head"])
def test_retraining_never_touches_the_forget_set(trained, access, reset):
    poison = torch.full_like(access.forget_images, float("nan")), access.forget_labels * 0 - 5
    runs = [METHODS["retrain"].run(trained, Access(forget=forget, retain=(access.retain_images, access.retain_labels)), generator=g(),
                                   reset=reset, epochs=2, lr=0.05, batch_size=32)
            for forget in ((access.forget_images, access.forget_labels), poison, None)]
    assert same(states(runs[0]), states(runs[1])) and same(states(runs[0]), states(runs[2]))
    assert all(torch.isfinite(p).all() for p in runs[1].parameters())


def test_retraining_trains_on_retain_samples_alone(trained, access, captured):
    METHODS["retrain"].run(trained, access, epochs=1, lr=0.05)
    (_, images, labels, _), = captured
    assert torch.equal(images, access.retain_images) and torch.equal(labels, access.retain_labels) and 3 not in labels


def test_head_reset_keeps_all_but_the_head(trained, access):
    result = METHODS["retrain"].run(trained, access, reset="head", epochs=0, lr=0.05)
    before, after = states(trained), states(result)
    assert {k for k in before if not torch.equal(before[k], after[k])} == {"fc.weight", "fc.bias"}
    assert not torch.isin(after["fc.weight"], before["fc.weight"]).any()
    trained_on = states(METHODS["retrain"].run(trained, access, reset="head", epochs=1, lr=0.05))
    assert not torch.equal(trained_on["body.0.0.weight"], before["body.0.0.weight"])


def test_unknown_reset(trained, access, one_sentence):
    with pytest.raises(ValueError, match="reset is 'some'") as error:
        METHODS["retrain"].run(trained, access, reset="some", epochs=1, lr=0.1)
    one_sentence(error)


def test_a_network_with_bare_parameters_needs_a_builder(access):
    class Bare(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.zeros(64, 10))

        def forward(self, x):
            return x.flatten(1) @ self.w

    with pytest.raises(ValueError, match="build="):
        METHODS["retrain"].run(Bare(), access, epochs=1, lr=0.1)
    assert METHODS["retrain"].run(Bare(), access, build=Bare, epochs=1, lr=0.1).w.abs().sum() > 0


# --- fine-tuning

def test_finetune_without_a_step_is_the_identity(trained, access):
    before = dict(trained.named_parameters())
    for kwargs in ({"lr": 0.0}, {"epochs": 0}):
        after = dict(METHODS["finetune"].run(trained, access, **{"epochs": 2} | kwargs).named_parameters())
        assert all(torch.equal(before[k], after[k]) for k in before)
    after = dict(METHODS["finetune"].run(trained, access, epochs=1).named_parameters())
    assert not any(torch.equal(before[k], after[k]) for k in before)


def test_finetune_is_sgd_on_the_retain_set(trained, access, captured):
    METHODS["finetune"].run(trained, access, epochs=1)
    (start, images, labels, kwargs), = captured
    assert same(start, states(trained))
    assert torch.equal(images, access.retain_images) and torch.equal(labels, access.retain_labels)
    assert (kwargs["lr"], kwargs["momentum"], kwargs["weight_decay"]) == (0.02, 0.9, 5e-4)
    assert (kwargs["optimizer"], kwargs["schedule"], kwargs["batchnorm"]) == ("sgd", "constant", "train")


def test_amnesiac_trains_on_everything_with_wrong_labels_for_the_forget_set(trained, access, captured):
    METHODS["amnesiac"].run(trained, access, epochs=1)
    (start, images, labels, kwargs), = captured
    n = len(access.retain_labels)
    assert same(start, states(trained)) and kwargs["optimizer"] == "adam"
    assert torch.equal(images, torch.cat([access.retain_images, access.forget_images]))
    assert torch.equal(labels[:n], access.retain_labels)
    assert not (labels[n:] == access.forget_labels).any() and labels.dtype == torch.int64


def test_amnesiacs_wrong_labels_are_uniform_over_the_others(captured):
    classes, each = 5, 4000
    truth = torch.arange(classes).repeat(each)
    model = nn.Sequential(nn.Flatten(), nn.Linear(1, classes))
    images = torch.zeros(len(truth), 1)
    METHODS["amnesiac"].run(model, Access(forget=(images, truth), retain=(images[:2], truth[:2])), generator=g(1), epochs=0)
    wrong = captured[0][2][2:]
    for c in range(classes):
        counts = torch.bincount(wrong[truth == c], minlength=classes)
        assert counts[c] == 0 and len(counts) == classes
        share = 1 / (classes - 1)
        assert all(abs(n / each - share) < 5 * math.sqrt(share * (1 - share) / each) for k, n in enumerate(counts.tolist()) if k != c)


def test_amnesiac_changes_no_label_of_the_caller(trained, access):
    before = access.forget_labels.clone()
    METHODS["amnesiac"].run(trained, access, epochs=1)
    assert torch.equal(access.forget_labels, before)


# --- bad teaching

def test_bad_teacher_has_targets_from_both_teachers(trained, access, captured):
    METHODS["bad_teacher"].run(trained, access, generator=g(6), retain_share=0.25)
    (start, images, targets, kwargs), = captured
    n_f, n = len(access.forget_images), round(0.25 * len(access.retain_images))
    assert same(start, states(trained)) and kwargs["optimizer"] == "adam" and len(images) == len(targets) == n_f + n
    assert torch.equal(images[:n_f], access.forget_images)
    rows = {image.numpy().tobytes() for image in access.retain_images}
    chosen = [image.numpy().tobytes() for image in images[n_f:]]
    assert set(chosen) <= rows and len(set(chosen)) == n                        # each retain sample at most once
    assert chosen != [image.numpy().tobytes() for image in access.retain_images[:n]]
    torch.testing.assert_close(targets[n_f:], train.logits(trained, images[n_f:]))
    novice = models.reinitialise(copy.deepcopy(trained), seed=6)
    torch.testing.assert_close(targets[:n_f], train.logits(novice, access.forget_images))
    assert not torch.isin(novice.fc.weight, trained.fc.weight).any()
    assert (targets[:n_f].argmax(1) == 3).float().mean() < 0.7 and not targets.requires_grad


def test_bad_teachers_loss_is_the_divergence_per_image(trained, access, captured):
    METHODS["bad_teacher"].run(trained, access)
    loss = captured[0][3]["loss"]
    student, teacher = (2 * torch.randn(7, 4, generator=g(s), dtype=torch.float64) for s in (1, 2))
    expected = 0.0
    for s, t in zip(student.tolist(), teacher.tolist(), strict=True):
        p, q = ([math.exp(v) / sum(map(math.exp, row)) for v in row] for row in (t, s))
        expected += sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)) / 7         # KL(teacher || student)
    assert loss(student, teacher).item() == pytest.approx(expected, rel=1e-12)
    assert loss(teacher, teacher).item() == pytest.approx(0, abs=1e-12)


def test_bad_teaching_moves_the_forget_set_towards_the_novice(trained, access):
    novice = models.reinitialise(copy.deepcopy(trained), seed=0)
    target = train.logits(novice, access.forget_images).softmax(1)

    def distance(model):
        return F.kl_div(train.logits(model, access.forget_images).log_softmax(1), target, reduction="batchmean").item()

    result = METHODS["bad_teacher"].run(trained, access, generator=g(0), lr=0.01, epochs=4, batch_size=32)
    assert distance(result) < 0.3 * distance(trained)


# --- UNSIR

def test_noise_raises_the_loss_of_its_class(trained):
    start = torch.randn(16, 1, 8, 8, generator=g()) * 0.5 + 0.3
    frozen = copy.deepcopy(trained).requires_grad_(False)
    kept, target = start.clone(), torch.full((16,), 3)
    heard = []
    before = F.cross_entropy(train.logits(trained, start), target)
    result = noise._maximise_error(frozen, start, 3, 25, 0.1, 0.0, lambda *, images: heard.append(images))
    assert F.cross_entropy(train.logits(trained, result), target) > before + 3
    assert torch.equal(start, kept) and not result.requires_grad and heard == [16] * 25 and same(states(frozen), states(trained))


def test_the_norm_of_the_noise_is_penalised(trained):
    frozen, start = copy.deepcopy(trained).requires_grad_(False), torch.randn(16, 1, 8, 8, generator=g())
    sizes = [noise._maximise_error(frozen, start, 3, 40, 0.1, weight, None).square().sum() for weight in (0.0, 0.1, 100.0)]
    assert sizes[2] < sizes[1] < sizes[0]
    still = noise._maximise_error(frozen, start, 3, 0, 0.1, 0.1, None)
    assert torch.equal(still, start)


def test_first_noise_step_by_hand():
    """Linear model: d(-CE)/dx = -(softmax - onehot) W, d(norm)/dx = 2 w x / n; Adam's first step is lr times the sign."""
    layer = nn.Linear(3, 4).double()
    x = torch.randn(5, 3, generator=g(), dtype=torch.float64)
    p = torch.softmax(x @ layer.weight.T + layer.bias, 1).detach()
    p[:, 2] -= 1
    slope = -(p @ layer.weight.detach()) / 5 + 0.1 * 2 * x / 5
    result = noise._maximise_error(layer.requires_grad_(False), x, 2, 1, 0.05, 0.1, None)
    torch.testing.assert_close(result, x - 0.05 * slope / (slope.abs() + 1e-8), rtol=1e-9, atol=1e-9)


def test_unsir_impairs_with_noise_and_repairs_with_retain_samples(trained, access, captured):
    METHODS["unsir"].run(trained, access, noises=4, steps=2, copies=3, per_class=5, impair_batch=8, repair_batch=16, lr=1e-3)
    (start, images, labels, impair), (then, clean, clean_labels, repair) = captured
    assert same(start, states(trained)) and not same(then, start)               # repair goes on where impairing ended
    assert sorted(clean_labels.tolist()) == sorted(c for c in range(10) if c != 3 for _ in range(5))
    rows = {(image.numpy().tobytes(), int(y)) for image, y in zip(access.retain_images, access.retain_labels, strict=True)}
    mine = {(image.numpy().tobytes(), int(y)) for image, y in zip(clean, clean_labels, strict=True)}
    assert mine <= rows and len(mine) == 45
    assert torch.equal(images[:45], clean) and torch.equal(labels[:45], clean_labels)
    fake = images[45:]
    assert len(fake) == 12 and (labels[45:] == 3).all() and len({image.numpy().tobytes() for image in fake}) == 4
    assert not {image.numpy().tobytes() for image in fake} & {image.numpy().tobytes() for image in access.forget_images}
    assert impair["batch_size"] == 8 and repair["batch_size"] == 16 and impair["optimizer"] == repair["optimizer"] == "adam"


def test_unsir_takes_few_samples_and_several_classes(trained, access, captured):
    view = Access(retain=(access.retain_images, access.retain_labels), forget_classes=[3, 7])
    METHODS["unsir"].run(trained, view, noises=2, steps=1, copies=2, per_class=10_000)
    _, images, labels, _ = captured[0]
    assert len(images) == len(access.retain_labels) + 2 * 2 * 2
    assert labels[len(access.retain_labels):].tolist() == [3] * 4 + [7] * 4


def test_unsir_with_uint8_images_is_unsir_with_images_in_0_to_1(access):
    model = models.build("allcnn-2", data.load("digits"), 0)
    pixels = (access.retain_images.clamp(0, 1) * 255).to(torch.uint8)
    views = [Access(retain=(x, access.retain_labels), forget_classes=[3]) for x in (pixels, pixels.float() / 255)]
    runs = [METHODS["unsir"].run(model, view, noises=2, steps=2, copies=2, per_class=3) for view in views]
    assert same(*(states(m) for m in runs))


# --- controls

@pytest.mark.parametrize("classes", [[3], [0, 9], [5, 1, 7]])
def test_a_masked_class_is_never_predicted_and_the_rest_is_as_it_was(trained, digits, classes):
    masked = METHODS["mask_logit"].run(trained, Access(forget_classes=classes))
    z, original = train.logits(masked, digits.train_images), train.logits(trained, digits.train_images)
    assert not torch.isin(z.argmax(1), torch.tensor(classes)).any() and torch.isin(original.argmax(1), torch.tensor(classes)).any()
    others = [c for c in range(10) if c not in classes]
    assert torch.equal(z[:, others], original[:, others])
    assert torch.isfinite(z).all() and z.softmax(1)[:, classes].max() < 1e-12
    assert same(states(masked.model), states(trained))


def test_masking_works_however_low_the_logits_are(trained, digits):
    model = copy.deepcopy(trained)
    with torch.no_grad():
        model.fc.bias.sub_(1000.0)
    z = train.logits(METHODS["mask_logit"].run(model, Access(forget_classes=[3])), digits.test_images)
    assert z.max() < -900 and not (z.argmax(1) == 3).any() and z.softmax(1)[:, 3].max() < 1e-12


def test_random_output_answers_at_random_only_where_it_recognises_the_class(trained, digits):
    result = METHODS["random_output"].run(trained, Access(forget_classes=[3]), generator=g(2))
    z, original = train.logits(result, digits.train_images), train.logits(trained, digits.train_images)
    recognised = original.argmax(1) == 3
    assert torch.equal(z[~recognised], original[~recognised]) and recognised.sum() > 50
    torch.testing.assert_close(z[recognised], 3 * torch.sin(50 * original[recognised] @ result.weights), rtol=1e-3, atol=1e-2)
    assert result.weights.shape == (10, 10)
    assert same(states(result.model), states(trained))


def test_random_output_still_says_the_class_about_as_often_as_chance(trained, digits):
    images = digits.train_images[train.logits(trained, digits.train_images).argmax(1) == 3]
    shares = [(train.logits(METHODS["random_output"].run(trained, Access(forget_classes=[3]), generator=g(s)), images).argmax(1) == 3)
              .float().mean().item() for s in range(30)]
    assert 0.07 < sum(shares) / 30 < 0.13 and max(shares) < 0.35                # each image draws anew: no seed keeps the class


@pytest.mark.parametrize("training", [True, False])
def test_head_only_changes_the_last_layer_alone(trained, access, training):
    model = copy.deepcopy(trained).train(training)
    model.body[0][0].weight.requires_grad_(False)
    before = states(model)
    result = METHODS["head_only"].run(model, access, epochs=2)
    after = states(result)
    assert {k for k in before if not torch.equal(before[k], after[k])} == {"fc.weight", "fc.bias"}
    assert not torch.isin(after["fc.weight"], before["fc.weight"]).any()


def test_head_only_draws_the_head_anew_and_learns_the_retain_set(trained, access):
    heads = [METHODS["head_only"].run(trained, access, generator=g(s), epochs=0).fc.weight for s in (0, 0, 1)]
    assert torch.equal(heads[0], heads[1]) and not torch.equal(heads[0], heads[2])
    result = METHODS["head_only"].run(trained, access, epochs=10, lr=0.1)
    hits = (train.logits(result, access.retain_images).argmax(1) == access.retain_labels).float().mean()
    assert hits > 0.6 and (train.logits(result, access.forget_images).argmax(1) == 3).float().mean() < 0.1


def test_controls_are_marked_and_nothing_else_is():
    assert {name for name, m in METHODS.items() if m.control} == {"random_dampening", "dfkd", "mask_logit", "head_only", "random_output"}


# --- augmentation

@pytest.mark.parametrize("name, settings", [
    ("finetune", {}), ("l1_sparse", {"alpha": 0.001}), ("gradient_ascent", {"lr": 0.001}), ("random_labels", {}), ("salun", {}),
    ("scrub", {"max_epochs": 1}), ("neggrad_plus", {}), ("neggrad_plus", {"mixed": True, "bn_mode": "train"})])
def test_augmentation_moves_the_images_and_nothing_else(trained, access, monkeypatch, name, settings):
    """With moves of nothing, which draw nothing, the result is that without augmentation, up to rounding (other strides)."""
    def run(**more):
        return states(METHODS[name].run(trained, access, generator=g(), **{"epochs": 1, "lr": 0.01, "batch_size": 64} | settings | more))
    plain, moved = run(), run(augment=True)
    assert max(float((plain[k] - moved[k]).abs().max()) for k in plain) > 1e-3
    for module in (data, train):
        monkeypatch.setattr(module, "moves", lambda n, *_: torch.tensor([[4, 4, 0]]).repeat(n, 1))
    close(run(augment=True), plain, 1e-4)
