//! The codes of diagnostics, and a page about each.
//!
//! A page is a file of `docs/codes`: its first line is `# CODE: title`, and of its two programs, or of its
//! two manifests of tools, the first gives the code and the second, which is the first mended, does not.

use super::nearest;

/// What there is to say about a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// `E` or `W` and four digits.
    pub code: &'static str,
    /// The whole page, in Markdown.
    pub text: &'static str,
}

impl Page {
    /// What the code means, as a lowercase fragment.
    pub fn title(&self) -> &'static str {
        let first = self.text.lines().next().unwrap_or_default();
        first.split_once(": ").map_or(first, |(_, title)| title)
    }

    /// The page without its first line.
    pub fn body(&self) -> &'static str {
        self.text.split_once('\n').map_or("", |(_, body)| body.trim())
    }

    /// What is faulty on the page, and the same mended: programs, or, of codes about manifests of
    /// tools, manifests.
    pub fn examples(&self) -> impl Iterator<Item = &'static str> {
        let language = if self.text.contains("```symbi\n") { "symbi" } else { "toml" };
        self.blocks(language)
    }

    /// The manifests of the tools that the programs on the page may call.
    pub fn tools(&self) -> impl Iterator<Item = &'static str> {
        self.blocks("toml").filter(|_| self.text.contains("```symbi\n"))
    }

    fn blocks(&self, language: &str) -> impl Iterator<Item = &'static str> + use<> {
        let fence = format!("```{language}\n");
        let blocks: Vec<&'static str> = self
            .text
            .split(fence.as_str())
            .skip(1)
            .map(|rest| rest.split_once("```").map_or(rest, |(block, _)| block))
            .collect();
        blocks.into_iter()
    }
}

/// The pages, in the order of their codes' numbers.
pub fn pages() -> &'static [Page] {
    PAGES
}

/// The page of a code, which may lack its letter or be in lower case: `w304`, `0304`, `304`.
pub fn page(code: &str) -> Option<&'static Page> {
    PAGES.iter().find(|page| number(page.code) == number(code) && agrees(page.code, code))
}

/// The code that was most likely meant by one that there is not.
pub fn nearest_code(code: &str) -> Option<&'static str> {
    let same = PAGES.iter().map(|page| page.code).find(|known| number(known) == number(code));
    same.or_else(|| nearest(&code.to_uppercase(), PAGES.iter().map(|page| page.code)))
}

/// The digits of a code, without zeros before them.
fn number(code: &str) -> &str {
    code.trim().trim_start_matches(['E', 'W', 'e', 'w']).trim_start_matches('0')
}

/// Whether what was written has the code's letter, or none.
fn agrees(code: &str, written: &str) -> bool {
    match written.trim().as_bytes().first() {
        Some(letter) if letter.is_ascii_alphabetic() => {
            letter.eq_ignore_ascii_case(&code.as_bytes()[0])
        }
        Some(_) | None => true,
    }
}

macro_rules! pages {
    ($($code:literal)*) => {
        &[$(Page { code: $code, text: include_str!(concat!("../../docs/codes/", $code, ".md")) }),*]
    };
}

#[rustfmt::skip]
const PAGES: &[Page] = pages![
    "E0101" "E0102" "E0103" "E0104" "E0105" "E0106" "E0107" "E0108" "E0109" "E0110"
    "E0111" "E0112" "E0113" "E0114" "E0115" "E0116" "E0117" "W0118" "E0119" "E0120"
    "E0121"
    "E0201" "E0202" "E0203" "E0204" "E0205" "E0206" "E0207" "E0208" "E0209" "E0210"
    "E0221" "E0222" "E0223" "E0224"
    "E0231" "E0232" "E0233"
    "E0401" "E0402" "E0403" "E0404" "E0405" "E0406" "E0407" "E0411"
    "W0301" "W0302" "W0303" "W0304" "W0305" "W0306" "W0307" "W0308" "W0309" "W0310"
    "W0311" "W0312" "W0313" "W0314" "W0315" "W0321" "W0322" "W0323" "W0324" "W0325" "W0326" "W0327" "W0331" "W0332" "W0333" "W0334" "W0335"
    "W0336" "W0337"
    "W0401" "W0410"
];
