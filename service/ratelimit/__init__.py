"""The rate limiter: how many calls to the gateway may begin, when, and whose is next. It knows no payment."""
