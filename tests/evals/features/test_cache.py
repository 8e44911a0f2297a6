"""Shards and feature files: what comes back, damage, full disks, equal bytes."""

import errno
import json
import os

import numpy as np
import pytest

from kdist import files
from kdist.evals.features.cache import Shard, ShardCache, shard_key
from kdist.evals.features.feature_set import Features, load_features, make_comparable
from kdist.files import write_atomically


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


def test_leftovers_of_killed_runs_are_removed(tmp_path):
    for name in ("file.4711.partial", "file.4712.partial", "other.4711.partial"):
        (tmp_path / name).write_bytes(b"half")
        os.utime(tmp_path / name, (0, 0))
    os.utime(tmp_path / "file.4712.partial")  # a process that is writing now
    write_atomically(tmp_path / "file", b"whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "file.4712.partial", "other.4711.partial"]


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
