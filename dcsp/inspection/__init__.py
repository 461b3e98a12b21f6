"""Looking into a store, checking it, and taking results out of it."""
