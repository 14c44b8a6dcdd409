"""The operators' console: pages about payments, and the acts of a person. It changes no payment itself."""
