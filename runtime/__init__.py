"""What both processes need: logs, health, metrics, waiting, connection URLs. No payment, no message, no SQL."""
