"""Built-in priors (Saleh et al. 2016; method 4): foreground from the backbone itself."""
