//! URLs of HTTP, in the one spelling in which policies, the trail and the network see them.
//!
//! # What holds
//!
//! - What parses leads to one host and one port, whoever reads it: what readers of URLs disagree
//!   about (user names, backslashes, spaces, numbers that are addresses in disguise) is refused.
//! - Two spellings of one URL display alike: letters' case in the scheme and the host, a default
//!   port, escapes of what needs none, and `.` and `..` in the path are resolved. A fragment, which
//!   is never sent, is dropped.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

/// The longest URL, in bytes.
const LONGEST: usize = 8 * 1024;
/// The longest host: what the name system allows.
const LONGEST_HOST: usize = 253;

/// A URL of HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    /// Whether it is `https`.
    pub secure: bool,
    /// A name or an IPv4 address, or an IPv6 address in brackets; lowercase.
    pub host: String,
    /// The port, also where it is the default one.
    pub port: u16,
    /// The path and the query: what is asked of the host. It begins with `/`.
    pub target: String,
}

impl Url {
    /// Reads a URL.
    ///
    /// # Errors
    ///
    /// What is wrong with it, in words.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if text.len() > LONGEST {
            return Err("it has more than 8 KiB");
        }
        if text.chars().any(|c| c <= ' ' || c == '\\' || c == '\u{7f}') {
            return Err("it holds a space, a backslash or a control character");
        }
        let (scheme, rest) = text.split_once("://").ok_or("it has no scheme")?;
        let secure = match scheme.to_ascii_lowercase().as_str() {
            "http" => false,
            "https" => true,
            _ => return Err("its scheme is neither `http` nor `https`"),
        };
        let (authority, rest) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err("it holds a user name");
        }
        let host_end = authority.rfind(']').map_or(0, |at| at + 1);
        let (host, port) = match authority[host_end..].find(':') {
            Some(at) => (&authority[..host_end + at], &authority[host_end + at + 1..]),
            None => (authority, ""),
        };
        let port = match port {
            "" => default_port(secure),
            digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                digits.parse().ok().filter(|port| *port > 0).ok_or("its port is none")?
            }
            _ => return Err("its port is no number"),
        };
        let rest = rest.split_once('#').map_or(rest, |(rest, _)| rest);
        let (path, query) = match rest.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (rest, None),
        };
        let mut target = resolved(&spelt(path)?);
        if let Some(query) = query {
            target.push('?');
            target.push_str(&spelt(query)?);
        }
        Ok(Self { secure, host: host_of(host)?, port, target })
    }

    /// The same with one more entry at the end of its query.
    pub fn push_query(&mut self, key: &str, value: &str) {
        let separator = if self.target.contains('?') { '&' } else { '?' };
        self.target.push(separator);
        self.target.push_str(&encoded(key));
        self.target.push('=');
        self.target.push_str(&encoded(value));
    }

    /// The host and the port as a request names them: the default port is left out.
    pub fn authority(&self) -> String {
        match self.port == default_port(self.secure) {
            true => self.host.clone(),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.secure { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority(), self.target)
    }
}

fn default_port(secure: bool) -> u16 {
    if secure { 443 } else { 80 }
}

fn host_of(host: &str) -> Result<String, &'static str> {
    if let Some(address) = host.strip_prefix('[') {
        let address = address.strip_suffix(']').ok_or("its address has no `]`")?;
        let address: Ipv6Addr = address.parse().map_err(|_| "its address is none")?;
        return Ok(format!("[{address}]"));
    }
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    if !host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_')) {
        return Err(
            "its host holds more than letters, digits, `-` and `.` (other names are written \
                    in their ASCII form, `xn--...`)",
        );
    }
    if host.len() > LONGEST_HOST || host.split('.').any(|label| label.is_empty()) {
        return Err("its host is no name");
    }
    // `127.1`, `2130706433` and `0x7f.1` are addresses to some.
    let last = host.rsplit('.').next().unwrap_or_default();
    let numeric = last.bytes().all(|b| b.is_ascii_digit()) || last.starts_with("0x");
    if numeric && host.parse::<Ipv4Addr>().is_err() {
        return Err("its host is a number, and no address in the usual form");
    }
    Ok(host)
}

/// A path or a query with every character either as it is or escaped, and never both ways.
fn spelt(text: &str) -> Result<String, &'static str> {
    let mut out = String::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let digit = |byte: Option<u8>| byte.and_then(|byte| (byte as char).to_digit(16));
                let (high, low) = (digit(bytes.next()), digit(bytes.next()));
                let (Some(high), Some(low)) = (high, low) else {
                    return Err("it holds a `%` that is followed by no two digits");
                };
                let byte = u8::try_from(high * 16 + low).unwrap_or_default();
                if is_plain(byte) { out.push(byte as char) } else { escape(byte, &mut out) }
            }
            _ if is_plain(byte) || b"!$&'()*+,;=:@/?".contains(&byte) => out.push(byte as char),
            _ => escape(byte, &mut out),
        }
    }
    Ok(out)
}

/// The path without `.` and `..`.
fn resolved(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." {
                    parts.pop();
                }
                if last {
                    parts.push("");
                }
            }
            _ => parts.push(segment),
        }
    }
    format!("/{}", parts.join("/"))
}

/// Text as one component of a URL: all but letters, digits and `-._~` is escaped.
pub fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if is_plain(byte) { out.push(byte as char) } else { escape(byte, &mut out) }
    }
    out
}

/// Whether a byte means the same with and without an escape.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

fn escape(byte: u8, out: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    out.push('%');
    out.push(DIGITS[usize::from(byte >> 4)] as char);
    out.push(DIGITS[usize::from(byte & 15)] as char);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn urls_have_one_spelling() {
        for (text, want) in [
            ("https://Example.ORG", "https://example.org/"),
            ("HTTP://a:80/x", "http://a/x"),
            ("https://a:/x", "https://a/x"),
            ("https://a:8443/x?q=1#part", "https://a:8443/x?q=1"),
            ("http://a./%61/%2E%2e/b/./c", "http://a/b/c"),
            ("http://a/../../x", "http://a/x"),
            ("http://a/x/..", "http://a/"),
            ("http://a//b", "http://a//b"),
            ("http://a?x=%2f%3d", "http://a/?x=%2F%3D"),
            ("http://a/é", "http://a/%C3%A9"),
            ("http://[::0:1]:80/", "http://[::1]/"),
            ("http://127.0.0.1/", "http://127.0.0.1/"),
            ("http://good.org@evil.org/", "it holds a user name"),
            ("http://evil.org\\@good.org/", "it holds a space, a backslash or a control character"),
            ("http://a b/", "it holds a space, a backslash or a control character"),
            ("http://0x7f.1/", "its host is a number, and no address in the usual form"),
            ("http://2130706433/", "its host is a number, and no address in the usual form"),
            ("http://127.1/", "its host is a number, and no address in the usual form"),
            ("http://a:0/", "its port is none"),
            ("http://a:99999/", "its port is none"),
            ("http://a:+1/", "its port is no number"),
            ("http://[::1]x/", "its address has no `]`"),
            ("http://[::1%eth0]/", "its address is none"),
            ("http:///x", "its host is no name"),
            ("http://a..b/", "its host is no name"),
            ("http://a/%zz", "it holds a `%` that is followed by no two digits"),
            ("ftp://a/", "its scheme is neither `http` nor `https`"),
            ("a/b", "it has no scheme"),
        ] {
            let got = Url::parse(text);
            assert_eq!(got.map_or_else(str::to_owned, |url| url.to_string()), want, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_spelling_is_final(text in "(http|HTTPS)://[a-c.:0-9\\[\\]@]{1,8}[/?#%a-f0-9.é&= ]{0,24}") {
            if let Ok(url) = Url::parse(&text) {
                prop_assert_eq!(Url::parse(&url.to_string()), Ok(url));
            }
        }

        #[test]
        fn a_component_stays_one(text in ".{0,24}") {
            let mut url = Url::parse("http://a/x").unwrap();
            url.push_query("k", &text);
            let again = Url::parse(&url.to_string()).unwrap();
            prop_assert_eq!(again.target.matches(['&', '?', '#']).count(), 1);
            prop_assert_eq!(again, url);
        }
    }
}
