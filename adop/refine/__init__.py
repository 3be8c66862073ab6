"""Cameras and points refined so that the scene, rendered, agrees with the photos."""
