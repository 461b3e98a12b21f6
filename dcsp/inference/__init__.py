"""From a trained network to labels: views of an image, dense CRF, predictions (method 1.8)."""
