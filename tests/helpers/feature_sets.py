"""Small sets of features as reports compare them."""

import numpy as np

from kdist.evals.features import Features
from kdist.evals.report import MeasuredSet


def features(x, y, classes=None, **metadata):
    about = {"classes": {str(k): name for k, name in (classes or {}).items()}, **metadata}
    return Features(np.asarray(x, np.float32), np.asarray(y, np.int64), np.arange(len(x)), about)


def make_set(name, *, classes=4, per_class=30, dimension=6, scale=1.0, seed=0, names=None, images=None):
    """Gaussian classes; the same seed gives the same noise, so that sets of one seed are paired."""
    generator = np.random.default_rng(seed)
    means = 4 * np.random.default_rng(99).normal(size=(classes, dimension))
    y = np.repeat(np.arange(classes), per_class)
    scales = np.broadcast_to(scale, classes)[y][:, None]
    x = means[y] + scales * generator.normal(size=(len(y), dimension))
    return MeasuredSet(name, f"{name}.npz", features(x, y, names), images)
