"""Which images to correct, and their labels as the tools that correct them want them."""
