"""Reference networks -> ONNX graphs; a module for every graph."""
