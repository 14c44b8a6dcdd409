"""How messages come in and go out: consumers, what surrounds each delivery, the relay, and the health pages."""
