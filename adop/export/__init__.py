"""Runs as other programs' files: points, cameras, meshes, and the physical camera."""
