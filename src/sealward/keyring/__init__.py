"""Keys: what opens what, for how long, and the one process that signs what all others obey."""
