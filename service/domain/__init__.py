"""The rules of payments, whatever the technology. Standard library only; no clock, no I/O."""
