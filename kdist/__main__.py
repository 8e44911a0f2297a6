"""``python -m kdist``, where the ``kdist`` command is not on the path."""

from .cli import main

main()
