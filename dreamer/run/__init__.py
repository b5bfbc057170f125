"""The log directory of a run: what its files are, how they are read, and how its state is committed."""
