"""The memory that there is: the machine's, unless a control group grants less."""

import sys
from pathlib import Path

import pytest

from kdist.evals.statistics.memory import memory

MODULE = sys.modules[memory.__module__]


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of 100 pages of 10 bytes; the file system of its control groups."""
    pages = {"SC_PAGE_SIZE": 10, "SC_PHYS_PAGES": 100}
    monkeypatch.setattr(MODULE.os, "sysconf", pages.__getitem__, raising=False)
    monkeypatch.setattr(MODULE, "_CGROUPS", tmp_path / "fs")
    monkeypatch.setattr(MODULE, "_OWN_CGROUPS", tmp_path / "own")
    return tmp_path


def limit(root: Path, path: str, value: str) -> None:
    file = root / "fs" / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(value + "\n")


@pytest.mark.parametrize(
    ("own", "files", "expected"),
    [
        ("", {}, 1000),
        ("0::/\n", {"memory.max": "300"}, 300),  # a container that sees its own group as the root
        ("0::/\n", {"memory.max": "max"}, 1000),
        ("0::/slurm/job/step\n", {"slurm/job/memory.max": "200", "slurm/job/step/memory.max": "max"}, 200),
        ("0::/docker/of/the/host\n", {"memory.max": "400"}, 400),  # no such folder within the container
        ("2:cpu,memory:/job\n1:cpu:/\n0::/\n", {"memory/job/memory.limit_in_bytes": "500"}, 500),  # version 1
        ("4:memory:/\n", {"memory/memory.limit_in_bytes": "9223372036854771712"}, 1000),  # its "max"
        ("4:memory:/../outside\n", {"memory/memory.limit_in_bytes": "600"}, 600),
    ],
)
def test_the_least_limit_counts(groups: Path, own: str, files: dict[str, str], expected: float) -> None:
    (groups / "own").write_text(own)
    for path, value in files.items():
        limit(groups, path, value)
    assert memory() == expected


def test_other_systems(groups: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without control groups (macOS), and without sysconf too (Windows)."""
    assert memory() == 1000
    monkeypatch.delattr(MODULE.os, "sysconf")
    assert memory() == 2**34
