"""The local stack: the whole system on one machine, and real servers for the tests."""
