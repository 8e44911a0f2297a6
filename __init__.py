"""ComfyUI's way in: this repository, cloned into ``custom_nodes``, is the pack. No part of the package kdist."""

import sys
from pathlib import Path

try:
    import kdist  # noqa: F401  (installed)
except ImportError:
    sys.path.append(str(Path(__file__).parent))

from kdist.adapters.comfyui import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS, comfy_entrypoint

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS", "comfy_entrypoint"]
