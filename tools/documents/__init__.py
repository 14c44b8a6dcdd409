"""Generates `contracts/openapi.json` and `asyncapi.yaml` from the code and finds breaking changes; serves neither."""
