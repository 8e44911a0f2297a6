"""What was measured, kept as it comes: a JSON file of records, each under all the settings that decide its value.

An interrupted run goes on where it stopped, a changed setting finds no record and is measured, and a figure redraws
from its file alone.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kdist.files import versions, write_atomically

__all__ = ["NotMade", "Store", "circumstances"]

PACKAGES = ("torch", "numpy", "scipy", "k-diffusion", "scikit-learn")


class NotMade(LookupError):
    """A frozen store was asked for what it does not hold."""


def circumstances(device: str = "cpu") -> dict[str, Any]:
    """Versions and kind of machine, for the record."""
    import torch

    found = versions(PACKAGES)
    python = found.pop("python")
    cuda = device.startswith("cuda")
    return {
        "versions": found,
        "python": python,
        "machine": torch.cuda.get_device_name(device) if cuda else f"{os.cpu_count()} {platform.machine()} cores",
    }


class Store:
    """Records of one figure.

    Args:
        path: the JSON file; made on the first record.
        about: the command and what else belongs to the file as a whole.
        frozen: never measure; :meth:`get` raises :class:`NotMade` instead.

    Raises:
        ValueError: ``path`` is no such file.
    """

    def __init__(self, path: Path, about: Mapping[str, Any] | None = None, *, frozen: bool = False) -> None:
        self.path, self.about, self.frozen = path, dict(about or {}), frozen
        self._records: dict[str, dict[str, Any]] = {}
        self._used: dict[str, None] = {}  # in order
        if path.is_file():
            try:
                records = json.loads(path.read_text())["records"]
                self._records = {_text(record["key"]): record for record in records}
            except (json.JSONDecodeError, KeyError, TypeError) as error:
                raise ValueError(f"{path} holds no records of this script ({error!r}); move it away") from None

    def get(self, key: Mapping[str, Any], make: Callable[[], Any]) -> Any:
        """The value under ``key`` (JSON), made now if it is not there, and kept at once."""
        text = _text(key)
        self._used[text] = None
        if text not in self._records:
            if self.frozen:
                raise NotMade(f"{self.path} holds no {text}")
            start = time.perf_counter()
            value = json.loads(json.dumps(make()))  # as it will be read back
            self._records[text] = {"key": key, "seconds": round(time.perf_counter() - start, 1), "value": value}
            self._write(self._records)
        return self._records[text]["value"]

    def finish(self) -> None:
        """Drop the records that nobody asked for since the file was opened: settings that are no more."""
        if not self.frozen:
            self._records = {text: self._records[text] for text in self._used}
            self._write(self._records)

    @property
    def seconds(self) -> float:
        """What all records that were asked for took to make."""
        return sum(self._records[text]["seconds"] for text in self._used if text in self._records)

    def _write(self, records: Mapping[str, dict[str, Any]]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lines = ",\n".join(json.dumps(record, ensure_ascii=False) for record in records.values())
        about = json.dumps(self.about, indent=1, ensure_ascii=False)
        write_atomically(self.path, f'{{"about": {about},\n"records": [\n{lines}\n]}}\n')


def _text(key: Mapping[str, Any]) -> str:
    return json.dumps(key, sort_keys=True)
