"""``python -m kdist.cli``."""

from . import main

main()
