//! The front end of the language through its public face.

mod parsing;
