//! The language through its public face.

mod machine;
mod parsing;
mod random;
