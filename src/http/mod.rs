//! The HTTP client every room that talks to other programs shares: authentication, TLS
//! and proxy options as they stand in a configuration file, turned into a client.
//! It knows nothing of what is fetched or why.

mod aws;
pub mod client;
pub mod config;
mod jwt;
mod oauth2;
mod secret;
mod sigv4;
mod tls;
mod unpack;

pub use aws::{SigV4Config, SigV4ConfigError, SigV4Error};
pub use client::{Client, HttpError, install_crypto_provider};
pub use config::{ClientConfig, ClientConfigError, Secret};
pub use oauth2::OAuth2Error;
pub use unpack::{ENCODINGS, UnpackError, Unpacker};
