"""kdist.theory: what a guidance schedule does to each class, before a sample is drawn (float64 throughout)."""

from .exact import GaussianMixtureDenoiser as GaussianMixtureDenoiser
