"""Positions of a layer: which layer has them, what they are places of, and the way from there to the input."""
