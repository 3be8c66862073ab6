"""Rendering new views of a pipeline: virtual cameras, camera paths, and the files they are written to."""
