"""The figures at toy size, each made once in a process for all tests that look at it."""

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from scripts import reproduce

ROOT = Path(__file__).parents[2]


def invoke(*arguments):
    """``scripts/reproduce.py`` with these arguments."""
    app = typer.Typer()
    app.command()(reproduce.main)
    return CliRunner().invoke(app, list(map(str, arguments)))


class Toys:
    """``scripts/reproduce.py --quick``, figure by figure, in one folder."""

    def __init__(self, out: Path) -> None:
        self.out, self.made = out, set[str]()

    def make(self, *names: str) -> Path:
        """The folder, with these figures in it."""
        missing = [name for name in names if name not in self.made]
        if missing:
            with pytest.MonkeyPatch.context() as patch:
                patch.chdir(ROOT)
                options = [word for name in missing for word in ("--only", name)]
                result = invoke("--quick", "--out", self.out, *options)
            assert result.exit_code == 0, f"{result.output} {result.exception}"
            self.made |= {*missing}
        return self.out


@pytest.fixture(scope="session")
def toys(tmp_path_factory):
    return Toys(tmp_path_factory.mktemp("quick"))


@pytest.fixture(scope="session", name="invoke")
def _invoke():
    return invoke
