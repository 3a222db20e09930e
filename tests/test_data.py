"""Data sets from their files, splits against loops, augmentation against one image at a time."""

import hashlib
import pickle
import warnings

import numpy as np
import pytest
import torch
from scipy.io import savemat
from sklearn.datasets import load_digits
from torchvision.datasets import CIFAR10, CIFAR100, SVHN

from unlearnlib import data
from unlearnlib.access import Access
from unlearnlib.data import DataError, augment, load, split

# The superclasses of CIFAR-100 as its authors list them; fine labels are the names' alphabetical order.
SUPERCLASSES = {
    "aquatic mammals": "beaver dolphin otter seal whale",
    "fish": "aquarium_fish flatfish ray shark trout",
    "flowers": "orchid poppy rose sunflower tulip",
    "food containers": "bottle bowl can cup plate",
    "fruit and vegetables": "apple mushroom orange pear sweet_pepper",
    "electrical devices": "clock keyboard lamp telephone television",
    "furniture": "bed chair couch table wardrobe",
    "insects": "bee beetle butterfly caterpillar cockroach",
    "large carnivores": "bear leopard lion tiger wolf",
    "man-made outdoor": "bridge castle house road skyscraper",
    "natural scenes": "cloud forest mountain plain sea",
    "large herbivores": "camel cattle chimpanzee elephant kangaroo",
    "medium mammals": "fox porcupine possum raccoon skunk",
    "invertebrates": "crab lobster snail spider worm",
    "people": "baby boy girl man woman",
    "reptiles": "crocodile dinosaur lizard snake turtle",
    "small mammals": "hamster mouse rabbit shrew squirrel",
    "trees": "maple_tree oak_tree palm_tree pine_tree willow_tree",
    "vehicles 1": "bicycle bus motorcycle pickup_truck train",
    "vehicles 2": "lawn_mower rocket streetcar tank tractor",
}
FINE = sorted(" ".join(SUPERCLASSES.values()).split())


# --- digits

def test_digits_sizes_types_and_names(digits):
    assert [len(t) for t in (digits.train_images, digits.val_images, digits.test_images)] == [1000, 398, 399]
    assert [len(t) for t in (digits.train_labels, digits.val_labels, digits.test_labels, digits.train_fine, digits.test_fine)] == \
        [1000, 398, 399, 1000, 399]
    assert digits.train_images.shape[1:] == (1, 8, 8)
    assert digits.train_images.dtype == torch.float32 and digits.train_labels.dtype == torch.int64
    assert digits.class_names == digits.fine_names == tuple("0123456789")
    assert torch.equal(digits.train_labels, digits.train_fine) and torch.equal(digits.test_labels, digits.test_fine)


def every(d):
    return torch.cat([d.train_images, d.val_images, d.test_images]), torch.cat([d.train_labels, d.val_labels, d.test_labels])


def test_clean_digits_are_scikit_learns_each_once():
    images, labels = every(load("digits", noise=0.0))
    bunch = load_digits()
    mine = sorted((*(round(16 * v) for v in image.flatten().tolist()), int(y)) for image, y in zip(images, labels, strict=True))
    theirs = sorted((*map(int, image.flatten()), int(y)) for image, y in zip(bunch.images, bunch.target, strict=True))
    assert mine == theirs
    assert images.min() == 0 and images.max() == 1


def test_noise_is_gaussian_of_the_stated_size_and_in_the_same_order():
    clean, noisy, half = (every(load("digits", noise=s)) for s in (0.0, 0.35, 0.175))
    assert torch.equal(clean[1], noisy[1])
    noise = ((noisy[0] - clean[0]) / 0.35).double().flatten()
    n = len(noise)
    assert n == 1797 * 64
    assert abs(noise.mean()) < 5 / n ** 0.5
    assert abs(noise.std() - 1) < 5 / (2 * n) ** 0.5
    assert abs((noise ** 4).mean() - 3) < 5 * (96 / n) ** 0.5                  # of a normal distribution; 96 is the variance of z^4
    assert abs(np.corrcoef(noise, clean[0].flatten())[0, 1]) < 5 / n ** 0.5
    assert abs(np.corrcoef(noise[:-1], noise[1:])[0, 1]) < 5 / n ** 0.5
    torch.testing.assert_close(2 * (half[0] - clean[0]), noisy[0] - clean[0], atol=1e-6, rtol=0)
    assert noisy[0].min() < 0 and noisy[0].max() > 1                           # not clipped


def test_digits_normalise_to_about_zero_and_one():
    images = load("digits", noise=0.0).train_images
    assert abs((images.mean() - load("digits").mean[0]) / load("digits").std[0]) < 0.01


def test_loading_is_deterministic_and_leaves_the_global_random_state():
    first = load("digits")
    state, theirs = np.random.get_state()[1].copy(), torch.get_rng_state()
    load.cache_clear()
    again = load("digits")
    assert again is not first and torch.equal(again.train_images, first.train_images) and again.fingerprint == first.fingerprint
    assert (np.random.get_state()[1] == state).all() and torch.equal(torch.get_rng_state(), theirs)


def test_fingerprints_tell_data_apart():
    prints = [load("digits").fingerprint, load("digits", noise=0.0).fingerprint, load("digits", noise=0.350001).fingerprint,
              load("digits5").fingerprint]
    assert len(set(prints)) == 4
    assert load("digits").to("cpu").fingerprint == prints[0]


def test_digits5_are_the_same_images_in_pairs(digits):
    five = load("digits5")
    assert torch.equal(five.train_images, digits.train_images) and torch.equal(five.train_fine, digits.train_labels)
    assert five.class_names == ("0-1", "2-3", "4-5", "6-7", "8-9") and five.fine_names == digits.class_names
    for coarse, fine in ((five.train_labels, digits.train_labels), (five.val_labels, digits.val_labels),
                         (five.test_labels, digits.test_labels)):
        assert coarse.tolist() == [y // 2 for y in fine.tolist()]


# --- CIFAR, through small files of the real format

def write_files(root, kind, monkeypatch):
    """Small files of torchvision's names and format, and their checksums in place of the real ones; returns what was written."""
    generator = np.random.default_rng(0)
    folder = root / kind.base_folder
    folder.mkdir(parents=True)
    classes, written = 10 if kind is CIFAR10 else 100, {}

    def dump(name, content):
        (folder / name).write_bytes(pickle.dumps(content, protocol=2))
        return hashlib.md5((folder / name).read_bytes()).hexdigest()

    for part in ("train_list", "test_list"):
        entries, pixels, labels = [], [], []
        for name, _ in getattr(kind, part):
            x, y = generator.integers(0, 256, (2 * classes, 3072), dtype=np.uint8), [i % classes for i in range(2 * classes)]
            content = {"data": x, "batch_label": name, "filenames": [f"{i}.png" for i in range(len(y))]}
            content |= {"labels": y} if kind is CIFAR10 else {"fine_labels": y, "coarse_labels": [coarse_of(f) for f in y]}
            entries.append([name, dump(name, content)])
            pixels.append(x)
            labels += y
        monkeypatch.setattr(kind, part, entries)
        written[part] = np.concatenate(pixels), labels
    names = [f"class {i}" for i in range(10)] if kind is CIFAR10 else FINE
    meta = dump(kind.meta["filename"], {kind.meta["key"]: names})
    monkeypatch.setattr(kind, "meta", kind.meta | {"md5": meta})
    return written


def coarse_of(fine):
    return next(i for i, members in enumerate(SUPERCLASSES.values()) if FINE[fine] in members.split())


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("UNLEARNLIB_DATA", str(tmp_path / "data"))
    load.cache_clear()
    yield tmp_path / "data"
    load.cache_clear()


def quiet_load(name):
    """With torchvision's own warnings about old pickles aside (they depend on the numpy version)."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="torchvision")
        return load(name)


def halves(d, pixels, labels):
    """Validation and test data together are the test file, each image once: checks that, returns the order."""
    images = torch.cat([d.val_images, d.test_images])
    theirs = {x.tobytes(): i for i, x in enumerate(pixels)}
    order = [theirs[image.numpy().tobytes()] for image in images]
    assert sorted(order) == list(range(len(labels))) and order != sorted(order)
    return order


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "cifar20"])
def test_cifar_from_its_files(name, root, monkeypatch):
    kind = CIFAR10 if name == "cifar10" else CIFAR100
    written = write_files(root, kind, monkeypatch)
    d = quiet_load(name)
    pixels, fine = written["train_list"]
    want = fine if name != "cifar20" else [coarse_of(f) for f in fine]
    assert d.name == name and d.train_images.dtype == torch.uint8 and d.train_images.shape == (len(fine), 3, 32, 32)
    assert (d.train_images.numpy() == pixels.reshape(-1, 3, 32, 32)).all()     # the file's rows: red, green, blue planes
    assert d.train_labels.tolist() == want and d.train_fine.tolist() == fine and d.train_labels.dtype == torch.int64
    test_pixels, test_fine = written["test_list"]
    order = halves(d, test_pixels, test_fine)
    test_want = test_fine if name != "cifar20" else [coarse_of(f) for f in test_fine]
    assert torch.cat([d.val_labels, d.test_labels]).tolist() == [test_want[i] for i in order]
    assert d.test_fine.tolist() == [test_fine[i] for i in order[len(d.val_labels):]]
    assert len(d.val_labels) == len(d.test_labels) == len(test_fine) // 2
    assert len(d.class_names) == {"cifar10": 10, "cifar100": 100, "cifar20": 20}[name]
    assert d.fine_names == (tuple(FINE) if name != "cifar10" else tuple(f"class {i}" for i in range(10)))
    assert len(d.mean) == len(d.std) == 3


def test_cifar20_is_the_published_partition():
    assert sorted(c for members in data.CIFAR20 for c in members) == list(range(100))
    assert tuple(SUPERCLASSES) == data.CIFAR20_NAMES
    for members, names in zip(data.CIFAR20, SUPERCLASSES.values(), strict=True):
        assert sorted(FINE[c] for c in members) == sorted(names.split())


# --- SVHN, through small files of the real format

@pytest.fixture
def svhn(root, monkeypatch):
    """Small files of the published names and format, their checksums in place of the real ones: {part: (pixels (32, 32, 3, n), digits)}."""
    generator = np.random.default_rng(1)
    root.mkdir(parents=True)
    entries, written = {}, {}
    for part, n in (("train", 23), ("test", 15)):
        url, name, _ = SVHN.split_list[part]
        x = generator.integers(0, 256, (32, 32, 3, n), dtype=np.uint8)
        digits = [(3 * i) % 10 for i in range(n)]
        y = np.array([d or 10 for d in digits], dtype=np.uint8)[:, None]       # the files call the digit 0 ten
        assert 10 in y and y.min() == 1
        savemat(root / name, {"X": x, "y": y})
        entries[part] = [url, name, hashlib.md5((root / name).read_bytes()).hexdigest()]
        written[part] = x, digits
    monkeypatch.setattr(SVHN, "split_list", entries)
    return written


def test_svhn_from_its_files(svhn):
    d = load("svhn")
    pixels, digits = svhn["train"]
    assert d.name == "svhn" and d.train_images.dtype == torch.uint8 and d.train_images.shape == (23, 3, 32, 32)
    assert d.train_images.is_contiguous() and d.train_labels.dtype == torch.int64
    for i in range(23):                                                         # the files: row, column, colour, image
        assert (d.train_images[i].permute(1, 2, 0).numpy() == pixels[..., i]).all()
    assert d.train_labels.tolist() == d.train_fine.tolist() == digits and 0 in digits
    test_pixels, test_digits = svhn["test"]
    order = halves(d, [np.ascontiguousarray(test_pixels[..., i].transpose(2, 0, 1)) for i in range(15)], test_digits)
    assert torch.cat([d.val_labels, d.test_labels]).tolist() == [test_digits[i] for i in order]
    assert (len(d.val_labels), len(d.test_labels)) == (7, 8) and torch.equal(d.test_fine, d.test_labels)
    assert d.class_names == d.fine_names == tuple("0123456789")
    assert d.mean == d.std == (0.5, 0.5, 0.5)
    assert split(d, "class:0").forget.tolist() == [i for i, y in enumerate(digits) if y == 0]


def test_missing_svhn_says_how_to_get_it(root, one_sentence):
    with pytest.raises(DataError, match="UNLEARNLIB_DATA") as error:
        load("svhn")
    text = one_sentence(error)
    assert str(root) in text and "unlearnlib data fetch svhn" in text and "train_32x32.mat" in text and "test_32x32.mat" in text


@pytest.mark.parametrize("damage", ["truncated", "altered", "gone", "no mat file"])
@pytest.mark.parametrize("part", ["train", "test"])
def test_damaged_svhn_is_found(svhn, root, part, damage, monkeypatch, one_sentence):
    file = root / SVHN.split_list[part][1]
    content = bytearray(file.read_bytes())
    if damage == "truncated":
        file.write_bytes(content[:-100])
    elif damage == "altered":
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    elif damage == "gone":
        file.unlink()
    else:                                                                       # though its checksum were right
        file.write_bytes(b"not a matrix")
        entry = [*SVHN.split_list[part][:2], hashlib.md5(b"not a matrix").hexdigest()]
        monkeypatch.setattr(SVHN, "split_list", SVHN.split_list | {part: entry})
    with pytest.raises(DataError, match="damaged.*unlearnlib data fetch svhn") as error:
        load("svhn")
    one_sentence(error)


def test_both_parts_of_svhn_are_fetched(svhn, root, monkeypatch):
    """Each from its publisher's address, with its checksum; what is in place is read afterwards."""
    from torchvision.datasets import svhn as module
    files = {SVHN.split_list[part][1]: (root / SVHN.split_list[part][1]).read_bytes() for part in svhn}
    for name in files:
        (root / name).unlink()
    asked = []

    def download(url, folder, name, md5):
        asked.append((url, str(folder), md5))
        (root / name).write_bytes(files[name])

    monkeypatch.setattr(module, "download_url", download)
    data.fetch("svhn")
    assert asked == [(url, str(root), md5) for url, _, md5 in (SVHN.split_list[part] for part in ("train", "test"))]
    assert all(url.startswith("http://ufldl.stanford.edu/housenumbers/") for url, _, _ in asked)
    assert len(load("svhn").train_labels) == 23


def test_an_svhn_that_came_damaged_is_no_success(svhn, root, monkeypatch):
    from torchvision.datasets import svhn as module
    monkeypatch.setattr(module, "download_url", lambda url, folder, name, md5: (root / name).write_bytes(b"half"))
    with pytest.raises(RuntimeError):
        data.fetch("svhn")


def test_lists_of_data_sets():
    assert data.DATASETS == data.IMAGES + data.TEXTS and "svhn" in data.IMAGES
    assert set(data.FETCHED) == {"cifar10", "cifar100", "goemotions", "svhn"} and set(data.FETCHED) <= set(data.DATASETS)


@pytest.mark.parametrize("name", ["digits", "digits5", "scipy_docs"])
def test_a_few_samples_of_a_data_set_are_the_first_of_every_class_in_turn(name):
    whole, few = load(name), load(f"{name}-23")
    assert few.name == f"{name}-23" and few.fingerprint != whole.fingerprint and few.words == whole.words
    assert [len(y) for y in (few.train_labels, few.val_labels, few.test_labels, few.train_images, few.test_fine)] == [23] * 5
    for part, labels in (("train", whole.train_fine), ("test", whole.test_fine), ("val", whole.val_labels)):
        by_class = [(labels == c).nonzero().flatten().tolist() for c in labels.unique()]
        wanted = [members[k] for k in range(23) for members in by_class if k < len(members)][:23]
        assert torch.equal(getattr(few, f"{part}_images"), getattr(whole, f"{part}_images")[wanted]), part
        assert torch.equal(getattr(few, f"{part}_labels"), getattr(whole, f"{part}_labels")[wanted]), part
    many = load(f"{name}-1000000")
    assert len(many.train_labels) == len(whole.train_labels) and len(many.test_labels) == len(whole.test_labels)


@pytest.mark.parametrize("name", ["mnist", "digits-", "digits-0", "digits-ten", "mnist-9", "digits-9-9"])
def test_unknown_data_set(one_sentence, name):
    with pytest.raises(DataError, match=f"'{name}'") as error:
        load(name)
    assert all(name in one_sentence(error) for name in data.DATASETS)


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "cifar20"])
def test_missing_data_say_how_to_get_them(name, root, one_sentence):
    with pytest.raises(DataError, match="UNLEARNLIB_DATA") as error:
        load(name)
    source = "cifar10" if name == "cifar10" else "cifar100"
    assert str(root) in one_sentence(error) and f"unlearnlib data fetch {source}" in str(error.value)


@pytest.mark.parametrize("damage", ["truncated", "altered", "one gone", "meta altered", "meta gone"])
@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_damaged_data_are_found(name, damage, root, monkeypatch, one_sentence):
    kind = CIFAR10 if name == "cifar10" else CIFAR100
    write_files(root, kind, monkeypatch)
    folder = root / kind.base_folder
    file = folder / (kind.meta["filename"] if damage.startswith("meta") else kind.train_list[-1][0])
    content = bytearray(file.read_bytes())
    if damage == "truncated":
        file.write_bytes(content[:-100])
    elif damage.endswith("altered"):
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    else:
        file.unlink()
    with pytest.raises(DataError, match="damaged") as error:
        load(name)
    one_sentence(error)


def test_a_repaired_data_set_is_found_in_the_same_process(root, monkeypatch):
    with pytest.raises(DataError):
        load("cifar10")
    write_files(root, CIFAR10, monkeypatch)
    assert len(quiet_load("cifar10").train_labels) == 100


def test_roots_come_from_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("UNLEARNLIB_CACHE", str(tmp_path))
    monkeypatch.delenv("UNLEARNLIB_DATA", raising=False)
    assert data.cache_root() == tmp_path and data.data_root() == tmp_path / "data"
    monkeypatch.setenv("UNLEARNLIB_DATA", "~/elsewhere")
    assert data.data_root().is_absolute() and data.data_root().name == "elsewhere"


# --- splits, against loops

def complete(s):
    """Forget and retain are disjoint and together everything."""
    together = s.forget.tolist() + s.retain.tolist()
    return sorted(together) == list(range(len(s.data.train_labels)))


@pytest.mark.parametrize("name", ["digits", "digits5"])
@pytest.mark.parametrize(("scenario", "classes"), [("class:3", {3}), ("class:0", {0}), ("class:4+1", {1, 4}), ("class:2+2", {2})])
def test_class_splits(name, scenario, classes):
    d = load(name)
    s = split(d, scenario)
    labels = d.train_labels.tolist()
    assert s.forget.tolist() == [i for i, y in enumerate(labels) if y in classes]
    assert complete(s) and s.kind == "class" and s.forget_classes == tuple(sorted(classes))
    assert s.test_forget.tolist() == [y in classes for y in d.test_labels.tolist()]
    kept = [labels[i] for i in s.retain.tolist()]
    assert kept == sorted(kept)


@pytest.mark.parametrize(("scenario", "fines", "classes"), [("subclass:8", {8}, (4,)), ("subclass:1+0", {0, 1}, (0,)),
                                                            ("subclass:3+8", {3, 8}, (1, 4))])
def test_subclass_splits(scenario, fines, classes):
    d = load("digits5")
    s = split(d, scenario)
    fine = d.train_fine.tolist()
    assert s.forget.tolist() == [i for i, y in enumerate(fine) if y in fines]
    assert s.retain.tolist() == sorted((i for i, y in enumerate(fine) if y not in fines), key=lambda i: (fine[i], i))
    assert complete(s) and s.kind == "subclass" and s.forget_classes == classes
    assert s.test_forget.tolist() == [y in fines for y in d.test_fine.tolist()]


def test_a_class_split_is_sorted_by_class_and_stable_within(digits):
    labels = digits.train_labels.tolist()
    s = split(digits, "class:3")
    assert s.retain.tolist() == sorted((i for i in range(1000) if labels[i] != 3), key=lambda i: (labels[i], i))


@pytest.mark.parametrize("fraction", ["0.1", "0.0016", ".5", "1e-1", "0.999"])
def test_random_splits(digits, fraction):
    s = split(digits, f"random:{fraction}", seed=1)
    assert len(s.forget) == round(float(fraction) * 1000) and complete(s)
    assert s.kind == "random" and s.forget_classes == () and not s.test_forget.any() and len(s.test_forget) == 399
    if len(s.retain) > 1:
        assert s.retain.tolist() != sorted(s.retain.tolist())


def test_random_splits_depend_on_the_seed_and_on_nothing_else(digits):
    first = split(digits, "random:0.1", seed=0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        again = split(digits, "random:0.1", seed=0)
    other = split(digits, "random:0.1", seed=1)
    assert torch.equal(first.forget, again.forget) and torch.equal(first.retain, again.retain)
    common = len(set(first.forget.tolist()) & set(other.forget.tolist()))
    assert 0 < common < 30                                                      # 10 expected of 100
    counts = torch.bincount(first.forget, minlength=1000)
    assert counts.max() == 1
    assert not torch.equal(split(digits, "class:3", seed=0).forget, first.forget)
    assert torch.equal(split(digits, "class:3", seed=0).retain, split(digits, "class:3", seed=7).retain)


def test_retain_hash_names_the_set_not_its_order(digits):
    s = split(digits, "random:0.1")
    turned = data.Split(s.data, s.scenario, s.kind, s.forget, s.retain.flip(0), s.test_forget, s.forget_classes)
    hashes = {split(digits, f"class:{c}").retain_hash for c in range(10)} | {split(digits, "random:0.1", k).retain_hash for k in range(3)}
    assert s.retain_hash == turned.retain_hash and len(hashes) == 13


def test_access_holds_the_splits_data_in_its_order(digits):
    s = split(digits, "class:3")
    access = s.access()
    assert isinstance(access, Access)
    assert torch.equal(access.forget_images, torch.stack([digits.train_images[i] for i in s.forget.tolist()]))
    assert access.retain_labels.tolist() == [int(digits.train_labels[i]) for i in s.retain.tolist()]
    assert torch.equal(access.retain_images, torch.stack([digits.train_images[i] for i in s.retain.tolist()]))
    assert set(access.forget_labels.tolist()) == {3} and access.forget_classes == [3]
    assert access.held_out[0] is digits.val_images and access.held_out[1] is digits.val_labels      # never the test half


@pytest.mark.parametrize("scenario", ["", "3", "class", "class:", "class:-1", "class:x", "class:3,4", "class:3+", "classes:3", "random",
                                      "random:", "random:nan", "random:inf", "random:ten", "subclass:1.5", " class:3", "class:3\n"])
def test_unknown_scenarios(digits, scenario, one_sentence):
    with pytest.raises(DataError, match="it must be class:ID") as error:
        split(digits, scenario)
    if "\n" not in scenario:
        one_sentence(error)


@pytest.mark.parametrize(("name", "scenario", "text"), [("digits", "class:10", "class 10 does not exist in digits.*0 to 9"),
                                                        ("digits5", "class:5", "class 5 does not exist in digits5.*0 to 4"),
                                                        ("digits5", "subclass:10", "subclass 10 does not exist.*0 to 9"),
                                                        ("digits", "class:3+99", "class 99 does not exist"),
                                                        ("digits", "class:99999999999999999999", "does not exist")])
def test_classes_that_do_not_exist(name, scenario, text, one_sentence):
    with pytest.raises(DataError, match=text) as error:
        split(load(name), scenario)
    one_sentence(error)


@pytest.mark.parametrize("fraction", ["0", "1", "0.0", "1.0", "1e-9", "0.0004", "0.9999", "-0.1", "1.5", "1e400", "--", "0.1.2", "e"])
def test_fractions_outside_the_open_interval(digits, fraction, one_sentence):
    with pytest.raises(DataError, match="forget fraction is .* strictly between 0 and 1") as error:
        split(digits, f"random:{fraction}")
    one_sentence(error)


def test_forgetting_everything_is_refused(digits, one_sentence):
    with pytest.raises(DataError, match="forgets 1000 of 1000") as error:
        split(digits, "class:0+1+2+3+4+5+6+7+8+9")
    one_sentence(error)


# --- augmentation, against one image at a time

def candidates(image, padding):
    """Every crop of the zero-padded image, plain and mirrored."""
    c, h, w = image.shape
    padded = np.zeros((c, h + 2 * padding, w + 2 * padding), image.dtype)
    padded[:, padding:padding + h, padding:padding + w] = image
    for dy in range(2 * padding + 1):
        for dx in range(2 * padding + 1):
            crop = padded[:, dy:dy + h, dx:dx + w]
            yield (dy, dx, False), crop
            yield (dy, dx, True), crop[:, :, ::-1]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64])
@pytest.mark.parametrize(("shape", "padding"), [((30, 3, 5, 7), 2), ((20, 1, 8, 8), 4), ((10, 2, 4, 4), 0)])
def test_augment_is_a_padded_crop_and_a_flip_of_each_image(dtype, shape, padding):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(1, 255, shape, generator=generator).to(dtype)       # no zero: padding can be told from pixels
    before = images.clone()
    out = augment(images, generator, padding)
    assert out.shape == images.shape and out.dtype == dtype and out.is_contiguous() and torch.equal(images, before)
    for image, result in zip(images.numpy(), out.numpy(), strict=True):
        assert sum((crop == result).all() for _, crop in candidates(image, padding)) == 1


def test_augment_draws_every_shift_and_flip_equally_often():
    image = torch.arange(1, 10).view(1, 1, 3, 3).repeat(9000, 1, 1, 1)
    out = augment(image, torch.Generator().manual_seed(0), padding=1)
    keys = {crop.tobytes(): key for key, crop in ((k, np.ascontiguousarray(c)) for k, c in candidates(image[0].numpy(), 1))}
    assert len(keys) == 18
    counts = dict.fromkeys(keys.values(), 0)
    for result in out.numpy():
        counts[keys[result.tobytes()]] += 1
    chi_square = sum((n - 500) ** 2 / 500 for n in counts.values())
    assert chi_square < 50                                                      # 17 degrees of freedom: 17 +- 6


def test_augment_depends_on_its_generator_alone():
    images = torch.rand(16, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    state = torch.get_rng_state()
    a, b, c = (augment(images, torch.Generator().manual_seed(s)) for s in (0, 0, 1))
    assert torch.equal(a, b) and not torch.equal(a, c) and torch.equal(torch.get_rng_state(), state)
