"""Stripe behind the gateway port. Nothing outside this package knows its SDK or its words."""

from service.adapters.stripe.account_identity import AccountUnknownError, KeyRefusedError, account_of, of_key
from service.adapters.stripe.stripe_gateway import StripeGateway

__all__ = ["AccountUnknownError", "KeyRefusedError", "StripeGateway", "account_of", "of_key"]
