//! Tiers of isolation, and the keys and ciphers of a security context.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How strongly an agent's effects are walled off. A greater tier is stronger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum SecurityTier {
    /// Namespaces on a shared kernel: the process driver, or Docker.
    Tier1 = 1,
    /// A kernel of its own in user space: gVisor.
    Tier2 = 2,
    /// A virtual machine: Firecracker.
    Tier3 = 3,
}

impl SecurityTier {
    /// Every tier, the weakest first.
    pub const ALL: [Self; 3] = [Self::Tier1, Self::Tier2, Self::Tier3];
}

impl fmt::Display for SecurityTier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// The isolation that is really in force. A request is satisfied by an equal or a stronger one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum IsolationLevel {
    /// No sandbox.
    None,
    /// A process with limits and nothing else.
    Low,
    /// Namespaces, or Docker ([`SecurityTier::Tier1`]).
    Medium,
    /// gVisor ([`SecurityTier::Tier2`]).
    High,
    /// A virtual machine ([`SecurityTier::Tier3`]).
    Maximum,
}

impl From<SecurityTier> for IsolationLevel {
    fn from(tier: SecurityTier) -> Self {
        match tier {
            SecurityTier::Tier1 => Self::Medium,
            SecurityTier::Tier2 => Self::High,
            SecurityTier::Tier3 => Self::Maximum,
        }
    }
}

/// A cipher for message payloads; both authenticate what they encrypt.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub enum EncryptionAlgorithm {
    /// AES-256 in Galois/counter mode (NIST SP 800-38D).
    #[default]
    Aes256Gcm,
    /// ChaCha20-Poly1305 (RFC 8439).
    ChaCha20Poly1305,
}

/// What a policy may know of the security that a request runs under.
#[derive(Clone, PartialEq, Eq)]
pub struct SecurityContext {
    /// The tier asked for.
    pub tier: SecurityTier,
    /// The isolation in force.
    pub isolation_level: IsolationLevel,
    /// The cipher for payloads.
    pub encryption_algorithm: EncryptionAlgorithm,
    /// An Ed25519 seed, for callers that bring their own. Never shown.
    pub signing_key: Option<Vec<u8>>,
    /// A symmetric key, for callers that bring their own. Never shown.
    pub encryption_key: Option<Vec<u8>>,
}

impl Default for SecurityContext {
    /// Tier 1 with its isolation, AES-256-GCM, no keys.
    fn default() -> Self {
        Self {
            tier: SecurityTier::Tier1,
            isolation_level: IsolationLevel::Medium,
            encryption_algorithm: EncryptionAlgorithm::default(),
            signing_key: None,
            encryption_key: None,
        }
    }
}

impl fmt::Debug for SecurityContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let redacted = |key: &Option<Vec<u8>>| key.as_ref().map(|_| "redacted");
        f.debug_struct("SecurityContext")
            .field("tier", &self.tier)
            .field("isolation_level", &self.isolation_level)
            .field("encryption_algorithm", &self.encryption_algorithm)
            .field("signing_key", &redacted(&self.signing_key))
            .field("encryption_key", &redacted(&self.encryption_key))
            .finish()
    }
}
