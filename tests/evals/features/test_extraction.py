"""Extraction as a whole: resuming after SIGKILL, several processes, what is noticed, bad input."""

import errno
import importlib
import io
import multiprocessing
import os
import signal
import time

import numpy as np
import pytest
import torch
from forked import forked
from PIL import Image

from kdist import files
from kdist.evals.features import Extractor, build_extractor
from kdist.evals.features.extraction import content_hash, extract
from kdist.evals.sources import ArraySource, GeneratorSource, as_source

MODULE = importlib.import_module("kdist.evals.features.extraction")  # the package shows the function of this name


def hanging_run(images, net, cache, out, batches, hangs):
    """A run that hangs in the middle of a shard, after some batches, and waits for the signal."""
    call, left = Extractor.__call__, [batches]

    def hanging(self, prepared):
        left[0] -= 1
        if left[0] < 0:
            hangs.set()
            time.sleep(1000)
        return call(self, prepared)

    Extractor.__call__ = hanging
    extract(images, build_extractor(net, device="cpu"), cache=cache, shard_size=8, batch_size=3).save(out)


def shared_run(images, out, rank, calls):
    """One of two processes, as ``accelerate launch`` and torchrun start them: its number is in the environment."""
    os.environ |= {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "RANK": str(rank), "LOCAL_RANK": str(rank)}
    torch.distributed.init_process_group("gloo", init_method=f"file://{out}/meet", rank=rank, world_size=2)
    digits, options = build_extractor("digits", device="cpu"), {"cache": out / "cache", **SHARED}
    extract(images, digits, **options).save(out / f"files-{rank}.npz")
    extract(sampler_of_the_shared_run(), digits, **options).save(out / f"sampler-{rank}.npz")
    np.save(out / f"images-{rank}.npy", sum(calls))
    torch.distributed.destroy_process_group()


@pytest.fixture
def images(tmp_path):
    """30 grey 8x8 images in three classes, the eleventh of them broken."""
    generator = np.random.default_rng(0)
    for i in range(30):
        path = tmp_path / "images" / str(i % 3) / f"{i:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (8, 8), dtype=np.uint8)).save(path)
    sorted((tmp_path / "images").rglob("*.png"))[10].write_bytes(b"junk")
    return tmp_path / "images"


@pytest.fixture
def net(tmp_path):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = torch.nn.Sequential(torch.nn.Conv2d(1, 8, 3), torch.nn.GELU(), torch.nn.Flatten())
    torch.jit.save(torch.jit.script(module), str(tmp_path / "net.pt"))
    return tmp_path / "net.pt"


@pytest.fixture
def calls(monkeypatch):
    """Counts the batches that reach the network."""
    counted = []
    original = Extractor.__call__

    def counting(self, prepared):
        counted.append(len(prepared))
        return original(self, prepared)

    monkeypatch.setattr(Extractor, "__call__", counting)
    return counted


def test_features_labels_and_bad_list(images):
    result = extract(images, "pixels", batch_size=4, shard_size=7)
    files = sorted(images.rglob("*.png"))
    good = [i for i in range(30) if i != 10]
    assert result.index.tolist() == good
    assert result.y.tolist() == [int(files[i].parent.name) for i in good]
    for row, i in enumerate(good):
        expected = np.asarray(Image.open(files[i])).ravel() / 127.5 - 1
        np.testing.assert_allclose(result.x[row], expected, atol=1e-6)  # float32
    assert [(bad["index"], bad["name"]) for bad in result.bad] == [(10, "1/01.png")]
    assert "UnidentifiedImageError" in result.bad[0]["reason"]
    assert result.classes == {0: "0", 1: "1", 2: "2"}
    assert result.metadata["images"] == 30


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_killed_runs_go_on_and_end_with_the_same_bytes(images, net, tmp_path, calls):
    """SIGKILL after one and after three shards; then an undisturbed run finishes the work."""
    cache, out = tmp_path / "cache", tmp_path / "out.npz"
    for batches, shards in ((4, 1), (7, 3)):  # three batches a shard: in the second, and in the fourth
        hangs = multiprocessing.get_context("fork").Event()
        process = forked(hanging_run, images, net, cache, out, batches, hangs, said=tmp_path / "said")
        assert hangs.wait(120), process.said.read_text()
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        assert len(list(cache.rglob("*.safetensors"))) == shards
        assert not out.exists()
    next(cache.rglob("*.safetensors")).with_suffix(".4711.partial").write_bytes(b"killed while it wrote")
    options = {"shard_size": 8, "batch_size": 3}
    extract(images, build_extractor(net, device="cpu"), cache=cache, **options).save(out)
    assert sum(calls) <= 8  # at most the last shard was left to do
    fresh = tmp_path / "fresh.npz"
    extract(images, build_extractor(net, device="cpu"), cache=tmp_path / "fresh", **options).save(fresh)
    assert sum(calls) > 29
    assert out.read_bytes() == fresh.read_bytes()


SHARED = {"shard_size": 8, "batch_size": 5}


def test_two_processes_give_what_one_gives(images, tmp_path, calls):
    """Over CPU processes (gloo), files and a sampler."""
    processes = [forked(shared_run, images, tmp_path, rank, calls, said=tmp_path / f"said-{rank}") for rank in (0, 1)]
    for process in processes:
        process.join(120)
        assert process.exitcode == 0, process.said.read_text()
    shares = [int(np.load(tmp_path / f"images-{rank}.npy")) for rank in (0, 1)]
    assert sum(shares) == 29 + 30
    assert min(shares) > 20  # shards of eight images each
    for kind, source in (("files", images), ("sampler", sampler_of_the_shared_run())):
        alone = extract(source, build_extractor("digits", device="cpu"), **SHARED)
        alone.save(tmp_path / f"{kind}.npz")
        for rank in (0, 1):  # both processes hold everything
            together = np.load(tmp_path / f"{kind}-{rank}.npz")
            # batches are cut alike, so that nothing but another machine's arithmetic could differ
            np.testing.assert_allclose(together["x"], alone.x, atol=1e-10, rtol=0)
            np.testing.assert_array_equal(together["y"], alone.y)
            assert (tmp_path / f"{kind}-{rank}.npz").read_bytes() == (tmp_path / f"{kind}.npz").read_bytes()


def sampler_of_the_shared_run():
    def generate(labels, seeds):
        return torch.stack([torch.rand(1, 8, 8, generator=torch.Generator().manual_seed(s)) for s in seeds]) * 2 - 1

    return GeneratorSource(generate, [0, 1] * 15)


def test_sampler_directly_and_through_png_files(tmp_path):
    source = sampler_of_the_shared_run()
    (tmp_path / "saved").mkdir()
    for i, seed in enumerate(source.seeds):  # saved as torchvision.utils.save_image does it
        x = torch.rand(1, 8, 8, generator=torch.Generator().manual_seed(seed)) * 2 - 1
        pixels = ((x + 1) / 2).mul(255).add(0.5).clamp(0, 255).to(torch.uint8)
        Image.fromarray(pixels[0].numpy()).save(tmp_path / "saved" / f"{i:02d}.png")
    np.testing.assert_array_equal(extract(source, "digits").x, extract(tmp_path / "saved", "digits").x)


def test_only_what_changed_is_computed_again(images, tmp_path, calls):
    options = {"cache": tmp_path / "cache", "shard_size": 10}
    first = extract(images, "pixels", **options)
    done = sum(calls)
    again = extract(images, "pixels", **options)
    assert sum(calls) == done
    np.testing.assert_array_equal(first.x, again.x)
    file = sorted(images.rglob("*.png"))[25]
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(file)
    changed = extract(images, "pixels", **options)
    assert sum(calls) - done == 10  # one shard of three
    assert changed.metadata["content"] != first.metadata["content"]
    assert np.flatnonzero((changed.x != first.x).any(1)).tolist() == [24]  # the tenth image is broken


def test_changed_weights_and_options_are_noticed(images, tmp_path, calls):
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))

    def run(**options):
        before = sum(calls)
        extract(images, build_extractor(module, device="cpu", **options), cache=tmp_path)
        return sum(calls) - before

    assert run() == 29
    assert run() == 0
    with torch.no_grad():
        module[1].bias += 1
    assert run() == 29
    module[1] = torch.nn.Linear(192, 3)
    assert run(size=8) == 29
    assert run(size=8, resize="torch") == 29
    assert run(size=8, key="v2") == 29
    assert run(size=8) == 0


def test_functions_without_a_key_are_not_cached(images, tmp_path, calls):
    def mean(x):
        return x.mean((2, 3))

    for _ in range(2):
        extract(images, mean, cache=tmp_path)
    assert sum(calls) == 58
    for _ in range(2):
        extract(images, build_extractor(mean, key="mean v1"), cache=tmp_path)
    assert sum(calls) == 58 + 29


def test_truncated_shard_is_made_again(images, tmp_path):
    first = extract(images, "pixels", cache=tmp_path, shard_size=10)
    shard = sorted(tmp_path.rglob("*.safetensors"))[0]
    shard.write_bytes(shard.read_bytes()[:-9])
    with pytest.warns(UserWarning, match="damaged shard"):
        again = extract(images, "pixels", cache=tmp_path, shard_size=10)
    np.testing.assert_array_equal(first.x, again.x)


def test_image_replaced_between_hashing_and_loading(images, tmp_path, monkeypatch):
    """The shard is named by what went through the network, so that the former image's name never serves the new one."""
    file = sorted(images.rglob("*.png"))[25]
    before, after = file.read_bytes(), io.BytesIO()
    Image.new("L", (8, 8), 77).save(after, "png")
    compute = MODULE._compute

    def replaced(source, indices, *rest):
        if 25 in indices:
            file.write_bytes(after.getvalue())
        return compute(source, indices, *rest)

    monkeypatch.setattr(MODULE, "_compute", replaced)
    options = {"cache": tmp_path / "cache", "shard_size": 10}
    new = extract(images, "pixels", **options)
    monkeypatch.undo()
    assert new.metadata["content"] == content_hash(as_source(images))
    np.testing.assert_allclose(new.x[24], 77 / 127.5 - 1, atol=1e-6)
    file.write_bytes(before)
    old = extract(images, "pixels", **options)
    assert old.metadata["content"] != new.metadata["content"]
    np.testing.assert_array_equal(old.x, extract(images, "pixels").x)


def test_content_is_that_of_the_images_alone(images, tmp_path):
    """Neither the shards nor the cache nor the extractor changes it; each image and their order do."""
    source = as_source(images)
    expected = content_hash(source)
    for options in ({"shard_size": 7}, {"cache": tmp_path / "cache"}, {"cache": tmp_path / "cache", "workers": 1}):
        assert extract(images, "pixels", **options).metadata["content"] == expected
    assert extract(images, "digits").metadata["content"] == expected
    first, second = sorted(images.rglob("*.png"))[:2]
    one, two = first.read_bytes(), second.read_bytes()
    first.write_bytes(two), second.write_bytes(one)
    assert content_hash(source) != expected


def test_features_must_be_real_numbers():
    def complex_features(x):
        return x.mean((2, 3)).to(torch.complex64)

    with pytest.raises(ValueError, match=r"must return real features; got torch.complex64"):
        extract(np.zeros((2, 8, 8), np.uint8) + 9, complex_features)


def test_full_disk_keeps_finished_shards(images, tmp_path, monkeypatch, calls):
    write, written = files._write, []

    def filling(path, data):
        if len(written) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, data)
        written.append(path)

    monkeypatch.setattr(files, "_write", filling)
    with pytest.raises(OSError, match="no space left"):
        extract(images, "pixels", cache=tmp_path, shard_size=10)
    assert len(list(tmp_path.rglob("*.safetensors"))) == 2
    monkeypatch.setattr(files, "_write", write)
    calls.clear()
    assert len(extract(images, "pixels", cache=tmp_path, shard_size=10)) == 29
    assert sum(calls) == 10


def test_batches_and_shards_do_not_matter(images):
    reference = extract(images, "digits", batch_size=30).x
    for batch_size, shard_size in ((1, 256), (7, 4), (64, 11)):
        other = extract(images, "digits", batch_size=batch_size, shard_size=shard_size, workers=1).x
        np.testing.assert_allclose(other, reference, atol=1e-5)  # float32 sums, kernels chosen by batch size


def test_max_bad(images, tmp_path):
    for file in sorted(images.rglob("*.png"))[:5]:
        file.write_bytes(b"")
    assert len(extract(images, "pixels", max_bad=6)) == 24
    with pytest.raises(ValueError, match=r"more than max_bad=5: 0/00.png: UnidentifiedImageError.*or raise max_bad"):
        extract(images, "pixels", max_bad=5)
    for file in images.rglob("*.png"):
        file.write_bytes(b"")
    with pytest.raises(ValueError, match="not one usable image among the 30"):
        extract(images, "pixels", max_bad=30)


def test_one_image_classes_are_extracted(images):
    for file in sorted((images / "2").iterdir())[1:]:
        file.unlink()
    assert (extract(images, "pixels").y == 2).sum() == 1


def test_nan_features_name_the_images(images, tmp_path):
    def broken(x):
        features = x.mean((2, 3))
        features[1] = float("nan")
        return features

    with pytest.raises(ValueError, match=r"'.*broken' gives NaN or infinite features for 1 images .*\(0/03.png\)"):
        extract(images, build_extractor(broken, key="v1"), cache=tmp_path)
    assert not list(tmp_path.glob("??/*"))


def test_image_that_does_not_suit_is_named():
    generator = np.random.default_rng(0)
    data = [generator.integers(0, 256, size, dtype=np.uint8) for size in ((8, 8), (8, 8), (9, 8))]
    with pytest.raises(ValueError, match="image 2: extractor 'digits' judges 8x8 digits"):
        extract(data, "digits", labels=[0, 0, 0])
    with pytest.raises(ValueError, match="needs images of one shape"):
        extract(data, "pixels", labels=[0, 0, 0])
    with pytest.raises(ValueError, match="gives features of several lengths"):
        extract(data, "pixels", labels=[0, 0, 0], shard_size=2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1; got 0"),
        ({"shard_size": 0}, "shard_size must be at least 1"),
        ({"max_bad": -1}, "max_bad must be at least 0"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        extract(np.zeros((2, 8, 8), np.uint8) + 9, "pixels", **options)


def test_several_processes_need_a_common_cache(monkeypatch):
    class State:
        process_index, num_processes = 0, 2

    monkeypatch.setattr(MODULE, "_processes", lambda device: State())
    with pytest.raises(ValueError, match="2 processes exchange features through a cache"):
        extract(np.zeros((2, 8, 8), np.uint8) + 9, "pixels")


def test_shards_that_another_machine_kept_for_itself(monkeypatch, tmp_path):
    """Without a shared folder, the shards of the other process are missing here."""

    class State:
        process_index, num_processes = 0, 2

    monkeypatch.setattr(MODULE, "_processes", lambda device: State())
    monkeypatch.setattr(MODULE, "_gather", lambda state, contents: [(1, b"made elsewhere")])
    with pytest.raises(ValueError, match=r"images 1 to 1 is not in .*all processes must see one cache folder"):
        extract(np.zeros((2, 8, 8), np.uint8) + 9, "pixels", cache=tmp_path, shard_size=1)


def test_sources_are_accepted_as_they_are(images):
    source = as_source(images)
    np.testing.assert_array_equal(extract(source, "pixels").x, extract(images, "pixels").x)
    tensors = ArraySource(torch.full((2, 1, 4, 4), -0.5), [3, 4], value_range=(-1, 1))
    assert extract(tensors, "pixels", progress=True).y.tolist() == [3, 4]
