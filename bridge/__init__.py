"""The HTTP bridge: REST in front of the service's commands. No payment logic, no SQL, no Stripe, no `service`."""
