"""What the service does with a command: one short handler per message, and the ports it needs."""
