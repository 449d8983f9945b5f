//! The runtime through its public face.

mod agents;
mod audit;
mod bus;
mod calls;
mod config_fields;
mod errors;
mod hostile;
mod http;
mod joined;
mod lifecycle;
mod once;
mod policy;
mod reference;
mod resources;
mod sandbox;
mod scheduler;
mod support;
mod tools;
