"""The package as it is installed, and the files that speak of it."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import kdist

ROOT = Path(__file__).parents[1]


def test_a_checkout_without_links_says_so(tmp_path):
    """Where git may not make links it writes their targets as text."""
    (tmp_path / "kdist").mkdir()
    shutil.copy(ROOT / "kdist" / "__init__.py", tmp_path / "kdist")
    (tmp_path / "kdist" / "theory").write_text("../theory")
    done = subprocess.run([sys.executable, "-c", "import kdist"], cwd=tmp_path, capture_output=True, text=True)
    assert "git config core.symlinks true" in done.stderr.splitlines()[-1]


def test_every_part_comes_from_one_place():
    """No part of the checkout beside a part of an installed wheel."""
    code = (
        "import kdist; from importlib.util import find_spec\n"  # found, not run: that would take seconds
        "print(*(find_spec(name).submodule_search_locations for name in ('kdist', 'kdist.theory', 'kdist.evals')))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    places = re.findall(r"'([^']+)'", done.stdout)
    assert places == [str(ROOT / "kdist"), str(ROOT / "kdist" / "theory"), str(ROOT / "kdist" / "evals")], done.stderr


def test_versions_agree():
    release, development, _ = kdist.__version__.partition(".dev")
    assert f"\nversion: {release}\n" in (ROOT / "CITATION.cff").read_text("utf-8")
    # a development version is described under "Unreleased", a release under its own heading
    newest = (ROOT / "CHANGELOG.md").read_text("utf-8").split("\n## ")[1]
    assert newest.startswith("[Unreleased]" if development else f"[{release}] - ")
    assert not development or release in newest


def test_every_promised_python_is_one_that_ci_runs():
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    promised = re.findall(r"Python :: (3\.\d+)", text)
    matrix = re.search(r"python: \[(.*)\]", (ROOT / ".github/workflows/ci.yml").read_text("utf-8"))
    assert matrix is not None
    assert promised == re.findall(r'"(3\.\d+)"', matrix[1])
    assert f'requires-python = ">={promised[0]}"' in text
