"""Operations of model formats as functions of tensors, where torch has none that does just the same.

Formats parse their settings themselves; here everything is numbers and tensors. Each function is made of operations
that record themselves in the autograd graph.
"""
