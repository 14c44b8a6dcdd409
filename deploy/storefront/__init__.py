"""A stand-in for BookTicket's own web pages: where a payer starts, and where Stripe's page sends them back to."""
