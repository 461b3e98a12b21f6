"""Input that nobody cleaned: planted faults and fuzzed bytes, and what becomes of each."""
