"""Tiny random networks of diffusers' own classes, shared by the tests and the examples."""

import sys
from pathlib import Path

import pytest
import torch

from kdist.compat import repair_torchvision

repair_torchvision()  # diffusers imports torchvision, which needs mending beside a CPU build of torch


@pytest.fixture(scope="session")
def tiny_models():
    folder = str(Path(__file__).parents[2] / "scripts" / "examples")
    sys.path.insert(0, folder)
    try:
        import tiny_models
    finally:
        sys.path.remove(folder)
    return tiny_models


@pytest.fixture(scope="session")
def unet(tiny_models):
    torch.manual_seed(0)
    return tiny_models.unet()


@pytest.fixture(scope="session")
def sdxl_unet(tiny_models):
    torch.manual_seed(0)
    return tiny_models.unet(xl=True)
