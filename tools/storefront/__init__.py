"""A small web shop: where a payer starts and where Stripe's page returns to. It only calls the bridge over REST."""
