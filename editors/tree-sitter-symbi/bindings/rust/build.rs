//! Compiles the generated parser and the scanner.

fn main() {
    let files = ["src/parser.c", "src/scanner.c"];
    cc::Build::new().std("c11").include("src").files(files).compile("tree-sitter-symbi");
    for file in files.into_iter().chain(["src/tree_sitter"]) {
        println!("cargo::rerun-if-changed={file}");
    }
}
