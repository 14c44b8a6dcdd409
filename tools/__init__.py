"""What surrounds the product on a developer's machine. Nothing here is deployed with it."""
