#!/bin/sh
# The database `payments` and its roles: payment_owner owns the tables and migrates them, payment_service and
# payment_console get from the migration what service and console need, and no more. PostgreSQL's image runs this when its data folder is new. Run again, it
# sets the roles' passwords to what the files say now:
#   docker compose exec -u postgres postgres sh /docker-entrypoint-initdb.d/roles.sh
set -eu
psql --quiet --no-psqlrc --set ON_ERROR_STOP=1 --username "${POSTGRES_USER:-postgres}" --dbname postgres << 'SQL'
\set owner `cat /run/secrets/payment_owner`
\set service `cat /run/secrets/payment_service`
\set console `cat /run/secrets/payment_console`
SELECT format('CREATE ROLE %I LOGIN', name) FROM unnest(ARRAY['payment_owner', 'payment_service', 'payment_console']) AS name
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) \gexec
ALTER ROLE payment_owner PASSWORD :'owner';
ALTER ROLE payment_service PASSWORD :'service';
ALTER ROLE payment_console PASSWORD :'console';
SELECT 'CREATE DATABASE payments OWNER payment_owner'
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'payments') \gexec
REVOKE ALL ON DATABASE payments FROM PUBLIC;
GRANT CONNECT ON DATABASE payments TO payment_service, payment_console;
SQL
