from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .generators import ModelGenerator, generator
from .options import Options, with_defaults

if TYPE_CHECKING:
    import torch
    from typing_extensions import Unpack

    from .search import Progress
    from .tuned import Tuned

__all__ = ["ModelGenerator", "Options", "generator", "tune"]


def tune(
    generate: Callable[..., torch.Tensor],
    *,
    labels: Any = None,
    real: Any = None,
    judge: Callable[[torch.Tensor], Any] | None = None,
    align: Callable[..., Any] | None = None,
    features: Callable[[torch.Tensor], Any] | None = None,
    accuracy: float | None = None,
    alignment: float | None = None,
    separability: float | None = None,
    displacement: float | None = None,
    calls_per_sample: float | None = None,
    calls: int | None = None,
    seed: int = 0,
    out: str | Path | None = None,
    progress: Callable[[Progress], Any] | None = None,
    **options: Unpack[Options],
) -> Tuned:
    """Find the schedule whose samples are closest to the real classes, under conditions, and certify it.

    What is minimised is the energy distance of each class's samples to its real images, mean over classes; without
    real images, to samples without guidance. All candidates are sampled from the same seeds; what is promising gets
    more of them. In the end the best is sampled from seeds that nothing was chosen by, beside a constant scale of the
    same accuracy.

    Args:
        generate: ``generate(schedule, labels, seeds) -> images``: one image for each label and seed, a tensor in the
            real images' range, each decided by its own label and seed. :func:`kdist.generator` makes one of a
            k-diffusion model.
        labels: the real images' labels; without real images, or with ``real=(images, labels)``, the classes or prompts
            to sample.
        real: real images (N, ...), or ``(images, labels)``.
        judge: images to labels (n,) or class probabilities (n, K), columns in the order of the sorted labels.
        align: ``align(images, labels)`` to (n,) numbers, e.g. CLIP's cosine of image and prompt.
        features: images to (n, d); None takes pixels, or their first 40 principal components where they are many.
        accuracy: smallest share of samples that the judge may recognise.
        alignment: smallest mean of ``align``.
        separability: smallest ratio of scatter between the classes to scatter within.
        displacement: farthest that class means may lie from the real ones, root mean square in units of the real
            classes' standard deviation.
        calls_per_sample: most network calls for one sample.
        calls: the budget of network calls, certification included; None: 300 samples of each class at full guidance.
        seed: decides everything that is drawn.
        out: folder for ``schedule.json``, ``report.html``, ``front.csv``, ``certified.json`` and ``study.db``; an
            interrupted run with the same arguments goes on where it stopped.
        progress: called with what was spent and the best so far.
        **options: how to search and where to keep the study, see :class:`kdist.tuning.Options`.

    Returns:
        ``.schedule``, ``.certified`` (the report on fresh seeds), ``.front`` (all that was tried).

    Raises:
        ValueError: arguments that do not fit, images that are not as promised, a budget too small to tell anything, a
            bound that nothing reaches, a study of another model.
        TypeError: an argument of another name.
        ImportError: Optuna is missing (``pip install 'kdist[tune]'``).

    Examples:
        >>> import kdist, torch
        >>> labels = torch.arange(40) % 2
        >>> real = torch.randn(40, 1, 1, 2, generator=torch.Generator().manual_seed(0)) + 2.0 * labels.view(-1, 1, 1, 1)
        >>> def generate(schedule, labels, seeds):  # stands for a model that wants 1 early and 2 late
        ...     moved = 2.0 * (schedule(10.0) - 1.0) ** 2 + 2.0 * (schedule(1.0) - 2.0) ** 2
        ...     noise = [torch.randn(1, 1, 2, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        ...     return torch.stack(noise) + (moved + 2.0 * torch.as_tensor(labels)).view(-1, 1, 1, 1)
        >>> tuned = kdist.tune(generate, real=(real, labels), sigmas=[10.0, 1.0, 0.0], calls=8000)
        >>> tuned.certified.better  # than the nearest constant scale, on fresh seeds
        True
    """
    inputs = {"labels": labels, "real": real, "judge": judge, "align": align, "features": features, "seed": seed}
    limits = {"accuracy": accuracy, "alignment": alignment, "separability": separability,
              "displacement": displacement, "calls_per_sample": calls_per_sample}  # fmt: skip
    return _run(generate, inputs, limits, with_defaults(options), calls, out, progress)


def _run(
    generate: Callable[..., torch.Tensor],
    inputs: Mapping[str, Any],
    limits: Mapping[str, float | None],
    options: Options,
    calls: int | None,
    out: str | Path | None,
    progress: Callable[[Progress], Any] | None,
) -> Tuned:
    """:func:`tune` with its arguments sorted: what a schedule is measured with, the conditions, how to search."""
    try:
        import optuna  # noqa: F401
    except ImportError as error:
        raise ImportError("tuning needs optuna: pip install 'kdist[tune]'") from error
    from .bounds import make_bounds
    from .problem import make_problem
    from .space import FAMILIES, Space
    from .tuned import run

    bounds = tuple(make_bounds(limits))
    if limits["accuracy"] is not None and inputs["judge"] is None:
        raise ValueError("accuracy needs a judge: judge(images) -> labels or probabilities")
    if limits["alignment"] is not None and inputs["align"] is None:
        raise ValueError("alignment needs align(images, labels) -> one number for each image")
    sigmas = options["sigmas"]
    levels = None if sigmas is None else [float(sigma) for sigma in sigmas]
    problem = make_problem(generate, **inputs, sigmas=levels, reference_per_class=50)
    space = Space(
        problem.seen.levels,
        problem.seen.share,
        options["scales"],
        tuple(options["families"] or FAMILIES),
        dict(options["choices"] or {}),
    )
    return run(
        problem,
        space,
        bounds,
        calls=calls or 300 * 2 * len(problem.seen.called) * len(problem.classes),
        per_class=options["per_class"],
        certify=options["certify"],
        warm_starts=options["warm_starts"],
        sampler=options["sampler"],
        out=None if out is None else Path(out),
        storage=options["storage"],
        resume=options["resume"],
        progress=progress or (lambda state: None),
    )
