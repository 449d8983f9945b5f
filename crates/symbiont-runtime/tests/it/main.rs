//! The runtime through its public face.

mod reference;
mod support;
