"""Benchmarks: speed of the rasterizer, errors that refinement removes, position gradients, time of a training step."""
