//! Secrets of agents, sealed for the disk.
//!
//! # What holds
//!
//! - A key file is whole or not there, also when the process dies while it is being made.

use std::fs::{File, OpenOptions};
use std::io::{Error, ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::rand;
use symbiont_types::{AgentId, CommunicationError};
use zeroize::Zeroizing;

use super::seal::{AgentKeys, failed};

/// Seals secrets for the disk.
pub(crate) struct Keystore {
    key: LessSafeKey,
}

impl Keystore {
    /// With a key that lasts as long as the process.
    pub(crate) fn in_memory() -> Result<Self, CommunicationError> {
        Self::with_key(&*new_key()?)
    }

    /// With the key of this file, which is made if it is not there.
    pub(crate) fn open(path: &Path) -> Result<Self, CommunicationError> {
        let io = |error: Error| failed(&format!("`{}`: {error}", path.display()));
        let mut key = Zeroizing::new([0; 32]);
        match File::open(path) {
            Ok(mut file) => file.read_exact(&mut *key).map_err(|_| {
                failed(&format!(
                    "`{}` is no whole key: restore it, or remove it to give up the mail that waits",
                    path.display()
                ))
            })?,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                key = new_key()?;
                make(path, &key).map_err(io)?;
            }
            Err(error) => return Err(io(error)),
        }
        Self::with_key(&key)
    }

    fn with_key(key: &[u8; 32]) -> Result<Self, CommunicationError> {
        let key = UnboundKey::new(&AES_256_GCM, key).map_err(|_| failed("no key"))?;
        Ok(Self { key: LessSafeKey::new(key) })
    }

    /// A random nonce and the sealed secrets: there are few of them, so that none comes twice.
    pub(crate) fn seal(&self, keys: &AgentKeys) -> Result<Vec<u8>, CommunicationError> {
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).map_err(|_| failed("the system gave no random bytes"))?;
        let mut body = keys.seeds().to_vec();
        let aad = Aad::from(*keys.agent_id.as_uuid().as_bytes());
        self.key
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut body)
            .map_err(|_| failed("the keystore failed"))?;
        Ok([&nonce[..], &body].concat())
    }

    pub(crate) fn open_keys(
        &self,
        agent_id: AgentId,
        epoch: u32,
        sealed: &[u8],
    ) -> Result<AgentKeys, CommunicationError> {
        let (nonce, body) =
            sealed.split_at_checked(NONCE_LEN).ok_or_else(|| failed("a kept key is cut short"))?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| failed("no nonce"))?;
        let mut body = Zeroizing::new(body.to_vec());
        let aad = Aad::from(*agent_id.as_uuid().as_bytes());
        let seeds = self
            .key
            .open_in_place(nonce, aad, &mut body)
            .map_err(|_| failed("a kept key can't be opened with this keystore"))?;
        let seeds: [u8; 64] =
            (&*seeds).try_into().map_err(|_| failed("a kept key is cut short"))?;
        Ok(AgentKeys::from_seeds(agent_id, epoch, Zeroizing::new(seeds)))
    }
}

impl std::fmt::Debug for Keystore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keystore")
    }
}

fn new_key() -> Result<Zeroizing<[u8; 32]>, CommunicationError> {
    let mut key = Zeroizing::new([0; 32]);
    rand::fill(&mut *key).map_err(|_| failed("the system gave no random bytes"))?;
    Ok(key)
}

/// Writes the key beside its place and moves it there when it is on the disk, so that what is at its
/// place is whole. What a process that died left beside it is written over.
fn make(path: &Path, key: &[u8; 32]) -> Result<(), Error> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".partial");
    match std::fs::remove_file(&beside) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    file.write_all(key)?;
    file.sync_all()?;
    std::fs::rename(&beside, path)?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_keys_open_with_their_keystore_only() {
        let keys = AgentKeys::generate(AgentId::new(), 3).unwrap();
        let keystore = Keystore::in_memory().unwrap();
        let sealed = keystore.seal(&keys).unwrap();
        let again = keystore.open_keys(keys.agent_id, 3, &sealed).unwrap();
        assert_eq!(again.public_key().unwrap(), keys.public_key().unwrap());
        assert!(keystore.open_keys(AgentId::new(), 3, &sealed).is_err());
        assert!(Keystore::in_memory().unwrap().open_keys(keys.agent_id, 3, &sealed).is_err());
        assert!(keystore.open_keys(keys.agent_id, 3, &sealed[..5]).is_err());
    }

    #[test]
    fn a_key_file_is_whole_or_not_there() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keystore.key");
        // What a process leaves that died while it made the key.
        std::fs::write(directory.path().join("keystore.key.partial"), [1; 7]).unwrap();
        let keys = AgentKeys::generate(AgentId::new(), 1).unwrap();
        let sealed = Keystore::open(&path).unwrap().seal(&keys).unwrap();
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
        let again = Keystore::open(&path).unwrap();
        assert!(again.open_keys(keys.agent_id, 1, &sealed).is_ok());
    }
}
