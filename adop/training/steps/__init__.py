"""A training step: the crops that it sees, its loss and its gradients, and CUDA graphs that replay it."""
