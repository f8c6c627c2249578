-- $purpose.
CREATE DATABASE IF NOT EXISTS $name$on_cluster;
