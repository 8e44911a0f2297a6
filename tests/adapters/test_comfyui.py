"""The ComfyUI nodes, in a small host that keeps ComfyUI's contract for model options and custom-node folders.

The contract, as ComfyUI's sampler has it: ``predict_noise`` wrappers stand around every call, with the guider at hand;
the passes come from ``sampler_calc_cond_batch_function`` if there is one, else from ``comfy.samplers.calc_cond_batch``;
a condition that is None, or outside its range of noise levels, leaves zeros; at cfg 1 the negative condition becomes
None unless ``disable_cfg1_optimization``; ``sampler_cfg_function`` maps differences ``input - denoised`` to one; models
are patched on a clone. ``test_comfyui_checkout.py`` runs the same in ComfyUI itself.
"""

import copy
import functools
import importlib.util
import json
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

import kdist
import kdist.adapters.comfyui as nodes_package
from kdist.compat import import_k_diffusion

K = import_k_diffusion()
FOLDER = Path(nodes_package.__file__).parent


class Network:
    """Predicts denoised images; every condition is a vector of weights. Counts rows."""

    def __init__(self, model_sampling=None):
        self.model_sampling = model_sampling
        self.rows = 0

    def __call__(self, x, sigma, weight):
        self.rows += len(x)
        return weight.view(-1, 1, 1, 1) * x / (1 + sigma.view(-1, 1, 1, 1) ** 2)


class Patcher:
    """The part of ComfyUI's ModelPatcher that sampler nodes use."""

    def __init__(self, network):
        self.model = network
        self.model_options = {"transformer_options": {}}
        self.wrappers = {}

    def clone(self):
        other = Patcher(self.model)
        other.model_options = copy.deepcopy(self.model_options)
        other.wrappers = dict(self.wrappers)
        return other

    def add_wrapper_with_key(self, kind, key, wrapper):
        assert kind == "predict_noise"
        self.wrappers[key] = wrapper

    def remove_wrappers_with_key(self, kind, key):
        self.wrappers.pop(key, None)


def calc_cond_batch(model, conds, x, sigma, model_options):
    """Every condition is a list of entries {"weight", "timestep_start", "timestep_end"}, or None."""
    predictions = []
    for entries in conds:
        prediction = torch.zeros_like(x)
        for entry in entries or []:
            if entry.get("timestep_end", 0.0) <= float(sigma[0]) <= entry.get("timestep_start", float("inf")):
                prediction = prediction + model(x, sigma, entry["weight"].expand(len(x)))
        predictions.append(prediction)
    return predictions


class Sampler:
    """A guider: k-diffusion asks it for denoised images, it asks the patched model inside the wrappers."""

    def __init__(self, patcher, positive, negative, cfg):
        self.model_patcher, self.inner_model, self.cfg = patcher, patcher.model, cfg
        self.conds = {"positive": positive, "negative": negative}
        self.seen = []

    def __call__(self, x, sigma):
        call = self.predict_noise
        for wrapper in self.model_patcher.wrappers.values():
            call = functools.partial(wrapper, Executor(call, self))
        return call(x, sigma, self.model_patcher.model_options, 0)

    def predict_noise(self, x, sigma, options, seed):
        shortcut = abs(self.cfg - 1) < 1e-9 and not options.get("disable_cfg1_optimization", False)
        conds = [self.conds["positive"], None if shortcut else self.conds["negative"]]
        args = {"conds": conds, "input": x, "sigma": sigma, "model": self.inner_model, "model_options": options}
        if "sampler_calc_cond_batch_function" in options:
            cond, uncond = options["sampler_calc_cond_batch_function"](args)
        else:
            cond, uncond = calc_cond_batch(self.inner_model, conds, x, sigma, options)
        self.seen.append((cond, uncond))
        if "sampler_cfg_function" not in options:
            return uncond + self.cfg * (cond - uncond)
        return x - options["sampler_cfg_function"](
            {
                "cond": x - cond,
                "uncond": x - uncond,
                "cond_scale": self.cfg,
                "sigma": sigma,
                "input": x,
                "cond_denoised": cond,
                "uncond_denoised": uncond,
            }
        )


class Executor:
    """What a wrapper receives: called, it runs what is wrapped."""

    def __init__(self, call, guider):
        self.call, self.class_obj = call, guider

    def __call__(self, *args):
        return self.call(*args)


@pytest.fixture(autouse=True)
def comfy(monkeypatch):
    """``import comfy.samplers`` as inside ComfyUI."""
    package, samplers = ModuleType("comfy"), ModuleType("comfy.samplers")
    samplers.calc_cond_batch = calc_cond_batch
    package.samplers = samplers
    monkeypatch.setitem(sys.modules, "comfy", package)
    monkeypatch.setitem(sys.modules, "comfy.samplers", samplers)


def load(folder):
    """As ComfyUI imports a custom-node folder."""
    name = str(folder).replace(".", "_x_")
    spec = importlib.util.spec_from_file_location(name, folder / "__init__.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def run_node(name, **inputs):
    node = nodes_package.NODE_CLASS_MAPPINGS[name]
    declared = node.INPUT_TYPES()["required"]
    assert set(inputs) == set(declared)
    outputs = getattr(node(), node.FUNCTION)(**inputs)
    outputs = outputs["result"] if isinstance(outputs, dict) else outputs
    assert len(outputs) == len(node.RETURN_TYPES)
    return outputs


POSITIVE = [{"weight": torch.tensor(0.9)}]
NEGATIVE = [{"weight": torch.tensor(0.5)}]
SIGMAS = torch.tensor([14.6, 6.0, 3.0, 1.5, 0.7, 0.3, 0.1, 0.03, 0.0])
WINDOW = {"scale": 4.0, "sigma_lo": 0.2, "sigma_hi": 2.0, "inside": 0.0, "after": 1.0}


def start():
    return torch.randn(2, 4, 2, 2, generator=torch.Generator().manual_seed(0)) * SIGMAS[0]


def reference(schedule, sampler):
    network = Network()

    def denoiser(x, sigma, weight):
        return network(x, sigma, weight)

    guided = kdist.guide(denoiser, schedule, uncond={"weight": torch.full((2,), 0.5)})
    extra_args = {"weight": torch.full((2,), 0.9)}
    return sampler(guided, start(), SIGMAS, extra_args=extra_args, disable=True), network.rows


@pytest.mark.parametrize("solver", ["euler", "heun", "dpmpp_2m", "dpm_2"])
@pytest.mark.parametrize("cfg", [7.0, 1.0])
def test_window_equals_kdist_in_the_same_solver(solver, cfg):
    """The same image and the same number of network rows, whatever cfg the sampler says, shortcut or not."""
    patcher = Patcher(Network())
    model, schedule = run_node("KdistNegativeWindow", model=patcher, **WINDOW)
    assert schedule == kdist.NegativeWindow(**WINDOW)
    sampler = getattr(K.sampling, f"sample_{solver}")
    image = sampler(Sampler(model, POSITIVE, NEGATIVE, cfg), start(), SIGMAS, disable=True)
    expected, rows = reference(schedule, sampler)
    torch.testing.assert_close(image, expected, rtol=1e-4, atol=1e-5)  # float32, x - (x - denoised)
    assert model.model.rows == rows == 2 * schedule.nfe(SIGMAS, solver)
    assert patcher.model_options == {"transformer_options": {}}  # the node before keeps its model as it was
    assert not patcher.wrappers


@pytest.mark.parametrize(
    ("node", "values", "expected_schedule"),
    [
        ("KdistLateNegative", {"late": 0.0}, kdist.LateNegative(3.0, 1.0)),
        ("KdistEarlyNegative", {"early": 0.0, "sigma_end": 0.2}, kdist.EarlyNegative(3.0, 1.0, sigma_end=0.2)),
    ],
)
def test_one_switch(node, values, expected_schedule):
    model, schedule = run_node(node, model=Patcher(Network()), scale=3.0, sigma_switch=1.0, **values)
    sampler = Sampler(model, POSITIVE, NEGATIVE, 5.0)
    image = K.sampling.sample_euler(sampler, start(), SIGMAS, disable=True)
    expected, rows = reference(expected_schedule, K.sampling.sample_euler)
    torch.testing.assert_close(image, expected, rtol=1e-4, atol=1e-5)
    assert model.model.rows == rows
    # nodes that look at the predictions afterwards never see zeros for the pass that was left out
    assert all(cond.any() and uncond.any() for cond, uncond in sampler.seen)
    assert schedule == expected_schedule


def test_without_the_nodes_the_shortcut_gives_zeros():
    """The trap is in the host: the test of it would be empty otherwise."""
    sampler = Sampler(Patcher(Network()), POSITIVE, NEGATIVE, 1.0)
    sampler(start(), SIGMAS[:1].expand(2))
    assert not sampler.seen[0][1].any()


@pytest.mark.parametrize("missing", [0, 1])
@pytest.mark.parametrize("as_none", [False, True])
def test_zeros_from_elsewhere_are_no_prediction(missing, as_none):
    """Another node leaves a pass out: the other prediction is the answer, not guidance with zeros."""
    patcher = Patcher(Network())
    denoised = [torch.ones(2, 4, 2, 2), torch.ones(2, 4, 2, 2)]
    denoised[missing] = None if as_none else torch.zeros(2, 4, 2, 2)
    patcher.model_options["sampler_calc_cond_batch_function"] = lambda args: denoised
    model, _ = run_node("KdistNegativeWindow", model=patcher, **WINDOW)
    guided = Sampler(model, POSITIVE, NEGATIVE, 7.0)(start(), SIGMAS[:1].expand(2))
    torch.testing.assert_close(guided, torch.ones_like(guided), rtol=0, atol=0)


@pytest.mark.parametrize("limited", ["positive", "negative"])
@pytest.mark.parametrize("scale", [4.0, 1.0, 0.0])
def test_prompts_with_a_range_of_steps(scale, limited):
    """ConditioningSetTimestepRange: outside the range its prediction is missing, and the other one stands, also where
    the schedule asks for the missing one alone."""
    model, _ = run_node("KdistSchedule", model=Patcher(Network()), schedule=str(scale))
    conds = {"positive": [dict(POSITIVE[0])], "negative": [dict(NEGATIVE[0])]}
    conds[limited][0]["timestep_end"] = 1.0
    sampler = Sampler(model, conds["positive"], conds["negative"], 7.0)
    x = start()
    for level, inside in ((3.0, True), (0.3, False)):
        sigma = torch.full((2,), level)
        cond, uncond = (Network()(x, sigma, torch.full((2,), w)) for w in (0.9, 0.5))
        if not inside:
            cond = uncond = uncond if limited == "positive" else cond
        torch.testing.assert_close(sampler(x, sigma), uncond + scale * (cond - uncond), rtol=1e-4, atol=1e-5)


def test_no_prompt_at_all_at_a_noise_level():
    model, _ = run_node("KdistSchedule", model=Patcher(Network()), schedule="4")
    limited = [{"weight": torch.tensor(0.5), "timestep_end": 1.0}]
    with pytest.raises(ValueError, match="no prompt says anything at noise level"):
        Sampler(model, limited, limited, 7.0)(start(), torch.full((2,), 0.5))


def test_no_negative_condition_at_all():
    """BasicGuider has none: an error where it is needed, nothing where it is not."""
    model, _ = run_node("KdistLateNegative", model=Patcher(Network()), scale=1.0, sigma_switch=1.0, late=0.0)
    sampler = Sampler(model, POSITIVE, None, 1.0)
    sampler(start(), torch.full((2,), 3.0))
    with pytest.raises(ValueError, match="no negative condition"):
        sampler(start(), torch.full((2,), 0.5))


def test_mixed_noise_levels_run_both_passes():
    model, schedule = run_node("KdistNegativeWindow", model=Patcher(Network()), **WINDOW)
    sigma, x = torch.tensor([3.0, 1.0]), start()
    cond, uncond = (Network()(x, sigma, torch.full((2,), w)) for w in (0.9, 0.5))
    expected = uncond + schedule(sigma).view(-1, 1, 1, 1) * (cond - uncond)
    torch.testing.assert_close(Sampler(model, POSITIVE, NEGATIVE, 7.0)(x, sigma), expected, rtol=1e-4, atol=1e-5)


def test_flow_models_count_noise_from_0_to_1():
    """sigma = s / (1 - s): the window 0.2..2 of sigma is 1/6..2/3 of s; s = 1 is an infinite sigma."""

    class CONST:
        pass

    class FluxSampling(CONST):
        pass

    network = Network(model_sampling=FluxSampling())
    model, _ = run_node("KdistNegativeWindow", model=Patcher(network), **WINDOW)
    for s, rows in ((1.0, 4), (0.7, 4), (0.66, 2), (0.17, 2), (0.16, 2)):
        network.rows = 0
        out = Sampler(model, POSITIVE, NEGATIVE, 7.0)(start(), torch.full((2,), s))
        assert out.isfinite().all()
        assert network.rows == rows
        weight = {0.66: 0.5, 0.17: 0.5, 0.16: 0.9}.get(s)  # unconditional inside, conditional below
        if weight:
            expected = Network()(start(), torch.full((2,), s), torch.full((2,), weight))
            torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-5)


def test_earlier_hook_is_asked():
    patcher = Patcher(Network())
    asked = []

    def earlier(args):
        asked.append(args["conds"])
        return calc_cond_batch(args["model"], args["conds"], args["input"], args["sigma"], args["model_options"])

    patcher.model_options["sampler_calc_cond_batch_function"] = earlier
    model, _ = run_node("KdistLateNegative", model=patcher, scale=3.0, sigma_switch=1.0, late=0.0)
    Sampler(model, POSITIVE, NEGATIVE, 7.0)(start(), torch.full((2,), 0.5))
    assert asked == [[None, NEGATIVE]]


@pytest.mark.parametrize("hook", ["sampler_pre_cfg_function", "sampler_post_cfg_function", "sampler_cfg_function"])
def test_no_pass_is_left_out_where_others_look_at_it(hook):
    patcher = Patcher(Network())
    patcher.model_options[hook] = (lambda args: args["uncond"]) if hook == "sampler_cfg_function" else [lambda args: 1]
    model, _ = run_node("KdistLateNegative", model=patcher, scale=3.0, sigma_switch=1.0, late=0.0)
    sampler = Sampler(model, POSITIVE, NEGATIVE, 7.0)
    sampler(start(), torch.full((2,), 0.5))
    assert model.model.rows == 4
    assert not torch.equal(*sampler.seen[0])


def test_schedules_from_json_text_and_file(tmp_path):
    schedule = kdist.Piecewise((10.0, 1.0), (3.0, 0.5))
    path = tmp_path / "designed.json"
    schedule.to_json(path)
    node = nodes_package.NODE_CLASS_MAPPINGS["KdistSchedule"]
    for text in (schedule.to_json(), str(path), str(schedule), f"  {path}\n"):
        assert node.VALIDATE_INPUTS(schedule=text) is True
        assert run_node("KdistSchedule", model=Patcher(Network()), schedule=text)[1] == schedule
    before = node.IS_CHANGED(schedule=str(path))
    kdist.Constant(2.0).to_json(path)
    assert node.IS_CHANGED(schedule=str(path)) != before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (json.dumps({"kdist_schedule": 99, "type": "constant", "scale": 1}), "upgrade kdist"),
        (json.dumps({"type": "constant", "scale": 1, "colour": 2}), "colour"),
        ('{"type": ', "not JSON"),
        ("", "unknown schedule"),
        ("/no/such/file.json", "/no/such/file.json' cannot be read"),
        ("negative-window:scale=4,sigma_lo=2,sigma_hi=1", "below"),
        (str(kdist.PerClass({0: 2.0})), "differs between the rows of a batch"),
        (str(kdist.PerClass({0: 2.0}) + 1), "differs between the rows of a batch"),
    ],
)
def test_bad_schedules_are_said_before_anything_runs(text, message):
    node = nodes_package.NODE_CLASS_MAPPINGS["KdistSchedule"]
    assert message in node.VALIDATE_INPUTS(schedule=text)
    with pytest.raises(ValueError, match=message):
        run_node("KdistSchedule", model=Patcher(Network()), schedule=text)


def test_curve_is_an_image():
    options = {"sigma_min": 0.03, "sigma_max": 14.6, "width": 320, "height": 200}
    (image,) = run_node("KdistScheduleCurve", schedule=kdist.NegativeWindow(**WINDOW), **options)
    assert image.shape == (1, 200, 320, 3)
    assert image.dtype == torch.float32
    assert float(image.min()) >= 0
    assert float(image.max()) == 1.0
    (other,) = run_node("KdistScheduleCurve", schedule=kdist.Constant(2.0), **options)
    assert not torch.equal(image, other)
    with pytest.raises(ValueError, match="sigma_min"):
        run_node("KdistScheduleCurve", schedule=kdist.Constant(2.0), **{**options, "sigma_min": 20.0})


@pytest.mark.parametrize("how", ["copy", "symlink"])
def test_folder_works_copied_or_linked(tmp_path, how):
    target = tmp_path / "custom_nodes" / "kdist.nodes"
    target.parent.mkdir()
    if how == "copy":
        shutil.copytree(FOLDER, target)
    else:
        target.symlink_to(FOLDER)
    module = load(target)
    assert set(module.NODE_CLASS_MAPPINGS) == set(module.NODE_DISPLAY_NAME_MAPPINGS)
    for name, node in module.NODE_CLASS_MAPPINGS.items():
        assert name.startswith("Kdist")
        assert callable(getattr(node, node.FUNCTION))
        assert node.CATEGORY
        for kind, *_ in node.INPUT_TYPES()["required"].values():
            assert isinstance(kind, list) or kind in {"MODEL", "FLOAT", "INT", "STRING", "BOOLEAN", "KDIST_SCHEDULE"}
    model, _ = module.NODE_CLASS_MAPPINGS["KdistNegativeWindow"]().apply(model=Patcher(Network()), **WINDOW)
    Sampler(model, POSITIVE, NEGATIVE, 7.0)(start(), torch.full((2,), 1.0))
    assert model.model.rows == 2
