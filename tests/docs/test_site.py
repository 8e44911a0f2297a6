"""The site builds strictly (no dead link, no unreadable docstring, formulas as LaTeX); cited tests exist."""

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"

pytest.importorskip("mkdocs", reason="needs the docs extra")
pytest.importorskip("mkdocstrings", reason="needs the docs extra")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    # to look for garbage takes a seventh of the build, and leaves little
    start = "import gc; gc.disable(); from mkdocs.__main__ import cli; cli()"
    command = [sys.executable, "-c", start, "build", "--strict", "--quiet", "--site-dir", str(folder)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_every_page_is_built_and_in_the_navigation(site):
    named = set(re.findall(r": (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE))
    pages = [*DOCS.rglob("*.md"), *(path.with_suffix(".md") for path in DOCS.rglob("*.ipynb"))]
    assert named == {page.relative_to(DOCS).as_posix() for page in pages}
    for page in named:
        path = site / page.removesuffix(".md") / "index.html"
        assert (site / "index.html" if page == "index.md" else path).is_file(), page


@pytest.mark.parametrize(("page", "names"), [("kdist", "guide"), ("theory", "GaussianPair"), ("evals", "measure")])
def test_the_reference_shows_public_names(site, page, names):
    html = (site / "api" / page / "index.html").read_text()
    assert re.search(rf'id="kdist\.(?:\w+\.)*{names}"', html)


@pytest.mark.parametrize(
    "module",
    ["kdist", "kdist.digits", "kdist.fashion", "kdist.schedules", "kdist.rules", "kdist.more_rules", "kdist.solvers",
     "kdist.compat", "kdist.tuning", "kdist.theory", "kdist.evals", "kdist.adapters.diffusers", "kdist.adapters.edm"],
)  # fmt: skip
def test_the_reference_shows_every_public_name(site, module):
    pages = "".join(page.read_text() for page in (site / "api").rglob("*.html"))
    shown = {name.rpartition(".")[2] for name in re.findall(r'id="(kdist[\w.]*)"', pages)}
    assert [name for name in importlib.import_module(module).__all__ if name not in shown] == []


def test_formulas_reach_the_page_as_latex(site):
    html = (site / "theory" / "index.html").read_text()
    assert html.count('class="arithmatex"') > 15
    for number in range(1, 13):
        assert rf"\tag{{{number}}}" in html


def test_nothing_is_loaded_from_elsewhere(site):
    loaded = re.compile(r'<(?:script[^>]*\ssrc|link[^>]*rel="stylesheet"[^>]*\shref|img[^>]*\ssrc)="(https?:)?//')
    assert [page for page in site.rglob("*.html") if loaded.search(page.read_text())] == []


def test_cited_tests_exist():
    """Beside equations and claims stand the tests that check them: files and functions of today."""
    there = {path.relative_to(ROOT).as_posix(): path.read_text() for path in (ROOT / "tests").rglob("test_*.py")}
    functions = set(re.findall(r"def (test_\w+)", "\n".join(there.values())))
    modules = {Path(path).stem for path in there}
    for page in DOCS.glob("*.md"):
        text = page.read_text()
        for file in re.findall(r"[\w/]*test_\w+\.py", text):
            assert any(f"/{path}".endswith(f"/{file}") for path in there), f"{page.name}: {file}"
        assert set(re.findall(r"`(?:test_\w+\.py::)?(test_\w+)`", text)) <= functions | modules, page.name
