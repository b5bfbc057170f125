"""Behaviour: returns, actor and value network."""
