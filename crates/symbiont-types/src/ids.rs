//! Identifiers: a UUID each, told apart by the compiler.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Text that is no UUID where an id was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no {kind}: an id is a UUID such as `0190b6a4-7c3e-7d6a-9b1f-2f6f3a1c5d4e`")]
pub struct IdError {
    /// The kind of id that was asked for, such as `AgentId`.
    pub kind: &'static str,
    /// The text, cut at 64 characters.
    pub text: String,
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        ///
        /// Made as UUIDv7, so that ids sort by the time they were made; any UUID is accepted.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// A new id, unlike any other.
            #[expect(clippy::new_without_default, reason = "an id that appears by default is a bug that hides")]
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }

            /// The UUID itself.
            pub const fn as_uuid(&self) -> &Uuid {
                &self.0
            }
        }

        impl From<Uuid> for $name {
            fn from(uuid: Uuid) -> Self {
                Self(uuid)
            }
        }

        impl From<$name> for Uuid {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                Uuid::parse_str(text).map(Self).map_err(|_| IdError {
                    kind: stringify!($name),
                    text: text.chars().take(64).collect(),
                })
            }
        }
    )*};
}

ids! {
    /// Names an agent for as long as anything remembers it.
    AgentId;
    /// Names a scheduled task.
    TaskId;
    /// Names a message; each copy of a broadcast has its own.
    MessageId;
    /// Names a request that expects a reply.
    RequestId;
    /// Names a record of the audit trail.
    AuditId;
    /// Names a sandbox.
    SandboxId;
    /// Names a snapshot of a sandbox or an agent.
    SnapshotId;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_survives_text_and_json() {
        let id = AgentId::new();
        assert_eq!(id.to_string().parse::<AgentId>(), Ok(id));
        assert_eq!(AgentId::from(Uuid::from(id)), id);
        assert_eq!(Uuid::from(id).get_version_num(), 7);
        assert_ne!(AgentId::new(), AgentId::new());
    }

    #[test]
    fn foreign_text_is_refused_with_what_was_expected() {
        let error = "x".repeat(1000).parse::<TaskId>().unwrap_err();
        assert_eq!(error.kind, "TaskId");
        assert_eq!(error.text.len(), 64);
    }
}
