"""What each operator of ONNX becomes, one family a file."""
