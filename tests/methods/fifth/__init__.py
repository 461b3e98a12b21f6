"""A cue method as someone outside of the package writes one; docs/methods.md walks through it.

Contrast: attention gives seeds, a helper network learns them, and its labels count where the image
has contrast, which a table of its own holds. It is here to be read and tested, not for its quality.
"""
