"""What docs/results.md says of F9: tables, single numbers, and which families keep their place on every training."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

from scripts.results.families import FAMILIES, PLAIN
from scripts.style import interval, markdown, number

__all__ = ["GROUPS", "LAW", "TARGETS", "against", "texts", "told_apart"]

LAW = ("energy_distance", "displacement", "trace_ratio", "variance_main", "variance_rest", "overshoot", "separability")
TARGETS = {"real": "of real images", "constant": "of constant 2"}
GROUPS = {
    "constant": "constant scales",
    "interval": "intervals",
    "annealed": "annealed (dynamic CFG, CADS)",
    "below 1": "schedules below 1",
    "weak": "weak model",
    "rule": "rules",
}
NUMBERS = (
    ("energy_distance", "distance", 3),
    ("accuracy", "accuracy", 3),
    ("trace_ratio", "variance", 2),
    ("displacement", "displacement", 2),
)
HOLDS = {
    "always_nearer": "nearer than a constant on each",
    "always_further": "further on each",
    "never_reached": "does not reach the accuracy on any",
    "disagree": "nearer on one, further on another",
}


def texts(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Tables ``real_DATA`` and ``constant_DATA`` (energy distance of each family on every training at that target), one
    by the name of each network with everything measured at the accuracy of real images, ``classes`` (Fashion-MNIST by
    class), ``rules``; ``networks``, ``trainings_DATA``, ``tried``, what holds on all trainings (:func:`_verdicts`), and
    single numbers."""
    networks = [row for row in rows if row["kind"] == "network"]
    found = {
        **{network["network"].replace("-", "_"): _in_full(rows, network["network"]) for network in networks},
        "classes": _classes(rows),
        **_numbers(rows, networks),
        "networks": ", ".join(row["network"] for row in networks),
        "tried": str(sum(row["kind"] == "tried" for row in rows)),
    }
    kept = []
    for data in dict.fromkeys(_data(row) for row in networks):
        own = [row for row in networks if _data(row) == data]
        found[f"trainings_{data}"] = str(len(own))
        said = _verdicts(rows, own)
        kept.append([f"{data}, {len(own)}", *(said[name] for name in HOLDS)])
        for target in TARGETS:
            at = [n for n in own if any(r.get("target") == target and r["network"] == n["network"] for r in rows)]
            found[f"{target}_{data}"] = _distances(rows, at, target)
        found |= {f"{data}_{name}": text for name, text in said.items()}
    found |= {"rules": _rules(rows, networks), "information": _information(rows)}
    return found | {"holds": markdown(["data, trainings", *HOLDS.values()], kept)}


def _information(rows: Sequence[Mapping[str, Any]]) -> str:
    """Whether the level at which a network has spent log P of class information says where its best interval ends."""
    lines = []
    for row in (row for row in rows if row["kind"] == "network"):
        best = _reported(rows, row["network"], "real").get("interval")
        passes = "never" if row["passes"] is None else f"{row['passes']:.2g}"
        setting = f"`{best['setting']}`" if best and best["setting"] else ""
        lines.append([row["network"], interval(row["nats"], 1), passes, setting])
    return markdown(["network", "nats in all", "passes log P at sigma", "interval chosen"], lines)


def _rules(rows: Sequence[Mapping[str, Any]], networks: Sequence[Mapping[str, Any]]) -> str:
    """The rules beside a constant and an interval at the accuracy of real images, on the networks that ship: a line
    each, the nearest on the first network first."""
    ruled = [
        n["network"]
        for n in networks
        if "-" not in n["network"] and any(r["network"] == n["network"] and r.get("group") == "rule" for r in rows)
    ]
    found = [_reported(rows, network, "real") for network in ruled]
    names = [family.name for family in FAMILIES if family.group == "rule" or family.name in ("constant", "interval")]
    own = [name for name in names if any(name in each for each in found)]

    def distance(name: str) -> float:
        row = found[0].get(name)
        return row["energy_distance"][0] if row and row["setting"] else math.inf

    head, lines = ["guidance"], []
    for network in ruled:
        head += [f"{network}: setting", "distance at accuracy", "against the constant"]
    for name in sorted(own, key=distance):
        cells = []
        for each in found:
            row = each.get(name)
            setting = f"`{row['setting']}`" if row and row["setting"] else ""
            cells += [setting, _cell(row), "" if name == "constant" else against(row, each.get("constant"))]
        lines.append([name, *cells])
    return markdown(head, lines) if ruled else ""


def _data(row: Mapping[str, Any]) -> str:
    name: str = row["network"]
    return name.partition("-")[0]


def _numbers(rows: Sequence[Mapping[str, Any]], networks: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """``NETWORK_FAMILY_QUANTITY`` of what was reported at the accuracy of real images."""
    found = {}
    for network in networks:
        name = network["network"].replace("-", "_")
        found[f"{name}_accuracy_real"] = f"{network['accuracy_real'][0]:.3f}"
        for family, row in _reported(rows, network["network"], "real").items():
            if row["setting"]:
                slug = f"{name}_{_slug(family)}"
                found |= {f"{slug}_{short}": number(row[key][0], places) for key, short, places in NUMBERS}
                found |= {f"{slug}_calls": f"{row['calls']:.0f}", f"{slug}_setting": f"`{row['setting']}`"}
    return found


def _slug(family: str) -> str:
    return re.sub(r"[^a-z]+", "_", family.lower()).strip("_")


def _reported(rows: Sequence[Mapping[str, Any]], network: str, target: str) -> dict[str, Mapping[str, Any]]:
    """By family; no guidance counts at every target."""
    return {
        row["family"]: row
        for row in rows
        if row["kind"] == "reported" and row["network"] == network and row["target"] in (target, "unguided")
    }


def told_apart(row: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """``nearer`` or ``further`` than the other by more than 1.96 standard errors of the difference, or ``like it``. The
    two count as independent. They share their noise, so that smaller differences than these may be real."""
    difference = row["energy_distance"][0] - other["energy_distance"][0]
    error = math.hypot(*(one["energy_distance"][2] - one["energy_distance"][1] for one in (row, other))) / 2
    return "like it" if abs(difference) <= error else "nearer" if difference < 0 else "further"


def against(row: Mapping[str, Any] | None, constant: Mapping[str, Any] | None) -> str:
    """What :func:`told_apart` says of it and the constant of the same accuracy; ``not reached``, ``not tried``."""
    if row is None:
        return "not tried"
    if row["setting"] is None:
        return "not reached"
    if constant is None or constant["setting"] is None:
        return "no constant"
    return told_apart(row, constant)


def _verdicts(rows: Sequence[Mapping[str, Any]], networks: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Names of families at the accuracy of real images: ``always_nearer`` than the constant on every training,
    ``always_further``, ``never_reached``, ``disagree`` (nearer on one, further on another), and the
    spread of each family's distance over the trainings, ``FAMILY_spread``."""
    found = [_reported(rows, network["network"], "real") for network in networks]
    named: dict[str, list[str]] = {"always_nearer": [], "always_further": [], "never_reached": [], "disagree": []}
    spreads = {}
    for family in FAMILIES:
        tried = [own for own in found if family.name in own]
        said = {against(own.get(family.name), own.get("constant")) for own in found}
        for name, only in (
            ("always_nearer", "nearer"),
            ("always_further", "further"),
            ("never_reached", "not reached"),
        ):
            if said == {only}:
                named[name].append(family.name)
        if {"nearer", "further"} <= said:
            named["disagree"].append(family.name)
        values = [own[family.name]["energy_distance"][0] for own in tried if own[family.name]["setting"]]
        if tried:
            spreads[f"{_slug(family.name)}_spread"] = _spread(values) if values else "not reached"
    return {name: "; ".join(names) or "none" for name, names in named.items()} | spreads


def _spread(values: Sequence[float]) -> str:
    if len(values) == 1:
        return number(values[0], 3)
    return f"{number(mean(values), 3)} ({number(min(values), 3)} to {number(max(values), 3)})"


def _distances(rows: Sequence[Mapping[str, Any]], networks: Sequence[Mapping[str, Any]], target: str) -> str:
    """A line for each family that was tried on all of them, a column for each training, mean and range over them, and
    how often it is nearer than the constant; the order is that of the mean rank."""
    if not networks:
        return "Not tried."
    found = [_reported(rows, network["network"], target) for network in networks]
    names = [family.name for family in (PLAIN, *FAMILIES) if all(family.name in own for own in found)]

    def rank(name: str) -> float:
        places = []
        for own in found:
            values = sorted(row["energy_distance"][0] for row in own.values() if row["setting"])
            row = own[name]
            places.append(values.index(row["energy_distance"][0]) if row["setting"] else len(values))
        return sum(places) / len(places)

    lines = []
    for name in sorted(names, key=rank):
        own = [each[name] for each in found]
        values = [row["energy_distance"][0] for row in own if row["setting"]]
        said = [against(row, each.get("constant")) for row, each in zip(own, found, strict=True)]
        compared = (
            "" if name in ("constant", PLAIN.name) else ", ".join(f"{said.count(w)} {w}" for w in dict.fromkeys(said))
        )
        lines.append([name, *map(_cell, own), _spread(values) if len(values) > 1 else "", compared])
    head = ["guidance", *(f"{row['network']} (accuracy from {row[target]:.3f})" for row in networks)]
    return markdown([*head, "mean and range", "against the constant"], lines)


def _cell(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return "not tried"
    if row["setting"] is None:
        return "not reached"
    return f"{interval(row['energy_distance'], 3)} at {row['accuracy'][0]:.3f}"


def _in_full(rows: Sequence[Mapping[str, Any]], network: str) -> str:
    """Everything that was measured at the accuracy of real images, the nearest first."""
    head = ["guidance", "setting", "distance", "means displaced", "variance kept", "main directions", "rest",
            "accuracy", "calls"]  # fmt: skip
    own = [row for row in _reported(rows, network, "real").values() if row["setting"]]
    lines = [
        [
            row["family"],
            f"`{row['setting']}`",
            interval(row["energy_distance"], 3),
            *(number(row[name][0]) for name in LAW[1:5]),
            f"{row['accuracy'][0]:.3f}",
            f"{row['calls']:.0f}",
        ]
        for row in sorted(own, key=lambda row: row["energy_distance"][0])
    ]
    return markdown(head, lines)


def _classes(rows: Sequence[Mapping[str, Any]]) -> str:
    """Fashion-MNIST by class: energy distance and accuracy without guidance and of each group's nearest family."""
    own = _reported(rows, "fashion", "real")
    if not own:
        return ""
    from kdist.fashion import CLASS_NAMES

    shown = [own[PLAIN.name]]
    for group in GROUPS:
        candidates = [row for row in own.values() if row["group"] == group and row["target"] == "real"]
        reached = [row for row in candidates if row["setting"]]
        shown += sorted(reached, key=lambda row: row["energy_distance"][0])[:1]
    shown += [row for row in own.values() if row["family"] == "constant" and row not in shown and row["setting"]]
    head = ["class", *(row["family"] for row in shown)]
    lines = [
        [name, *(f"{row['energy_distance_by_class'][k]:.3f} at {row['accuracy_by_class'][k]:.2f}" for row in shown)]
        for k, name in enumerate(CLASS_NAMES)
    ]
    return markdown(head, lines)
