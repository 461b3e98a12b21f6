"""A grid of settings run side by side: which runs there are, and how their results compare."""
