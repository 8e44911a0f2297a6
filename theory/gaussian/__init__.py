"""One Gaussian per class against one for everything: guided moments, exact, at any noise, through any solver."""

from .finite_steps import SolverShare as SolverShare
from .finite_steps import affine_denoiser as affine_denoiser
from .finite_steps import solver_moments as solver_moments
from .finite_steps import solver_noise as solver_noise
from .finite_steps import solver_share as solver_share
from .full import FullGaussianPair as FullGaussianPair
from .full import FullMoments as FullMoments
from .pair import GaussianPair as GaussianPair
from .pair import GuidanceWidensWarning as GuidanceWidensWarning
from .pair import Moments as Moments
from .pair import moments as moments
from .summary import Distortion as Distortion
from .summary import compare as compare
from .summary import distortion as distortion
