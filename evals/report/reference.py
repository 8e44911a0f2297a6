"""Generated sets held against another generated one, pair by pair, where there are no real images.

Users of text-to-image models have prompts and seeds. The reference set, usually drawn without guidance, stands where a
real one would; every number is *relative to it*: 1 is as varied as the reference, whatever reality is like. A class is
a prompt, a pair the two samples of one prompt and seed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import numpy as np

from ..features.alignment import Clip, prompt_alignment
from ..features.feature_set import Features
from ..features.pairs import Pairs, paired_rows
from ..statistics.estimate import Estimate, exp, with_q_values
from ..statistics.pairwise import Jackknife, PairedClass, compare_pairs, pooled
from ..statistics.separability import scatter_ratio
from .glossary import interval, number
from .paired import PairedRatio, paired_ratio
from .sentences import few
from .sets import MeasuredSet, comparable

__all__ = ["AgainstReference", "Numbers", "ReferenceComparison", "compare_to_reference", "prompt_texts"]

LEAST = 3  # pairs of a prompt


@dataclass(frozen=True)
class Numbers:
    """One prompt, or the mean over prompts (of ratios the geometric mean).

    Attributes:
        label, name: the prompt's label and name; -1 and "all prompts" for the mean.
        pairs: samples with the same prompt and seed in every set.
        variance: total variance of the prompt's samples over the reference's.
        distance: energy distance from the reference, over the reference's mean pairwise distance; ``floor`` and
            ``p_value`` by exchanging pairs.
        displacement: distance of the prompt's mean from the reference's, over the distance of that from the mean of all
            prompts; nan where the latter cannot be told from 0.
        pairwise_distance: mean distance between two samples over the reference's.
        vendi, vendi_reference, vendi_ratio: Vendi scores and their ratio.
        separability, separability_reference: scatter between prompts over that within them, and the reference's; None
            for a single prompt.
        alignment, alignment_reference, alignment_gain: mean cosine of CLIP's image and text embeddings, the
            reference's, and the paired difference; None without a CLIP model.
    """

    label: int
    name: str
    pairs: int
    variance: Estimate
    distance: Estimate
    displacement: Estimate
    pairwise_distance: Estimate
    vendi: Estimate
    vendi_reference: Estimate
    vendi_ratio: Estimate
    separability: Estimate | None = None
    separability_reference: Estimate | None = None
    alignment: Estimate | None = None
    alignment_reference: Estimate | None = None
    alignment_gain: Estimate | None = None


@dataclass(frozen=True)
class AgainstReference:
    """One generated set against the reference.

    Attributes:
        pooled: the mean over prompts.
        prompts: each prompt's numbers, by label.
        by_seed: the files say that pairs were drawn from the same seeds; else they are paired by place.
        less_varied, more_varied: prompts whose variance differs from the reference's, false discovery rate 5 %.
    """

    pooled: Numbers
    prompts: dict[int, Numbers]
    by_seed: bool
    less_varied: int
    more_varied: int

    def __getitem__(self, label: int) -> Numbers:
        return self.prompts[label]


@dataclass(frozen=True)
class ReferenceComparison:
    """What was measured; the input of every output.

    Attributes:
        reference: the reference set, its paired samples only.
        sets: the others, row by row paired with it.
        against: what was found, by the name of the set.
        warnings, settings: what a reader must know, and what decided the numbers.
    """

    reference: MeasuredSet
    sets: tuple[MeasuredSet, ...]
    against: dict[str, AgainstReference]
    warnings: tuple[str, ...]
    settings: dict[str, Any]

    @property
    def least_varied(self) -> str:
        """The set with the least variance within prompts."""
        kept = {name: found.pooled.variance for name, found in self.against.items()}
        return min(kept, key=lambda name: math.inf if math.isnan(kept[name]) else kept[name])

    def ranked(self) -> list[Numbers]:
        """The prompts of :attr:`least_varied`, the least varied first."""
        prompts = self.against[self.least_varied].prompts.values()
        return sorted(prompts, key=lambda entry: math.inf if math.isnan(entry.variance) else entry.variance)

    def summary(self) -> list[str]:
        """A sentence per set."""
        return [_sentence(name, found) for name, found in self.against.items()]


def compare_to_reference(
    reference: MeasuredSet,
    sets: Sequence[MeasuredSet],
    *,
    clip: Clip | None = None,
    prompts: Sequence[str] = (),
    seed: int = 0,
    resamples: int = 999,
    progress: Callable[[str], Any] | None = None,
) -> ReferenceComparison:
    """Measure every set against the reference set, over the prompts and seeds that all of them have.

    Args:
        reference: usually the set drawn without guidance.
        sets: the others; their prompts are matched with the reference's by name.
        clip: the model that measures prompt alignment, which needs the images.
        prompts: the texts, in the order of the reference's class numbers; default the names of the classes.
        seed, resamples: the seed and number of the exchanges of pairs.
        progress: called with the name of each set before it is measured.

    Raises:
        ValueError: no set, no prompts or seeds in common, features of different extractors, no images for the
            alignment, prompts that do not fit.
    """
    if not sets:
        raise ValueError("sets must hold at least one generated set beside the reference")
    sets = [comparable(reference, entry, role="reference") for entry in sets]
    texts = prompt_texts(reference, prompts) if clip is not None else {}
    reference, sets, pairs, warnings = _paired(reference, sets)
    cosines = {
        entry.name: _cosines(clip, entry, texts) for entry in (reference, *sets) if clip is not None
    }  # before the rest: images that are not at hand are noticed at once
    generator = np.random.default_rng(seed)
    against = {}
    for entry, paired in zip(sets, pairs, strict=True):
        if progress is not None:
            progress(entry.name)
        own = (cosines[reference.name], cosines[entry.name]) if cosines else None
        against[entry.name] = _against(reference, entry, paired.by_seed, own, resamples, generator)
    settings = {"seed": seed, "resamples": resamples, "prompts": list(texts.values())}
    return ReferenceComparison(reference, tuple(sets), against, tuple(warnings), settings)


def prompt_texts(reference: MeasuredSet, prompts: Sequence[str]) -> dict[str, str]:
    """The text of each class of the reference, by the class's name.

    Raises:
        ValueError: not one text for each, or names that are mere numbers and no texts.
    """
    names = [name for _, name in sorted(reference.features.classes.items())]
    if prompts and len(prompts) != len(names):
        raise ValueError(f"prompts must name each of the {len(names)} classes of {reference.path}; got {len(prompts)}")
    if not prompts and all(name.isdecimal() for name in names):
        raise ValueError(
            f"the classes of {reference.path} are called by numbers, which are no prompts; give the prompts, one a "
            "line in the order of the numbers (--prompts FILE)"
        )
    return dict(zip(names, prompts or [name.replace("_", " ") for name in names], strict=True))


def _paired(
    reference: MeasuredSet, sets: Sequence[MeasuredSet]
) -> tuple[MeasuredSet, list[MeasuredSet], list[Pairs], list[str]]:
    """The samples that all sets have, row by row of one prompt and seed, and what was left out for it."""
    warnings = [
        f"{entry.name}: {len(entry.features.bad)} images could not be read; they and their partners are left out"
        for entry in (reference, *sets)
        if entry.features.bad
    ]
    pairs = [paired_rows(reference.features, entry.features) for entry in sets]
    for entry, found in zip(sets, pairs, strict=True):
        known = [each.features.seeds is not None for each in (reference, entry)]
        if all(known) and not found.by_seed:
            raise ValueError(
                f"{reference.path} and {entry.path} have no seed of a prompt in common: draw both from the same seeds, "
                "and call the files by them (prompt/seed.png)"
            )
        if not all(known):
            warnings.append(
                f"{entry.name}: which seeds the samples were drawn from is not known (files called by numbers, or "
                "seeds in the feature file, say it); paired with the reference by place. Intervals are right, and "
                "wider than need be if the seeds differ; the floor of the distance then leaves the seeds out"
            )
    common = reduce(np.intersect1d, [found.first for found in pairs])
    labels, counts = np.unique(reference.features.y[common], return_counts=True)
    kept = common[np.isin(reference.features.y[common], labels[counts >= LEAST])]
    if not len(kept):
        raise ValueError(
            f"{', '.join(entry.path for entry in (reference, *sets))}: no prompt has {LEAST} seeds that all sets have; "
            "draw all from the same prompts and seeds"
        )
    chosen = [_rows(entry, found, kept) for entry, found in zip(sets, pairs, strict=True)]
    alone = replace(reference, features=reference.features.rows(kept))
    left = set(reference.features.y.tolist()) - set(alone.features.y.tolist())
    if left:
        names = [reference.features.classes[label] for label in sorted(left)]
        warnings.append(f"{len(left)} prompts without {LEAST} common seeds were left out: {few(names)}")
    for entry in (alone, *chosen):
        if equal := _collapsed(entry.features):
            warnings.append(
                f"{entry.name}: all samples of {len(equal)} prompts are the same; ratios with them are 0 or not "
                f"defined, and left out of means over prompts: {few(equal)}"
            )
    for entry in chosen:
        if copies := int((entry.features.x == alone.features.x).all(axis=1).sum()):
            warnings.append(
                f"{entry.name}: {copies} of {len(entry.features)} samples equal their partner in the reference; "
                "are these two different sets?"
            )
    for entry, own in zip((reference, *sets), (alone, *chosen), strict=True):
        if lost := len(entry.features) - len(own.features):
            warnings.append(f"{entry.name}: {lost} of {len(entry.features)} samples have no partner in every set")
    return alone, chosen, pairs, warnings


def _rows(entry: MeasuredSet, pairs: Pairs, kept: np.ndarray) -> MeasuredSet:
    """Its partners of these rows of the reference, in their order."""
    other = dict(zip(pairs.first.tolist(), pairs.other.tolist(), strict=True))
    return replace(entry, features=entry.features.rows(np.array([other[row] for row in kept.tolist()])))


def _collapsed(features: Features) -> list[str]:
    """The names of the classes whose samples are all equal."""
    spreads = {label: np.ptp(features.x[features.y == label], axis=0).max() for label in np.unique(features.y).tolist()}
    return [features.classes[label] for label, spread in spreads.items() if not spread > 0]


def _cosines(clip: Clip, entry: MeasuredSet, texts: Mapping[str, str]) -> np.ndarray:
    if entry.images is None:
        raise ValueError(
            f"the prompt alignment looks at images, and those of {entry.path} are not at hand; give the folder of "
            "images in its place, or leave --clip out"
        )
    prompts = {label: texts[name] for label, name in entry.images.classes.items() if name in texts}
    return prompt_alignment(clip, entry.images, prompts, entry.features.index)[entry.features.index]


def _against(
    reference: MeasuredSet,
    entry: MeasuredSet,
    by_seed: bool,
    cosines: tuple[np.ndarray, np.ndarray] | None,
    resamples: int,
    generator: np.random.Generator,
) -> AgainstReference:
    first, own = reference.features, entry.features
    variance = paired_ratio(first, own)
    assert variance is not None  # every prompt has three pairs
    centre = first.x.mean(axis=0, dtype=np.float64)
    parts: dict[int, PairedClass] = {}
    aligned: dict[int, list[Jackknife]] = {}
    for label in np.unique(first.y).tolist():
        rows = first.y == label
        parts[label] = compare_pairs(first.x[rows], own.x[rows], centre, resamples=resamples, generator=generator)
        if cosines is not None:
            before, after = (values[rows] for values in cosines)
            aligned[label] = [_mean(after), _mean(before), _mean(after - before)]
    distances = with_q_values([_distance(part.distance, part.swapped) for part in parts.values()])
    prompts = {
        label: _numbers(label, first.classes[label], [part], [aligned[label]] if aligned else [], variance, distance)
        for (label, part), distance in zip(parts.items(), distances, strict=True)
    }
    every = list(parts.values())
    swapped = np.array([part.swapped for part in every if math.isfinite(part.distance.value)] or [np.zeros(0)])
    distance = _distance(pooled([part.distance for part in every]), swapped.mean(axis=0))
    mean = replace(
        _numbers(-1, "all prompts", every, list(aligned.values()), variance, distance),
        separability=_separability(own),
        separability_reference=_separability(first),
    )
    return AgainstReference(mean, prompts, by_seed, variance.smaller, variance.larger)


def _numbers(
    label: int,
    name: str,
    parts: Sequence[PairedClass],
    aligned: Sequence[Sequence[Jackknife]],
    variance: PairedRatio,
    distance: Estimate,
) -> Numbers:
    alignment = [pooled(each).estimate() for each in zip(*aligned, strict=True)]  # [] without a CLIP model
    return Numbers(
        label,
        name,
        sum(part.pairs for part in parts),
        variance.ratio if label < 0 else variance.classes[label],
        distance,
        pooled([part.displacement for part in parts]).estimate().map(lambda square: math.sqrt(max(square, 0.0))),
        _ratio([part.log_spread for part in parts]),
        Estimate(float(np.mean([part.vendi for part in parts]))),
        Estimate(float(np.mean([part.vendi_reference for part in parts]))),
        _ratio([part.log_vendi for part in parts]),
        None,
        None,
        *alignment,
    )


def _separability(features: Features) -> Estimate | None:
    """How far the prompts are apart in one set, against their own spread."""
    rows = [np.flatnonzero(features.y == label) for label in np.unique(features.y)]
    means = np.stack([features.x[index].mean(axis=0, dtype=np.float64) for index in rows])
    found, _ = scatter_ratio(features.x, rows, means, confidence=0.95)
    return found if math.isfinite(found) else None


def _distance(found: Jackknife, swapped: np.ndarray) -> Estimate:
    """With floor and one-sided p-value from the exchanged pairs."""
    plain = found.estimate()
    if not len(swapped) or not math.isfinite(plain):
        return plain
    low, high = np.quantile(swapped, [0.025, 0.975])
    p_value = (1 + int((swapped >= found.value - 1e-12).sum())) / (1 + len(swapped))
    floor = Estimate(float(swapped.mean()), (float(low), float(high)))
    return Estimate(plain, plain.interval, floor=floor, p_value=p_value)


def _ratio(logs: Sequence[Jackknife]) -> Estimate:
    return pooled(logs).estimate().map(exp)


def _mean(values: np.ndarray) -> Jackknife:
    return Jackknife(float(values.mean()), float(values.std(ddof=1)) / math.sqrt(len(values)), len(values) - 1)


def _sentence(name: str, found: AgainstReference) -> str:
    own = found.pooled
    floor, distance = own.distance.floor, number(own.distance, ".3f")
    if floor is None:
        start = f"{distance} from the reference set"
    elif own.distance > floor.hi:
        start = (
            f"{distance} from the reference set (equal laws: {number(floor.lo, '.3f')} to {number(floor.hi, '.3f')})"
        )
    else:
        start = f"not to be told from the reference set by distance ({distance})"
    kept = f"{number(own.variance, '.2f')} {interval(own.variance, '.2f')}".strip()
    text = (
        f"{name}: {start}: means moved by {number(own.displacement, '.2f')}, within prompts {kept} of its variance, "
        f"{number(own.pairwise_distance, '.2f')} of its pairwise distance, Vendi score "
        f"{number(own.vendi, '.2f')} (reference {number(own.vendi_reference, '.2f')})"
    )
    if own.alignment_gain is not None:
        gain = own.alignment_gain
        text += f"; prompt alignment {number(own.alignment, '.3f')}, {number(gain, '+.3f')} {interval(gain, '+.3f')}"
    return f"{text}; {found.less_varied} of {len(found.prompts)} prompts less varied, {found.more_varied} more."
