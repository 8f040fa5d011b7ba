"""Training: one step, the loop around it, checkpoints, and what is shown of it."""
