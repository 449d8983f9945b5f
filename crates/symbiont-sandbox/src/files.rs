//! Files on their way in or out: where their bytes come from and go to on this side.

use std::io::ErrorKind;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use symbiont_types::SandboxError;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::sandbox::on_disk;

/// Where a file's bytes come from.
#[async_trait]
pub(crate) trait Source: Send {
    /// Some bytes, at least one and at most `wanted`.
    async fn next(&mut self, wanted: usize) -> Result<Vec<u8>, SandboxError>;

    /// That nothing is left, once so many bytes were taken as there are said to be.
    async fn end(&mut self) -> Result<(), SandboxError>;
}

/// Where a file's bytes go to.
#[async_trait]
pub(crate) trait Sink: Send {
    async fn take(&mut self, bytes: &[u8]) -> Result<(), SandboxError>;
}

/// A file's bytes that are here already.
pub(crate) struct Bytes<'a>(pub(crate) &'a [u8]);

#[async_trait]
impl Source for Bytes<'_> {
    async fn next(&mut self, wanted: usize) -> Result<Vec<u8>, SandboxError> {
        let (chunk, rest) = self.0.split_at(wanted.min(self.0.len()));
        self.0 = rest;
        Ok(chunk.to_vec())
    }

    async fn end(&mut self) -> Result<(), SandboxError> {
        Ok(())
    }
}

#[async_trait]
impl Sink for Vec<u8> {
    async fn take(&mut self, bytes: &[u8]) -> Result<(), SandboxError> {
        self.extend_from_slice(bytes);
        Ok(())
    }
}

/// A file of the host, with the name it has for its user.
pub(crate) struct Local<'a>(tokio::fs::File, &'a Path);

#[async_trait]
impl Source for Local<'_> {
    async fn next(&mut self, wanted: usize) -> Result<Vec<u8>, SandboxError> {
        let mut chunk = vec![0; wanted];
        let count = self.0.read(&mut chunk).await.map_err(|error| local(self.1, &error))?;
        if count == 0 {
            return Err(local(self.1, &"it became shorter while it was read"));
        }
        chunk.truncate(count);
        Ok(chunk)
    }

    async fn end(&mut self) -> Result<(), SandboxError> {
        match self.0.read(&mut [0; 1]).await.map_err(|error| local(self.1, &error))? {
            0 => Ok(()),
            _ => Err(local(self.1, &"it has more in it than it says, or grew while it was read")),
        }
    }
}

#[async_trait]
impl Sink for Local<'_> {
    async fn take(&mut self, bytes: &[u8]) -> Result<(), SandboxError> {
        self.0.write_all(bytes).await.map_err(|error| local(self.1, &error))
    }
}

pub(crate) fn local(path: &Path, error: &dyn std::fmt::Display) -> SandboxError {
    SandboxError::InvalidArgument { what: format!("the local file `{}`: {error}", path.display()) }
}

pub(crate) fn forbidden(path: &Path, reason: &str) -> SandboxError {
    SandboxError::PathForbidden { path: path.display().to_string(), reason: reason.to_owned() }
}

impl<'a> Local<'a> {
    /// A regular file to be read, with its size and permissions.
    pub(crate) fn open(path: &'a Path) -> Result<(Self, u64, u32), SandboxError> {
        let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
        let mut options = std::fs::OpenOptions::new();
        let file =
            options.read(true).custom_flags(flags).open(path).map_err(|e| local(path, &e))?;
        let metadata = file.metadata().map_err(|error| local(path, &error))?;
        if !metadata.is_file() {
            return Err(SandboxError::NotRegular { path: path.display().to_string() });
        }
        let file = tokio::fs::File::from_std(file);
        Ok((Self(file, path), metadata.len(), metadata.permissions().mode()))
    }
}

/// Not made of a name, which may be as long as names can be.
pub(crate) fn temporary() -> String {
    format!(".symbiont-{}", uuid::Uuid::new_v4().simple())
}

/// Where a file of this name will be, and with which permissions: what a link leads to is replaced, and not
/// the link, and nothing is but a file.
pub(crate) fn replaceable(path: &Path) -> Result<(PathBuf, u32), SandboxError> {
    let told = |error: std::io::Error| local(path, &error);
    let place = match std::fs::canonicalize(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => path.to_owned(),
        place => place.map_err(told)?,
    };
    match std::fs::symlink_metadata(&place) {
        _ if place.file_name().is_none() => Err(local(path, &"it names no file")),
        Ok(there) if there.is_file() => Ok((place, there.permissions().mode() & 0o777)),
        Ok(there) if there.is_symlink() => Err(local(path, &"it is a link that leads nowhere")),
        Ok(_) => {
            let why = "it is there, and is no regular file, which is all that is replaced";
            Err(local(path, &why))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok((place, 0o600)),
        Err(error) => Err(told(error)),
    }
}

/// A local file on its way: it has its name once it is whole, and goes if it never is.
pub(crate) struct Unfinished<'a> {
    sink: Local<'a>,
    part: PathBuf,
    /// Where it will be.
    place: PathBuf,
    whole: bool,
}

impl<'a> Unfinished<'a> {
    pub(crate) async fn begin(path: &'a Path) -> Result<Self, SandboxError> {
        let named = path.to_owned();
        let (place, mode) = on_disk(move || replaceable(&named)).await??;
        let part = place.with_file_name(temporary());
        let file = tokio::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&part)
            .await
            .map_err(|error| local(path, &error))?;
        let unfinished = Self { sink: Local(file, path), part, place, whole: false };
        let permissions = std::fs::Permissions::from_mode(mode);
        unfinished.sink.0.set_permissions(permissions).await.map_err(|e| local(path, &e))?;
        Ok(unfinished)
    }

    pub(crate) fn sink(&mut self) -> &mut Local<'a> {
        &mut self.sink
    }

    /// Gives it its name.
    pub(crate) async fn finish(mut self) -> Result<(), SandboxError> {
        let path = self.sink.1;
        self.sink.0.flush().await.map_err(|error| local(path, &error))?;
        tokio::fs::rename(&self.part, &self.place).await.map_err(|error| local(path, &error))?;
        self.whole = true;
        Ok(())
    }
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if !self.whole {
            let _never_made = std::fs::remove_file(&self.part);
        }
    }
}
