"""Where messages and requests enter: consumers, their middleware, the pages for operators. No background work."""
