"""A proxy before an S3 server that spoils some of its answers, as networks and services do."""
