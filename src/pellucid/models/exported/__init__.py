"""Programs of ``torch.export`` (``.pt2``), read without torch's own loader, which unpickles and evaluates."""
