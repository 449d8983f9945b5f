//! The language through its public face.

use std::path::{Path, PathBuf};

mod checking;
mod codes;
mod coverage;
mod decisions;
mod definitions;
mod docs;
mod fitting;
mod formatting;
mod fuzzed;
mod machine;
mod mutations;
mod parsing;
mod policies;
mod random;
mod ranges;
mod recovery;
mod runs;
mod saving;
mod session;
mod tools;
mod types;
mod world;

/// The folder of test data of this name.
fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("test_data").join(name)
}

/// The programs of a folder of `test_data`, by name.
fn programs(name: &str) -> Vec<(PathBuf, String)> {
    files(name, "symbi")
}

/// The files of a folder of `test_data` whose names end so, by name.
fn files(name: &str, ending: &str) -> Vec<(PathBuf, String)> {
    let folder = folder(name);
    let mut paths: Vec<PathBuf> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == ending))
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "no `.{ending}` in {}", folder.display());
    paths.into_iter().map(|path| (path.clone(), std::fs::read_to_string(path).unwrap())).collect()
}

/// The file's name without its folder.
fn name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

/// Compares with the text in a file; `UPDATE_EXPECT=1` rewrites the file instead.
#[track_caller]
fn expect(path: &Path, got: &str) {
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(path, got).unwrap();
        return;
    }
    let want = std::fs::read_to_string(path).unwrap_or_default();
    assert_eq!(got, want, "{} differs; UPDATE_EXPECT=1 rewrites it", path.display());
}
