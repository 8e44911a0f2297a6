"""The search for a guidance schedule on a model itself, and the proof on seeds that nothing was chosen by.

No rule of thumb carries from one network to the next, but on each some schedule is far better than a constant scale.
:func:`tune` finds it: one call, one budget of network calls, one report. Optuna and what else it needs (extra ``tune``)
is imported when it runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .generators import ModelGenerator, generator

if TYPE_CHECKING:
    import torch

    from ..schedules import Schedule
    from .search import Progress
    from .tuned import Tuned

__all__ = ["ModelGenerator", "generator", "tune"]


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
    per_class: int = 5,
    certify: float = 0.3,
    families: Sequence[str] | None = None,
    scales: tuple[float, float] = (-1.0, 6.0),
    choices: Mapping[str, Sequence[Any]] | None = None,
    warm_starts: Sequence[Schedule] = (),
    sigmas: Sequence[float] | torch.Tensor | None = None,
    sampler: Any = None,
    seed: int = 0,
    out: str | Path | None = None,
    storage: str | None = None,
    resume: bool = False,
    progress: Callable[[Progress], Any] | None = None,
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
        calls: the budget of network calls, certification included; None is what 300 samples of each class cost under
            a constant scale.
        per_class: samples of each class for a first look at a schedule.
        certify: share of the budget for the fresh seeds.
        families: of :data:`kdist.tuning.space.FAMILIES`; None is all.
        scales: smallest and largest guidance scale.
        choices: other arguments of ``generate`` to choose among, e.g. ``{"rule": [rules.linear, rules.projected],
            "weak": [False, True]}``; the first of each is the default.
        warm_starts: schedules to look at early, e.g. of :func:`kdist.theory.design`.
        sigmas: the noise levels at which the sampler asks for the scale, where ``generate`` does not show them by
            calling the schedule (it runs elsewhere).
        sampler: an Optuna sampler to choose candidates with instead.
        seed: of everything that is drawn.
        out: folder for ``schedule.json``, ``report.html``, ``front.csv``, ``certified.json`` and ``study.db``; an
            interrupted run with the same arguments goes on where it stopped.
        storage: URL of an Optuna storage instead of ``out/study.db``, shared by several workers.
        resume: insist that there is something to go on with.
        progress: called with what was spent and the best so far.

    Returns:
        ``.schedule``, ``.certified`` (the report on fresh seeds), ``.front`` (all that was tried).

    Raises:
        ValueError: arguments that do not fit, images that are not as promised, a budget too small to tell anything, a
            bound that nothing reaches, a study of another model.
        ImportError: Optuna is missing (``pip install 'kdist[tune]'``).

    Example:
        >>> from kdist import digits
        >>> generate = kdist.generator(digits.load_model(), digits.sigmas(), (1, 8, 8), uncond={"class_cond": 10})
        >>> tuned = kdist.tune(generate, real=digits.load_data(), judge=digits.classifier.load_digits_classifier(),
        ...     accuracy=0.98, calls=120_000, seed=0)  # doctest: +SKIP
        >>> tuned.schedule, tuned.certified.verdict  # doctest: +SKIP
    """
    try:
        import optuna  # noqa: F401
    except ImportError as error:
        raise ImportError("tuning needs optuna: pip install 'kdist[tune]'") from error
    from .bounds import make_bounds
    from .problem import make_problem
    from .space import FAMILIES, Space
    from .tuned import run

    limits = {
        "accuracy": accuracy,
        "alignment": alignment,
        "separability": separability,
        "displacement": displacement,
        "calls_per_sample": calls_per_sample,
    }
    bounds = make_bounds(limits)
    if accuracy is not None and judge is None:
        raise ValueError("accuracy needs a judge: judge(images) -> labels or probabilities")
    if alignment is not None and align is None:
        raise ValueError("alignment needs align(images, labels) -> one number for each image")
    if per_class < 2:
        raise ValueError(f"per_class must be at least 2, distances within a class need two samples; got {per_class}")
    if not 0 < certify < 1:
        raise ValueError(f"certify is a share of the budget, between 0 and 1; got {certify}")
    problem = make_problem(
        generate,
        labels=labels,
        real=real,
        judge=judge,
        align=align,
        features=features,
        sigmas=None if sigmas is None else [float(sigma) for sigma in sigmas],
        seed=seed,
        reference_per_class=50,
    )
    space = Space(problem.seen.levels, problem.seen.share, scales, tuple(families or FAMILIES), dict(choices or {}))
    budget = calls or 300 * 2 * len(problem.seen.called) * len(problem.classes)
    return run(
        problem,
        space,
        tuple(bounds),
        calls=budget,
        per_class=per_class,
        certify=certify,
        warm_starts=warm_starts,
        sampler=sampler,
        out=None if out is None else Path(out),
        storage=storage,
        resume=resume,
        progress=progress or (lambda state: None),
    )
