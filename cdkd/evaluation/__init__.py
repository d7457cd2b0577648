"""Scores of predicted keypoints (PCK, PCKh, OKS average precision) and the cost of a network."""
