//! The runtime through its public face.

mod audit;
mod bus;
mod scheduler;
mod support;
