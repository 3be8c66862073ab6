"""A run in memory and on disk: scene, photo split, pipeline, checkpoints, and rendering from a run."""
