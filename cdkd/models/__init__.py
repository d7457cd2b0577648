"""Pose networks: backbones, the part that heads share, and the files their weights come from."""
