"""Evaluation of runs: scores of held-out photos, their report, comparison with a known camera, and plots."""
