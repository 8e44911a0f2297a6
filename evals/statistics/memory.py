"""How much memory there is for this process: the machine's, or less in a container or in a cluster's job."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["memory"]

_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUPS = Path("/proc/self/cgroup")


def memory() -> float:
    """Bytes; 16 GiB where the system does not say."""
    try:
        machine = float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, OSError, ValueError):  # Windows has no such function
        machine = 2.0**34
    return min([machine, *_limits()])


def _limits() -> Iterator[float]:
    """Of the control groups that Linux has put this process in, version 1 or 2, and of those around them."""
    try:
        lines = _OWN_CGROUPS.read_text().splitlines()
    except OSError:  # another system
        return
    for line in lines:  # number:controllers:path
        _, controllers, path = line.split(":", 2)
        if not controllers:
            root, name = _CGROUPS, "memory.max"
        elif "memory" in controllers.split(","):
            root, name = _CGROUPS / "memory", "memory.limit_in_bytes"
        else:
            continue
        own = root / path.lstrip("/")  # in a container the path may be the host's: then only the root is there
        for folder in (own, *own.parents):
            if folder.is_relative_to(root):
                yield from _number(folder / name)


def _number(file: Path) -> Iterator[float]:
    try:
        yield float(file.read_text())
    except (OSError, ValueError):  # no such group, or "max": no limit
        return
