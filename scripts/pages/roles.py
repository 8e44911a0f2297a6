"""For the site: roles in docstrings (``:func:`guide```) become plain code, which mkdocstrings can show."""

from __future__ import annotations

import re
from typing import Any

import griffe

__all__ = ["PlainRoles"]

_ROLE = re.compile(r":(?:attr|class|data|exc|func|meth|mod):`~?([^`]+)`")


class PlainRoles(griffe.Extension):
    """A griffe extension, named in mkdocs.yml."""

    def on_instance(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Rewrite the docstring of each object as it is read from the source."""
        if obj.docstring is not None:
            obj.docstring.value = _ROLE.sub(r"`\1`", obj.docstring.value)
