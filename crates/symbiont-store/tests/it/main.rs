//! The store through its public face: the same scenarios on every backend, then what only a disk
//! can show.

mod conformance;
mod kill;
mod model;
mod sqlite;
mod support;
