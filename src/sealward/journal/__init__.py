"""The journal: a C2SP tlog-tiles log of sealed entries. What was acknowledged is there, unchanged, and outsiders can check it."""
