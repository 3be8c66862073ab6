"""Training: batches, losses, optimiser, the step, and the loop around it."""
