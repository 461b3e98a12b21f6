"""How good labels are: confusion matrices and the figures drawn from them (paper 5.2)."""
