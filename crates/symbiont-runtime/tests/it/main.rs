//! The runtime through its public face.

mod audit;
mod bus;
mod config_fields;
mod errors;
mod hostile;
mod joined;
mod lifecycle;
mod policy;
mod reference;
mod sandbox;
mod scheduler;
mod support;
