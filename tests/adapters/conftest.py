"""diffusers imports torchvision, which needs mending beside a CPU build of torch."""

from kdist.compat import repair_torchvision

repair_torchvision()
