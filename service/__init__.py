"""The payment service: the only part of BookTicket that knows Stripe, its SDK and its keys."""
