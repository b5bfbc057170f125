"""Networks: layers, distributions and the optimiser."""
