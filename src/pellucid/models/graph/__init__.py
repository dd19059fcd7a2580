"""Graphs of named operations, whatever file they came from, as ordinary torch modules."""
