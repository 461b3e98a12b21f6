"""A store: bytes under names, on a disk or in a bucket, and who may write into it."""
