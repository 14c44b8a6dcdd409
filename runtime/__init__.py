"""What every process needs: logs, health, metrics, waiting, connection URLs. No payment, no message, no SQL."""
