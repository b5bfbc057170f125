"""Experience on disk and the training batches drawn from it."""
