"""Exponentially many classes in high dimension: the mean field, its phases, the potential behind them."""
