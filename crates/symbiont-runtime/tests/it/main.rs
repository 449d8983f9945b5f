//! The runtime through its public face.

mod joined;
mod lifecycle;
mod reference;
mod support;
