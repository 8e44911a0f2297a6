"""Docstrings say what a thing is: an argument's description begins with no preposition ("seed: of the noise.")."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PREPOSITIONS = "of|for|in|as|see|on|from|to|with|by|after|at|per|under|below|above"
FRAGMENT = re.compile(rf"^ +\w+(?:, \w+)*: (?:{PREPOSITIONS}) .*$", re.MULTILINE)


@pytest.mark.parametrize("folder", ["kdist", "theory", "evals"])
def test_no_fragments(folder):
    found = []
    for path in sorted((ROOT / folder).rglob("*.py")):
        for docstring in re.findall(r'"""(.*?)"""', path.read_text("utf-8"), re.DOTALL):
            found += [f"{path.name}: {line.strip()}" for line in FRAGMENT.findall(docstring)]
    assert found == []


def test_a_fragment_is_found():
    assert FRAGMENT.findall("Args:\n    seed: of the noise.\n    x: the seed of y.\n") == ["    seed: of the noise."]
