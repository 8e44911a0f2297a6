"""``kdist tune``: what fails in a user's own code is said in one line that names it; what is asked for by default."""

import sys

import numpy as np
import pytest
import torch
import typer
from rich.console import Console
from typer.testing import CliRunner

from kdist import digits, fashion
from kdist.cli.tune import Goal, tune
from kdist.tuning.subjects import SHIPPED, Subject


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return {}['inside']", "mine:generate raised KeyError: 'inside'"),
        ("return labels.none", "mine:generate raised AttributeError"),
        ("raise SystemExit(0)", "mine:generate raised SystemExit: 0"),
    ],
)
def test_errors_of_the_users_code_name_it(tmp_path, monkeypatch, body, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(f"def generate(schedule, labels, seeds): {body}\n")
    sys.modules.pop("mine", None)  # of another test's folder
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 1), dtype=np.uint8)
    np.savez(tmp_path / "real.npz", images=images, labels=np.repeat([0, 1], 20))
    app = typer.Typer(add_completion=False)
    app.command()(tune)
    options = ["--real", "real.npz", "--calls", "100000", "--out", "tuned"]
    result = CliRunner().invoke(app, ["mine:generate", *options])
    assert isinstance(result.exception, ValueError), result.exception  # what the command makes one line and code 2 of
    assert message in str(result.exception)


def test_a_shipped_example_asks_for_the_accuracy_of_its_real_images(capsys):
    """With no condition at all, no guidance would be the answer."""
    shipped = Subject(None, None, lambda images: images, SHIPPED["digits"])
    yours = Subject(None, None, lambda images: images)

    def asked(goal, subject):
        return goal.arguments(subject, "cpu", Console())["accuracy"]

    assert asked(Goal(), shipped) == 0.995
    assert "accuracy at least 0.995" in capsys.readouterr().out
    assert asked(Goal(accuracy=0.5), shipped) == 0.5
    assert asked(Goal(separability=1.2), shipped) is None
    assert asked(Goal(displacement=0.3), shipped) is None
    assert asked(Goal(), yours) is None
    assert not capsys.readouterr().out


@pytest.mark.parametrize(("example", "part"), [(digits, "held_out"), (fashion, "sample")])
def test_that_is_the_accuracy_of_real_images(example, part):
    images, labels = example.load_data(part)
    with torch.no_grad():
        right = float((example.load_classifier()(images).argmax(1) == labels).float().mean())
    # 360 digits, all recognised, tell no more than 0.99 from 1; 2000 garments are sure to a hundredth
    assert right == pytest.approx(SHIPPED[example.__name__.rpartition(".")[2]], abs=0.01)
