"""Cameras: lens models, poses, rolling shutter, and the cameras of COLMAP and nerfstudio."""
