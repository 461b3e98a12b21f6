"""Salient object detection: any ONNX detector, and the hierarchy of passes of the paper's 4.2."""
