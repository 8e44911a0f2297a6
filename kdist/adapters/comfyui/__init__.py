"""kdist for ComfyUI: clone the repository into ``custom_nodes``, or link this folder there and install kdist."""

from .extension import comfy_entrypoint
from .nodes import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS", "comfy_entrypoint"]
