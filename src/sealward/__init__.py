"""sealward: a zero-trust layer around self-hosted AI.

A request becomes a principal, a grant, a verdict, a pass, a reply and an entry; nothing happens that is not one of these arrows.
"""

__version__ = "0.1.0"
