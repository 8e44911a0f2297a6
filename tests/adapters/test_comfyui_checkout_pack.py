"""The pack inside ComfyUI itself: it loads, its newer form is the same, its example workflows run.

Run as ``test_comfyui_checkout.py``.
"""

import asyncio
import inspect
import json
from pathlib import Path
from types import SimpleNamespace

import comfyui_checkout as at
import pytest
import torch

import kdist
import kdist.adapters.comfyui as pack
from kdist import rules
from kdist.adapters.comfyui.hooks import apply_schedule


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
        schedule=kdist.Constant(2.0), sigma_min=0.1, sigma_max=2.0, width=200, height=120, sigmas=None, model=None
    )
    assert made.result[0].shape == (1, 120, 200, 3)


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


class TinyClip:
    """For core's CLIPTextEncode: vectors by the text's length."""

    def tokenize(self, text):
        return text

    def encode_from_tokens_scheduled(self, tokens):
        return at.prompt(len(tokens) + 1)


class TinyVAE:
    """For core's VAEDecode; keeps the latents that it was given."""

    def __init__(self):
        self.latents = []

    def decode(self, latent):
        self.latents.append(latent)
        return latent[:, :3].movedim(1, -1).sigmoid()


@pytest.fixture
def checkpoints(host, monkeypatch, tmp_path):
    """The host's node for checkpoints gives tiny random networks; name: (model, list of its rows, vae)."""
    import folder_paths

    names = ["v1-5-pruned-emaonly.safetensors", "weaker-model.safetensors"]
    loaded = {name: (*at.counted(at.patcher(seed=seed)), TinyVAE()) for seed, name in enumerate(names)}
    known = folder_paths.get_filename_list
    monkeypatch.setattr(folder_paths, "get_filename_list", lambda kind: names if kind == "checkpoints" else known(kind))
    monkeypatch.setattr(folder_paths, "get_temp_directory", lambda: str(tmp_path))

    class Loader(host.NODE_CLASS_MAPPINGS["CheckpointLoaderSimple"]):
        def load_checkpoint(self, ckpt_name):
            model, _, vae = loaded[ckpt_name]
            return model, TinyClip(), vae

    monkeypatch.setitem(host.NODE_CLASS_MAPPINGS, "CheckpointLoaderSimple", Loader)
    return loaded


def example(name, host):
    """An example workflow for pictures of 8 x 8 latents."""
    folder = Path(pack.__file__).parent / "example_workflows"
    made = as_prompt(json.loads((folder / f"{name}.json").read_text()), host)
    one(made, "EmptyLatentImage")["inputs"] |= {"width": 64, "height": 64, "batch_size": 2}
    return made


def one(made, kind):
    return next(node for node in made.values() if node["class_type"].startswith(kind))


def executed(made):
    """Validated and executed by ComfyUI: its executor, and the message of the node that failed, if one did."""
    import execution

    valid, error, outputs, details = asyncio.run(execution.validate_prompt("1", made, None))
    assert valid, (error, details)
    server = SimpleNamespace(client_id=None, last_node_id=None, last_prompt_id=None, send_sync=lambda *_: None)
    sizes = {"cache_args": {"lru": 0, "ram": 0.0, "ram_inactive": 0.0}}  # of newer releases
    newer = "cache_args" in inspect.signature(execution.PromptExecutor).parameters
    executor = execution.PromptExecutor(server, **(sizes if newer else {}))
    executor.execute(made, "1", {}, outputs)
    failed = [data for event, data in executor.status_messages if event == "execution_error"]
    return executor, failed[0]["exception_message"] if failed else ""


EXAMPLES = {
    "late_negative_percent_of_steps": lambda levels: (kdist.LateNegative(7.5, levels[12]), None),
    "negative_window_rescaled": lambda _: (kdist.NegativeWindow(7.5, 0.5, 2.0), rules.rescaled),
    "weak_model_interval": lambda _: (kdist.Interval(2.5, 0.3, 5.0), None),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_example_workflows_run(host, name, checkpoints, tmp_path):
    """From the saved file to pictures and curve by the host's executor; the latents are those of the guided run."""
    executor, failed = executed(example(name, host))
    assert not failed
    saved = [output["images"] for output in executor.history_result["outputs"].values()]
    assert sorted(len(images) for images in saved) == [1, 2]  # the curve, two pictures
    assert all((tmp_path / image["filename"]).stat().st_size for images in saved for image in images)

    (model, rows, vae), (weak, weak_rows, _) = checkpoints.values()
    counts = len(rows), len(weak_rows)
    sigmas = at.levels_of(model, 20)
    schedule, rule = EXAMPLES[name](sigmas.tolist())
    with_weak = weak if name.startswith("weak") else None
    if rule is None and with_weak is None:
        guider = at.guider_of(model, at.prompt(17), at.prompt(1), kind=at.Reference, schedule=schedule)
    else:
        guided = apply_schedule(model, schedule, rule=rule, weak_model=with_weak)
        guider = at.guider_of(guided, at.prompt(17), at.prompt(1))
    noise = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    method = at.comfy.samplers.sampler_object("dpmpp_2m")
    with torch.no_grad():
        expected = guider.sample(noise, torch.zeros_like(noise), method, sigmas, disable_pbar=True, seed=1)
    at.close(vae.latents[0], expected)
    scales = [schedule(level) for level in sigmas.tolist()[:-1]]
    alone = [float(scale) for scale in (1, 0) if rules.reductions(rule or rules.linear)[1 - scale]]
    assert sum(counts) == sum(1 + (scale not in alone) for scale in scales)
    assert counts[1] == (sum(scale != 1 for scale in scales) if with_weak else 0)


@pytest.mark.parametrize("name", EXAMPLES)
def test_bad_values_are_said_on_the_node_before_anything_runs(host, name, checkpoints):
    import execution

    made = example(name, host)
    one(made, "Kdist")["inputs"] |= {"scale": 4.0, "sigma_lo": 3.0, "sigma_hi": 2.0, "sigma_switch": -5.0}
    valid, _, _, details = asyncio.run(execution.validate_prompt("1", made, None))
    assert not valid or details
    said = [error["details"] for node in details.values() for error in node["errors"] if "Kdist" in node["class_type"]]
    assert len(said) == 1  # not once for each input
    assert "sigma_lo" in said[0] or "percent" in said[0]


def test_missing_file_and_missing_negative_are_said_on_the_node(host, checkpoints):
    import execution

    made = example("late_negative_percent_of_steps", host)
    node = one(made, "KdistLateNegative")
    node["class_type"], node["inputs"] = "KdistSchedule", {"model": node["inputs"]["model"], "schedule": "nowhere.json"}
    _, _, _, details = asyncio.run(execution.validate_prompt("1", made, None))
    assert "nowhere.json" in json.dumps(details)

    classes = kdist.PerClass({0: 2.0}, default=1.0).to_json()
    node["inputs"]["schedule"] = classes
    _, _, _, details = asyncio.run(execution.validate_prompt("1", made, None))
    assert "rows of a batch" in json.dumps(details)

    node["inputs"]["schedule"] = "late-negative:scale=3,sigma_switch=2"
    sampler, guider = one(made, "KSampler"), {"class_type": "BasicGuider"}
    model, positive = sampler["inputs"]["model"], sampler["inputs"]["positive"]
    made["20"] = guider | {"inputs": {"model": model, "conditioning": positive}}
    made["21"] = {"class_type": "RandomNoise", "inputs": {"noise_seed": 1}}
    made["22"] = {"class_type": "KSamplerSelect", "inputs": {"sampler_name": "euler"}}
    scheduler = next(number for number, node in made.items() if node["class_type"] == "BasicScheduler")
    sampler["class_type"] = "SamplerCustomAdvanced"
    sampler["inputs"] = {"noise": ["21", 0], "guider": ["20", 0], "sampler": ["22", 0], "sigmas": [scheduler, 0],
                         "latent_image": sampler["inputs"]["latent_image"]}  # fmt: skip
    _, failed = executed(made)
    assert "no negative condition" in failed
