"""The ComfyUI pack: a node for every family, terms, rules, example workflows, the repository as a custom node."""

import dataclasses
import functools
import importlib.util
import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from forked import forked

import kdist
from kdist import rules
from kdist.adapters.comfyui import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS
from kdist.adapters.comfyui.families import FAMILIES, SHOWN
from kdist.schedules import InTerms, registry

ROOT = Path(kdist.__file__).parents[1]
# combinations and per-step lists are for the node that reads JSON, rows have no numbers in ComfyUI
WITHOUT_WIDGETS = {"clip", "per-class", "per-row", "piecewise", "product", "sum", "then"}


def widgets(node, part="required"):
    """Default values of a node's widgets."""
    specs = node.INPUT_TYPES().get(part, {})
    return {
        name: spec[0][0] if isinstance(spec[0], list) else spec[1]["default"]
        for name, spec in specs.items()
        if isinstance(spec[0], list) or spec[0] in {"FLOAT", "INT", "STRING", "BOOLEAN"}
    }


def test_every_family_has_a_node_with_its_fields_and_valid_defaults():
    assert {node.FAMILY.kind for node, _ in FAMILIES.values()} == set(registry()) - WITHOUT_WIDGETS
    assert set(NODE_CLASS_MAPPINGS) == set(NODE_DISPLAY_NAME_MAPPINGS)
    for node, _ in FAMILIES.values():
        fields = {field.name for field in dataclasses.fields(node.FAMILY)}
        assert {*node.FIELDS, *node.LATER_FIELDS} == fields
        values = {**widgets(node), **widgets(node, "optional")}
        assert node.VALIDATE_INPUTS(**values) is True
        schedule = node.schedule_of("sigma", {name: values[name] for name in fields})
        assert isinstance(schedule, node.FAMILY)
        assert len({*schedule(torch.logspace(-2, 2, 50)).tolist()}) > (node.FAMILY is not kdist.Constant)
        assert node.DESCRIPTION


def test_terms_of_the_widgets():
    node = NODE_CLASS_MAPPINGS["KdistLateNegative"]
    fields = {"scale": 4.0, "sigma_switch": 0.75, "late": 0.0}
    assert node.schedule_of(SHOWN["s"], fields) == kdist.LateNegative(4.0, 3.0)
    assert node.schedule_of(SHOWN["log_snr"], {**fields, "sigma_switch": 0.0}) == kdist.LateNegative(4.0, 1.0)
    waiting = node.schedule_of(SHOWN["percent"], {**fields, "sigma_switch": 50.0})
    assert waiting.on([8.0, 4.0, 2.0, 1.0, 0.0]) == kdist.LateNegative(4.0, 2.0)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("KdistInterval", {"sigma_lo": 9.0}, "swap"),
        ("KdistLateNegative", {"terms": SHOWN["percent"], "sigma_switch": 101.0}, "0 .start. to 100"),
        ("KdistLateNegative", {"terms": SHOWN["s"], "sigma_switch": 2.0}, "flow"),
        ("KdistLateNegative", {"sigma_switch": -1.0}, "negative"),
        ("KdistLateNegative", {"terms": "steps"}, "unknown terms"),
        ("KdistBeta", {"sigma_min": 0.0}, "above 0"),
    ],
)
def test_bad_values_are_said_before_anything_runs(name, change, message):
    node = NODE_CLASS_MAPPINGS[name]
    with pytest.raises(ValueError, match=message):
        node.VALIDATE_INPUTS(**{**widgets(node), **widgets(node, "optional"), **change})


def test_values_from_other_nodes_are_not_judged():
    node = NODE_CLASS_MAPPINGS["KdistInterval"]
    assert node.VALIDATE_INPUTS(**{**widgets(node), "sigma_lo": None}) is True


def test_rules():
    node = NODE_CLASS_MAPPINGS["KdistRule"]
    values = widgets(node)
    x = torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    cond, uncond, scale, sigma = 0.5 * x, x - 1, torch.full((3, 1, 1, 1), 3.0), torch.full((3, 1, 1, 1), 2.0)
    expected = {
        "linear": rules.linear,
        "rescaled": functools.partial(rules.rescaled, phi=0.7),
        "projected": functools.partial(rules.projected, eta=0.25),
        "zero_star": rules.zero_star,
        "thresholded": functools.partial(rules.thresholded, quantile=0.995),
    }
    assert node.INPUT_TYPES()["required"]["rule"][0] == list(expected)
    for name, rule in expected.items():
        for on_noise in (False, True):
            (made,) = node().make(**{**values, "rule": name, "eta": 0.25, "on_noise": on_noise})
            wanted = functools.partial(rules.on_noise, rule=rule) if on_noise else rule
            torch.testing.assert_close(made(cond, uncond, scale, x, sigma), wanted(cond, uncond, scale, x, sigma))


def test_curve_over_the_steps_of_a_run():
    node = NODE_CLASS_MAPPINGS["KdistScheduleCurve"]()
    size = {"sigma_min": 0.03, "sigma_max": 14.6, "width": 200, "height": 120}
    waiting = InTerms("percent", kdist.LateNegative, {"scale": 4.0, "sigma_switch": 50})
    sigmas = torch.tensor([8.0, 4.0, 2.0, 1.0, 0.0])
    image = node.draw(waiting, **size, sigmas=sigmas)["result"][0]
    assert image.shape == (1, 120, 200, 3)
    assert not torch.equal(image, node.draw(kdist.LateNegative(4.0, 2.0), **size)["result"][0])  # the steps are marked
    with pytest.raises(ValueError, match="connect sigmas"):
        node.draw(waiting, **size)


WORKFLOWS = sorted((ROOT / "kdist" / "adapters" / "comfyui" / "example_workflows").glob("*.json"))
assert len(WORKFLOWS) == 3


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_example_workflows_fit_the_nodes(path):
    workflow = json.loads(path.read_text())
    nodes = {node["id"]: node for node in workflow["nodes"]}
    for number, source, output, target, place, kind in workflow["links"]:
        assert number in nodes[source]["outputs"][output]["links"]
        assert nodes[target]["inputs"][place]["link"] == number
        assert nodes[source]["outputs"][output]["type"] == nodes[target]["inputs"][place]["type"] == kind
    ours = [node for node in nodes.values() if node["type"] in NODE_CLASS_MAPPINGS]
    assert {node["type"] for node in nodes.values() if node["type"].startswith("Kdist")} == {n["type"] for n in ours}
    for node in ours:
        cls = NODE_CLASS_MAPPINGS[node["type"]]
        names = [*widgets(cls), *widgets(cls, "optional")]
        values = dict(zip(names, node["widgets_values"], strict=True))
        if hasattr(cls, "VALIDATE_INPUTS"):
            assert cls.VALIDATE_INPUTS(**values) is True


def as_a_custom_node(root):
    """Imports the pack of this folder as ComfyUI does, in a Python that has no kdist."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "kdist"]:
        del sys.modules[name]
    sys.path = [entry for entry in sys.path if entry and not (Path(entry) / "kdist").is_dir()]
    assert importlib.util.find_spec("kdist") is None
    spec = importlib.util.spec_from_file_location("clone", root / "__init__.py")
    clone = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(clone)
    curve = clone.NODE_CLASS_MAPPINGS["KdistScheduleCurve"]()
    text = clone.NODE_CLASS_MAPPINGS["KdistSchedule"]
    assert text.VALIDATE_INPUTS("interval:scale=3,sigma_lo=1,sigma_hi=2") is True
    import kdist

    assert curve.draw(kdist.Interval(3, 1, 2), 0.1, 10.0, 160, 120)["result"][0].shape == (1, 120, 160, 3)
    print(len(clone.NODE_CLASS_MAPPINGS), callable(clone.comfy_entrypoint), Path(kdist.__file__).parents[1])


@pytest.mark.parametrize("whole", [True, False], ids=["clone", "registry"])
def test_the_repository_is_a_custom_node(tmp_path, whole):
    """As ComfyUI imports it, in a Python that has no kdist; the root has what the Manager looks for.

    The registry's copy lacks what ``.comfyignore`` names, and symbolic links, as clones and archives on Windows do.
    """
    root = ROOT
    if not whole:
        left_out = {line.rstrip("/") for line in (ROOT / ".comfyignore").read_text().splitlines()}

        def ignored(folder, names):
            paths = [Path(folder) / name for name in names]
            return [p.name for p in paths if p.is_symlink() or p.relative_to(ROOT).as_posix() in left_out]

        root = tmp_path / "pack"
        shutil.copytree(ROOT / "kdist", root / "kdist", ignore=ignored)
        shutil.copytree(ROOT / "example_workflows", root / "example_workflows")
        for name in ("__init__.py", "requirements.txt", "pyproject.toml"):
            shutil.copy(ROOT / name, root)
        assert not (root / "kdist" / "theory").exists()
    assert {path.name for path in (root / "example_workflows").glob("*.json")} == {path.name for path in WORKFLOWS}
    assert not (root / "example_workflows").is_symlink()
    assert "matplotlib" in (root / "requirements.txt").read_text()
    assert "[tool.comfy]" in (root / "pyproject.toml").read_text()
    process = forked(as_a_custom_node, root, said=tmp_path / "said", folder="/")
    process.join(120)
    assert process.said.read_text().split() == [str(len(NODE_CLASS_MAPPINGS)), "True", str(root)]
