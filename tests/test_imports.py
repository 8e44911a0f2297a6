"""Which wing may import which, read from the source: imports inside functions count, those for type checkers don't.

docs/architecture.md has the picture.
"""

import ast
import graphlib
import sys
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[1]

# Each wing and what it may import. A module belongs to the longest name that it begins with.
MAY_IMPORT = {
    "kdist": {"kdist"},  # the core: the denoiser, schedules, rules, solvers
    "kdist.adapters": {"kdist"},
    "kdist.theory": {"kdist"},
    "kdist.evals": {"kdist.files"},
    "kdist.digits": {"kdist"},
    "kdist.fashion": {"kdist"},
    "kdist.tuning": {"kdist", "kdist.theory", "kdist.evals", "kdist.digits", "kdist.fashion"},
    "kdist.demo": {"kdist", "kdist.theory", "kdist.evals", "kdist.digits", "kdist.fashion"},
    "kdist.cli": {
        "kdist",
        "kdist.theory",
        "kdist.evals",
        "kdist.digits",
        "kdist.fashion",
        "kdist.tuning",
        "kdist.demo",
    },
    "kdist.__main__": {"kdist.cli"},
}
# By name, with the reason.
ALLOWED = {
    ("kdist.public", "kdist.tuning"): "the names kdist.tune and kdist.generator",
    ("kdist.evals.features.shipped", "kdist.digits"): "the extractor 'digits' is the shipped classifier",
    ("kdist.evals.features.shipped", "kdist.fashion"): "and 'fashion' is the other",
}


@pytest.fixture(scope="module")
def imports():
    """The modules that each module imports."""
    graph = grimp.build_graph("kdist", exclude_type_checking_imports=True, cache_dir=None)
    return {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}


def within(module, name):
    return module == name or module.startswith(f"{name}.")


def wing(module):
    return max((name for name in MAY_IMPORT if within(module, name)), key=len)


def test_all_of_the_source_is_seen(imports):
    for folder in ("kdist", "theory", "evals"):
        names = {
            ".".join(("kdist", *path.with_suffix("").parts)).removesuffix(".__init__").replace("kdist.kdist", "kdist")
            for path in (file.relative_to(ROOT) for file in (ROOT / folder).rglob("*.py"))
        }
        assert names <= imports.keys()


def test_wings_import_in_one_direction(imports):
    for module, imported in imports.items():
        for target in imported:
            own, other = wing(module), wing(target)
            fine = other in {own, *MAY_IMPORT[own]} or target in MAY_IMPORT[own] or (module, target) in ALLOWED
            assert fine, f"{module} imports {target}; {own} may import {sorted(MAY_IMPORT[own])}"
    assert all(target in imports[module] for module, target in ALLOWED), "an exception that nothing uses any more"


def test_no_circle(imports):
    """Packages are in it too: a module that imports its own package's __init__, which imports the module, is one."""
    graph = {module: set(imported) for module, imported in imports.items()}
    graphlib.TopologicalSorter(graph).prepare()  # CycleError shows the circle


def test_the_core_needs_torch_only(imports):
    """When it is imported; pictures, files and k-diffusion bring their own when they are used."""
    core = [module for module in imports if wing(module) == "kdist"]
    for module in core:
        path = ROOT.joinpath(*module.split("."))
        tree = ast.parse((path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text("utf-8"))
        names = {
            name.partition(".")[0]
            for node in tree.body
            if isinstance(node, ast.Import | ast.ImportFrom)
            for name in ([alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""])
            if not getattr(node, "level", 0)
        }
        assert names <= {*sys.stdlib_module_names, "torch", "kdist"}, module
