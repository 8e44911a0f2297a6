"""Shards and feature files: what comes back, damage, full disks, equal bytes."""

import dataclasses
import errno
import json
import os
import zipfile

import numpy as np
import pytest

from kdist import files
from kdist.evals.features.cache import Shard, ShardCache, shard_key
from kdist.evals.features.feature_set import Features, load_features, load_sampled, make_comparable
from kdist.evals.npz import read_npz


@pytest.fixture
def shard():
    features = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    return Shard(features, np.array([0, 2, 3]), {1: "OSError: truncated"})


@pytest.fixture
def features():
    generator = np.random.default_rng(0)
    return Features(
        generator.normal(size=(6, 4)).astype(np.float32),
        np.array([0, 0, 1, 1, 7, 7]),
        np.array([0, 1, 2, 4, 5, 6]),
        {"extractor": "pixels", "classes": {"0": "ape", "1": "cat", "7": "é"}, "bad": [{"index": 3, "name": "x"}]},
    )


def full_disk(path, data):
    path.write_bytes(data[: len(data) // 2])
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("on_disk", [True, False])
def test_what_was_put_comes_back(tmp_path, shard, on_disk):
    store = ShardCache(tmp_path if on_disk else None)
    key = shard_key("content", {"extractor": "pixels"})
    assert store.get(key) is None
    store.put(key, shard)
    found = store.get(key)
    np.testing.assert_array_equal(found.features, shard.features)
    np.testing.assert_array_equal(found.kept, shard.kept)
    assert found.bad == shard.bad


def test_key_sees_content_and_every_part_of_the_identity():
    identity = {"extractor": "a", "weights": "b", "preprocessing": "c", "dtype": "float32"}
    keys = [shard_key("content", identity), shard_key("other", identity)]
    keys += [shard_key("content", identity | {name: "changed"}) for name in identity]
    assert len(set(keys)) == len(keys)
    assert shard_key("content", dict(reversed(identity.items()))) == keys[0]


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "swapped"])
def test_damaged_shards_are_not_believed(tmp_path, shard, damage):
    store = ShardCache(tmp_path)
    store.put("aa", shard)
    data = bytearray(store.path("aa").read_bytes())
    if damage == "swapped":
        store.path("bb").parent.mkdir()
        os.replace(store.path("aa"), store.path("bb"))
        key = "bb"
    else:
        key = "aa"
        # the header lists features before kept or after: flip a byte of each half of the payload's first row
        data[-shard.kept.nbytes - 1] ^= 1
        changed = {"truncated": bytes(data[:-7]), "flipped": bytes(data), "empty": b""}[damage]
        store.path("aa").write_bytes(changed)
    with pytest.warns(UserWarning, match="damaged shard"):
        assert store.get(key) is None
    assert not store.path(key).exists()
    store.put(key, shard)
    assert store.get(key) is not None


def test_any_byte_of_a_shard_is_covered(tmp_path, shard):
    """Every byte is damaged once, its bits in turn: header, labels' places, reasons, features, the checksum itself."""
    store = ShardCache(tmp_path)
    store.put("aa", shard)
    whole = store.path("aa").read_bytes()
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        store.path("aa").write_bytes(damaged)
        with pytest.warns(UserWarning, match="damaged shard"):
            assert store.get("aa") is None
    store.path("aa").write_bytes(whole)
    assert store.get("aa").bad == shard.bad


@pytest.mark.parametrize("reason", ['sha256": "' + "0" * 64, "é \udce9 \\", "0" * 64])
def test_reasons_of_any_kind_come_back(tmp_path, shard, reason):
    store = ShardCache(tmp_path)
    store.put("aa", dataclasses.replace(shard, bad={1: reason}))
    assert store.get("aa").bad == {1: reason}
    store.put("ab", Shard(np.zeros((0, 0), np.float32), np.zeros(0, np.int64), {0: reason}))
    assert store.get("ab").features.shape == (0, 0)


def test_full_disk_loses_nothing(tmp_path, shard, monkeypatch):
    store = ShardCache(tmp_path)
    store.put("aa", shard)
    before = store.path("aa").read_bytes()
    monkeypatch.setattr(files, "_write", full_disk)
    with pytest.raises(OSError, match=r"no space left .* nothing that was finished is lost: free some space") as caught:
        store.put("ab", shard)
    assert caught.value.errno == errno.ENOSPC
    with pytest.raises(OSError, match="no space left"):
        store.put("aa", shard)
    monkeypatch.undo()
    assert [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()] == [before]
    store.put("ab", shard)
    assert store.get("ab") is not None


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
class TestFeatureFiles:
    def test_round_trip_and_equal_bytes(self, tmp_path, features, suffix):
        paths = [tmp_path / f"{name}{suffix}" for name in "ab"]
        for path in paths:
            features.save(path)
        assert paths[0].read_bytes() == paths[1].read_bytes()  # no time stamp
        loaded = load_features(paths[0])
        for name in ("x", "y", "index"):
            np.testing.assert_array_equal(getattr(loaded, name), getattr(features, name))
        assert loaded.metadata == features.metadata
        assert loaded.classes == {0: "ape", 1: "cat", 7: "é"}
        assert loaded.bad == [{"index": 3, "name": "x"}]
        assert len(loaded) == 6

    def test_damaged(self, tmp_path, features, suffix):
        path = tmp_path / f"a{suffix}"
        features.save(path)
        path.write_bytes(path.read_bytes()[:-50])
        with pytest.raises(ValueError, match="no whole feature file"):
            load_features(path)
        with pytest.raises(FileNotFoundError, match="no feature file"):
            load_features(tmp_path / f"absent{suffix}")

    def test_nan(self, tmp_path, features, suffix):
        features.x[2, 1] = np.nan
        features.save(tmp_path / f"a{suffix}")
        with pytest.raises(ValueError, match=r"NaN or infinite features in 1 rows: \[2\]"):
            load_features(tmp_path / f"a{suffix}")

    def test_full_disk(self, tmp_path, features, suffix, monkeypatch):
        path = tmp_path / f"a{suffix}"
        features.save(path)
        before = path.read_bytes()
        monkeypatch.setattr(files, "_write", full_disk)
        with pytest.raises(OSError, match="no space left"):
            features.save(path)
        assert [file.read_bytes() for file in tmp_path.iterdir()] == [before]


def test_files_of_other_makers(tmp_path):
    np.savez(tmp_path / "plain.npz", x=np.ones((3, 2)), y=np.arange(3))
    plain = load_features(tmp_path / "plain.npz")
    assert plain.x.dtype == np.float32
    assert plain.index.tolist() == [0, 1, 2]
    assert plain.metadata == {}
    np.savez(tmp_path / "shape.npz", x=np.ones((3, 2)), y=np.arange(2))
    with pytest.raises(ValueError, match=r"x must be \(N, d\) .*; got \(3, 2\) float64 and \(2,\)"):
        load_features(tmp_path / "shape.npz")
    np.savez(tmp_path / "names.npz", x=np.ones((3, 2)))
    with pytest.raises(ValueError, match="with arrays x and y"):
        load_features(tmp_path / "names.npz")
    np.savez(tmp_path / "pickle.npz", x=np.array([{}], dtype=object), y=np.arange(1))
    with pytest.raises(ValueError, match="allow_pickle=False"):
        load_features(tmp_path / "pickle.npz")
    np.savez(tmp_path / "later.npz", x=np.ones((1, 1)), y=np.arange(1), metadata=np.array(json.dumps({"version": 99})))
    with pytest.raises(ValueError, match="version 99 of the format"):
        load_features(tmp_path / "later.npz")
    with pytest.raises(ValueError, match=r"must end in .npz or .safetensors"):
        load_features(tmp_path / "features.csv")


class TestBadMetadata:
    """Files whose metadata do not belong to their arrays."""

    @pytest.fixture
    def write(self, tmp_path):
        def write(about, **arrays):
            arrays = {"x": np.ones((3, 2), np.float32), "y": np.arange(3)} | arrays
            np.savez(tmp_path / "a.npz", metadata=np.array(json.dumps(about)), **arrays)
            return tmp_path / "a.npz"

        return write

    names = {"0": "ape", "1": "cat", "2": "dog"}  # noqa: RUF012

    @pytest.mark.parametrize(
        "classes",
        [None, [], ["ape", "cat", "dog"], {}, "ape", {"ape": "0"}, {"0": 1, "1": 2, "2": 3}, {"-1": "ape"},
         {"0": "ape", "1": "ape", "2": "dog"}, {"0": ["ape"]}],
    )  # fmt: skip
    def test_classes(self, write, classes):
        with pytest.raises(ValueError, match="classes in its metadata must name each label once"):
            load_features(write({"classes": classes}))

    def test_no_classes(self, write):
        with pytest.raises(ValueError, match=r"classes in its metadata must .*; got None; .* leave the metadata out"):
            load_features(write({"extractor": "pixels"}))

    def test_label_without_a_name(self, write):
        with pytest.raises(ValueError, match=r"labels \[2\] are not among the classes"):
            load_features(write({"classes": {"0": "ape", "1": "cat"}}))

    @pytest.mark.parametrize(
        ("index", "message"),
        [
            ([0, 1, 4], "below 4; got shape .*, 0 to 4"),
            ([0, 1, -1], ", -1 to 1"),
            ([0.0, 1.0, 2.0], "got shape .* float64"),
            ([0, 1], r"got shape \(2,\)"),
            ([[0, 1, 2]], r"got shape \(1, 3\)"),
            ([0, 1, 1], "names a place of the source twice"),
            (["0", "1", "2"], "got shape"),
        ],
    )
    def test_index(self, write, index, message):
        path = write({"classes": self.names, "images": 4}, index=np.array(index))
        with pytest.raises(ValueError, match=message):
            load_features(path)

    @pytest.mark.parametrize("about", [[], 3, "text", {"classes": names, "images": "4"}, {"classes": names, "bad": 3},
                                       {"classes": names, "bad": [{"index": 1}]}, {"version": "2"}])  # fmt: skip
    def test_other_things(self, write, about):
        with pytest.raises(ValueError, match=r"a\.npz"):
            load_features(write(about))

    @pytest.mark.parametrize("y", [[0.5, 1, 2], [True, False, True], [2**63, 0, 1], [1j, 0, 0]])
    def test_labels(self, write, y):
        path = write({"classes": self.names}, y=np.array(y, np.uint64 if y[0] == 2**63 else None))
        with pytest.raises(ValueError, match="y must be whole numbers"):
            load_features(path)

    def test_complex_features(self, write):
        with pytest.raises(ValueError, match=r"x must be \(N, d\) real numbers .* complex64"):
            load_features(write({"classes": self.names}, x=np.ones((3, 2), np.complex64)))

    def test_features_beyond_float32(self, write):
        with pytest.raises(ValueError, match="NaN or infinite features in 3 rows"):
            load_features(write({"classes": self.names}, x=np.full((3, 2), 1e300)))

    def test_deep_nesting(self, write, tmp_path):
        np.savez(tmp_path / "deep.npz", x=np.ones((3, 2)), y=np.arange(3), metadata=np.array("[" * 100_000))
        with pytest.raises(ValueError, match=r"deep\.npz is no whole feature file"):
            load_features(tmp_path / "deep.npz")


def test_labels_that_are_names(tmp_path):
    np.savez(tmp_path / "names.npz", x=np.ones((3, 2)), y=np.array(["dog", "ape", "dog"]))
    found = load_features(tmp_path / "names.npz")
    assert found.y.tolist() == [1, 0, 1]
    assert found.classes == {0: "ape", 1: "dog"}


def test_features_without_names_are_saved_with_numbers(tmp_path):
    Features(np.ones((2, 2), np.float32), np.array([3, 5]), np.arange(2), {}).save(tmp_path / "a.npz")
    assert load_features(tmp_path / "a.npz").classes == {3: "3", 5: "5"}


class TestNpz:
    """Files of any maker."""

    def test_only_what_is_asked_for(self, tmp_path):
        np.savez(tmp_path / "a.npz", x=np.ones(3), z=np.array([{}], dtype=object))
        assert list(read_npz(tmp_path / "a.npz", only=("x", "y"))) == ["x"]
        with pytest.raises(ValueError, match="allow_pickle=False"):
            read_npz(tmp_path / "a.npz")

    @pytest.mark.parametrize("shape", [(10**9, 10**9), (2**70,), (2, 3), (4,)])
    def test_shapes_that_are_not_there(self, tmp_path, shape):
        """A header may promise any size; numpy would ask for that memory first."""
        header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".encode()
        header += b" " * (-(len(header) + 11) % 64) + b"\n"
        data = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(24)
        with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
            archive.writestr("x.npy", data)
        with pytest.raises(ValueError, match=rf"array x says shape \({shape[0]},.* bytes, and has 24"):
            read_npz(tmp_path / "a.npz")

    @pytest.mark.filterwarnings("ignore:Duplicate name")
    def test_array_twice(self, tmp_path):
        np.savez(tmp_path / "a.npz", x=np.ones(3))
        with zipfile.ZipFile(tmp_path / "a.npz", "a") as archive:
            archive.writestr("x.npy", archive.read("x.npy"))
        with pytest.raises(ValueError, match="array x is there twice"):
            read_npz(tmp_path / "a.npz")

    @pytest.mark.parametrize("data", [b"", b"PK", b"\x93NUMPY\x01\x00", b"text"])
    def test_no_npz(self, tmp_path, data):
        (tmp_path / "a.npz").write_bytes(data)
        with pytest.raises(ValueError, match=r"\w"):
            read_npz(tmp_path / "a.npz")


class TestComparable:
    real = Features(np.ones((3, 2), np.float32), np.array([0, 1, 2]), np.arange(3),
                    {"extractor": "clip", "weights": "a", "classes": {"0": "ape", "1": "cat", "2": "dog"}})  # fmt: skip

    def test_classes_are_matched_by_name(self):
        fake = Features(np.ones((4, 2), np.float32), np.array([0, 1, 1, 2]), np.arange(4),
                        {"extractor": "clip", "classes": {"0": "cat", "1": "dog", "2": "eel"}})  # fmt: skip
        matched = make_comparable(self.real, fake)
        assert matched.y[:3].tolist() == [1, 2, 2]
        assert matched.classes[int(matched.y[3])] == "eel"
        assert matched.y[3] not in self.real.classes
        assert make_comparable(self.real, self.real) is self.real

    def features_of(self, *names, y=None):
        y = np.arange(len(names)) if y is None else np.array(y)
        return Features(np.ones((len(y), 2), np.float32), y, np.arange(len(y)),
                        {"classes": {str(k): name for k, name in enumerate(names)}})  # fmt: skip

    def test_only_class_of_an_unlabelled_set(self):
        """A flat folder against the one class folder it may be; two named folders are two classes."""
        single = Features(np.ones((2, 2), np.float32), np.array([4, 4]), np.arange(2), {"classes": {"4": "cat"}})
        assert make_comparable(self.features_of("all", y=[0, 0]), single).y.tolist() == [0, 0]
        assert make_comparable(single, self.features_of("all", y=[0, 0])).y.tolist() == [4, 4]
        with pytest.raises(ValueError, match="no class in common: all against ape, cat"):
            make_comparable(self.features_of("all", y=[0, 0]), self.features_of("ape", "cat"))
        with pytest.raises(ValueError, match="no class in common: cat against dog"):
            make_comparable(self.features_of("cat"), self.features_of("dog"))

    def test_numbers_are_names_where_there_are_no_others(self):
        plain = Features(np.ones((2, 2), np.float32), np.array([7, 5]), np.arange(2), {})
        assert make_comparable(plain, plain) is plain
        named = self.features_of("5", "7")
        assert make_comparable(plain, named).y.tolist() == [5, 7]
        with pytest.raises(ValueError, match=r"no class in common: 5, 7 against cat, dog, fish"):
            make_comparable(plain, self.features_of("cat", "dog", "fish"))

    @pytest.mark.parametrize("part", ["extractor", "weights", "preprocessing"])
    def test_other_extraction(self, part):
        metadata = {"extractor": "clip", "weights": "a", "preprocessing": "p"}
        real = Features(self.real.x, self.real.y, self.real.index, metadata)
        fake = Features(self.real.x, self.real.y, self.real.index, metadata | {part: "other"})
        with pytest.raises(ValueError, match=f"differ in {part}: .* against 'other'; extract both in the same way"):
            make_comparable(real, fake)

    def test_other_length(self):
        fake = Features(np.ones((3, 5), np.float32), self.real.y, self.real.index, {})
        with pytest.raises(ValueError, match="real features have length 2, fake ones 5"):
            make_comparable(self.real, fake)


def test_two_processes_may_find_the_same_damage(tmp_path, shard, monkeypatch):
    """The other one has removed the file in between; to both it is a shard that is not there."""
    store = ShardCache(tmp_path)
    store.put("aa", shard)

    def decode(data, key):
        store.path(key).unlink()
        raise ValueError("damaged shard")

    monkeypatch.setattr("kdist.evals.features.cache._decode", decode)
    with pytest.warns(UserWarning, match="damaged shard"):
        assert store.get("aa") is None


def test_samples_for_theory_are_real_numbers_of_any_shape(tmp_path):
    """Latents keep their shape and dtype; labels may be names."""
    latents = np.random.default_rng(0).normal(size=(4, 2, 3)).astype(np.float32)
    np.savez(tmp_path / "a.npz", x=latents, y=["a", "a", "b", "b"])
    x, y = load_sampled(tmp_path / "a.npz")
    np.testing.assert_array_equal(x, latents)
    assert y.tolist() == ["a", "a", "b", "b"]
    for bad in (latents.astype(complex), np.array(1.0), latents > 0):
        np.savez(tmp_path / "b.npz", x=bad, y=["a", "a", "b", "b"])
        with pytest.raises(ValueError, match=r"b\.npz: x must be real numbers, \(N, \.\.\.\)"):
            load_sampled(tmp_path / "b.npz")
