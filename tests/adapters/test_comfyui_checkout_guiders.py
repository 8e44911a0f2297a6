"""The nodes inside ComfyUI itself, beside its other guidance nodes and guiders: the schedule's scale is theirs.

Run as ``test_comfyui_checkout.py``.
"""

import importlib

import pytest
import torch
from comfyui_checkout import NEGATIVE, POSITIVE, RANGE, SCHEDULES, close, guider_of, patcher, prompt, run

import kdist
from kdist import rules
from kdist.adapters.comfyui.hooks import apply_schedule


@pytest.fixture(scope="module")
def model():
    return patcher()


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
