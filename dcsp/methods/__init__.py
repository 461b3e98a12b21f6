"""Cue methods: which stages make the cues of each phase. One file or folder a paper."""
