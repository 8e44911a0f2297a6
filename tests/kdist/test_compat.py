"""k-diffusion imports with the pins of our extra, beside any torch build; importing kdist stays light."""

import os
import subprocess
import sys

import pytest

from kdist import compat


def run(code, cwd=None):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, cwd=cwd)


def test_k_diffusion_and_the_nested_folders_import_in_a_fresh_process(tmp_path):
    """Whatever the working directory: ``theory`` and ``evals`` are names that other distributions use."""
    done = run(
        "import warnings; warnings.simplefilter('error', UserWarning)\n"
        "from kdist.compat import import_k_diffusion; print(import_k_diffusion().sampling.sample_heun.__name__)\n"
        "import kdist.theory, kdist.evals; print(kdist.theory.__name__, kdist.evals.__name__)",
        cwd=tmp_path,
    )
    assert done.stdout.splitlines() == ["sample_heun", "kdist.theory kdist.evals"], done.stderr


@pytest.mark.parametrize(
    ("found", "given", "expected"), [(None, None, "0"), (None, "1", "1"), ("/usr/bin/x", None, None)]
)
def test_nothing_is_compiled_without_a_compiler(monkeypatch, found, given, expected):
    """But what the user says counts."""
    monkeypatch.setattr("shutil.which", lambda _: found)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.delenv("K_DIFFUSION_USE_COMPILE", raising=False)
    if given is not None:
        monkeypatch.setenv("K_DIFFUSION_USE_COMPILE", given)
    compat.import_k_diffusion()
    assert os.environ.get("K_DIFFUSION_USE_COMPILE") == expected


def test_importing_kdist_brings_torch_only():
    heavy = [
        "k_diffusion",
        "torchvision",
        "scipy",
        "sklearn",
        "matplotlib",
        "clip",
        "wandb",
        "kdist.theory",
        "kdist.evals",
    ]
    done = run(f"import sys, kdist; print([name for name in {heavy!r} if name in sys.modules])")
    assert done.stdout.strip() == "[]", done.stderr


def test_repair_is_idempotent():
    compat.repair_torchvision()
    assert compat.repair_torchvision() is False


def test_without_k_diffusion_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "k_diffusion", None)
    with pytest.raises(ImportError, match=r"pip install 'kdist\[k-diffusion\]'"):
        compat.import_k_diffusion()
