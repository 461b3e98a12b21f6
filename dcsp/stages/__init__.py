"""The contract of a stage: parts in, aligned parts out, a status for every row."""
