"""Weight files: where they are looked for, downloads, hashes; what a module is known by."""

import hashlib
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch

from kdist.evals.features import build_extractor
from kdist.evals.features.inception import INCEPTION
from kdist.evals.features.weights import PublishedFile, find_weights
from kdist.evals.hashing import module_hash

# torch announces TorchScript's end at each use; the published networks come in no other form
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")


class TestWeights:
    """Which weight files are taken, and what is said of the others."""

    published = PublishedFile("net.pt", "http://127.0.0.1:9/net.pt", hashlib.sha256(b"whole").hexdigest())

    def test_wrong_file_is_refused_with_the_remedy(self, tmp_path):
        (tmp_path / "net.pt").write_bytes(b"who")
        with pytest.raises(ValueError, match=r"\(3 bytes\) has SHA-256 .* broken download .* Delete it and fetch"):
            find_weights(self.published, tmp_path)
        path, digest = find_weights(self.published, tmp_path, allow_unknown=True)
        assert (path, digest) == (tmp_path / "net.pt", hashlib.sha256(b"who").hexdigest())
        with pytest.raises(FileNotFoundError, match="no file at"):
            find_weights(self.published, tmp_path / "other.pt")

    def test_cache_folder_before_others(self, tmp_path, monkeypatch):
        monkeypatch.setenv("KDIST_CACHE", str(tmp_path / "cache"))
        other, mine = tmp_path / "other", tmp_path / "cache" / "weights"
        for folder in (other, mine):
            folder.mkdir(parents=True)
        (other / "net.pt").write_bytes(b"whole")
        assert find_weights(self.published, None, also_in=(other,))[0] == other / "net.pt"
        (mine / "net.pt").write_bytes(b"who")
        with pytest.warns(UserWarning, match="not net.pt as published"):
            assert find_weights(self.published, None, also_in=(other,))[0] == other / "net.pt"
        (mine / "net.pt").write_bytes(b"whole")
        assert find_weights(self.published, None, also_in=(other,))[0] == mine / "net.pt"

    def test_download(self, tmp_path, monkeypatch):
        """Through a local server: the file arrives whole, a wrong one is refused and leaves nothing behind."""
        (tmp_path / "served").mkdir()
        (tmp_path / "served" / "net.pt").write_bytes(b"whole")
        monkeypatch.setenv("KDIST_CACHE", str(tmp_path / "cache"))
        handler = type("Quiet", (SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(tmp_path / "served")))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            url = f"http://127.0.0.1:{server.server_port}/net.pt"
            wrong = PublishedFile("net.pt", url, hashlib.sha256(b"other").hexdigest())
            with pytest.raises(OSError, match=r"is not the published file .*--weights FILE"):
                find_weights(wrong, None)
            assert list((tmp_path / "cache" / "weights").iterdir()) == []
            path, _ = find_weights(PublishedFile("net.pt", url, self.published.sha256), None)
            assert path.read_bytes() == b"whole"
            with pytest.raises(OSError, match=r"could not download .*; fetch it on a connected machine"):
                find_weights(PublishedFile("absent.pt", url + ".absent", self.published.sha256), None)
        finally:
            server.shutdown()
            server.server_close()

    def test_inception_refuses_stand_ins_unless_told(self, weights_folder, tmp_path):
        with pytest.raises(ValueError, match="allow_unknown_weights=True"):
            build_extractor("inception", device="cpu", weights=weights_folder)
        cut = tmp_path / "cut.pt"
        cut.write_bytes((weights_folder / INCEPTION.name).read_bytes()[:-5000])
        with pytest.raises(ValueError, match="no TorchScript Inception"):
            build_extractor("inception", device="cpu", weights=cut, allow_unknown_weights=True)
        torch.jit.script(torch.nn.Linear(2, 2)).save(str(tmp_path / "other.pt"))
        with pytest.raises(ValueError, match="no TorchScript Inception"):
            build_extractor("inception", device="cpu", weights=tmp_path / "other.pt", allow_unknown_weights=True)

    def test_weights_need_not_bear_the_published_name(self, weights_folder, tmp_path):
        renamed = tmp_path / "mine.pt"
        renamed.write_bytes((weights_folder / INCEPTION.name).read_bytes())
        extractor = build_extractor("inception", device="cpu", weights=renamed, allow_unknown_weights=True)
        assert extractor.weights == hashlib.sha256(renamed.read_bytes()).hexdigest()

    def test_module_hash_sees_weights_and_class(self):
        a = torch.nn.Linear(3, 3)
        before = module_hash(a)
        assert module_hash(a) == before
        with torch.no_grad():
            a.bias[0] += 1e-6
        assert module_hash(a) != before
        assert module_hash(torch.nn.LayerNorm(3)) != module_hash(torch.nn.RMSNorm(3))


def test_module_hash_sees_names_shapes_and_kinds():
    """Equal bytes under another name, in another shape or of another kind are another network."""

    class Holder(torch.nn.Module):
        def __init__(self, **tensors):
            super().__init__()
            for name, tensor in tensors.items():
                self.register_buffer(name, tensor)

    flat = torch.arange(6, dtype=torch.float32)
    hashes = [
        module_hash(module)
        for module in (
            Holder(a=flat),
            Holder(b=flat),
            Holder(a=flat.reshape(2, 3)),
            Holder(a=flat.view(torch.int32)),
            Holder(a=flat[:3], b=flat[3:]),
            Holder(a=flat + 1),
        )
    ]
    assert len(set(hashes)) == len(hashes)
    assert module_hash(Holder(a=flat, b=flat + 1)) == module_hash(Holder(b=flat + 1, a=flat))
