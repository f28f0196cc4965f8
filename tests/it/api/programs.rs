//! Real programs against the API: promtool, and Prometheus writing to it and federating from it.
