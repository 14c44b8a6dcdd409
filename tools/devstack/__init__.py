"""The local stack: every part of the system on one machine, and real servers for tests; nothing that is deployed."""
