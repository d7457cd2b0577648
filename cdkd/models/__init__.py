"""Pose networks: backbones, what heads are made of, and the files their weights come from."""
