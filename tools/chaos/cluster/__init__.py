"""`python -m tools.chaos --cluster`: one member of the cluster after another is killed or frozen while people buy."""
