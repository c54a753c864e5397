"""Control: what administrators change. It proposes; the signer signs; doors never ask it."""
