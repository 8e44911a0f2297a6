"""The nodes inside ComfyUI itself: its guiders, all of its samplers, a tiny random network of its own classes.

Run with the folder of a checkout (and the packages that it needs):

    KDIST_COMFYUI=path/to/ComfyUI python -m pytest tests/adapters/test_comfyui_checkout.py
"""

import asyncio
import json
import math
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import kdist
import kdist.adapters.comfyui as pack
from kdist import rules
from kdist.adapters.comfyui.hooks import apply_schedule, covers, sigma_of
from kdist.compat import repair_torchvision

CHECKOUT = os.environ.get("KDIST_COMFYUI", "")
if not CHECKOUT:
    pytest.skip("KDIST_COMFYUI does not name a checkout of ComfyUI", allow_module_level=True)

repair_torchvision()
sys.path.insert(0, CHECKOUT)
import comfy.cli_args  # noqa: E402

comfy.cli_args.args.cpu = True
import comfy.model_base  # noqa: E402
import comfy.model_patcher  # noqa: E402
import comfy.samplers  # noqa: E402
import comfy.supported_models  # noqa: E402

STEPS = 5
SAMPLERS = comfy.samplers.KSampler.SAMPLERS
SCHEDULES = (
    kdist.Interval(4.0, 0.3, 3.0),
    kdist.NegativeWindow(4.0, 0.5, 4.0, inside=0.0, after=1.0),
    kdist.LateNegative(3.0, 2.0),
    kdist.EarlyNegative(3.0, 2.0, early=0.0, sigma_end=0.3),
    kdist.LinearInVariance(0.0, 0.02, max_scale=5.0),
)


def patcher(flow=False, seed=0):
    config = {
        "image_size": 8,
        "in_channels": 4,
        "out_channels": 4,
        "model_channels": 32,
        "num_res_blocks": [1, 1],
        "channel_mult": [1, 1],
        "transformer_depth": [1, 0],
        "transformer_depth_output": [1, 1, 0, 0],
        "transformer_depth_middle": 0,
        "context_dim": 16,
        "num_heads": 4,
        "num_head_channels": -1,
        "use_spatial_transformer": True,
        "legacy": False,
        "dtype": torch.float32,
    }
    model_config = comfy.supported_models.SD15({**config, "disable_unet_model_creation": False})
    model_config.unet_config.pop("disable_unet_model_creation")
    kind = comfy.model_base.ModelType.FLOW if flow else comfy.model_base.ModelType.EPS
    torch.manual_seed(seed)
    network = comfy.model_base.BaseModel(model_config, kind, device="cpu").eval()
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in network.named_parameters():  # ComfyUI leaves them for the checkpoint to fill
        size = 0.3 if "attn2" in name else 0.05 if ".out." in name else 0.1
        parameter.data = torch.randn(parameter.shape, generator=generator) * size
        if parameter.ndim == 1 and name.endswith("weight"):  # of a normalisation
            parameter.data += 1
        parameter.requires_grad_(False)
    return comfy.model_patcher.ModelPatcher(network, torch.device("cpu"), torch.device("cpu"))


@pytest.fixture(scope="module")
def model():
    return patcher()


@pytest.fixture(scope="module")
def flow_model():
    return patcher(flow=True)


def prompt(seed, tokens=77, **options):
    vectors = torch.randn(1, tokens, 16, generator=torch.Generator().manual_seed(seed)) * 3
    return [[vectors, options]]


POSITIVE, NEGATIVE = prompt(1), prompt(2)


class Reference(comfy.samplers.CFGGuider):
    """Both passes in every call, the schedule's scale of its noise level, no shortcut; a missing prediction is the
    other one."""

    def __init__(self, model, schedule):
        super().__init__(model)
        self.schedule, self.levels, self.calls = schedule, [], 0

    def predict_noise(self, x, timestep, model_options=None, seed=None):
        sigma = sigma_of(self.inner_model, timestep)[:1]
        self.levels.append(sigma)
        scale = float(self.schedule(sigma))
        conds = [self.conds["positive"], self.conds["negative"]]
        found = comfy.samplers.calc_cond_batch(self.inner_model, conds, x, timestep, model_options)
        there = [covers(entries, float(timestep[0])) for entries in conds]
        found = [found[i] if there[i] else found[1 - i] for i in range(2)]
        return comfy.samplers.cfg_function(self.inner_model, *found, scale, x, timestep, model_options=model_options)


def levels_of(model, steps=STEPS, scheduler="karras"):
    return comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), scheduler, steps)


def counted(model):
    """The model, and a list that receives one number per network row: 0 conditional, 1 unconditional."""
    model, rows = model.clone(), []

    def run(apply, args):
        rows.extend(args["cond_or_uncond"])
        return apply(args["input"], args["timestep"], **args["c"])

    model.set_model_unet_function_wrapper(run)
    return model, rows


def run(guider, sampler="euler", sigmas=None, latent=None, mask=None):
    sigmas = levels_of(guider.model_patcher) if sigmas is None else sigmas
    noise = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    latent = torch.zeros_like(noise) if latent is None else latent
    method = sampler if isinstance(sampler, comfy.samplers.Sampler) else comfy.samplers.sampler_object(sampler)
    with torch.no_grad():
        return guider.sample(noise, latent, method, sigmas, denoise_mask=mask, disable_pbar=True, seed=7)


def guider_of(model, positive=POSITIVE, negative=NEGATIVE, cfg=8.0, kind=comfy.samplers.CFGGuider, schedule=None):
    guider = kind(model) if schedule is None else kind(model, schedule)
    guider.set_conds(positive, negative)
    guider.set_cfg(cfg)
    return guider


def close(ours, expected):
    """float32; relative to the latents, which a random network and high scales make large."""
    assert ours.isfinite().all()
    torch.testing.assert_close(ours, expected, rtol=2e-3, atol=2e-4 * float(expected.abs().max()))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_constant_scale_is_plain_cfg(model, sampler):
    for cfg in (1.0, 4.0):
        expected = run(guider_of(model, cfg=cfg), sampler)
        ours = run(guider_of(apply_schedule(model, kdist.Constant(cfg)), cfg=2.0), sampler)
        close(ours, expected)


@pytest.mark.parametrize("tokens", [77, 154])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_gets_the_scale_of_its_noise_level(model, sampler, tokens):
    negative = prompt(2, tokens)
    for schedule in SCHEDULES:
        reference = guider_of(model, negative=negative, kind=Reference, schedule=schedule)
        expected = run(reference, sampler)
        scales = [float(schedule(level)) for level in reference.levels]
        # CFG++ samplers look at the unconditional prediction in every call, so no pass can be left out
        skipped = 0 if "cfg_pp" in sampler else sum((scale == 0) + (scale == 1) for scale in scales)
        for cfg in (1.0, 8.0):
            guided, rows = counted(apply_schedule(model, schedule))
            close(run(guider_of(guided, negative=negative, cfg=cfg), sampler), expected)
            assert len(rows) == 2 * len(scales) - skipped


@pytest.mark.parametrize("sampler", ["euler", "heun", "dpmpp_2m_sde", "euler_cfg_pp"])
def test_flow_models(flow_model, sampler):
    sigmas = levels_of(flow_model, scheduler="simple")
    assert sigmas[0] == 1  # an infinite sigma
    for schedule in SCHEDULES[:4]:
        reference = guider_of(flow_model, kind=Reference, schedule=schedule)
        expected = run(reference, sampler, sigmas)
        close(run(guider_of(apply_schedule(flow_model, schedule)), sampler, sigmas), expected)


REGIONS = [*prompt(1, area=(8, 4, 0, 0), strength=1.0), *prompt(4, area=(8, 4, 0, 4), strength=0.7), *prompt(5)]
RANGE = {"start_percent": 0.4, "end_percent": 0.8}


@pytest.mark.parametrize("sampler", ["euler", "dpmpp_2m_sde", "euler_cfg_pp"])
@pytest.mark.parametrize(
    "conditions",
    [
        {"positive": REGIONS},
        {"negative": prompt(2, **RANGE)},
        {"positive": prompt(1, **RANGE)},
        {
            "positive": prompt(1, end_percent=0.5, start_percent=0.0),
            "negative": prompt(2, start_percent=0.3, end_percent=1),
        },
    ],
    ids=["regional", "negative-limited", "positive-limited", "both-limited"],
)
def test_conditions_of_parts(model, conditions, sampler):
    """A prediction that is not there is never computed with: the other one stands, also at scale 0 and 1."""
    for schedule in SCHEDULES:
        expected = run(guider_of(model, **conditions, kind=Reference, schedule=schedule), sampler)
        for cfg in (1.0, 8.0):
            close(run(guider_of(apply_schedule(model, schedule), **conditions, cfg=cfg), sampler), expected)


@pytest.mark.parametrize("masked", [False, True])
def test_image_to_image_and_inpainting(model, masked):
    latent = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(9))
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., 2:6] = 1
    picture = {"latent": latent, "mask": mask if masked else None, "sigmas": levels_of(model, 8)[3:]}
    for schedule in SCHEDULES:
        expected = run(guider_of(model, kind=Reference, schedule=schedule), "dpmpp_2m", **picture)
        close(run(guider_of(apply_schedule(model, schedule)), "dpmpp_2m", **picture), expected)


# Other guidance: the schedule's scale is theirs, call by call


class Switching:
    """The level of the step by hand: a run in two parts, each with its own cfg, by core's own code."""

    def __init__(self, schedule):
        self.schedule = schedule

    def __call__(self, executor, x, timestep, *rest):
        guider = executor.class_obj
        name = "cfg1" if hasattr(guider, "cfg1") else "cfg"
        saved = getattr(guider, name)
        setattr(guider, name, float(self.schedule(timestep[:1])))
        try:
            return executor(x, timestep, *rest)
        finally:
            setattr(guider, name, saved)


def overridden(model, schedule):
    model = model.clone()
    model.add_wrapper_with_key("predict_noise", "by hand", Switching(schedule))
    return model


def node(module, name, **inputs):
    import importlib

    cls = getattr(importlib.import_module(f"comfy_extras.{module}"), name)
    if hasattr(cls, "execute"):
        return cls.execute(**inputs).result
    return getattr(cls(), cls.FUNCTION)(**inputs)


GUIDANCE_NODES = {
    "CFGZeroStar": ("nodes_cfg", {}),
    "CFGNorm": ("nodes_cfg", {"strength": 1.0}),
    "APG": ("nodes_apg", {"eta": 0.5, "norm_threshold": 5.0, "momentum": 0.0}),
    "TCFG": ("nodes_tcfg", {}),
    "RescaleCFG": ("nodes_model_advanced", {"multiplier": 0.7}),
}
ABOVE_ONE = kdist.NegativeWindow(4.0, 0.5, 4.0, inside=1.5, after=3.0)


@pytest.mark.parametrize("first", [True, False], ids=["before", "after"])
@pytest.mark.parametrize("name", GUIDANCE_NODES)
def test_with_other_guidance_nodes(model, name, first):
    module, options = GUIDANCE_NODES[name]
    (patched,) = node(module, name, model=model, **options)
    expected = run(guider_of(overridden(patched, ABOVE_ONE)))
    ours = (
        apply_schedule(patched, ABOVE_ONE)
        if first
        else node(module, name, model=apply_schedule(model, ABOVE_ONE), **options)[0]
    )
    close(run(guider_of(ours, cfg=1.0)), expected)
    assert not torch.allclose(expected, run(guider_of(overridden(model, ABOVE_ONE))), rtol=1e-2)


def test_no_finite_number_is_said(model):
    module, options = GUIDANCE_NODES["APG"]
    (patched,) = node(module, "APG", model=model, **options)
    with pytest.raises(ValueError, match="by which another node divides"):
        run(guider_of(apply_schedule(patched, kdist.LateNegative(3.0, 2.0))))


def perp_neg(model):
    guider = node("nodes_perpneg", "PerpNegGuider", model=model, positive=POSITIVE, negative=NEGATIVE,
                  empty_conditioning=prompt(6), cfg=3.0, neg_scale=1.0)  # fmt: skip
    return guider[0]


def dual_cfg(model, style="regular"):
    guider = node("nodes_custom_sampler", "DualCFGGuider", model=model, cond1=POSITIVE, cond2=prompt(6),
                  negative=NEGATIVE, cfg_conds=3.0, cfg_cond2_negative=1.5, style=style)  # fmt: skip
    return guider[0]


def dual_model(model, cfg=3.0):
    try:
        return node("nodes_custom_sampler", "DualModelGuider", model=model, positive=POSITIVE, negative=NEGATIVE,
                    model_negative=patcher(seed=1), cfg=cfg)[0]  # fmt: skip
    except AttributeError:
        pytest.skip("this checkout has no DualModelGuider")


@pytest.mark.parametrize("make", [perp_neg, dual_cfg, lambda m: dual_cfg(m, "nested"), dual_model])
@pytest.mark.parametrize("schedule", SCHEDULES[:3])
def test_other_guiders(model, make, schedule):
    close(run(make(apply_schedule(model, schedule))), run(make(overridden(model, schedule))))


def test_what_other_guiders_cannot_do_is_said(model):
    with pytest.raises(ValueError, match="combines its predictions itself"):
        run(perp_neg(apply_schedule(model, SCHEDULES[0], rule=rules.projected)))
    limited = perp_neg(apply_schedule(model, SCHEDULES[0]))
    limited.set_conds(POSITIVE, prompt(2, **RANGE), prompt(6))
    with pytest.raises(ValueError, match="negative prompt is limited"):
        run(limited)
    with pytest.raises(ValueError, match="cfg 1 DualModelGuider"):
        run(dual_model(apply_schedule(model, SCHEDULES[0]), cfg=1.0))
    (basic,) = node(
        "nodes_custom_sampler", "BasicGuider", model=apply_schedule(model, SCHEDULES[2]), conditioning=POSITIVE
    )
    with pytest.raises(ValueError, match="no negative condition"):
        run(basic)
    (rescaled,) = node("nodes_model_advanced", "RescaleCFG", model=model, multiplier=0.7)
    with pytest.raises(ValueError, match="two nodes combine"):
        run(guider_of(apply_schedule(rescaled, SCHEDULES[0], rule=rules.projected)))
    with pytest.raises(ValueError, match="rows of a batch"):
        apply_schedule(model, kdist.PerClass({0: 2.0}))


@pytest.mark.parametrize("flow", [False, True])
def test_rules_act_on_denoised_images(model, flow_model, flow):
    """The same rule in a guider written out here; a flow's sample is x / (1 - s) in kdist's terms."""
    base, rule, schedule = flow_model if flow else model, rules.projected, SCHEDULES[0]

    class Ruled(Reference):
        def predict_noise(self, x, timestep, model_options=None, seed=None):
            conds = [self.conds["positive"], self.conds["negative"]]
            found = comfy.samplers.calc_cond_batch(self.inner_model, conds, x, timestep, model_options)
            level = sigma_of(self.inner_model, timestep).view(-1, 1, 1, 1)
            return rule(*found, schedule(level), x * (1 + level) if flow else x, level)

    sigmas = levels_of(base, scheduler="simple")
    expected = run(guider_of(base, kind=Ruled, schedule=schedule), "heun", sigmas)
    guided, rows = counted(apply_schedule(base, schedule, rule=rule))
    close(run(guider_of(guided), "heun", sigmas), expected)
    assert len(rows) < 4 * STEPS  # the rule is one prediction at scale 1


@pytest.mark.parametrize("sampler", ["dpmpp_2m", "euler_cfg_pp"])
def test_weak_model(model, sampler):
    weak, schedule = patcher(seed=1), SCHEDULES[1]
    comfy.model_management.load_models_gpu([weak])
    weak.pre_run()

    class Auto(Reference):
        def predict_noise(self, x, timestep, model_options=None, seed=None):
            entries = self.conds["positive"]
            found = [
                comfy.samplers.calc_cond_batch(network, [entries], x, timestep, model_options)[0]
                for network in (self.inner_model, weak.model)
            ]
            scale = float(schedule(timestep[:1]))
            return comfy.samplers.cfg_function(
                self.inner_model, *found, scale, x, timestep, model_options=model_options
            )

    expected = run(guider_of(model, kind=Auto, schedule=schedule), sampler)
    weak.cleanup()
    close(run(guider_of(apply_schedule(model, schedule, weak_model=weak)), sampler), expected)


def test_weak_model_that_does_not_fit(model):
    lora = model.clone()
    lora.add_patches({next(iter(model.model.state_dict())): (torch.zeros(1),)})
    with pytest.raises(ValueError, match="shares its weights"):
        apply_schedule(model, SCHEDULES[0], weak_model=lora)
    other = SimpleNamespace(model=SimpleNamespace(), is_clone=lambda _: False)
    with pytest.raises(ValueError, match="same architecture"):
        apply_schedule(model, SCHEDULES[0], weak_model=other)


def test_the_last_node_holds_and_the_model_before_stays_as_it_was(model):
    twice = apply_schedule(apply_schedule(model, kdist.Constant(9.0)), SCHEDULES[0])
    close(run(guider_of(twice)), run(guider_of(apply_schedule(model, SCHEDULES[0]))))
    assert not model.wrappers.get("predict_noise")
    assert math.isclose(guider_of(model).cfg, 8.0)


# The pack


def test_percent_of_the_steps(model):
    """Of the steps of this run, whatever its scheduler: the third of five is the first at scale 0."""
    from kdist.schedules import InTerms

    late = InTerms("percent", kdist.LateNegative, {"scale": 3.0, "sigma_switch": 40})
    for scheduler in ("karras", "simple"):
        sigmas = levels_of(model, scheduler=scheduler)
        fixed = apply_schedule(model, kdist.LateNegative(3.0, float(sigmas[2])))
        guided, rows = counted(apply_schedule(model, late))
        close(run(guider_of(guided), sigmas=sigmas), run(guider_of(fixed), sigmas=sigmas))
        assert len(rows) == 2 * 2 + 3


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
