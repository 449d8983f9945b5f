//! Which tests said that they left something out.
//!
//! A test that can't do its work on this host prints `not run: REASON` and passes. The runner's
//! report has what each test printed; these are the lines of it that matter.

/// The lines `not run: ...` of a report in JUnit's format, each after its test's name.
pub(crate) fn in_junit(report: &str) -> Vec<String> {
    let name = |line: &str| {
        let (_, rest) = line.split_once("<testcase name=\"")?;
        Some(plain(rest.split('"').next()?))
    };
    collect(report, name)
}

/// The same of what `cargo test -- --show-output` prints.
pub(crate) fn in_output(output: &str) -> Vec<String> {
    let name = |line: &str| {
        let name = line.strip_prefix("---- ")?.strip_suffix(" ----")?;
        Some(name.strip_suffix(" stdout").unwrap_or(name).to_owned())
    };
    collect(output, name)
}

fn collect(text: &str, name_in: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let mut name = String::new();
    let mut found = Vec::new();
    for line in text.lines() {
        if let Some(next) = name_in(line) {
            name = next;
        }
        if let Some((_, reason)) = line.split_once("not run: ") {
            let reason = plain(reason.split("</system-").next().unwrap_or_default());
            found.push(format!("{name}: {reason}"));
        }
    }
    found
}

/// Text of an XML document as it was before.
fn plain(text: &str) -> String {
    text.replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"")
        .replace("&apos;", "'")
        .replace("&amp;", "&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_found_with_their_tests() {
        let report = "<testsuite name=\"it\">\n\
            <testcase name=\"quiet\" classname=\"it\"><system-out>ok</system-out></testcase>\n\
            <testcase name=\"walls &amp; gates\" classname=\"it\">\n\
            <system-out>running</system-out>\n\
            <system-err>not run: setpriv: &apos;no&apos; such file</system-err>\n\
            </testcase>";
        assert_eq!(in_junit(report), ["walls & gates: setpriv: 'no' such file"]);
        let output = "---- quiet stdout ----\nok\n---- loud stdout ----\nnot run: no room\n\n";
        assert_eq!(in_output(output), ["loud: no room"]);
    }
}
