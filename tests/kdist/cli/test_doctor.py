"""``kdist doctor``: everything that a report of an error needs, whatever is broken."""

import platform
import subprocess
import sys
from importlib.metadata import version

import kdist
from kdist.cli import doctor


def test_one_paste(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("KDIST_CACHE", str(tmp_path))
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "network.pt").write_bytes(b"1234")
    doctor.doctor()
    text = capsys.readouterr().out
    found = {line.split()[0]: line.split(maxsplit=1)[1] for line in text.splitlines()}
    assert found["kdist"].startswith(kdist.__version__)
    assert found["python"].startswith(platform.python_version())
    assert f"torch {version('torch')}" in found["packages"]  # torch.__version__ has "+cu130" where this has not
    assert found["devices"].startswith("cpu (")
    assert found["k-diffusion"].startswith("imports")
    assert found["cache"] == f"{tmp_path} (KDIST_CACHE): can be written"
    assert found["weights"] == "1 files, 0.0 MB: network.pt (4 bytes)"
    assert found["features"] == "0 files, 0.0 MB"


def test_says_what_is_broken(monkeypatch):
    def broken():
        raise RuntimeError("operator torchvision::roi_align\ndoes not exist")

    monkeypatch.setattr("kdist.compat.repair_torchvision", broken)
    assert dict(doctor.findings())["k-diffusion"] == (
        "does not import: RuntimeError: operator torchvision::roi_align does not exist"
    )


def test_works_with_the_core_alone():
    gone = ("typer", "click", "rich", "k_diffusion", "numpy", "torch")
    code = f"import sys; sys.modules.update(dict.fromkeys({gone})); sys.argv = ['kdist', 'doctor'];"
    done = subprocess.run(
        [sys.executable, "-c", code + "from kdist.cli import main; main()"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "torch does not import" in done.stdout
    assert "k-diffusion  does not import" in done.stdout
