"""The commands of `payment-service`, one module each. Nothing here is part of the running service."""
