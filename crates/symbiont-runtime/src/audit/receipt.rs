//! What closes an export, and vouches for the trail up to its last record when it is kept elsewhere.

use serde_json::{Value, json};
use symbiont_store::Hash;
use symbiont_types::AuditError;

use super::verify::hex;

/// What an export says of itself: how many records it has, which, and the hash of the last.
///
/// That hash covers every record of the trail before it. Whoever keeps a receipt where those who may
/// write the trail can't reach it can tell later whether the trail still contains what it did. A
/// receipt carries no signature: a key that lies beside the trail would prove nothing. What it is
/// worth is where it was kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Receipt {
    /// How many records the export has.
    pub records: u64,
    /// The number of the first, if there is one.
    pub first_sequence: Option<u64>,
    /// The number of the last, if there is one.
    pub last_sequence: Option<u64>,
    /// The hash of the last, if there is one.
    pub head: Option<Hash>,
}

impl Receipt {
    /// Reads the receipt of an export of any format that is served, or a receipt alone. Of a long
    /// export its end is enough.
    ///
    /// # Errors
    ///
    /// `InvalidQuery` when there is no receipt in the text, or it does not make sense.
    pub fn read(text: &str) -> Result<Self, AuditError> {
        let invalid = |reason: &str| AuditError::InvalidQuery { reason: reason.to_owned() };
        let text = text.trim();
        let from_table = || {
            let row = text.rsplit('\n').next()?;
            let quoted = row.strip_prefix("receipt,\"")?.strip_suffix('"')?;
            serde_json::from_str::<Value>(&quoted.replace("\"\"", "\"")).ok()
        };
        // In JSON the name can't stand within a text, where its marks are escaped.
        let from_json = || {
            let (_, after) = text.rsplit_once(r#""receipt":"#)?;
            serde_json::Deserializer::from_str(after).into_iter::<Value>().next()?.ok()
        };
        let alone = || serde_json::from_str::<Value>(text).ok().filter(|it| it.is_object());
        from_table()
            .or_else(from_json)
            .or_else(alone)
            .ok_or_else(|| invalid("there is no receipt: an export has one at its end"))
            .and_then(|value| {
                Self::from_value(&value).ok_or_else(|| invalid("the receipt does not make sense"))
            })
    }

    fn from_value(value: &Value) -> Option<Self> {
        let number = |name: &str| match value.get(name)? {
            Value::Null => Some(None),
            number => number.as_u64().map(Some),
        };
        let head = match value.get("head")? {
            Value::Null => None,
            head => Some(unhex(head.as_str()?)?),
        };
        let receipt = Self {
            records: number("records")??,
            first_sequence: number("first_sequence")?,
            last_sequence: number("last_sequence")?,
            head,
        };
        let makes_sense = match (receipt.first_sequence, receipt.last_sequence, receipt.head) {
            (None, None, None) => receipt.records == 0,
            (Some(first), Some(last), Some(_)) => {
                1 <= first && first <= last && (1..=last - first + 1).contains(&receipt.records)
            }
            _ => false,
        };
        makes_sense.then_some(receipt)
    }

    /// The receipt as exports write it.
    pub fn to_json(&self) -> String {
        self.to_value().to_string()
    }

    fn to_value(&self) -> Value {
        json!({
            "records": self.records,
            "first_sequence": self.first_sequence,
            "last_sequence": self.last_sequence,
            "head": self.head.as_ref().map(|head| hex(head)),
            "signed": false,
        })
    }
}

fn unhex(text: &str) -> Option<Hash> {
    let mut hash = Hash::default();
    if text.len() != hash.len() * 2 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (at, byte) in hash.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(at * 2..at * 2 + 2)?, 16).ok()?;
    }
    Some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receipt_is_read_from_what_exports_write_and_from_nothing_else() {
        let receipt = Receipt {
            records: 2,
            first_sequence: Some(4),
            last_sequence: Some(5),
            head: Some([0xab; 32]),
        };
        let json = receipt.to_json();
        let quoted = json.replace('"', "\"\"");
        let head = "ab".repeat(32);
        let cases = [
            (json.clone(), true),
            (format!("{{\"receipt\": {json}}}\n"), true),
            (format!("{{\"sequence\": 4}}\n{{\"receipt\":{json}}}\n"), true),
            (format!("{{\n\"events\": [],\n\"receipt\": {json}\n}}\n"), true),
            (format!("sequence,id\r\n4,x\r\nreceipt,\"{quoted}\"\r\n"), true),
            (String::new(), false),
            ("4,x\r\n".to_owned(), false),
            ("{\"sequence\": 4}".to_owned(), false),
            (json.replace(&head, "ab"), false),
            (json.replace(&head, &"zz".repeat(32)), false),
            (json.replace(":5,", ":3,"), false),
            (json.replace(":5,", ":null,"), false),
            (json.replace(":2,", ":3,"), false),
            (json.replace(":2,", ":-2,"), false),
            (json.replace(":4,", ":0,"), false),
        ];
        for (text, whole) in cases {
            let read = Receipt::read(&text);
            match whole {
                true => assert_eq!(read.as_ref(), Ok(&receipt), "{text}"),
                false => {
                    assert!(
                        matches!(read, Err(AuditError::InvalidQuery { .. })),
                        "{text}: {read:?}"
                    );
                }
            }
        }
        let empty = Receipt::default();
        assert_eq!(Receipt::read(&empty.to_json()), Ok(empty));
    }
}
