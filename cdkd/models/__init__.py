"""Pose networks: backbones, the SimCC head, and the files their weights come from."""
