"""Fashion-MNIST: its files checked, its network and its weak network. See test_shipped.py."""

import gzip

import pytest
import torch

import kdist
from kdist import fashion
from kdist.fashion import data


@pytest.fixture(scope="module")
def model():
    return fashion.load_model()


def idx(tensor):
    """The bytes of an IDX file of unsigned bytes."""
    shape = b"".join(n.to_bytes(4, "big") for n in tensor.shape)
    return bytes([0, 0, 8, tensor.ndim]) + shape + tensor.numpy().tobytes()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Four small IDX files, two of them compressed, that count as the published ones."""
    generator = torch.Generator().manual_seed(0)
    sums = {}
    for part, number in (("train", 5), ("t10k", 3)):
        images = torch.randint(256, (number, 28, 28), generator=generator, dtype=torch.uint8)
        labels = torch.randint(10, (number,), generator=generator, dtype=torch.uint8)
        (tmp_path / f"{part}-images-idx3-ubyte").write_bytes(idx(images))
        (tmp_path / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(labels)))
        for name, tensor in (("images-idx3", images), ("labels-idx1", labels)):
            sums[f"{part}-{name}-ubyte"] = data.hashlib.sha256(idx(tensor)).hexdigest()
    monkeypatch.setattr(data, "_SHA256", sums)
    return tmp_path


def test_the_sample_that_ships():
    images, labels = fashion.load_data()
    assert (images.shape, images.dtype, labels.dtype) == ((2000, 1, 28, 28), torch.float32, torch.int64)
    assert (float(images.min()), float(images.max())) == (-1, 1)
    assert torch.bincount(labels).tolist() == [200] * 10
    assert len(fashion.CLASS_NAMES) == fashion.NUM_CLASSES == fashion.UNCOND == 10


@pytest.mark.skipif(not data._DEBIAN.is_dir(), reason="needs Debian's package dataset-fashion-mnist")
def test_the_sample_is_of_the_published_test_images():
    images, labels = fashion.load_data("held_out")
    assert len(images) == 10_000
    sample, sample_labels = fashion.load_data("sample")
    for c in range(10):
        assert torch.equal(sample[sample_labels == c], images[labels == c][:200])


def test_four_files_from_a_folder_or_the_environment(folder, monkeypatch):
    train, held_out, both = (fashion.load_data(split, folder) for split in ("train", "held_out", "all"))
    assert [len(images) for images, _ in (train, held_out, both)] == [5, 3, 8]
    assert torch.equal(both[0], torch.cat([train[0], held_out[0]]))
    assert torch.equal(both[1], torch.cat([train[1], held_out[1]]))
    raw = torch.frombuffer(bytearray((folder / "train-images-idx3-ubyte").read_bytes()), dtype=torch.uint8, offset=16)
    torch.testing.assert_close((train[0].flatten() + 1) * 127.5, raw.float(), rtol=0, atol=1e-4)  # float32 of 255
    monkeypatch.setenv(fashion.FOLDER_VARIABLE, str(folder))
    assert torch.equal(fashion.load_data("train")[0], train[0])


def test_other_files_are_refused(folder):
    images = folder / "train-images-idx3-ubyte"
    images.write_bytes(images.read_bytes()[:-1] + b"x")
    with pytest.raises(ValueError, match=r"train-images-idx3-ubyte is not the published Fashion-MNIST file"):
        fashion.load_data("train", folder)
    labels = folder / "t10k-labels-idx1-ubyte.gz"
    labels.write_bytes(labels.read_bytes()[:-10])
    with pytest.raises(ValueError, match=r"t10k-labels-idx1-ubyte.gz is damaged"):
        fashion.load_data("held_out", folder)


def test_missing_files_say_how_to_get_them(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"install .*dataset-fashion-mnist.*KDIST_FASHION_MNIST"):
        fashion.load_data("train", tmp_path)
    with pytest.raises(ValueError, match="split must be one of sample, train, held_out, all; got 'test'"):
        fashion.load_data("test")


def test_the_weights_are_small():
    files = list(fashion.MODEL_PATH.parent.glob("*.safetensors"))
    assert len(files) == 3
    assert sum(path.stat().st_size for path in files) <= 4_000_000


def test_no_class_is_k_diffusions_no_condition(model):
    x = torch.randn(3, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    sigma = torch.tensor([0.1, 1.0, 10.0])
    none = model(x, sigma, class_cond=torch.full((3,), fashion.UNCOND))
    torch.testing.assert_close(none, model.denoiser(x, sigma), rtol=0, atol=0)
    some = model(x, sigma, class_cond=torch.tensor([0, 1, 9]))
    assert not torch.allclose(none, some, atol=1e-3)
    assert model.sigma_data == model.denoiser.sigma_data
    with pytest.raises(AttributeError, match="no_such_thing"):
        _ = model.no_such_thing


def test_one_line_guides_it(model):
    guided = kdist.guide(model, 3.0, uncond={"class_cond": fashion.UNCOND})
    x, sigma, y = torch.zeros(2, 1, 28, 28), torch.full((2,), 2.0), torch.tensor([1, 8])
    cond, uncond = model(x, sigma, class_cond=y), model(x, sigma, class_cond=torch.full_like(y, fashion.UNCOND))
    # two batches of two against one of four: float32 sums in another order
    torch.testing.assert_close(guided(x, sigma, class_cond=y), uncond + 3 * (cond - uncond), rtol=1e-4, atol=1e-4)


def test_the_weak_model_is_weaker(model):
    x, y = (tensor[::20] for tensor in fashion.load_data("sample"))
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    sigma = torch.full((len(x),), 0.7)
    weak = fashion.load_model(fashion.WEAK_MODEL_PATH)
    errors = [(m(x + 0.7 * noise, sigma, class_cond=y) - x).square().mean() for m in (model, weak)]
    assert errors[0] < errors[1]


def test_classifier_weights_that_are_missing_or_damaged_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no classifier weights at .*none.safetensors"):
        fashion.load_classifier(tmp_path / "none.safetensors")
    (tmp_path / "damaged.safetensors").write_bytes(fashion.classifier.CLASSIFIER_PATH.read_bytes()[:1000])
    with pytest.raises(ValueError, match="not a whole safetensors file of the FashionClassifier"):
        fashion.load_classifier(tmp_path / "damaged.safetensors")


def test_the_classifier_knows_real_images():
    classifier = fashion.load_classifier()
    images, labels = fashion.load_data("sample")
    guess = torch.cat([classifier.logits(part).argmax(1) for part in images.split(500)])
    # 2000 images: standard error 0.006; .92 on all 10 000 test images (docs/fashion.md)
    assert (guess == labels).float().mean() > 0.90
    assert classifier.features(images[:3]).shape == (3, 64)
    with pytest.raises(ValueError, match=r"x must have shape \(N, 1, 28, 28\)"):
        classifier.features(torch.zeros(3, 1, 8, 8))
