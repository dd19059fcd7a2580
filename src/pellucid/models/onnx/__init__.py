"""ONNX: a graph of operators in protobuf, with its weights inside or beside it, as a torch module."""
