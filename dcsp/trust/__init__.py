"""How far to trust each label, where nobody has a mask to compare it with."""
