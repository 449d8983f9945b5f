//! Signing and encryption of messages.
//!
//! # What holds
//!
//! - The signature covers the whole header, the plaintext and the ciphertext: nobody can claim
//!   another sender, move a payload to another header, strip the encryption or replace it.
//! - A session key encrypts for one sender, one receiver and one key of the receiver's, and its
//!   nonces are a random prefix and a counter, so that none comes twice.
//!
//! # Format
//!
//! `signature` is a format byte, the sender's sequence number (8 bytes, big-endian) and an Ed25519
//! signature (RFC 8032). In format 1 it is over the canonical bytes. In format 2 it is over a tag, the
//! number of messages that the sender sent in the same commit (4 bytes) and the root of the hash tree
//! (RFC 6962) over their canonical bytes; after it come this message's place among them (4 bytes),
//! their number again and the hashes on its path, from the leaf up. Both verify alone.
//! `encrypted_payload` is a version (1), the
//! algorithm, flags, the sender's and the receiver's key epochs (4 bytes each), the ephemeral X25519
//! public key (RFC 7748), a nonce of 12 bytes, the length of the plaintext (4 bytes) and the
//! ciphertext with its tag. The session key is HKDF-SHA256 (RFC 5869) of the X25519 secret with both
//! public keys and both ids as info.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use aws_lc_rs::aead::{
    AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey,
};
use aws_lc_rs::agreement::{self, PrivateKey, UnparsedPublicKey as AgreementPublicKey, X25519};
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};
use aws_lc_rs::rand;
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, ParsedPublicKey, UnparsedPublicKey};
use symbiont_types::{AgentId, CommunicationError, EncryptionAlgorithm, Message, SecureMessage};
use zeroize::Zeroizing;

use super::tree;
use crate::clock::micros;

/// A signature of one message.
const ALONE: u8 = 1;
/// A signature of the root over several.
const TOGETHER: u8 = 2;
const SIGNATURE: usize = 64;
/// More than that many messages are not signed together: a path then has at most 16 hashes.
pub(crate) const MOST_TOGETHER: usize = 1 << 16;
const PAYLOAD_VERSION: u8 = 1;
const COMPRESSED: u8 = 1;
/// Version, algorithm, flags, two epochs, ephemeral key, nonce, plaintext length.
const HEADER: usize = 3 + 8 + 32 + NONCE_LEN + 4;
/// Payloads of up to this many bytes are not worth compressing.
const WORTH_COMPRESSING: usize = 1024;
/// Fast and good enough; payloads are small.
const COMPRESSION_LEVEL: i32 = 1;
/// A session ends long before its counter could come round.
const SESSION_MESSAGES: u64 = 1 << 32;
/// The most sessions that one agent keeps for sending, and for receiving.
const SESSIONS: usize = 4096;

/// The secrets of one agent, for one epoch. Agents and models never see them.
pub(crate) struct AgentKeys {
    pub(crate) agent_id: AgentId,
    pub(crate) epoch: u32,
    seeds: Zeroizing<[u8; 64]>,
    pairs: OnceLock<Pairs>,
    /// By the receiver's public key, which another life of the receiver does not share.
    sending: Mutex<HashMap<[u8; 32], Arc<Session>>>,
    receiving: Mutex<HashMap<[u8; 32], Arc<LessSafeKey>>>,
}

struct Pairs {
    signing: Ed25519KeyPair,
    verifying: ParsedPublicKey,
    agreement: PrivateKey,
    agreement_public: [u8; 32],
}

struct Session {
    key: LessSafeKey,
    ephemeral_public: [u8; 32],
    prefix: [u8; 4],
    counter: std::sync::atomic::AtomicU64,
}

impl AgentKeys {
    /// New secrets.
    pub(crate) fn generate(agent_id: AgentId, epoch: u32) -> Result<Self, CommunicationError> {
        let mut seeds = Zeroizing::new([0; 64]);
        rand::fill(&mut *seeds).map_err(|_| failed("the system gave no random bytes"))?;
        Ok(Self::from_seeds(agent_id, epoch, seeds))
    }

    /// Secrets that were kept.
    pub(crate) fn from_seeds(agent_id: AgentId, epoch: u32, seeds: Zeroizing<[u8; 64]>) -> Self {
        Self {
            agent_id,
            epoch,
            seeds,
            pairs: OnceLock::new(),
            sending: Mutex::default(),
            receiving: Mutex::default(),
        }
    }

    pub(crate) fn seeds(&self) -> &[u8; 64] {
        &self.seeds
    }

    /// The key pairs, derived at their first use: most agents never send anything.
    fn pairs(&self) -> Result<&Pairs, CommunicationError> {
        if let Some(pairs) = self.pairs.get() {
            return Ok(pairs);
        }
        let (signing, agreement) = self.seeds.split_at(32);
        let agreement = PrivateKey::from_private_key(&X25519, agreement)
            .map_err(|_| failed("the agreement key is not valid"))?;
        let public = agreement.compute_public_key().map_err(|_| failed("no public key"))?;
        let signing = Ed25519KeyPair::from_seed_unchecked(signing)
            .map_err(|_| failed("the signing key is not valid"))?;
        let pairs = Pairs {
            verifying: ParsedPublicKey::new(&ED25519, signing.public_key())
                .map_err(|_| failed("the signing key is not valid"))?,
            signing,
            agreement_public: public.as_ref().try_into().map_err(|_| failed("no public key"))?,
            agreement,
        };
        Ok(self.pairs.get_or_init(|| pairs))
    }

    /// The Ed25519 public key, with which anyone can verify this agent's messages.
    pub(crate) fn public_key(&self) -> Result<Vec<u8>, CommunicationError> {
        Ok(self.pairs()?.signing.public_key().as_ref().to_vec())
    }

    fn session_to(
        &self,
        receiver: &AgentKeys,
        algorithm: EncryptionAlgorithm,
    ) -> Result<(Arc<Session>, u64), CommunicationError> {
        let place = receiver.pairs()?.agreement_public;
        let mut sending = self.sending.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(session) = sending.get(&place) {
            let count = session.counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            if count < SESSION_MESSAGES {
                return Ok((Arc::clone(session), count));
            }
        }
        if sending.len() >= SESSIONS {
            sending.clear(); // The next message to each receiver begins a new session.
        }
        let session = Arc::new(Session::begin(self.agent_id, receiver, algorithm)?);
        sending.insert(place, Arc::clone(&session));
        Ok((session, 0))
    }

    fn key_from(
        &self,
        sender: AgentId,
        ephemeral_public: [u8; 32],
        algorithm: EncryptionAlgorithm,
    ) -> Result<Arc<LessSafeKey>, CommunicationError> {
        let mut receiving = self.receiving.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(key) = receiving.get(&ephemeral_public) {
            return Ok(Arc::clone(key));
        }
        let pairs = self.pairs()?;
        let parties = Parties {
            ephemeral_public,
            receiver_public: pairs.agreement_public,
            sender,
            receiver: self.agent_id,
        };
        let key = Arc::new(parties.key(&pairs.agreement, &ephemeral_public, algorithm)?);
        if receiving.len() >= SESSIONS {
            receiving.clear(); // Keys are derived again when they are needed again.
        }
        receiving.insert(ephemeral_public, Arc::clone(&key));
        Ok(key)
    }
}

impl std::fmt::Debug for AgentKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "AgentKeys({}, epoch {})", self.agent_id, self.epoch)
    }
}

impl Session {
    fn begin(
        sender: AgentId,
        receiver: &AgentKeys,
        algorithm: EncryptionAlgorithm,
    ) -> Result<Self, CommunicationError> {
        let receiver_public = receiver.pairs()?.agreement_public;
        let ephemeral =
            PrivateKey::generate(&X25519).map_err(|_| failed("no ephemeral key could be made"))?;
        let public = ephemeral.compute_public_key().map_err(|_| failed("no public key"))?;
        let ephemeral_public: [u8; 32] =
            public.as_ref().try_into().map_err(|_| failed("no public key"))?;
        let parties =
            Parties { ephemeral_public, receiver_public, sender, receiver: receiver.agent_id };
        let key = parties.key(&ephemeral, &receiver_public, algorithm)?;
        let mut prefix = [0; 4];
        rand::fill(&mut prefix).map_err(|_| failed("the system gave no random bytes"))?;
        Ok(Self { key, ephemeral_public, prefix, counter: 1.into() })
    }
}

/// Between whom a session is.
struct Parties {
    ephemeral_public: [u8; 32],
    receiver_public: [u8; 32],
    sender: AgentId,
    receiver: AgentId,
}

struct KeyLength;

impl KeyType for KeyLength {
    fn len(&self) -> usize {
        32
    }
}

impl Parties {
    fn key(
        &self,
        mine: &PrivateKey,
        theirs: &[u8; 32],
        algorithm: EncryptionAlgorithm,
    ) -> Result<LessSafeKey, CommunicationError> {
        let theirs = AgreementPublicKey::new(&X25519, theirs);
        let derive = |secret: &[u8]| {
            let mut bytes = Zeroizing::new([0_u8; 32]);
            Salt::new(HKDF_SHA256, b"symbiont session v1")
                .extract(secret)
                .expand(
                    &[
                        &self.ephemeral_public,
                        &self.receiver_public,
                        self.sender.as_uuid().as_bytes(),
                        self.receiver.as_uuid().as_bytes(),
                        &[algorithm_byte(algorithm)],
                    ],
                    KeyLength,
                )
                .and_then(|okm| okm.fill(&mut *bytes))
                .map_err(|_| failed("no session key could be derived"))?;
            let cipher = match algorithm {
                EncryptionAlgorithm::Aes256Gcm => &AES_256_GCM,
                EncryptionAlgorithm::ChaCha20Poly1305 => &CHACHA20_POLY1305,
            };
            UnboundKey::new(cipher, &*bytes)
                .map(LessSafeKey::new)
                .map_err(|_| failed("no session key could be made"))
        };
        agreement::agree(mine, theirs, failed("the key agreement failed"), derive)
    }
}

/// What the bus wants sealed, and how.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sealing {
    /// `None` leaves the payload as it is.
    pub(crate) algorithm: Option<EncryptionAlgorithm>,
    pub(crate) compress: bool,
}

/// What the bus puts on a message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stamp {
    pub(crate) sequence: u64,
    pub(crate) timestamp: std::time::SystemTime,
    /// Of the payload, by [`payload_hash`].
    pub(crate) payload_hash: [u8; 32],
}

pub(crate) fn payload_hash(payload: &[u8]) -> [u8; 32] {
    digest(&SHA256, payload).as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// A message that lacks only its signature.
#[derive(Debug)]
pub(crate) struct Unsigned {
    message: SecureMessage,
    sequence: u64,
    canonical: Vec<u8>,
}

/// Encrypts `message`, if asked, and works out what its sender has to sign.
pub(crate) fn seal(
    mut message: Message,
    stamp: Stamp,
    sender: &AgentKeys,
    receiver: &AgentKeys,
    sealing: Sealing,
) -> Result<Unsigned, CommunicationError> {
    let Stamp { sequence, timestamp, payload_hash } = stamp;
    let mut canonical = header(&message, sequence, timestamp);
    let encrypted_payload = match sealing.algorithm {
        None => Vec::new(),
        Some(algorithm) => {
            let plain = std::mem::take(&mut message.payload);
            encrypt(plain, &canonical, sender, receiver, algorithm, sealing.compress)?
        }
    };
    canonical.extend_from_slice(&payload_hash);
    canonical.extend_from_slice(digest(&SHA256, &encrypted_payload).as_ref());
    let message = SecureMessage { message, signature: Vec::new(), encrypted_payload, timestamp };
    Ok(Unsigned { message, sequence, canonical })
}

/// Signs what one sender sends in one commit: one message by itself, several by their root.
pub(crate) fn sign(
    unsigned: Vec<Unsigned>,
    sender: &AgentKeys,
) -> Result<Vec<SecureMessage>, CommunicationError> {
    let signing = &sender.pairs()?.signing;
    if let [alone] = &unsigned[..] {
        let signature = signing.sign(&alone.canonical);
        return Ok(unsigned.into_iter().map(|it| it.signed(ALONE, signature.as_ref())).collect());
    }
    if unsigned.is_empty() || unsigned.len() > MOST_TOGETHER {
        return Err(failed("so many messages can't be signed together"));
    }
    let leaves: Vec<tree::Hash> = unsigned.iter().map(|it| tree::leaf(&it.canonical)).collect();
    let count = u32::try_from(leaves.len()).expect("there are at most 65,536");
    let (root, paths) = tree::grow(&leaves);
    let signature = signing.sign(&root_bytes(count, &root));
    let each = (0_u32..).zip(unsigned).zip(paths);
    Ok(each
        .map(|((index, unsigned), path)| {
            let mut message = unsigned.signed(TOGETHER, signature.as_ref());
            message.signature.extend_from_slice(&index.to_be_bytes());
            message.signature.extend_from_slice(&count.to_be_bytes());
            message.signature.extend_from_slice(path.as_flattened());
            message
        })
        .collect())
}

impl Unsigned {
    fn signed(self, format: u8, signature: &[u8]) -> SecureMessage {
        let mut message = self.message;
        message.signature.reserve(1 + 8 + signature.len());
        message.signature.push(format);
        message.signature.extend_from_slice(&self.sequence.to_be_bytes());
        message.signature.extend_from_slice(signature);
        message
    }
}

fn root_bytes(count: u32, root: &tree::Hash) -> Vec<u8> {
    [&b"symbiont messages v1\0"[..], &count.to_be_bytes(), root].concat()
}

/// Puts the payload back into a message for its receiver, after checking that it is what the
/// sender signed.
///
/// How large a payload may be was decided when it was accepted: here its length is what the sender
/// sealed with it.
pub(crate) fn open(
    mut sealed: SecureMessage,
    sender: &AgentKeys,
    receiver: &AgentKeys,
) -> Result<SecureMessage, CommunicationError> {
    let parts = Parts::of(&sealed.signature)?;
    let mut canonical = header(&sealed.message, parts.sequence, sealed.timestamp);
    if !sealed.encrypted_payload.is_empty() {
        if !sealed.message.payload.is_empty() {
            return Err(failed("a sealed message carries a plain payload too"));
        }
        sealed.message.payload = decrypt(&sealed, &canonical, receiver)?;
    }
    canonical.extend_from_slice(digest(&SHA256, &sealed.message.payload).as_ref());
    canonical.extend_from_slice(digest(&SHA256, &sealed.encrypted_payload).as_ref());
    let verifying = &sender.pairs()?.verifying;
    verifying
        .verify_sig(&parts.signed(canonical)?, parts.signature)
        .map_err(|_| failed("the signature is not the sender's"))?;
    Ok(sealed)
}

/// Whether `received`, with its payload, is what the owner of `sender_public` signed. Anyone can
/// check this, offline.
pub fn verify_message(received: &SecureMessage, sender_public: &[u8]) -> bool {
    let verified = || {
        let parts = Parts::of(&received.signature)?;
        let mut canonical = header(&received.message, parts.sequence, received.timestamp);
        canonical.extend_from_slice(digest(&SHA256, &received.message.payload).as_ref());
        canonical.extend_from_slice(digest(&SHA256, &received.encrypted_payload).as_ref());
        UnparsedPublicKey::new(&ED25519, sender_public)
            .verify(&parts.signed(canonical)?, parts.signature)
            .map_err(|_| failed("the signature is not the sender's"))
    };
    verified().is_ok()
}

/// The number that the sender gave the message, if there is a signature at all.
pub(crate) fn sequence(sealed: &SecureMessage) -> Option<u64> {
    Parts::of(&sealed.signature).ok().map(|parts| parts.sequence)
}

/// Bytes of the payload once it is opened, and not less than are kept of it: what a sealed message
/// says of itself is not checked before it is opened.
pub(crate) fn payload_len(sealed: &SecureMessage) -> usize {
    let said = sealed.encrypted_payload.get(HEADER - 4..HEADER);
    let said = said.and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_be_bytes);
    let kept = sealed.encrypted_payload.len().saturating_sub(HEADER + 16);
    sealed.message.payload.len().max(kept).max(said as usize)
}

/// What a signature consists of.
struct Parts<'a> {
    sequence: u64,
    signature: &'a [u8],
    /// Among the messages that were signed together: the place, the number, the path.
    place: Option<(u32, u32, &'a [tree::Hash])>,
}

impl<'a> Parts<'a> {
    fn of(bytes: &'a [u8]) -> Result<Self, CommunicationError> {
        let parse = || {
            let (format, rest) = bytes.split_first()?;
            let (sequence, rest) = rest.split_first_chunk::<8>()?;
            let (signature, rest) = rest.split_at_checked(SIGNATURE)?;
            let place = match *format {
                ALONE => rest.is_empty().then_some(None)?,
                TOGETHER => {
                    let (index, rest) = rest.split_first_chunk::<4>()?;
                    let (count, path) = rest.split_first_chunk::<4>()?;
                    let (path, []) = path.as_chunks::<32>() else { return None };
                    Some((u32::from_be_bytes(*index), u32::from_be_bytes(*count), path))
                }
                _ => return None,
            };
            Some(Self { sequence: u64::from_be_bytes(*sequence), signature, place })
        };
        parse().ok_or_else(|| failed("the signature has no known format"))
    }

    /// What the Ed25519 signature is over.
    fn signed(&self, canonical: Vec<u8>) -> Result<Vec<u8>, CommunicationError> {
        let Some((index, count, path)) = self.place else { return Ok(canonical) };
        let root = tree::climb(tree::leaf(&canonical), index, count, path.iter())
            .ok_or_else(|| failed("the signature's path leads nowhere"))?;
        Ok(root_bytes(count, &root))
    }
}

/// Everything of a message but its payload, so that no two headers have the same bytes.
fn header(message: &Message, sequence: u64, timestamp: std::time::SystemTime) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(128 + message.topic.len() + 64);
    bytes.extend_from_slice(b"symbiont message v1\0");
    bytes.extend_from_slice(message.id.as_uuid().as_bytes());
    bytes.extend_from_slice(message.from.as_uuid().as_bytes());
    bytes.extend_from_slice(message.to.as_uuid().as_bytes());
    bytes.extend_from_slice(&(message.topic.len() as u64).to_be_bytes());
    bytes.extend_from_slice(message.topic.as_bytes());
    bytes.push(message.priority as u8);
    bytes.extend_from_slice(&message.ttl.as_nanos().to_be_bytes());
    bytes.extend_from_slice(&micros(timestamp).to_be_bytes());
    bytes.extend_from_slice(&sequence.to_be_bytes());
    bytes
}

fn encrypt(
    plain: Vec<u8>,
    aad: &[u8],
    sender: &AgentKeys,
    receiver: &AgentKeys,
    algorithm: EncryptionAlgorithm,
    compress: bool,
) -> Result<Vec<u8>, CommunicationError> {
    let length = u32::try_from(plain.len()).map_err(|_| failed("the payload exceeds 4 GiB"))?;
    let mut flags = 0;
    let mut body = plain;
    if compress && body.len() > WORTH_COMPRESSING {
        let smaller = zstd::bulk::compress(&body, COMPRESSION_LEVEL)
            .map_err(|error| failed(&format!("compression failed: {error}")))?;
        if smaller.len() < body.len() {
            flags |= COMPRESSED;
            body = smaller;
        }
    }
    let (session, count) = sender.session_to(receiver, algorithm)?;
    let mut nonce = [0; NONCE_LEN];
    nonce[..4].copy_from_slice(&session.prefix);
    nonce[4..].copy_from_slice(&count.to_be_bytes());
    let mut out = Vec::with_capacity(HEADER + body.len() + 16);
    out.extend_from_slice(&[PAYLOAD_VERSION, algorithm_byte(algorithm), flags]);
    out.extend_from_slice(&sender.epoch.to_be_bytes());
    out.extend_from_slice(&receiver.epoch.to_be_bytes());
    out.extend_from_slice(&session.ephemeral_public);
    out.extend_from_slice(&nonce);
    out.extend_from_slice(&length.to_be_bytes());
    let aad = [aad, &out].concat();
    session
        .key
        .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(aad), &mut body)
        .map_err(|_| failed("the cipher failed"))?;
    out.extend_from_slice(&body);
    Ok(out)
}

fn decrypt(
    sealed: &SecureMessage,
    aad: &[u8],
    receiver: &AgentKeys,
) -> Result<Vec<u8>, CommunicationError> {
    let bytes = &sealed.encrypted_payload;
    let (head, body) =
        bytes.split_at_checked(HEADER).ok_or_else(|| failed("the sealed payload is cut short"))?;
    if head[0] != PAYLOAD_VERSION {
        return Err(failed("the sealed payload has no known version"));
    }
    let algorithm = match head[1] {
        1 => EncryptionAlgorithm::Aes256Gcm,
        2 => EncryptionAlgorithm::ChaCha20Poly1305,
        _ => return Err(failed("the sealed payload names no known algorithm")),
    };
    let epoch = u32::from_be_bytes(head[7..11].try_into().expect("four bytes"));
    if epoch != receiver.epoch {
        return Err(failed("the payload is sealed for another key of the receiver"));
    }
    let ephemeral: [u8; 32] = head[11..43].try_into().expect("32 bytes");
    let nonce: [u8; NONCE_LEN] = head[43..55].try_into().expect("12 bytes");
    let length = u32::from_be_bytes(head[55..59].try_into().expect("four bytes")) as usize;
    let key = receiver.key_from(sealed.message.from, ephemeral, algorithm)?;
    let aad = [aad, head].concat();
    let mut body = body.to_vec();
    let plain = key
        .open_in_place(Nonce::assume_unique_for_key(nonce), Aad::from(aad), &mut body)
        .map_err(|_| failed("the payload is not what was sealed"))?;
    let plain = if head[2] & COMPRESSED == 0 {
        plain.to_vec()
    } else {
        // The length has been authenticated with the rest: it is what the sender's bus accepted.
        zstd::bulk::decompress(plain, length)
            .map_err(|error| failed(&format!("decompression failed: {error}")))?
    };
    if plain.len() == length { Ok(plain) } else { Err(failed("the payload has another length")) }
}

fn algorithm_byte(algorithm: EncryptionAlgorithm) -> u8 {
    match algorithm {
        EncryptionAlgorithm::Aes256Gcm => 1,
        EncryptionAlgorithm::ChaCha20Poly1305 => 2,
    }
}

pub(crate) fn failed(reason: &str) -> CommunicationError {
    CommunicationError::EncryptionFailed { reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use symbiont_types::{MessageId, Priority};

    use super::*;

    struct Pair {
        alice: AgentKeys,
        bob: AgentKeys,
    }

    impl Pair {
        fn new() -> Self {
            let keys = || AgentKeys::generate(AgentId::new(), 1).unwrap();
            Self { alice: keys(), bob: keys() }
        }

        fn message(&self, payload: &[u8]) -> Message {
            Message {
                id: MessageId::new(),
                from: self.alice.agent_id,
                to: self.bob.agent_id,
                topic: "orders".to_owned(),
                payload: payload.to_vec(),
                priority: Priority::Normal,
                ttl: Duration::from_secs(60),
            }
        }

        fn seal(&self, payload: &[u8], sealing: Sealing) -> SecureMessage {
            self.seal_all(&[payload], sealing).remove(0)
        }

        fn seal_all(&self, payloads: &[&[u8]], sealing: Sealing) -> Vec<SecureMessage> {
            let unsigned = (7..).zip(payloads).map(|(sequence, payload)| {
                let payload_hash = payload_hash(payload);
                let stamp = Stamp { sequence, timestamp: SystemTime::now(), payload_hash };
                seal(self.message(payload), stamp, &self.alice, &self.bob, sealing).unwrap()
            });
            sign(unsigned.collect(), &self.alice).unwrap()
        }

        fn open(&self, sealed: SecureMessage) -> Result<SecureMessage, CommunicationError> {
            open(sealed, &self.alice, &self.bob)
        }
    }

    const SEALINGS: [Sealing; 4] = [
        Sealing { algorithm: None, compress: false },
        Sealing { algorithm: Some(EncryptionAlgorithm::Aes256Gcm), compress: false },
        Sealing { algorithm: Some(EncryptionAlgorithm::Aes256Gcm), compress: true },
        Sealing { algorithm: Some(EncryptionAlgorithm::ChaCha20Poly1305), compress: true },
    ];

    #[test]
    fn what_was_sealed_opens_and_verifies() {
        let pair = Pair::new();
        for sealing in SEALINGS {
            for payload in [&b""[..], b"x", &[b'a'; 5000]] {
                let sealed = pair.seal(payload, sealing);
                if sealing.algorithm.is_some() {
                    assert!(sealed.message.payload.is_empty(), "nothing plain is kept");
                }
                let opened = pair.open(sealed).unwrap();
                assert_eq!(opened.message.payload, payload);
                assert!(verify_message(&opened, &pair.alice.public_key().unwrap()));
                assert!(!verify_message(&opened, &pair.bob.public_key().unwrap()));
            }
        }
    }

    #[test]
    fn the_plaintext_is_nowhere_in_what_is_kept() {
        let pair = Pair::new();
        let secret = b"the launch code is 0000, do not tell anyone";
        let sealed = pair.seal(secret, SEALINGS[1]);
        let kept = format!("{sealed:?}").into_bytes();
        let found = |bytes: &[u8]| bytes.windows(secret.len()).any(|window| window == secret);
        assert!(!found(&sealed.encrypted_payload) && !found(&sealed.signature) && !found(&kept));
    }

    #[test]
    fn compression_happens_only_when_asked() {
        let pair = Pair::new();
        let long = [b'a'; 100_000];
        assert!(pair.seal(&long, SEALINGS[2]).encrypted_payload.len() < 1000);
        assert!(pair.seal(&long, SEALINGS[1]).encrypted_payload.len() > 100_000);
    }

    #[test]
    fn a_change_anywhere_is_noticed() {
        let pair = Pair::new();
        type Change = fn(&mut SecureMessage);
        let cases: [(&str, Change); 9] = [
            ("id", |m| m.message.id = MessageId::new()),
            ("from", |m| m.message.from = AgentId::new()),
            ("topic", |m| m.message.topic.push('x')),
            ("priority", |m| m.message.priority = Priority::Critical),
            ("ttl", |m| m.message.ttl += Duration::from_nanos(1)),
            ("timestamp", |m| m.timestamp += Duration::from_secs(1)),
            ("signature", |m| *m.signature.last_mut().unwrap() ^= 1),
            ("sequence", |m| m.signature[8] ^= 1),
            ("payload", |m| match m.encrypted_payload.last_mut() {
                Some(byte) => *byte ^= 1,
                None => m.message.payload.push(0),
            }),
        ];
        for sealing in SEALINGS {
            for (what, change) in cases {
                let alone = pair.seal(b"hello", sealing);
                let together = pair.seal_all(&[b"hello", b"you", b"there"], sealing).remove(1);
                for mut sealed in [alone, together] {
                    let format = sealed.signature[0];
                    change(&mut sealed);
                    let opened = pair.open(sealed);
                    assert!(opened.is_err(), "{what} in format {format} with {sealing:?}");
                }
            }
        }
    }

    #[test]
    fn what_was_signed_together_opens_and_verifies_one_by_one() {
        let pair = Pair::new();
        let public = pair.alice.public_key().unwrap();
        let payloads: Vec<Vec<u8>> = (0..9_u8).map(|n| vec![n; 40]).collect();
        for count in 1..=payloads.len() {
            let payloads: Vec<&[u8]> = payloads[..count].iter().map(Vec::as_slice).collect();
            for (sealed, payload) in pair.seal_all(&payloads, SEALINGS[1]).into_iter().zip(payloads)
            {
                assert_eq!(sealed.signature[0], if count == 1 { ALONE } else { TOGETHER });
                let opened = pair.open(sealed).unwrap();
                assert_eq!(opened.message.payload, payload);
                assert!(verify_message(&opened, &public));
            }
        }
    }

    #[test]
    fn a_signature_of_several_holds_at_its_own_place_only() {
        let pair = Pair::new();
        let all = pair.seal_all(&[b"a", b"b", b"c", b"d", b"e"], SEALINGS[1]);
        let signed = &all[1].signature;
        for at in 0..signed.len() {
            let mut changed = all[1].clone();
            changed.signature[at] ^= 1;
            assert!(pair.open(changed).is_err(), "byte {at}");
        }
        for length in 0..signed.len() {
            let mut cut = all[1].clone();
            cut.signature.truncate(length);
            assert!(pair.open(cut).is_err(), "cut to {length}");
        }
        let mut longer = all[1].clone();
        longer.signature.extend_from_slice(&[0; 32]);
        assert!(pair.open(longer).is_err());
        let moved = SecureMessage { signature: all[2].signature.clone(), ..all[1].clone() };
        assert!(pair.open(moved).is_err());
        // The root's signature is none of a message, whatever its bytes are taken for.
        let mut alone = all[1].clone();
        alone.signature[0] = ALONE;
        alone.signature.truncate(1 + 8 + SIGNATURE);
        assert!(pair.open(alone).is_err());
    }

    #[test]
    fn a_receiver_with_new_secrets_is_sealed_for_anew() {
        let pair = Pair::new();
        pair.open(pair.seal(b"x", SEALINGS[1])).unwrap();
        let again = AgentKeys::generate(pair.bob.agent_id, pair.bob.epoch).unwrap();
        let pair = Pair { bob: again, ..pair };
        pair.open(pair.seal(b"x", SEALINGS[1])).unwrap();
    }

    #[test]
    fn encryption_cannot_be_stripped_and_another_cannot_open() {
        let pair = Pair::new();
        let mut stripped = pair.seal(b"hello", SEALINGS[1]);
        stripped.encrypted_payload.clear();
        stripped.message.payload = b"hello".to_vec();
        assert!(pair.open(stripped).is_err());

        let sealed = pair.seal(b"hello", SEALINGS[1]);
        let eve = AgentKeys::generate(pair.bob.agent_id, 1).unwrap();
        assert!(open(sealed, &pair.alice, &eve).is_err());
    }

    #[test]
    fn one_session_serves_many_messages_and_no_nonce_comes_twice() {
        let pair = Pair::new();
        let mut nonces = std::collections::HashSet::new();
        let mut ephemeral = std::collections::HashSet::new();
        for _ in 0..100 {
            let sealed = pair.seal(b"x", SEALINGS[1]);
            ephemeral.insert(sealed.encrypted_payload[11..43].to_vec());
            assert!(nonces.insert(sealed.encrypted_payload[43..55].to_vec()));
        }
        assert_eq!(ephemeral.len(), 1);
    }
}
