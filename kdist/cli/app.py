"""The commands by name. Each imports what it needs when it runs: ``--help`` needs neither torch nor NumPy."""

from __future__ import annotations

from typing import Annotated

import typer

from .. import __version__
from .compare import compare_command, measure_command
from .demo import demo
from .design import design_command, design_early_command
from .doctor import doctor
from .features import features
from .predict import predict
from .tune import tune

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"kdist {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Classifier-free guidance and the diversity of each class: predict, design, tune, sample, measure."""


app.command("demo")(demo)
app.command("predict")(predict)
app.command("design")(design_command)
app.command("design-early")(design_early_command)
app.command("tune")(tune)
app.command("features")(features)
app.command("measure")(measure_command)
app.command("compare")(compare_command)
app.command("doctor")(doctor)
