"""The background tasks of a service process. Nothing here answers a message or a request."""
