"""Training: augmentation, data order, losses, schedule and the loop (paper 3.1, 4.3 and 5.1)."""
