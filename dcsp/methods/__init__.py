"""Cue methods: which stages make the cues of each phase. One folder a paper."""
