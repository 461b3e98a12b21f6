"""Cues: pixel labels mined from tags (paper 4)."""
