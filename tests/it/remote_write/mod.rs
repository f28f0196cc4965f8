//! Sending on by remote write: against receivers that refuse, hang and half-take what they
//! are sent, and against the real Prometheus and VictoriaMetrics, which go away and come
//! back, while the sender is killed.

mod credentials;
mod kills;
mod mock;
mod outage;
mod real;
mod sender;
