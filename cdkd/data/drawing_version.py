"""The version of the synthetic drawing: raise it with every change of `synthetic.py` that moves a pixel or keypoint."""

DRAWING_VERSION: int = 1
