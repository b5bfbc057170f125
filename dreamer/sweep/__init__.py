"""Many runs: which ones there are, who starts them, and how far they are. Each is a `dreamer train` of its own."""
