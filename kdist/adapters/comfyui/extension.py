"""The same nodes in ComfyUI's newer form (``comfy_api``, "V3"), made from their older one."""

from __future__ import annotations

from typing import Any

from .nodes import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS

__all__ = ["comfy_entrypoint"]

_NAMES = {"MODEL": "Model", "SIGMAS": "Sigmas", "IMAGE": "Image", "FLOAT": "Float", "INT": "Int", "STRING": "String"}
_NAMES["BOOLEAN"] = "Boolean"


async def comfy_entrypoint() -> Any:
    """ComfyUI's ``ComfyExtension`` with all nodes of the pack."""
    from comfy_api.latest import ComfyExtension  # there only inside ComfyUI

    class KdistExtension(ComfyExtension):
        async def get_node_list(self) -> list[type]:
            return [_node(name, cls) for name, cls in NODE_CLASS_MAPPINGS.items()]

    return KdistExtension()


def _node(name: str, node: Any) -> type:
    from comfy_api.latest import io

    inputs = [
        _input(io, field, spec, optional=part == "optional")
        for part, fields in node.INPUT_TYPES().items()
        for field, spec in fields.items()
    ]
    names = getattr(node, "RETURN_NAMES", (None,) * len(node.RETURN_TYPES))
    outputs = [_kind(io, kind).Output(display_name=shown) for kind, shown in zip(node.RETURN_TYPES, names, strict=True)]

    class Node(io.ComfyNode):  # type: ignore[misc]
        @classmethod
        def define_schema(cls) -> Any:
            return io.Schema(
                node_id=name,
                display_name=NODE_DISPLAY_NAME_MAPPINGS[name],
                category=node.CATEGORY,
                description=node.DESCRIPTION,
                inputs=inputs,
                outputs=outputs,
                is_output_node=getattr(node, "OUTPUT_NODE", False),
            )

        @classmethod
        def execute(cls, **values: Any) -> Any:
            made = getattr(node(), node.FUNCTION)(**values)
            return io.NodeOutput(*made["result"], ui=made["ui"]) if isinstance(made, dict) else io.NodeOutput(*made)

    if hasattr(node, "VALIDATE_INPUTS"):
        Node.validate_inputs = node.VALIDATE_INPUTS
    if hasattr(node, "IS_CHANGED"):
        Node.fingerprint_inputs = node.IS_CHANGED
    Node.__name__ = node.__name__
    return Node


def _kind(io: Any, kind: str) -> Any:
    return getattr(io, _NAMES[kind]) if kind in _NAMES else io.Custom(kind)


def _input(io: Any, name: str, spec: tuple[Any, ...], *, optional: bool) -> Any:
    kind, options = spec[0], dict(spec[1]) if len(spec) > 1 else {}
    if isinstance(kind, list):
        return io.Combo.Input(name, options=kind, optional=optional, **options)
    return _kind(io, kind).Input(name, optional=optional, **options)
