"""What a run asks of a cluster, takes and costs: arithmetic and a probe, without Ray."""
