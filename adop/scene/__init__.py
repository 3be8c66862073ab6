"""Scenes: lenses, photos and points in memory, the folder that holds them, and the preparation of point clouds."""
