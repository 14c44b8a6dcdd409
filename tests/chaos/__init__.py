"""Proves the promise: whatever crashes, whenever, nothing is lost and nobody is charged twice (`__main__` says how)."""
