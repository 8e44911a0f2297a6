"""Distortion against the number of classes, on one trained network with everything else held fixed.

The network (``scripts/glyphs/train.py``) has one null token per nested set of classes. Always the same classes, those
of the smallest set, are sampled from the same noise by the same solver with the same schedule; only the null token
changes, that is, how many classes the unconditional branch believes in. Samples are kept as they are made, keyed by
weights and settings. ``python scripts/reproduce.py --only F8`` runs it.

Distortion is measured on pixels in [-1, 1] against held-out images. Overshoot points away from the mean of *all*
classes for every set, so that its unit does not change. The judge of accuracy is a Parzen classifier on 24 training
images of every class: most likely class among those of the set.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import track

import kdist
from kdist import digits, solvers
from kdist.evals import measure
from kdist.files import written_atomically
from kdist.theory.mean_shift import overshoot
from scripts.glyphs import data as glyphs
from scripts.glyphs import figures as glyph_figures
from scripts.glyphs import theory as glyph_theory

__all__ = [
    "SCHEDULES",
    "SOLVERS",
    "Judge",
    "Plan",
    "measure_all",
    "null_check",
    "observe",
    "paired_difference",
    "predict",
    "shown",
]

SCHEDULES: dict[str, kdist.Schedule] = {
    "1": kdist.Constant(1.0),
    "1.5": kdist.Constant(1.5),
    "2": kdist.Constant(2.0),
    "4": kdist.Constant(4.0),
    "window": kdist.NegativeWindow(scale=3.0, sigma_lo=0.3, sigma_hi=1.0),
    "late": kdist.LateNegative(scale=3.0, sigma_switch=1.0),
    "early": kdist.EarlyNegative(scale=3.0, sigma_switch=4.0, sigma_end=0.1),  # tried on seed 1
}
CONSTANTS = ("1", "1.5", "2", "4")  # what the exact mixture, costly with many classes, is sampled with
SOLVERS = {"dpmpp_2m": 0.0, "euler_ancestral": 1.0}  # with the noise that theory gives them
JUDGE_WIDTH, JUDGE_IMAGES = 0.5, 24  # accuracy on held-out images hardly changes for widths from 0.3 to 1

Model = Callable[..., torch.Tensor]


class Judge:
    """A Parzen classifier: the class whose training images, each a Gaussian bump, make the image most likely."""

    def __init__(self, train: glyphs.Glyphs, *, width: float = JUDGE_WIDTH, per_class: int = JUDGE_IMAGES) -> None:
        counts = torch.bincount(train.labels)
        per_class = min(per_class, int(counts.min()))
        starts = counts.cumsum(0) - counts
        rows = starts[:, None] + torch.arange(per_class)
        self.images = glyphs.to_model(train.images[rows.flatten()]).flatten(1)
        self.per_class, self.width = per_class, width

    def log_likelihoods(self, x: torch.Tensor) -> torch.Tensor:
        """(N, classes), up to a constant, of images (N, ...)."""
        squares = torch.cdist(x.flatten(1).float(), self.images).square()
        return torch.logsumexp(-squares.unflatten(1, (-1, self.per_class)) / (2 * self.width**2), 2)


class Plan:
    """What is sampled: ``per_class`` images of each class of the smallest set, the same noise every time.

    Args:
        key: tells the model apart from others in the cache's file names.
        model: a k-diffusion denoiser with ``class_cond``.
        folder: the cache.
        classes, per_class, steps, seed: what is sampled.
        shape: the shape of one image.
    """

    def __init__(
        self,
        key: str,
        model: Model,
        folder: Path,
        *,
        classes: int,
        per_class: int,
        steps: int = 20,
        seed: int = 0,
        shape: tuple[int, ...] = (1, 16, 16),
    ) -> None:
        self.model, self.folder, self.shape, self.steps, self.seed = model, folder, shape, steps, seed
        self.labels = torch.arange(classes).repeat_interleave(per_class)
        self.key = f"{key}-{classes}x{per_class}-{steps}-{seed}"

    def samples(self, solver: str, schedule: kdist.Schedule, null: int, tokens: torch.Tensor | None = None) -> Any:
        """(N, 1, size, size) float32, from the cache or sampled now (``tokens``: other classes than the plan's)."""
        tokens = self.labels if tokens is None else tokens
        text = f"{self.key} {solver} {schedule.to_dict()} {null} {tokens.tolist()}"
        path = self.folder / f"{hashlib.sha256(text.encode()).hexdigest()[:20]}.npz"
        if not path.is_file():
            x = self._sample(solver, schedule, null, tokens).numpy().astype(np.float16)
            # an open file, as savez would add an ending to the partial one's name
            written_atomically(path, lambda partial: _savez(partial, x))
        with np.load(path) as arrays:
            return torch.from_numpy(arrays["x"]).float()

    @torch.no_grad()
    def _sample(self, solver: str, schedule: kdist.Schedule, null: int, tokens: torch.Tensor) -> torch.Tensor:
        generator = torch.Generator().manual_seed(self.seed)
        sigmas = digits.sigmas(self.steps)
        x = torch.randn(len(tokens), *self.shape, generator=generator) * sigmas[0]
        options: dict[str, Any] = {}
        if SOLVERS[solver]:
            options["noise_sampler"] = lambda *_: torch.randn(x.shape, generator=generator)
        guided = kdist.guide(self.model, schedule, uncond={"class_cond": null})
        return solvers.sample(solver, guided, x, sigmas, extra_args={"class_cond": tokens}, **options)


def _savez(path: Path, x: np.ndarray) -> None:
    with path.open("wb") as file:
        np.savez_compressed(file, x=x)


def measure_all(
    plan: Plan,
    sets: Sequence[int],
    nulls: Sequence[int],
    real: glyphs.Glyphs,
    origin: torch.Tensor,
    judge: Judge | None,
    *,
    schedules: Mapping[str, kdist.Schedule] = SCHEDULES,
    solver_names: Sequence[str] = tuple(SOLVERS),
    resamples: int = 199,
    description: str = "sampling",
) -> list[dict[str, Any]]:
    """A row of numbers for every solver, schedule and set.

    Args:
        plan: what to sample.
        sets, nulls: numbers of classes and the ``class_cond`` that stands for each.
        real: held-out images of the plan's classes.
        origin: (d,) the mean of all classes, from which overshoot points away.
        judge: the judge of accuracy; None for none.
        schedules: by the name that their rows get. Schedule ``1`` needs no token: one row, set 0.
        solver_names: keys of :data:`SOLVERS`.
        resamples: the number behind each floor.
    """
    jobs = [
        (solver, name, classes, null)
        for solver in solver_names
        for name in schedules
        for classes, null in (((0, nulls[0]),) if name == "1" else zip(sets, nulls, strict=True))
    ]
    judged_real = None if judge is None else judge.log_likelihoods(glyphs.to_model(real.images))
    rows: list[dict[str, Any]] = []
    for solver, name, classes, null in track(jobs, description=description):
        x = plan.samples(solver, schedules[name], null)
        row: dict[str, Any] = {"solver": solver, "schedule": name, "set": classes}
        judged = {}
        if judge is not None and judged_real is not None:
            likelihoods = judge.log_likelihoods(x)
            among = [classes] if classes else list(sets)
            row["accuracy"] = {str(p): _share(likelihoods[:, :p].argmax(1) == plan.labels) for p in among}
            row["accuracy_real"] = {str(p): _share(judged_real[:, :p].argmax(1) == real.labels) for p in among}
            judged = {
                "real_predictions": judged_real[:, : sets[0]].argmax(1),
                "fake_predictions": likelihoods[:, : sets[0]].argmax(1),
            }
        report = measure(
            glyphs.to_model(real.images).flatten(1),
            x.flatten(1),
            real.labels,
            plan.labels,
            global_mean=origin,
            resamples=resamples,
            subspace=0,
            splits=0,
            neighbour_queries=0,
            fid=False,
            **judged,
        )
        for quantity in ("energy_distance", "displacement", "overshoot", "trace_ratio", "trace_ratio_correct"):
            estimate = getattr(report.pooled, quantity)
            if estimate is not None:
                row[quantity] = [float(estimate), *estimate.interval]
                row[f"{quantity}_floor"] = list(estimate.floor.interval) if estimate.floor is not None else None
        row["trace_ratio_by_class"] = [float(entry.trace_ratio) for entry in report.classes]
        row["overshoot_by_class"] = [float(entry.overshoot) for entry in report.classes]
        rows.append(row)
    return rows


def _share(right: torch.Tensor) -> list[float]:
    """A share with its 95 % Wilson interval."""
    from scipy.stats import binomtest

    result = binomtest(int(right.sum()), len(right))
    return [result.statistic, *result.proportion_ci(method="wilson")]


def paired_difference(
    first: torch.Tensor,
    second: torch.Tensor,
    labels: torch.Tensor,
    means: torch.Tensor,
    origin: torch.Tensor,
    *,
    resamples: int = 999,
    seed: int = 0,
) -> dict[str, list[float]]:
    """Second minus first in overshoot and in log trace, averaged over classes, with 95 % bootstrap intervals.

    Both were sampled from the same noise, so images are resampled in pairs: what they share cancels.

    Args:
        first, second: (N, ...) samples.
        labels: (N,) their classes, 0..K-1.
        means: (K, d) true class means.
        origin: (d,) as in :func:`measure_all`.
    """
    generator = torch.Generator().manual_seed(seed)
    totals = {"overshoot": torch.zeros(resamples + 1), "log_trace": torch.zeros(resamples + 1)}
    classes = labels.unique()
    for label in classes.tolist():
        pair = [x.flatten(1).double()[labels == label] for x in (first, second)]
        n = len(pair[0])
        draws = torch.randint(n, (resamples, n), generator=generator)
        weights = torch.zeros(resamples, n, dtype=torch.float64).scatter_add_(
            1, draws, torch.ones(draws.shape, dtype=torch.float64)
        )
        weights = torch.cat([torch.ones(1, n, dtype=torch.float64), weights]) / n  # the samples themselves first
        for sign, x in zip((-1, 1), pair, strict=True):
            mean = weights @ x
            trace = weights @ x.square().sum(1) - mean.square().sum(1)
            totals["overshoot"] += (sign * overshoot(mean, means[label].double(), origin.double())).float()
            totals["log_trace"] += (sign * trace.log()).float()
    result = {}
    for name, values in totals.items():
        values = values / len(classes)
        result[name] = [float(values[0]), *values[1:].quantile(torch.tensor([0.025, 0.975])).tolist()]
    return result


def null_check(
    plan: Plan, sets: Sequence[int], nulls: Sequence[int], held_out: glyphs.Glyphs, judge: Judge, *, number: int = 256
) -> list[dict[str, Any]]:
    """Does each null token sample its own set: where the judge places samples, and where real images of that set.

    Per set: ``generated``, ``by_class`` and ``real``, the share that the judge, choosing among *all* classes, places in
    each nested set, of the null token's samples, of samples of the set's classes by their own tokens, and of images;
    the ratio of the first and last law's traces; ``error``, how well every set's null token denoises this set's images.
    """
    rows = []
    counts = torch.bincount(held_out.labels)
    starts = counts.cumsum(0) - counts
    for classes, null in zip(sets, nulls, strict=True):
        generator = torch.Generator().manual_seed(plan.seed)
        labels = torch.randint(classes, (number,), generator=generator)
        share = torch.rand(number, generator=generator, dtype=torch.float64)
        real = glyphs.to_model(held_out.images[starts[labels] + (share * counts[labels]).long()])
        fake = plan.samples("dpmpp_2m", SCHEDULES["1"], null, torch.full((number,), null))
        own = plan.samples("dpmpp_2m", SCHEDULES["1"], null, labels)
        row: dict[str, Any] = {"set": classes}
        for name, x in (("generated", fake), ("by_class", own), ("real", real)):
            placed = judge.log_likelihoods(x).argmax(1)
            row[name] = {str(p): _share(placed < p) for p in sets}
        row["trace_ratio"] = float(fake.flatten(1).var(0).sum() / real.flatten(1).var(0).sum())
        row["error"] = {str(p): denoising_error(plan.model, real, token) for p, token in zip(sets, nulls, strict=True)}
        rows.append(row)
    return rows


@torch.no_grad()
def denoising_error(model: Model, x: torch.Tensor, token: int, *, sigma: float = 1.0, seed: int = 0) -> float:
    """Mean squared error per image of ``model`` with ``token`` at one noise level, the same noise for all tokens."""
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))
    levels, tokens = torch.full((len(x),), sigma), torch.full((len(x),), token)
    return float((model(x + sigma * noise, levels, class_cond=tokens) - x).square().flatten(1).sum(1).mean())


def predict(
    train: glyphs.Glyphs, real: glyphs.Glyphs, sets: Sequence[int], folder: Path, **sampled: int
) -> dict[str, Any]:
    """What theory says: spectrum, rows of the exact mixture's samples (``sampled``: see :class:`Plan`), rows of the
    mean field."""
    origin = glyph_theory.class_means(train).mean(0)
    empirical = []
    for classes in sets:
        mixture = glyph_theory.empirical_mixture(train.first(classes))
        key = f"mixture-{glyph_theory.WIDTH}-{glyph_theory.MOST}"
        plan = Plan(key, mixture, folder, classes=sets[0], **sampled)
        options: dict[str, Any] = {"resamples": 0, "description": f"exact mixture of {classes}"}
        names = CONSTANTS if classes == sets[0] else CONSTANTS[1:]
        options["schedules"] = {name: SCHEDULES[name] for name in names}
        empirical += measure_all(plan, [classes], [classes], real, origin, None, **options)
    spectrum = glyph_theory.Spectrum.of(train)
    guided = {name: schedule for name, schedule in SCHEDULES.items() if name != "1"}
    mean_field = glyph_theory.mean_field_rows(spectrum, guided, SOLVERS, max(sets))
    return {"spectrum": spectrum.to_dict(), "empirical": empirical, "mean_field": mean_field}


def observe(
    plan: Plan, train: glyphs.Glyphs, held_out: glyphs.Glyphs, sets: Sequence[int], nulls: Sequence[int]
) -> dict[str, Any]:
    """What the network does: the check of its null tokens, a row per setting, the largest set against the smallest."""
    judge, means, real = Judge(train), glyph_theory.class_means(train), held_out.first(sets[0])
    origin = means.mean(0)
    checked = null_check(plan, sets, nulls, held_out, judge, number=min(256, 2 * len(plan.labels)))
    rows = measure_all(plan, sets, nulls, real, origin, judge)
    paired = []
    for solver in SOLVERS:
        for name in list(SCHEDULES)[1:]:
            few, many = (plan.samples(solver, SCHEDULES[name], null) for null in (nulls[0], nulls[-1]))
            difference = paired_difference(few, many, plan.labels, means, origin)
            paired.append({"solver": solver, "schedule": name, "from": sets[0], "to": sets[-1], **difference})
    return {"null_check": checked, "network": rows, "paired": paired}


def shown(plan: Plan, held_out: glyphs.Glyphs, nulls: Sequence[int], *, each: int = 10) -> dict[str, Any]:
    """A few images of every class for the eye, as sheets: see :func:`glyph_figures.sheet`."""
    laws = {"held-out images": (glyphs.to_model(held_out.images), held_out.labels)}
    laws["scale 1"] = (plan.samples("dpmpp_2m", SCHEDULES["1"], nulls[0]), plan.labels)
    for name, null in (("smallest", nulls[0]), ("largest", nulls[-1])):
        laws[f"scale 4, {name} set"] = (plan.samples("dpmpp_2m", SCHEDULES["4"], null), plan.labels)
    return {name: glyph_figures.sheet(x, labels, each) for name, (x, labels) in laws.items()}
