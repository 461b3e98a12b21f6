"""MCOF (Wang et al. 2018; method 3): superpixels and the network label each other in rounds."""
