//! Whatever the language page allows parses; whatever else comes gives diagnostics and no panic.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use symbiont_dsl::diagnostic::render;
use symbiont_dsl::syntax::{parse, tree};

/// The files of a folder of `test_data`, by name.
fn files(folder: &str) -> Vec<(PathBuf, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("test_data").join(folder);
    let mut paths: Vec<PathBuf> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "symbi"))
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "no programs in {}", folder.display());
    paths.into_iter().map(|path| (path.clone(), std::fs::read_to_string(path).unwrap())).collect()
}

#[test]
fn real_programs_parse() {
    let mut faults = String::new();
    for (path, source) in files("programs") {
        let parsed = parse(&source);
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        write!(faults, "{}", render(&parsed.diagnostics, &source, &name, false)).unwrap();
        assert_eq!(tree(&source).text().to_string(), source, "the tree of {name} lost something");
    }
    assert_eq!(faults, "");
}
