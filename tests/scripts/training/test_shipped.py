"""The training scripts describe the networks that ship, and the further trainings in docs/data."""

import json
from pathlib import Path

import pytest
from safetensors import safe_open

from kdist import digits, fashion
from scripts.training import digits as train_digits
from scripts.training import fashion as train_fashion


def config(path):
    with safe_open(path, "pt") as file:
        return json.loads(file.metadata()["config"])


DOCS = Path(__file__).parents[3] / "docs"
LARGEST = 4_000_000  # bytes


@pytest.mark.parametrize("path", [fashion.MODEL_PATH, fashion.WEAK_MODEL_PATH], ids=["model", "weak"])
def test_fashion(path):
    assert config(path) == train_fashion.make_config()


@pytest.mark.parametrize("path", [digits.MODEL_PATH, digits.WEAK_MODEL_PATH], ids=["model", "weak"])
def test_digits(path):
    assert config(path) == train_digits.make_config(128, 4, 192, 0.0, 8000)


@pytest.mark.parametrize("name", ["digits-1", "digits-2", "fashion-1", "fashion-2"])
def test_further_trainings(name):
    path, log = DOCS / "data" / f"{name}.safetensors", DOCS / "data" / f"train_{name}.jsonl"
    data = name.partition("-")[0]
    made = train_digits.make_config(128, 4, 192, 0.0, 8000) if data == "digits" else train_fashion.make_config()
    assert config(path) == made
    assert path.stat().st_size <= LARGEST
    # the page's row is that of the step in the log
    page = (DOCS / f"{data}.md").read_text()
    (row,) = [line.split(" | ") for line in page.splitlines() if line.startswith(f"| [{path.name}]")]
    logged = {entry["step"]: entry for entry in map(json.loads, log.read_text().splitlines())}[int(row[2])]
    assert row[1] == name.partition("-")[2]
    assert row[3] == f"{logged['held_out_loss']:.4f}"
    assert row[-3 if data == "fashion" else -4] == f"{logged['accuracy']:.3f}"
