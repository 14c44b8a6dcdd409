"""What `docker-compose.yml` runs beside the images of others: the passwords of a first start, and a balancer."""
