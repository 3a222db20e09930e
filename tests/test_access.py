"""The access contract: what is not granted cannot be read, and does not matter."""

import copy
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import same

from unlearnlib import models
from unlearnlib.access import EVERYTHING, Access, AccessError, Row
from unlearnlib.methods import METHODS, method

THINGS = ["forget_images", "forget_labels", "forget_classes", "retain_images", "retain_labels", "held_out"]

# The table of the design, written out again: what each method may see.
TABLE = {
    "retrain": {"retain_images", "retain_labels"},
    "finetune": {"retain_images", "retain_labels"},
    "amnesiac": {"forget_images", "forget_labels", "retain_images", "retain_labels"},
    "bad_teacher": {"forget_images", "retain_images"},
    "unsir": {"forget_classes", "retain_images", "retain_labels"},
    "ssd": {"forget_images", "forget_labels", "retain_images", "retain_labels"},
    "lfssd": {"forget_images", "retain_images"},
    "scrub": {"forget_images", "retain_images", "retain_labels"},
    "scrub_r": {"forget_images", "forget_labels", "retain_images", "retain_labels", "held_out"},
    "neggrad_plus": {"forget_images", "forget_labels", "retain_images", "retain_labels"},
    "nabla_tau": {"forget_images", "forget_labels", "retain_images", "retain_labels", "held_out"},
    "ispf": {"forget_classes"},
    "pf": {"forget_classes"},
    "is_gkt": {"forget_classes"},
    "gkt_dfq": {"forget_classes"},
    "blockf": {"forget_classes"},
    "gkt": {"forget_classes"},
    "forget_vector": {"forget_images", "forget_labels", "retain_images", "retain_labels"},
    "forget_vector_composed": {"forget_images", "forget_labels", "retain_images", "retain_labels"},
    "gradient_ascent": {"forget_images", "forget_labels"},
    "random_labels": {"forget_images", "retain_images", "retain_labels"},
    "salun": {"forget_images", "forget_labels", "retain_images", "retain_labels"},
    "l1_sparse": {"retain_images", "retain_labels"},
    "class_f": {"forget_images", "retain_images", "retain_labels"},
    "influence": {"forget_images", "forget_labels", "retain_images", "retain_labels"},
    "random_dampening": {"forget_images", "retain_images"},
    "dfkd": {"forget_classes"},
    "mask_logit": {"forget_classes"},
    "head_only": {"retain_images", "retain_labels"},
    "random_output": {"forget_classes"},
}
# The data-free methods, on images of the digits' shape. The generator learns fast and is told to draw all classes, so that each filter
# finds rows of the forget class, and of the next.
DRAWN = {"image_shape": (1, 8, 8), "latent": 8, "widths": (8, 8, 8), "student_steps": 2, "batch_size": 16, "threshold": 0.02}
DISTILLED = DRAWN | {"epochs": 2, "warmup": 4, "rounds": 1, "balance_weight": 20.0, "generator_lr": 0.02}
DATA_FREE = ["ispf", "pf", "is_gkt", "gkt_dfq", "blockf", "gkt", "dfkd"]
QUICK = {
    "retrain": {"epochs": 2, "lr": 0.05, "batch_size": 16},
    "finetune": {"epochs": 2, "batch_size": 16},
    "amnesiac": {"epochs": 2, "lr": 1e-3, "batch_size": 32},
    "bad_teacher": {"epochs": 2, "lr": 1e-3, "batch_size": 32},
    "unsir": {"noises": 4, "steps": 3, "copies": 2, "per_class": 5, "lr": 1e-3, "impair_batch": 8, "repair_batch": 16},
    "ssd": {"alpha": 1.5, "batch_size": 32},
    "lfssd": {"alpha": 1.2, "batch_size": 32},
    "scrub": {"epochs": 3, "max_epochs": 2, "lr": 0.01, "batch_size": 16},
    # The forget labels and the held-out data decide on the epoch alone: the forget accuracy falls in the first and rises again, so
    # that right labels choose a late epoch and wrong ones the first.
    "scrub_r": {"epochs": 3, "max_epochs": 1, "lr": 0.02, "batch_size": 16},
    "neggrad_plus": {"epochs": 3, "batch_size": 16},
    # Two-sided: one-sided, whatever lies behind a ReLU that never opens would not matter.
    "nabla_tau": {"retain_epochs": 2, "tau_every": 2, "batch_size": 16, "two_sided": True},
    "forget_vector": {"epochs": 2, "batch_size": 32},
    "forget_vector_composed": {"epochs": 2, "batch_size": 32, "class_settings": {"epochs": 1, "batch_size": 32}},
    "gradient_ascent": {"epochs": 2, "lr": 1e-3, "batch_size": 8},
    "random_labels": {"epochs": 2, "batch_size": 16},
    "salun": {"epochs": 2, "batch_size": 16},
    "l1_sparse": {"epochs": 2, "batch_size": 16, "alpha": 1e-3},
    "class_f": {"samples": 18, "batch_size": 8, "max_columns": 100},
    "influence": {"samples": 20},
    "random_dampening": {"alpha": 1.2, "batch_size": 32},
    "head_only": {"epochs": 2, "batch_size": 16},
    **dict.fromkeys(DATA_FREE, DISTILLED),
    "gkt": DRAWN | {"pseudo_batches": 4},
}
DETERMINISTIC = {"lfssd", "ssd", "mask_logit"}            # at order="given" they draw nothing
CLASS = 8


@pytest.fixture(scope="module")
def parts(digits):
    """Keyword arguments of Access: 20 forget, 90 retain, 30 held-out images, and the class."""
    hit = digits.train_labels == CLASS
    forget, retain = hit.nonzero().flatten()[:20], (~hit).nonzero().flatten()[:90]
    return {"forget": (digits.train_images[forget], digits.train_labels[forget]),
            "retain": (digits.train_images[retain], digits.train_labels[retain]),
            "held_out": (digits.val_images[:30], digits.val_labels[:30]), "forget_classes": [CLASS]}


def run(name, model, access, seed=3, **changes):
    return METHODS[name].run(model, access, generator=torch.Generator().manual_seed(seed), **QUICK.get(name, {}) | changes)


def read(view, thing):
    return getattr(view, thing)


@torch.no_grad()
def state(model, images):
    """Everything that a model is: parameters, buffers, and its answers in evaluation mode."""
    copied = copy.deepcopy(model).eval()
    return {**copied.state_dict(), "answers": copied(images)}


# --- the object

def test_everything_that_was_given_comes_back_as_it_is(parts):
    access = Access(**parts)
    assert access.forget_images is parts["forget"][0] and access.forget_labels is parts["forget"][1]
    assert access.retain_images is parts["retain"][0] and access.retain_labels is parts["retain"][1]
    assert access.held_out[0] is parts["held_out"][0] and access.held_out[1] is parts["held_out"][1]
    assert access.forget_classes == [CLASS]


@pytest.mark.parametrize("thing", THINGS)
def test_what_is_not_granted_names_method_thing_and_row(parts, thing, one_sentence):
    others = [t for t in THINGS if t != thing]
    view = Access(**parts).restricted("nosy", replace(EVERYTHING, **{thing: False}))
    with pytest.raises(AccessError) as error:
        read(view, thing)
    text = one_sentence(error)
    assert "nosy" in text and thing in text and ", ".join(others) in text
    for other in others:
        read(view, other)


@pytest.mark.parametrize("thing", THINGS)
def test_a_row_that_grants_one_thing_grants_nothing_else(parts, thing):
    view = Access(**parts).restricted("modest", Row(**{thing: True}))
    read(view, thing)
    for other in THINGS:
        if other != thing:
            with pytest.raises(AccessError, match=f"modest touched {other}.*grants only: {thing}"):
                read(view, other)


def test_an_empty_row_says_so(parts):
    with pytest.raises(AccessError, match="grants only: nothing"):
        _ = Access(**parts).restricted("blind", Row()).retain_images


@pytest.mark.parametrize("thing", THINGS)
def test_what_was_never_given_is_asked_for(thing, one_sentence):
    with pytest.raises(AccessError) as error:
        read(Access(), thing)
    assert "your code needs" in one_sentence(error) and thing in str(error.value)


def test_labels_may_be_left_out(parts):
    access = Access(forget=(parts["forget"][0], None), held_out=(parts["held_out"][0], None))
    assert len(access.forget_images) == 20
    with pytest.raises(AccessError, match="forget_labels"):
        _ = access.forget_labels
    with pytest.raises(AccessError, match="held_out_labels"):
        _ = access.held_out


def test_forget_classes_fall_back_to_the_forget_labels():
    images, labels = torch.zeros(4, 1), torch.tensor([7, 2, 7, 2])
    assert Access(forget=(images, labels)).forget_classes == [2, 7]
    assert Access(forget=(images, labels), forget_classes=torch.tensor([5])).forget_classes == [5]
    view = Access(forget=(images, labels)).restricted("m", Row(forget_classes=True))
    assert view.forget_classes == [2, 7]                    # class ids are granted, the labels of single images are not
    with pytest.raises(AccessError, match="forget_labels"):
        _ = view.forget_labels


def test_changing_the_returned_classes_changes_nothing():
    access = Access(forget_classes=[3])
    access.forget_classes.append(4)
    assert access.forget_classes == [3]


@pytest.mark.parametrize("part", ["forget", "retain", "held_out"])
def test_images_and_labels_must_match(part, one_sentence):
    with pytest.raises(ValueError, match=f"{part} has 3 images but 2 labels") as error:
        Access(**{part: (torch.zeros(3, 1), torch.zeros(2))})
    one_sentence(error)


def test_a_restricted_view_shares_the_data_and_leaves_its_source_alone(parts):
    access = Access(**parts)
    view = access.restricted("m", Row(forget_images=True))
    assert view.forget_images is access.forget_images
    assert access.retain_labels is parts["retain"][1]


def test_a_restricted_view_cannot_be_widened_again(parts):
    view = Access(**parts).restricted("a", Row(forget_images=True)).restricted("b", EVERYTHING)
    with pytest.raises(AccessError):
        _ = view.retain_labels


# --- the registry

def test_rows_are_those_of_the_table():
    assert TABLE.keys() <= METHODS.keys()
    for name, things in TABLE.items():
        assert set(METHODS[name].access.granted()) == things, name


def test_entries_name_themselves():
    for name, entry in METHODS.items():
        assert entry.function.__name__ == name
        assert entry.paper and entry.access.changes and isinstance(entry.version, int) and entry.function.__doc__
        assert set(entry.scenarios) <= {"class", "subclass", "random"}
        assert method(name) is entry


def test_an_unknown_method_is_one_sentence(one_sentence):
    with pytest.raises(ValueError, match="'forgetful'") as error:
        method("forgetful")
    assert all(name in one_sentence(error) for name in METHODS)


@pytest.mark.parametrize("name", METHODS)
def test_run_hands_over_exactly_the_row(parts, name):
    seen = {}

    def probe(model, access, *, generator, **_):
        for thing in THINGS:
            try:
                read(access, thing)
                seen[thing] = True
            except AccessError as error:
                assert "probe" in str(error)
                seen[thing] = False

    replace(METHODS[name], function=probe).run(None, Access(**parts))
    assert {thing for thing, readable in seen.items() if readable} == set(METHODS[name].access.granted())


# --- the methods: what they do not see does not matter, what they see does

def poisoned(parts, things, how):
    """Access in which ``things`` are nonsense ("wrong") or were never given ("absent")."""
    out = {}
    for part in ("forget", "retain", "held_out"):
        images, labels = parts[part]
        if part == "held_out" and part in things or f"{part}_images" in things:
            images = torch.full_like(images, float("nan")) if how == "wrong" else None
        if part == "held_out" and part in things or f"{part}_labels" in things:
            labels = (labels.flip(0) + 1) % 10 if how == "wrong" else None
        out[part] = (images, labels)
    wrong_classes = [(CLASS + 1) % 10] if how == "wrong" else []
    return Access(**out, forget_classes=wrong_classes if "forget_classes" in things else parts["forget_classes"])


@pytest.mark.parametrize("how", ["wrong", "absent"])
@pytest.mark.parametrize("name", METHODS)
def test_what_a_method_must_not_see_does_not_matter(name, how, trained, parts, digits):
    hidden = set(THINGS) - set(METHODS[name].access.granted())
    clean = state(run(name, trained, Access(**parts)), digits.test_images[:50])
    assert same(clean, state(run(name, trained, poisoned(parts, hidden, how)), digits.test_images[:50]))


@pytest.mark.parametrize(("name", "thing"), [(n, t) for n, m in METHODS.items() for t in m.access.granted()])
def test_what_a_method_may_see_does_matter(name, thing, trained, parts, digits):
    """Without this, the poison above could be swallowed unnoticed."""
    changed = dict(parts)
    part, _, kind = thing.partition("_")
    if thing == "forget_classes":
        changed["forget_classes"] = [(CLASS + 1) % 10]
    elif thing == "held_out":                               # one thing: images and labels are granted together
        changed[thing] = (parts[thing][0], (parts[thing][1] + 1) % 10)
    elif kind == "images":
        changed[part] = (1 - parts[part][0].flip(3), parts[part][1])
    else:
        changed[part] = (parts[part][0], (parts[part][1] + 1) % 10)
    before, after = (state(run(name, trained, Access(**p)), digits.test_images) for p in (parts, changed))
    assert same(before, after) == (name == "dfkd")          # the control: it checks that the classes exist and distils them too


# --- the methods leave the world as it was

def snapshot(model):
    return ({k: v.clone() for k, v in model.state_dict().items()}, [m.training for m in model.modules()],
            [p.requires_grad for p in model.parameters()], [None if p.grad is None else p.grad.clone() for p in model.parameters()])


@pytest.mark.parametrize("mode", ["evaluation", "training", "mixed"])
@pytest.mark.parametrize("name", METHODS)
def test_the_callers_model_is_not_changed(name, mode, trained, parts):
    model = copy.deepcopy(trained).train(mode != "evaluation")
    if mode == "mixed":                                     # frozen statistics, as many fine-tuning recipes have them
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.eval()
        model.body[0][0].weight.requires_grad_(False)
        model.fc.weight.grad = torch.ones_like(model.fc.weight)
    weights, modes, flags, gradients = snapshot(model)
    result = run(name, model, Access(**parts))
    new_weights, new_modes, new_flags, new_gradients = snapshot(model)
    assert same(weights, new_weights)
    assert new_modes == modes
    assert new_flags == flags
    assert all(a is b is None or torch.equal(a, b) for a, b in zip(gradients, new_gradients, strict=True))
    mine = {p.data_ptr() for p in model.state_dict().values()}
    assert result is not model and not any(p.data_ptr() in mine for p in result.state_dict().values()), "the result shares memory"


@pytest.mark.parametrize("name", METHODS)
def test_the_data_are_not_changed(name, trained, parts):
    before = copy.deepcopy(parts)
    run(name, trained, Access(**parts))
    for part in ("forget", "retain", "held_out"):
        assert all(torch.equal(a, b) for a, b in zip(before[part], parts[part], strict=True))


@pytest.mark.parametrize("name", METHODS)
def test_the_global_random_states_are_not_touched(name, trained, parts):
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    run(name, trained, Access(**parts))
    after = torch.get_rng_state(), np.random.get_state()[1], random.getstate()
    assert torch.equal(before[0], after[0]) and (before[1] == after[1]).all() and before[2] == after[2]


@pytest.mark.parametrize("name", METHODS)
def test_the_generator_alone_decides(name, trained, parts, digits):
    images = digits.test_images[:50]
    first = state(run(name, trained, Access(**parts), seed=3), images)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(99)
        assert same(first, state(run(name, trained, Access(**parts), seed=3), images))
    other = state(run(name, trained, Access(**parts), seed=4), images)
    assert same(first, other) == (name in DETERMINISTIC)


def test_without_a_generator_a_run_repeats_itself(trained, parts, digits):
    runs = [METHODS["finetune"].run(trained, Access(**parts), **QUICK["finetune"]) for _ in range(2)]
    assert same(*(state(r, digits.test_images[:50]) for r in runs))


@pytest.mark.parametrize("name", ["retrain", "finetune", "amnesiac", "unsir", "lfssd", "ssd", "random_dampening", "scrub", "scrub_r",
                                  "neggrad_plus", "nabla_tau", "forget_vector", "forget_vector_composed", "gradient_ascent",
                                  "random_labels", "salun", "l1_sparse", "class_f", "influence"])
def test_a_callback_hears_of_every_image(name, trained, parts):
    heard = []
    run(name, trained, Access(**parts), callback=lambda *, images, backward=True, **_: heard.append(images))
    n_forget, n_retain, n_held_out = 20, 90, 30
    expected = {"retrain": 2 * n_retain, "finetune": 2 * n_retain, "amnesiac": 2 * (n_forget + n_retain),
                "unsir": 4 * 3 + (9 * 5 + 4 * 2) + 9 * 5,
                "scrub": 2 * (2 * n_forget + 3 * n_retain),                         # student and teacher
                "scrub_r": 2 * (n_forget + 3 * n_retain) + 3 * n_forget + n_held_out,
                # 2 forget and 6 retain batches: three forget epochs make one pass over the retain set
                "neggrad_plus": 3 * n_forget + n_retain,
                "nabla_tau": 3 * n_forget + n_retain + 2 * n_held_out,              # targets of epochs 0 and 2
                "forget_vector": 2 * (n_forget + n_retain),
                "forget_vector_composed": (10 + 2) * (n_forget + n_retain),         # ten class vectors first
                "gradient_ascent": 2 * n_forget, "random_labels": 2 * (n_forget + n_retain),
                "salun": n_forget + 2 * (n_forget + n_retain),                      # the mask first
                "l1_sparse": 2 * n_retain, "class_f": 9 * 2 + 18,
                "influence": n_forget + n_retain + 21}
    assert sum(heard) == expected.get(name, n_forget + n_forget + n_retain)


# --- your own network

class Plain(torch.nn.Module):
    """A reader's own module: no normalisation, no width, nothing of the library."""

    def __init__(self):
        super().__init__()
        self.a, self.b = torch.nn.Linear(64, 12), torch.nn.Linear(12, 10)

    def forward(self, x):
        return self.b(torch.relu(self.a(x.flatten(1))))


@pytest.mark.parametrize("name", METHODS)
def test_any_module_will_do(name, parts, one_sentence):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Plain()
        drawn = torch.nn.Sequential(torch.nn.Conv2d(1, 6, 3), torch.nn.BatchNorm2d(6), torch.nn.ReLU(), torch.nn.Flatten(),
                                    torch.nn.Linear(6 * 36, 10))
    if name in DATA_FREE:                                   # they know the data by the layers of the network alone
        with pytest.raises(ValueError, match="0 (BatchNorm2d|ReLU) layers") as error:
            run(name, model, Access(**parts))
        one_sentence(error)
        model = drawn
    result = run(name, model, Access(**parts))
    assert result(parts["retain"][0]).shape == (90, 10)


def test_head_only_says_what_it_needs(parts, one_sentence):
    model = torch.nn.Sequential(torch.nn.Conv2d(1, 10, 8), torch.nn.Flatten())
    with pytest.raises(ValueError, match="no nn.Linear") as error:
        run("head_only", model, Access(**parts))
    one_sentence(error)
    with pytest.raises(ValueError):
        models.head(model)
