//! Remote storage protocols.
