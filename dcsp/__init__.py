"""Weakly-supervised semantic segmentation from image tags (DCSP and its siblings)."""

__version__ = "0.1.0"
