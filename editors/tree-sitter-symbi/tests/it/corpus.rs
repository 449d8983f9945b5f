//! The trees of small programs: `test/corpus`, which `tree-sitter test` reads as well, and
//! `tree-sitter test --update` rewrites.

use std::path::Path;

use crate::{files, parse};

#[test]
fn the_corpus_has_the_trees_that_it_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("test/corpus");
    let mut seen = 0;
    for path in files(&folder, "txt") {
        let text = std::fs::read_to_string(&path).unwrap();
        // A rule, the name, a rule, the source, a dash line, the tree.
        let parts: Vec<&str> = text.split("==================\n").collect();
        for pair in parts[1..].chunks(2) {
            let [name, case] = pair else { panic!("{}: a case without a text", path.display()) };
            let (source, tree) = case.rsplit_once("\n---\n").unwrap();
            let want = tree.split_whitespace().collect::<Vec<_>>().join(" ").replace(" )", ")");
            let got = parse(source).root_node().to_sexp();
            assert_eq!(got, want, "{}: {name}", path.display());
            seen += 1;
        }
    }
    assert!(seen > 10, "only {seen} cases were found");
}
