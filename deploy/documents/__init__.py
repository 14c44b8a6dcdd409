"""Writes `contracts/openapi.json` and `contracts/asyncapi.yaml` from the code, and says what a change would break."""
