"""The notebooks of docs/notebooks: run them as a reader would, and show them on the site.

    python -m scripts.pages.notebooks            # runs all, shows where output differs from what is stored
    python -m scripts.pages.notebooks --write    # stores the real output

Every notebook runs in an empty folder of its own. Output of a cell with the tag ``varies`` (a search that another
version or machine may end elsewhere) is stored, and not compared. For the site this file is a hook of mkdocs
(mkdocs.yml): each notebook becomes a page of Markdown, with the same code blocks and colours as every other page.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
import textwrap
from pathlib import Path
from typing import Any

__all__ = ["NOTEBOOKS", "changed", "executed", "inside", "markdown", "on_files"]

ROOT = Path(__file__).parents[2]
NOTEBOOKS = ROOT / "docs" / "notebooks"
# notebooks are read on GitHub, in Colab and on the site, so their links are absolute; the site makes them its own
_HERE = re.compile(
    r"https://(?:github\.com/kdist/kdist/blob|raw\.githubusercontent\.com/kdist/kdist)/main/docs/([^)\s]*)"
)


def executed(path: Path, folder: Path) -> Any:
    """The notebook with the output of a run in ``folder``; the first error ends it."""
    import nbformat
    from nbclient import NotebookClient

    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), before]))  # this checkout, for the kernel too
    try:
        notebook = nbformat.read(path, as_version=4)
        NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(folder)}}).execute()
    finally:
        os.environ.pop("PYTHONPATH")
        if before is not None:
            os.environ["PYTHONPATH"] = before
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # times of day
        if cell.cell_type == "code":  # libraries' warnings, with paths of this machine
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    return notebook


def inside(path: Path, folder: Path) -> Any:
    """The notebook with what its code prints, run in this process: a kernel would import torch again, for seconds.

    Commands of the notebook (``%pip`` where kdist is missing) are left out, and so are pictures.
    """
    from scripts.pages.tutorial import Block, run

    notebook = json.loads(path.read_text())
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    blocks = [
        Block("python", re.sub(r"^(\s*)%.*$", r"\1pass", "".join(c["source"]), flags=re.MULTILINE)) for c in cells
    ]
    for cell, text in zip(cells, run(blocks, folder), strict=True):
        cell["outputs"] = [{"output_type": "stream", "name": "stdout", "text": text}]
    return notebook


def changed(stored: Any, run: Any) -> list[str]:
    """Where a run prints something else than what is stored; numbers within the tutorial's tolerance are the same."""
    from scripts.pages.tutorial import differences

    found = []
    for old, new in zip(stored["cells"], run["cells"], strict=True):
        if old["cell_type"] == "code" and "varies" not in old["metadata"].get("tags", ()):
            found += differences(_printed(old), _printed(new))
    return found


def _printed(cell: Any) -> str:
    """What a code cell prints; pictures leave nothing."""
    return "".join("".join(output["text"]) for output in cell["outputs"] if output["output_type"] == "stream")


def markdown(notebook: Any) -> str:
    """A notebook as a page: text as it is, code and output in blocks, pictures inside the page."""
    parts = []
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(_HERE.sub(lambda link: "../" + link[1].replace(".ipynb", ".md"), source))
            continue
        parts.append(f"```python\n{source}\n```")
        if printed := _printed(cell).rstrip():
            lines = [textwrap.fill(line, 100) if len(line) > 100 else line for line in printed.splitlines()]
            parts.append("\n".join(["```text", *lines, "```"]))
        pictures = ("".join(output.get("data", {}).get("image/png", "")) for output in cell["outputs"])
        parts += [f"![picture drawn by the code above](data:image/png;base64,{png.strip()})" for png in pictures if png]
    return "\n\n".join(parts) + "\n"


def on_files(files: Any, config: Any) -> Any:
    """mkdocs asks for its files: the notebooks' pages are among them."""
    from mkdocs.structure.files import File

    for path in sorted(Path(config["docs_dir"]).glob("notebooks/*.ipynb")):
        page = markdown(json.loads(path.read_text()))
        files.append(File.generated(config, f"notebooks/{path.stem}.md", content=page))
    return files


def main(write: bool = False) -> int:
    """Run every notebook; how many outputs differ from what is stored."""
    import nbformat

    wrong = 0
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        with tempfile.TemporaryDirectory() as folder:
            run = executed(path, Path(folder))
        found = changed(nbformat.read(path, as_version=4), run)
        print("\n".join([f"{path.name}: {len(found)} outputs differ", *found]))
        wrong += len(found)
        if write:
            path.write_text(nbformat.writes(run) + "\n")
    return wrong


if __name__ == "__main__":
    store = sys.argv[1:] == ["--write"]
    differing = main(write=store)
    sys.exit(0 if store else min(differing, 1))
