"""AffinityNet (Ahn and Kwak 2018; method 2): cues walk over learned affinities."""
