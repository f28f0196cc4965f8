//! The service's configuration file, in Prometheus' format.
