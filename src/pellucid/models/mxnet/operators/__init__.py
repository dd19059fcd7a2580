"""MXNet's operators, one family a file: what each of them is in torch."""
