"""``results.json`` (schema ``kdist.report/2``) and ``classes.csv``: everything measured, for other programs."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from typing import Any

from kdist.files import versions

from ..statistics.estimate import Estimate
from ..statistics.results import ClassDistortion
from .comparison import Comparison
from .sets import describe

__all__ = ["SCHEMA", "classes_csv", "estimate_columns", "results_json"]

SCHEMA = "kdist.report/2"


def results_json(comparison: Comparison, command: str) -> str:
    """All numbers, with what made them; ``docs/report.md`` describes the schema."""
    against = comparison.against_first
    content = {
        "schema": SCHEMA,
        "command": command,
        "settings": comparison.settings,
        "versions": versions(),
        "real": describe(comparison.real),
        "sets": [
            {
                **describe(fake),
                "distortion": comparison.reports[fake.name].to_dict(),
                "against_first": None if (paired := against.get(fake.name)) is None else paired.to_dict(),
            }
            for fake in comparison.fakes
        ],
        "closest": comparison.closest,
        "farther": {name: None if gap is None else gap.to_dict() for name, gap in comparison.farther.items()},
        "front": comparison.front(),
        "summary": comparison.summary(),
        "warnings": list(comparison.warnings),
    }
    return json.dumps(content, indent=1, ensure_ascii=False)


def classes_csv(comparison: Comparison) -> str:
    """A row per generated set and class; each statistic with ``_lo, _hi, _floor, _floor_lo, _floor_hi, _p, _q``.

    What was not measured or is not defined is left empty.
    """
    rows = [{"set": name} | _row(entry) for name, report in comparison.reports.items() for entry in report.classes]
    columns = dict.fromkeys(column for row in rows for column in row)
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _row(entry: ClassDistortion) -> dict[str, Any]:
    row: dict[str, Any] = {}
    own = [field for field in dataclasses.fields(entry) if field.name in ("label", "name", "n_real", "n_fake")]
    for field in dict.fromkeys([*own, *dataclasses.fields(entry)]):
        value = getattr(entry, field.name)
        if field.name == "directional_ratios":
            for place, ratio in enumerate(value):
                row |= estimate_columns(f"direction_{place}", ratio)
        elif field.name == "warnings":
            row["warnings"] = "; ".join(value)
        elif isinstance(value, Estimate):
            row |= estimate_columns(field.name, value)
        else:
            row[field.name] = value
    return row


def estimate_columns(name: str, estimate: Estimate) -> dict[str, Any]:
    """Its value, interval, floor, p- and q-value as columns of a table."""
    plain = estimate.to_dict()
    floor = plain["floor"] or {"value": None, "interval": None}
    low, high = plain["interval"] or (None, None)
    floor_low, floor_high = floor["interval"] or (None, None)
    return {
        name: plain["value"],
        f"{name}_lo": low,
        f"{name}_hi": high,
        f"{name}_floor": floor["value"],
        f"{name}_floor_lo": floor_low,
        f"{name}_floor_hi": floor_high,
        f"{name}_p": plain["p_value"],
        f"{name}_q": plain["q_value"],
    }
