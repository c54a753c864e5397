"""Who asks, and what they may: a request becomes a principal, a principal and an action become a grant."""
