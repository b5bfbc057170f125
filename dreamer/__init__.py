"""Dreamer: behaviours learned by latent imagination (Hafner et al., ICLR 2020), in TensorFlow 2."""

__version__ = "0.2.0.dev0"
DISTRIBUTION = "dreamer-tf2"  # what pip calls it: `dreamer` is taken
