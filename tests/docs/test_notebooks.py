"""Notebooks: they run from an empty folder and print what is stored, install from this repository, and have a page."""

import json
import re
from pathlib import Path

import pytest

from scripts.pages.notebooks import NOTEBOOKS, changed, executed, inside, markdown

ROOT = Path(__file__).parents[2]
PATHS = sorted(NOTEBOOKS.glob("*.ipynb"))
REPOSITORY = re.search(r'^Homepage = "(.*)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)[1]


def cell(source, *outputs, tags=()):
    return {"cell_type": "code", "source": source, "outputs": list(outputs), "metadata": {"tags": list(tags)}}


def printed(text):
    return {"output_type": "stream", "name": "stdout", "text": text}


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_runs_and_prints_what_is_stored(path, tmp_path):
    run = inside(path, tmp_path)
    assert changed(json.loads(path.read_text()), run) == []
    if path.stem == "tune":  # what varies is printed too
        assert sum(bool(part["outputs"][0]["text"]) for part in run["cells"] if part["cell_type"] == "code") == 3


def test_a_kernel_gives_the_same_as_this_process(tmp_path):
    """What goes to stderr is left out, the kernel finds this checkout, an error ends the run."""
    pytest.importorskip("nbclient", reason="needs the dev extra")
    nbformat = pytest.importorskip("nbformat")
    source = "import sys, kdist\nprint(kdist.__file__)\nprint('no', file=sys.stderr)\nif not kdist:\n    %pip list\n"
    cells = [nbformat.v4.new_code_cell(text) for text in (source, "'shown'")]
    path, wrong = tmp_path / "a.ipynb", tmp_path / "b.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    run = executed(path, tmp_path)
    assert changed(inside(path, tmp_path), run) == []
    assert [[output["output_type"] for output in part["outputs"]] for part in run["cells"]] == [
        ["stream"],
        ["execute_result"],
    ]
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1 / 0")]), wrong)
    with pytest.raises(ZeroDivisionError):
        inside(wrong, tmp_path)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_opens_in_colab_and_installs_from_this_repository(path):
    cells = json.loads(path.read_text())["cells"]
    text = "".join("".join(part["source"]) for part in cells)
    where = path.relative_to(ROOT).as_posix()
    assert f"https://colab.research.google.com/github/kdist/kdist/blob/main/{where}" in "".join(cells[0]["source"])
    first = next("".join(part["source"]) for part in cells if part["cell_type"] == "code")
    assert f"@ git+{REPOSITORY}" in first
    links = re.findall(r"\((https://(?:github|raw\.githubusercontent)\.com/[^)]*)\)", text)
    assert links
    for link in links:  # each leads to a file of this repository
        assert (ROOT / link.split("/main/")[1]).is_file(), link


def test_two_and_stored_with_output_of_no_machine():
    assert [path.stem for path in PATHS] == ["look", "tune"]
    for path in PATHS:
        cells = json.loads(path.read_text())["cells"]
        assert sum(bool(part.get("outputs")) for part in cells) >= 4, path.name
        assert "site-packages" not in path.read_text()


def test_what_varies_is_not_compared():
    stored = {"cells": [cell("a", printed("1 call, 0.50\n")), cell("b", printed("0.1\n"), tags=["varies"])]}
    near = {"cells": [cell("a", printed("1 call, 0.51\n")), cell("b", printed("0.9\n"), tags=["varies"])]}
    far = {"cells": [cell("a", printed("2 calls, 0.50\n")), cell("b", printed("0.1\n"), tags=["varies"])]}
    assert changed(stored, near) == []
    assert len(changed(stored, far)) == 1


def test_page_has_text_code_output_and_pictures():
    words = {"cell_type": "markdown", "source": [f"See [that]({REPOSITORY}/blob/main/docs/notebooks/tune.ipynb)."]}
    picture = {"output_type": "display_data", "data": {"image/png": "aGk=\n"}}
    assert markdown({"cells": [words, cell("x = 1", printed("1\n"), picture)]}) == (
        "See [that](../notebooks/tune.md).\n\n```python\nx = 1\n```\n\n```text\n1\n```\n\n"
        "![picture drawn by the code above](data:image/png;base64,aGk=)\n"
    )
