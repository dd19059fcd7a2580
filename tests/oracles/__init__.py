"""Slow, independent implementations of the papers' formulas, in float64; nothing here imports the library."""
