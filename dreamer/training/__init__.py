"""Training: the loop, the driver, evaluation, checkpoints, logging."""
