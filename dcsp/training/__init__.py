"""Training: stage and recipes, augmentation, data order, losses and loop (paper 4.3, 5.1)."""
