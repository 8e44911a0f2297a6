"""Tiny random networks of diffusers' own classes, shared by the tests and the examples; the web UIs' panel."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch

import kdist
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


class _Component:
    def __init__(self, *_, **options):
        self.options, self.handler = options, None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def change(self, function, **_):
        self.handler = function


@pytest.fixture
def load_script(monkeypatch):
    """Loads the panel's script of Forge and the classic web UI, with the few names of theirs that it uses."""
    gradio = ModuleType("gradio")
    for name in ("Row", "Dropdown", "Slider", "Number", "Textbox", "Markdown", "Plot"):
        setattr(gradio, name, _Component)
    modules, scripts, components = (
        ModuleType("modules"),
        ModuleType("modules.scripts"),
        ModuleType("modules.ui_components"),
    )
    hook = {"process_before_every_sampling": None}
    scripts.Script, scripts.AlwaysVisible, scripts.scripts_data = type("Script", (), hook), object(), []
    components.InputAccordion = _Component
    modules.scripts, modules.script_callbacks = scripts, SimpleNamespace(on_before_ui=lambda callback: None)
    modules.shared = SimpleNamespace(opts=SimpleNamespace(skip_early_cond=0.0))
    for module in (gradio, modules, scripts, components):
        monkeypatch.setitem(sys.modules, module.__name__, module)

    def load():
        path = Path(kdist.__file__).parent / "adapters" / "forge" / "scripts" / "kdist_guidance.py"
        spec = importlib.util.spec_from_file_location("kdist_guidance", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture
def script(load_script):
    """The panel's script, loaded."""
    return load_script()
