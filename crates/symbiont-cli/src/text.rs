//! Text of others, made fit to be shown, and figures in a few characters.
//!
//! # What holds
//!
//! - What comes out of [`line()`] is one line, and moves no cursor, changes no colour and reorders
//!   nothing; [`lines`] keeps line breaks and tabs.
//! - What comes out of [`block`] can't be taken for a further line of the command: each line after the
//!   first has a margin.
//! - What comes out of [`json`] is the same JSON.

use std::time::Duration;

/// `text` on one line, its control characters written out.
pub(crate) fn line(text: &str) -> String {
    escaped(text, |_| false)
}

/// `text` with its line breaks and tabs, its other control characters written out.
pub(crate) fn lines(text: &str) -> String {
    escaped(text, |c| matches!(c, '\n' | '\t'))
}

/// `text` among the command's own words, its lines after the first behind a margin.
pub(crate) fn block(text: &str) -> String {
    lines(text).replace('\n', "\n  | ")
}

/// JSON whose texts move no cursor and reorder nothing on a terminal. Its own line breaks stay.
pub(crate) fn json(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        // Only texts have other characters, and each may stand there as its number.
        if c != '\n' && (c.is_control() || is_invisible(c)) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            out.push(c);
        }
    }
    out
}

/// `text` on one line of at most `most` characters.
pub(crate) fn short(text: &str, most: usize) -> String {
    let mut shown = line(text);
    if let Some((at, _)) = shown.char_indices().nth(most) {
        shown.truncate(at);
        shown.push_str("...");
    }
    shown
}

fn escaped(text: &str, keep: impl Fn(char) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            c if keep(c) => out.push(c),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() || is_invisible(c) => out.extend(c.escape_unicode()),
            c => out.push(c),
        }
    }
    out
}

/// Characters that terminals do not show but follow: breaks of lines and the direction of text.
fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// A duration in three digits or so.
pub(crate) fn duration(duration: Duration) -> String {
    let micros = duration.as_micros();
    let seconds = duration.as_secs_f64();
    match micros {
        0..1_000 => format!("{micros} us"),
        1_000..10_000 => format!("{:.1} ms", seconds * 1e3),
        10_000..1_000_000 => format!("{:.0} ms", seconds * 1e3),
        1_000_000..60_000_000 => format!("{seconds:.2} s"),
        _ => {
            let seconds = duration.as_secs();
            let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
            if hours > 0 {
                format!("{hours} h {minutes} min")
            } else {
                format!("{minutes} min {seconds} s")
            }
        }
    }
}

/// A number with commas between its thousands.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `1 crate`, `2 crates`.
pub(crate) fn counted(number: u64, noun: &str) -> String {
    format!("{} {noun}{}", count(number), if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_shown_can_act_on_a_terminal() {
        let check = |text: &str, want: &str| assert_eq!(line(text), want, "{text:?}");
        check("plain \u{e9} text", "plain \u{e9} text");
        check("two\nlines\r", "two\\nlines\\r");
        check("\u{1b}[31mred", "\\u{1b}[31mred");
        check("\u{9b}31m", "\\u{9b}31m");
        check("a\u{202e}b\u{2066}c", "a\\u{202e}b\\u{2066}c");
        check("a\u{2028}b", "a\\u{2028}b");
        assert_eq!(lines("a\n\tb\u{7}"), "a\n\tb\\u{7}");
        assert_eq!(block("a\n  help: b\u{1b}\n"), "a\n  |   help: b\\u{1b}\n  | ");
        assert_eq!(
            json("{\"a\":\"\u{9b}\u{202e}\u{e9}\"}\n"),
            "{\"a\":\"\\u009b\\u202e\u{e9}\"}\n"
        );
        assert_eq!(short("abcdef", 3), "abc...");
        assert_eq!(short("abc", 3), "abc");
    }

    #[test]
    fn figures_are_short() {
        let check = |micros: u64, want: &str| {
            assert_eq!(duration(Duration::from_micros(micros)), want);
        };
        check(0, "0 us");
        check(999, "999 us");
        check(1_234, "1.2 ms");
        check(45_600, "46 ms");
        check(1_500_000, "1.50 s");
        check(61_000_000, "1 min 1 s");
        check(3_600_000_000, "1 h 0 min");
        assert_eq!(count(0), "0");
        assert_eq!(count(1234567), "1,234,567");
        assert_eq!(counted(1, "record"), "1 record");
        assert_eq!(counted(1000, "record"), "1,000 records");
    }
}
