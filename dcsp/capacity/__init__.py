"""What a run asks of a cluster, takes and costs: arithmetic, without Ray."""
