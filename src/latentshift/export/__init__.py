"""Exports: a model as graphs for ONNX Runtime, OpenVINO or AOTInductor, and videos made with them."""
