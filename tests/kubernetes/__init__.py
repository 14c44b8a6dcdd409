"""The chart `deploy/helm/payments`: what it renders, and what a real Kubernetes API server says to it."""
