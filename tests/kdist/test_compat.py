"""k-diffusion imports with the pins of our extra, beside any torch build; importing kdist stays light."""

import os
import subprocess
import sys

import pytest

import kdist
from kdist import compat

HEAVY = ["k_diffusion", "torchvision", "scipy", "sklearn", "matplotlib", "clip", "wandb", "kdist.theory", "kdist.evals"]
# what each line prints is a test's
FRESH = f"""
import sys, warnings; warnings.simplefilter('error', UserWarning)
import kdist; print('torch' in sys.modules)
kdist.guide; print('torch' in sys.modules, bool(kdist.rules and kdist.schedules))
print(*sorted(set(kdist.__all__) - set(dir(kdist))))
from kdist import *; print(Interval.__name__, parse.__name__)
print(*({set(HEAVY)} & set(sys.modules)))
print(kdist.import_k_diffusion().sampling.sample_heun.__name__)
import kdist.theory, kdist.evals; print(kdist.theory.__name__, kdist.evals.__name__)
"""


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    """What :data:`FRESH` prints in a process of its own, which takes seconds to import, in an empty folder."""
    command = [sys.executable, "-c", FRESH]
    folder = tmp_path_factory.mktemp("empty")
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_names_are_there_at_first_use(fresh):
    """And torch with them, not before."""
    assert fresh[:4] == ["False", "True True", "", "Interval parse"]
    with pytest.raises(AttributeError, match="has no attribute 'giude'"):
        kdist.giude  # noqa: B018


def test_importing_kdist_brings_torch_only(fresh):
    assert fresh[4] == ""


def test_k_diffusion_and_the_nested_folders_import_in_a_fresh_process(fresh):
    """Whatever the working directory: ``theory`` and ``evals`` are names that other distributions use."""
    assert fresh[5:] == ["sample_heun", "kdist.theory kdist.evals"]


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


def test_repair_is_idempotent():
    compat.repair_torchvision()
    assert compat.repair_torchvision() is False


def test_without_k_diffusion_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "k_diffusion", None)
    with pytest.raises(ImportError, match=r"pip install 'kdist\[k-diffusion\]'"):
        compat.import_k_diffusion()
