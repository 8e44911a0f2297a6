"""Diversity, separation and prompt alignment of the images that scripts/sd15/sample.py made.

Per feature space and schedule, against the unguided (scale 1) images of the same prompts and seeds:

- trace ratio: variance among the images of a prompt, over the unguided one (1: none lost), averaged over prompts;
- Vendi score of each prompt's images, averaged; and their mean pairwise distance, relative to the unguided one;
- separability: scatter between prompts over scatter within;
- alignment: mean cosine of CLIP's image and text embeddings.

Mean shift and overshoot are left out: their noise correction takes the two sets for independent, and here the seeds
are equal. The intervals of the trace ratio make the same assumption, which makes them wider than they need be.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from kdist.evals import measure
from kdist.evals.features import Extractor, build_extractor
from kdist.evals.features.alignment import Clip, prompt_alignment
from kdist.evals.features.extraction import extract
from kdist.evals.sources import as_source
from kdist.evals.statistics.diversity import squared_distances, vendi

REFERENCE = "unguided"
# what is not looked at here
WITHOUT: dict[str, Any] = {"resamples": 0, "subspace": 0, "splits": 0, "neighbour_queries": 0, "fid": False}


def load_extractors(specs: Sequence[str], device: str) -> dict[str, Extractor]:
    """Extractors by name, from ``NAME[=WEIGHTS]``; see :func:`kdist.evals.features.build_extractor` for errors."""
    extractors = {}
    for spec in specs:
        name, _, weights = spec.partition("=")
        # a thousand 512 x 512 images are gigabytes of pixels
        options: dict[str, Any] = {"size": 32} if name == "pixels" else {}
        extractors[name] = build_extractor(name, device=device, weights=weights or None, **options)
    return extractors


def measure_run(
    out: Path,
    calls: Mapping[str, float],
    plain_calls: int,
    prompts: Sequence[str],
    *,
    samples: int,
    extractors: Mapping[str, Extractor],
    clip: Clip | None,
    console: Console,
) -> dict[str, Any]:
    """Measure every schedule's images below ``out/images``, print the tables, write ``out/results.json``.

    Args:
        out: the run's folder.
        calls: network calls per image, by schedule; also says which schedules there are.
        plain_calls: those of guidance at a constant scale.
        prompts: one for each class folder, in their order.
        samples: images per prompt.
        extractors: feature spaces by name.
        clip: the model that measures alignment, or None.
        console: where the tables go.
    """
    folders = {name: out / "images" / name for name in calls}
    results: dict[str, Any] = {"samples": samples, "prompts": len(prompts), "schedules": {}}
    for name, count in calls.items():
        aligned = None if clip is None else alignment(clip, folders[name], prompts)
        results["schedules"][name] = {"calls": count, "saved": 1 - count / plain_calls, "alignment": aligned}
    for kind, extractor in extractors.items():
        found = {name: extract(folder, extractor, cache=out / "features") for name, folder in folders.items()}
        reference = found[REFERENCE]
        centre = reference.x.mean(axis=0, dtype=np.float64)
        _, unguided_distance = spread_by_prompt(reference.x - centre, reference.y)
        for name, own in found.items():
            report = measure(reference.x, own.x, reference.y, own.y, **WITHOUT).pooled
            score, distance = spread_by_prompt(own.x - centre, own.y)
            numbers = {
                "trace_ratio": report.trace_ratio,
                "trace_ratio_lo": report.trace_ratio.lo,
                "trace_ratio_hi": report.trace_ratio.hi,
                "separability": report.separability,
                "vendi": score,
                "pairwise_distance": distance / unguided_distance,
            }
            finite = {key: float(value) if np.isfinite(value) else None for key, value in numbers.items()}
            results["schedules"][name][kind] = finite
        console.print(table(kind, results))
    (out / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    console.print(f"results in {out / 'results.json'}", soft_wrap=True)
    return results


def spread_by_prompt(x: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Vendi score (cosines about the origin) and mean pairwise distance of each prompt's images, averaged."""
    scores, distances = [], []
    for label in np.unique(labels):
        gram = x[labels == label] @ x[labels == label].T
        scores.append(float(vendi(gram)))
        pairs = np.triu_indices(len(gram), 1)
        distances.append(float(np.sqrt(squared_distances(gram)[pairs]).mean()))
    return float(np.mean(scores)), float(np.mean(distances))


def alignment(clip: Clip, images: Path, prompts: Sequence[str]) -> float:
    """Mean over prompts of the mean cosine between CLIP's embeddings of a prompt and of its images."""
    source = as_source(images)
    cosines = prompt_alignment(clip, source, dict(enumerate(prompts)))
    return float(np.mean([np.nanmean(cosines[source.labels == label]) for label in np.unique(source.labels)]))


def table(kind: str, results: Mapping[str, Any]) -> Table:
    """One feature space's numbers, a row per schedule."""
    title = f"{kind} features, {results['prompts']} prompts x {results['samples']} samples, against {REFERENCE}"
    shown = Table(title=title, box=None, padding=(0, 1), pad_edge=False)
    for column in ("schedule", "calls", "saved", "trace ratio", "distance", "Vendi", "separab.", "alignm."):
        shown.add_column(column, justify="left" if column == "schedule" else "right", no_wrap=True)
    for name, entry in results["schedules"].items():
        own = entry[kind]
        half = None if own["trace_ratio_lo"] is None else (own["trace_ratio_hi"] - own["trace_ratio_lo"]) / 2
        shown.add_row(
            name,
            f"{entry['calls']:g}",
            f"{entry['saved']:.0%}",
            f"{number(own['trace_ratio'])} ± {number(half)}",
            *(number(own[key]) for key in ("pairwise_distance", "vendi", "separability")),
            number(entry["alignment"]),
        )
    return shown


def number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
