//! Alert templates: Go's text/template with Prometheus' functions.
