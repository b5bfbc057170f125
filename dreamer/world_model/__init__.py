"""The world model: RSSM, heads and their loss."""
