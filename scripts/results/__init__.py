"""One module per figure, each with ``compute``, ``draw`` and ``texts``; ``scripts/reproduce.py`` runs them.

``compute(store, **settings) -> rows`` measures what is not in the store yet; ``draw(rows, path)`` makes the PNG;
``texts(rows)`` gives the Markdown tables and the numbers that docs/results.md quotes, by name.
"""
