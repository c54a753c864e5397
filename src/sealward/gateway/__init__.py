"""The request path: door, recorder and sidecar, and what they share."""
