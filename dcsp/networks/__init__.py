"""Backbones, the DeepLabV2 + FCAN network of the paper (4.1, 5.1), and their weights."""
