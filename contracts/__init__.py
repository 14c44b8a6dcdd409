"""What others rely on, as data: messages, replies, faults, events, the envelope and the topology.

Nothing here knows FastStream, HTTP, SQL or Stripe. Both the service and the bridge stand on it, and so may any other
program that talks to the payment service.
"""
