"""What a run asks of a cluster, takes and costs, and what is refused beforehand; without Ray."""
