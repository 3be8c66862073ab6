"""The photos of a run: which are trained on, what is left out of them, and how other views look them up."""
