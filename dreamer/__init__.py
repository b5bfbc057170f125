"""Dreamer: behaviours learned by latent imagination (Hafner et al., ICLR 2020), in TensorFlow 2."""

__version__ = "0.1.0"
