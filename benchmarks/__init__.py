"""Commands that measure how fast the parts are; each prints its figures and, last, a ratio."""
