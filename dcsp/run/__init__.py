"""A run: its plan, what it leaves, whether networks learn anew, and running it in this process."""
