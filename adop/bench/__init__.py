"""Benchmarks: speed, quality over time, errors that refinement removes, gradients, time of a training step."""
