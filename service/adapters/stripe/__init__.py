"""Stripe behind the gateway port. Nothing outside this package knows its SDK or its words."""

from service.adapters.stripe.gateway import StripeGateway

__all__ = ["StripeGateway"]
