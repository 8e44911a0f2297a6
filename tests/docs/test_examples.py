"""Every public name has an example in its docstring, headed as the reference shows it, and each one runs."""

import doctest
import importlib
import inspect
import typing
import warnings

import pytest

MODULES = [
    "kdist",
    "kdist.adapters.diffusers",
    "kdist.adapters.edm",
    "kdist.compat",
    "kdist.digits",
    "kdist.evals",
    "kdist.fashion",
    "kdist.more_rules",
    "kdist.rules",
    "kdist.schedules",
    "kdist.solvers",
    "kdist.theory",
    "kdist.trace",
    "kdist.tuning",
]


def public(module):
    """Name and object of what a module offers, data and type aliases left out (Python 3.10 calls aliases classes)."""
    package = importlib.import_module(module)
    for name in package.__all__:
        entry = getattr(package, name)
        if typing.get_origin(entry) is None and (inspect.isclass(entry) or inspect.isroutine(entry)):
            yield name, entry


ENTRIES = {
    id(entry): pytest.param(entry, id=f"{module}.{name}") for module in MODULES for name, entry in public(module)
}


@pytest.mark.parametrize("entry", ENTRIES.values())
def test_example_runs(entry):
    _, _, examples = (entry.__doc__ or "").partition("Examples:\n")
    test = doctest.DocTestParser().get_doctest(examples, {}, entry.__name__, None, None)
    assert test.examples, "no example"
    said: list[str] = []
    with warnings.catch_warnings():
        failed = doctest.DocTestRunner(verbose=False).run(test, out=said.append).failed
    assert failed == 0, "".join(said)
