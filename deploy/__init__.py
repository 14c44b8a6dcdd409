"""Everything that puts the services somewhere: images, brokers, the local stack and the sandbox."""
