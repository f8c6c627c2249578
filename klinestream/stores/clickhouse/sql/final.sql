-- One row an identity, merged already or not: $identity.
CREATE VIEW IF NOT EXISTS $database.${table}_final$on_cluster AS
SELECT * FROM $database.$table FINAL$choice;
