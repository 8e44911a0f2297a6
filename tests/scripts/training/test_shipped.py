"""The training scripts describe the networks that ship."""

import json

import pytest
from safetensors import safe_open

from kdist import digits, fashion
from scripts.training import digits as train_digits
from scripts.training import fashion as train_fashion


def config(path):
    with safe_open(path, "pt") as file:
        return json.loads(file.metadata()["config"])


@pytest.mark.parametrize("path", [fashion.MODEL_PATH, fashion.WEAK_MODEL_PATH], ids=["model", "weak"])
def test_fashion(path):
    assert config(path) == train_fashion.make_config()


@pytest.mark.parametrize("path", [digits.MODEL_PATH, digits.WEAK_MODEL_PATH], ids=["model", "weak"])
def test_digits(path):
    assert config(path) == train_digits.make_config(128, 4, 192, 0.0, 8000)
