"""The nodes inside ComfyUI itself: all of its samplers, a tiny random network of its own classes.

Run with the folder of a checkout (and the packages that it needs):

    KDIST_COMFYUI=path/to/ComfyUI python -m pytest tests/adapters -k checkout
"""

import math
from types import SimpleNamespace

import pytest
import torch
from comfyui_checkout import (
    RANGE,
    SAMPLERS,
    SCHEDULES,
    STEPS,
    Reference,
    close,
    comfy,
    counted,
    guider_of,
    levels_of,
    patcher,
    prompt,
    run,
)  # fmt: skip

import kdist
from kdist import rules
from kdist.adapters.comfyui.hooks import apply_schedule, sigma_of


@pytest.fixture(scope="module")
def model():
    return patcher()


@pytest.fixture(scope="module")
def flow_model():
    return patcher(flow=True)


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
