"""Every figure and number of docs/results.md, by one command.

    python scripts/reproduce.py                     # seven hours of one core; an interrupted run goes on
    python scripts/reproduce.py --only F5           # one figure (repeatable)
    python scripts/reproduce.py --quick --out runs/quick     # the same code at toy size, in a minute
    python scripts/reproduce.py --list              # what there is, and how long it takes

Writes ``OUT/figures/F*.png``, ``OUT/data/F*.json`` (every measurement, with command, versions and kind of machine)
and ``OUT/results.md``; with ``docs`` as OUT also README's table. The parameters are in scripts/results/figures.py, the
computations in scripts/results/.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Annotated, Any

os.environ.setdefault("K_DIFFUSION_USE_COMPILE", "0")  # compiling takes longer than it saves here

sys.path.insert(0, str(Path(__file__).parents[1]))  # run by its path, it finds the other scripts

import typer
from rich.console import Console
from rich.table import Table

from kdist.files import prepare_output, write_atomically
from scripts.pages.prose import filled
from scripts.results.figures import FIGURES, Figure
from scripts.results.store import NotMade, Store, circumstances

DOCS, README = Path("docs"), Path("README.md")
TEMPLATE = Path(__file__).parent / "results" / "results.md.j2"


def main(
    out: Annotated[Path, typer.Option(help="folder for figures, data and results.md")] = DOCS,
    only: Annotated[list[str] | None, typer.Option(help="a figure, repeatable  [default: all]")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="toy sizes: shows that it runs, proves nothing")] = False,
    list_only: Annotated[bool, typer.Option("--list", help="say what there is, and stop")] = False,
) -> None:
    """Measure, draw and write down; what was measured before is not measured again."""
    import matplotlib

    matplotlib.use("Agg")
    console = Console()
    chosen = [name.upper() for name in only or FIGURES]
    if unknown := sorted(set(chosen) - set(FIGURES)):
        raise typer.BadParameter(f"no figure {', '.join(unknown)}; there are {', '.join(FIGURES)}", param_hint="--only")
    if quick and out == DOCS:
        raise typer.BadParameter(
            "--quick would replace the real results in docs; choose another folder", param_hint="--out"
        )
    if list_only:
        console.print(listing())
        return
    prepare_output(out)
    texts: dict[str, dict[str, str]] = {}
    for name, figure in FIGURES.items():
        try:
            texts[name] = make(name, figure, out, quick=quick, measure=name in chosen, console=console)
        except NotMade:
            continue  # neither asked for nor made before
    write_atomically(out / "results.md", page(texts, quick=quick))
    console.print(f"{out / 'results.md'}: {', '.join(texts)}")
    if out == DOCS and "F5" in texts:
        write_atomically(README, with_table(README.read_text(), texts["F5"]["short"]))


def make(name: str, figure: Figure, out: Path, *, quick: bool, measure: bool, console: Console) -> dict[str, str]:
    """Compute and draw one figure, or read it back (``measure`` false); what results.md says of it, by name."""
    path, data = out / "figures" / f"{name}.png", out / "data" / f"{name}.json"
    if not measure and not data.is_file():
        raise NotMade(name)  # known before seconds of imports
    module: Any = importlib.import_module(f"scripts.results.{figure.module}")
    command = f"python scripts/reproduce.py --only {name}" + (" --quick" if quick else "")
    try:
        store = Store(data, {"command": command, **circumstances()}, frozen=not measure)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--out") from None
    if measure:
        console.rule(f"{name}: {figure.title}", align="left")
    rows = module.compute(store, **(figure.quick if quick else figure.full))
    if measure:
        store.finish()
        path.parent.mkdir(parents=True, exist_ok=True)
        module.draw(rows, path)
        console.print(f"{path} (measured in {store.seconds / 60:.1f} minutes)")
    return {
        "title": figure.title,
        "figure": f"![{figure.title}](figures/{name}.png)",
        "command": f"`{command}`",
        "minutes": f"{figure.minutes:g}",
        **module.texts(rows),
    }


def page(texts: dict[str, dict[str, str]], *, quick: bool) -> str:
    """docs/results.md: the words of the template, the numbers of this run."""
    import jinja2

    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    complete = texts.keys() >= FIGURES.keys()
    return filled(
        environment.from_string(TEMPLATE.read_text()).render(
            texts=texts, quick=quick, complete=complete, **dict.fromkeys(FIGURES) | texts
        )
    )


def with_table(readme: str, table: str) -> str:
    """README with this table between its two marks."""
    before, _, rest = readme.partition("<!-- F5 -->\n")
    return f"{before}<!-- F5 -->\n\n{table}\n\n<!-- /F5 -->{rest.partition('<!-- /F5 -->')[2]}"


def listing() -> Table:
    """Name, title and time of every figure."""
    table = Table("figure", "shows", "minutes of one core")
    for name, figure in FIGURES.items():
        table.add_row(name, figure.title, f"{figure.minutes:g}")
    table.add_row("", "all", f"{sum(f.minutes for f in FIGURES.values()):g}")
    return table


if __name__ == "__main__":
    typer.run(main)
