//! The HTTP client every room that talks to other programs shares: authentication, TLS
//! and proxy options as they stand in a configuration file, turned into a client.
