//! The pages about codes: each has two programs, of which the first is seen here as its reader sees
//! it (`test_data/codes/*.txt`).

use std::collections::BTreeSet;
use std::path::Path;

use symbiont_dsl::definition::{check, check_with_tools};
use symbiont_dsl::diagnostic::codes::{Page, nearest_code, page, pages};
use symbiont_dsl::diagnostic::{Diagnostic, render};
use symbiont_dsl::tools::gather;

use super::{expect, folder};

/// What the `...` of a page's program stand for, where nobody would read it whole.
const SHORTENED: [(&str, &str, usize); 2] = [("E0107", "[", 300), ("E0108", "x", 1 << 20)];

/// The codes without that of what is not served, which stands beside everything said about a block.
fn codes<'a>(code: &str, diagnostics: &'a [Diagnostic]) -> BTreeSet<&'a str> {
    let told = diagnostics.iter().map(|diagnostic| diagnostic.code);
    told.filter(|told| *told != "W0314" || *told == code).collect()
}

/// What is told of an example of a page.
fn told(page: &Page, example: &str) -> Vec<Diagnostic> {
    if example.starts_with("name = ") {
        return gather([example]).diagnostics.swap_remove(0);
    }
    let tools = gather(page.tools());
    assert!(!tools.has_errors(), "{}", page.code);
    match tools.tools.is_empty() {
        true => check(example).diagnostics,
        false => check_with_tools(example, &tools.tools).diagnostics,
    }
}

#[test]
fn the_first_program_of_a_page_gives_its_code_and_the_second_gives_none() {
    for page in pages() {
        let code = page.code;
        let [faulty, mended] = page.examples().collect::<Vec<_>>()[..] else {
            panic!("the page of {code} has not two programs");
        };
        let faulty = match SHORTENED.iter().find(|(shortened, ..)| *shortened == code) {
            Some((_, text, times)) => faulty.replace("...", &text.repeat(*times)),
            None => faulty.to_owned(),
        };
        let file = if faulty.starts_with("name = ") { "tool.toml" } else { "agent.symbi" };
        let told = told(page, &faulty);
        let shown = render(&told, &faulty, file, false);
        assert_eq!(codes(code, &told), BTreeSet::from([code]), "{shown}");
        let of_code = told.iter().filter(|diagnostic| diagnostic.code == code).count();
        assert_eq!(of_code, 1, "{shown}");
        if code != "E0107" {
            expect(&folder("codes").join(format!("{code}.txt")), &shown);
        }
        let told = self::told(page, mended);
        let shown = render(&told, mended, file, false);
        assert_eq!(codes("", &told), BTreeSet::new(), "{code} mended: {shown}");
        assert!(code != "W0314" || told.is_empty(), "{shown}");
    }
}

/// The codes in the sources of this crate.
fn in_sources(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            in_sources(&path, found);
        } else if path.file_name().is_some_and(|name| name != "codes.rs") {
            let source = std::fs::read_to_string(path).unwrap();
            let quoted = source.split('"').filter(|text| {
                text.len() == 5
                    && text.starts_with(['E', 'W'])
                    && text[1..].bytes().all(|byte| byte.is_ascii_digit())
            });
            found.extend(quoted.map(str::to_owned));
        }
    }
}

#[test]
fn every_code_has_a_page_and_every_page_a_code() {
    let mut codes = BTreeSet::new();
    in_sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut codes);
    let paged: BTreeSet<String> = pages().iter().map(|page| page.code.to_owned()).collect();
    assert_eq!(codes, paged);
    let files = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/codes"));
    let files: BTreeSet<String> = files
        .unwrap()
        .map(|file| file.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    assert_eq!(files, paged);
}

#[test]
fn a_page_begins_with_its_code_and_title() {
    for page in pages() {
        let first = page.text.lines().next().unwrap();
        assert_eq!(first, format!("# {}: {}", page.code, page.title()));
        assert!(!page.title().ends_with('.') && !page.title().is_empty(), "{first}");
        assert!(!page.body().starts_with('#'), "{first}");
        assert!(page.text.lines().all(|line| line.chars().count() <= 112), "{first}");
    }
}

#[test]
fn codes_are_found_however_they_are_written() {
    for (written, want) in [
        ("E0101", Some("E0101")),
        ("e0101", Some("E0101")),
        ("W304", Some("W0304")),
        ("0304", Some("W0304")),
        ("304", Some("W0304")),
        (" w0118 ", Some("W0118")),
        ("E0304", None),
        ("E9999", None),
        ("", None),
        ("hello", None),
        ("é", None),
    ] {
        assert_eq!(page(written).map(|page| page.code), want, "{written:?}");
    }
    assert_eq!(nearest_code("E0304"), Some("W0304"));
    assert_eq!(nearest_code("hello"), None);
}
