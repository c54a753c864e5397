"""An entry in the words of other systems. The log stays the evidence: each record says where in it its entry stands."""
