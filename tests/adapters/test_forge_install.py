"""The web UIs' extension without kdist: it says what to install, and installs it only where it is missing."""

import importlib.util
import runpy
import sys
from pathlib import Path
from types import ModuleType

import pytest

from kdist.adapters import forge


def test_without_kdist_the_web_ui_says_what_to_install(load_script, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "kdist"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "kdist", None)
    with pytest.raises(ImportError, match=r"install kdist for the Python that runs the web UI.*git\+https"):
        load_script()


def test_install_fetches_kdist_only_where_it_is_missing(monkeypatch):
    asked = []
    launch = ModuleType("launch")
    launch.run_pip = lambda *arguments: asked.append(arguments)
    monkeypatch.setitem(sys.modules, "launch", launch)
    path = str(Path(forge.__file__).parent / "install.py")
    runpy.run_path(path)
    assert asked == []
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    runpy.run_path(path)
    assert asked == [('install matplotlib "kdist @ git+https://github.com/kdist/kdist"', "kdist")]
