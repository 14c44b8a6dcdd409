"""The HTTP bridge: three REST endpoints in front of the payment service's commands. It stands on `contracts` only."""
