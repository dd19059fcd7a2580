"""Apache MXNet's files in plain Python: ``NAME-symbol.json`` holds the graph, ``NAME-0000.params`` the weights."""
