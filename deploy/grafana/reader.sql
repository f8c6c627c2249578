-- The user that dashboards read with: it may read the tables of klinestream, those to come included, and nothing else.
-- Run it with psql as the user that writes the tables (`postgres.url`), with the password in KLINESTREAM_READER_PASSWORD:
--
--   psql "$KLINESTREAM_POSTGRES__URL" --file deploy/grafana/reader.sql
--
-- That user needs the right to make users (CREATEROLE). Running it again sets the password anew. In Compose it runs when the
-- database is made, before there are tables.
\set ON_ERROR_STOP on
\getenv password KLINESTREAM_READER_PASSWORD
SELECT 'CREATE ROLE klinestream_reader LOGIN' WHERE to_regrole('klinestream_reader') IS NULL \gexec
ALTER ROLE klinestream_reader PASSWORD :'password';
-- A query that somebody's browser no longer waits for must not hold up the tables.
ALTER ROLE klinestream_reader SET statement_timeout = '30s';
ALTER ROLE klinestream_reader SET default_transaction_read_only = on;
CREATE SCHEMA IF NOT EXISTS klinestream;
GRANT USAGE ON SCHEMA klinestream TO klinestream_reader;
GRANT SELECT ON ALL TABLES IN SCHEMA klinestream TO klinestream_reader;
ALTER DEFAULT PRIVILEGES IN SCHEMA klinestream GRANT SELECT ON TABLES TO klinestream_reader;
