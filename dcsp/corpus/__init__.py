"""Corpora: where images and tags come from, and how they become rows of a table."""
