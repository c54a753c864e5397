"""The rollout: tasks of `zero_trust_rollout.yaml`, each held against the running deployment by live checks."""
