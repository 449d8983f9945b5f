//! Tools from files: a folder of manifests, read once.
//!
//! What a manifest means is decided by [`symbiont_dsl::tools`]; here files are found and bounded.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use symbiont_dsl::diagnostic::Diagnostic;
use symbiont_dsl::tools::{LARGEST_MANIFEST, Tools, gather};
use symbiont_types::ConfigurationError;

/// A folder of manifests that was read.
#[derive(Debug)]
pub struct ToolFolder {
    /// The tools of the manifests that are without fault.
    pub tools: Tools,
    /// The manifests, by name.
    pub files: Vec<ToolFile>,
}

/// A manifest in a file.
#[derive(Debug)]
pub struct ToolFile {
    /// Where it is.
    pub path: PathBuf,
    /// What stands in it.
    pub source: String,
    /// What is wrong with it.
    pub diagnostics: Vec<Diagnostic>,
}

/// Reads the manifests of a folder: its files whose names end in `.toml`.
///
/// # Errors
///
/// `Io` when the folder or one of them can't be read, and for too many of them.
pub fn load_tools(folder: &Path) -> Result<ToolFolder, ConfigurationError> {
    let unusable = |path: &Path, reason: String| ConfigurationError::Io {
        path: path.display().to_string(),
        reason,
    };
    let entries = std::fs::read_dir(folder).map_err(|error| unusable(folder, error.to_string()))?;
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| unusable(folder, error.to_string()))?.path();
        if path.extension().is_some_and(|ending| ending == "toml") {
            paths.push(path);
        }
        if paths.len() > Tools::MOST {
            let reason = format!("there are more than {} manifests", Tools::MOST);
            return Err(unusable(folder, reason));
        }
    }
    paths.sort();
    let mut files = Vec::with_capacity(paths.len());
    for path in paths {
        let source = text(&path).map_err(|reason| unusable(&path, reason))?;
        files.push(ToolFile { path, source, diagnostics: Vec::new() });
    }
    let gathered = gather(files.iter().map(|file| file.source.as_str()));
    for (file, diagnostics) in files.iter_mut().zip(gathered.diagnostics) {
        file.diagnostics = diagnostics;
    }
    Ok(ToolFolder { tools: gathered.tools, files })
}

fn text(path: &Path) -> Result<String, String> {
    // Before it is opened: opening a pipe waits for whoever writes to it.
    if !std::fs::metadata(path).map_err(|error| error.to_string())?.is_file() {
        return Err("it is no regular file".to_owned());
    }
    let file = File::open(path).map_err(|error| error.to_string())?;
    let mut bytes = Vec::new();
    // One byte more, which the reader of manifests refuses in its own words.
    let most = LARGEST_MANIFEST as u64 + 1;
    file.take(most).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    String::from_utf8(bytes).map_err(|_not_utf8| "it is not a text file".to_owned())
}
