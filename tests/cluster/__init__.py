"""`make cluster` with members that die: RabbitMQ nodes, PostgreSQL servers under Patroni, etcd."""
