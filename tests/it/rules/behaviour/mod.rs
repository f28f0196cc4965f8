//! What an on-call engineer would see: rules, notifier and embedded storage by a clock that
//! is moved by hand, before the real Alertmanager, whose API and pages are read back.

mod beside;
mod life;
mod many;
mod outage;
mod reload;
mod restart;
mod rig;
