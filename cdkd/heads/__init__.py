"""Kinds of pose model: one file each, with the head (what is learned) and the codec (what its prediction means)."""
