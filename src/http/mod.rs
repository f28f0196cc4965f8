//! The HTTP client every room that talks to other programs shares: authentication, TLS
//! and proxy options as they stand in a configuration file, turned into a client.
//! It knows nothing of what is fetched or why.

pub mod client;
pub mod config;
mod secret;
mod tls;

pub use client::{Client, HttpError, install_crypto_provider};
pub use config::{ClientConfig, ClientConfigError, Secret};
