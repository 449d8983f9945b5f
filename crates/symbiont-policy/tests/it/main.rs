//! The policy crate through its public face.

mod differential;
mod faults;
mod given;
mod table;
