"""The pack inside ComfyUI itself: it loads, its newer form is the same, its example workflows are accepted.

Run as ``test_comfyui_checkout.py``.
"""

import asyncio
import json
from pathlib import Path

import comfyui_checkout  # noqa: F401  (finds ComfyUI, or skips)
import pytest

import kdist
import kdist.adapters.comfyui as pack


@pytest.fixture(scope="module")
def host():
    """ComfyUI with the repository as one of its custom nodes, as a clone would be."""
    import nodes

    root = str(Path(kdist.__file__).parents[1])
    samplers = str(Path(nodes.__file__).parent / "comfy_extras" / "nodes_custom_sampler.py")
    assert asyncio.run(nodes.load_custom_node(samplers, module_parent="comfy_extras"))
    assert asyncio.run(nodes.load_custom_node(root))
    return nodes


def test_comfyui_loads_the_repository(host):
    assert set(pack.NODE_CLASS_MAPPINGS) <= set(host.NODE_CLASS_MAPPINGS)


def test_newer_form_of_the_nodes():
    """V3: the same inputs, outputs and results as V1."""
    for node in asyncio.run(asyncio.run(pack.comfy_entrypoint()).get_node_list()):
        schema = node.GET_SCHEMA()
        schema.validate()
        old = pack.NODE_CLASS_MAPPINGS[schema.node_id]
        new = node.INPUT_TYPES()
        for part, fields in old.INPUT_TYPES().items():
            assert list(new.get(part, {})) == list(fields)
            for name, spec in fields.items():
                kind = new[part][name][0]
                assert kind == ("COMBO" if isinstance(spec[0], list) and kind == "COMBO" else spec[0])
        assert list(node.RETURN_TYPES) == list(old.RETURN_TYPES)
    made = node.EXECUTE_NORMALIZED(
        schedule=kdist.Constant(2.0), sigma_min=0.1, sigma_max=2.0, width=128, height=64, sigmas=None, model=None
    )
    assert made.result[0].shape == (1, 64, 128, 3)


def as_prompt(workflow, host):
    """What the browser makes of a saved workflow."""
    prompt, sources = {}, {link[0]: [str(link[1]), link[2]] for link in workflow["links"]}
    for node in workflow["nodes"]:
        inputs = {i["name"]: sources[i["link"]] for i in node["inputs"] if i["link"] is not None}
        values = iter(node["widgets_values"])
        specs = host.NODE_CLASS_MAPPINGS[node["type"]].INPUT_TYPES()
        for name, spec in {**specs["required"], **specs.get("optional", {})}.items():
            if not isinstance(spec[0], str) or spec[0] in {"FLOAT", "INT", "STRING", "BOOLEAN", "COMBO"}:
                inputs[name] = next(values)
                if len(spec) > 1 and spec[1].get("control_after_generate"):
                    next(values)
        assert not list(values)
        prompt[str(node["id"])] = {"class_type": node["type"], "inputs": inputs}
    return prompt


@pytest.mark.parametrize("name", ["late_negative_percent_of_steps", "negative_window_rescaled", "weak_model_interval"])
def test_example_workflows_are_accepted(host, name, monkeypatch):
    import execution
    import folder_paths

    models = ["v1-5-pruned-emaonly.safetensors", "weaker-model.safetensors"]
    known = folder_paths.get_filename_list
    monkeypatch.setattr(
        folder_paths, "get_filename_list", lambda kind: models if kind == "checkpoints" else known(kind)
    )
    folder = Path(pack.__file__).parent / "example_workflows"
    prompt = as_prompt(json.loads((folder / f"{name}.json").read_text()), host)
    valid, error, outputs, details = asyncio.run(execution.validate_prompt("1", prompt, None))
    assert valid, (error, details)
    assert len(outputs) == 2  # the pictures and the curve
    schedule = next(node for node in prompt.values() if "scale" in node["inputs"])
    schedule["inputs"] |= {"scale": 4.0, "sigma_lo": 3.0, "sigma_hi": 2.0, "sigma_switch": -5.0}
    valid, error, _, details = asyncio.run(execution.validate_prompt("1", prompt, None))
    assert not valid or details  # the node's own sentence, before anything runs
    assert any("Kdist" in one["class_type"] for one in details.values())
