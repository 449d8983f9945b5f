//! What was measured, as a table for people or an array for programs.

use anyhow::Error;
use serde_json::{Value, json};

/// Something that is not on this host, so that a row can't be measured.
#[derive(Debug)]
pub(crate) struct Absent(pub(crate) String);

impl std::fmt::Display for Absent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Absent {}

/// What something is measured beside.
pub(crate) struct Peer {
    name: String,
    value: f64,
}

impl Peer {
    pub(crate) fn new(name: impl Into<String>, value: f64) -> Self {
        Self { name: name.into(), value }
    }
}

struct Row {
    group: &'static str,
    name: String,
    value: f64,
    unit: &'static str,
    peer: Option<Peer>,
    /// How much was measured.
    n: String,
}

/// All rows.
pub(crate) struct Table {
    json: bool,
    rows: Vec<Row>,
    /// Rows that could not be measured although everything they need is there.
    pub(crate) failures: usize,
}

/// The rows of one group.
pub(crate) struct Rows<'a> {
    group: &'static str,
    table: &'a mut Table,
}

impl Table {
    pub(crate) fn new(json: bool) -> Self {
        Self { json, rows: Vec::new(), failures: 0 }
    }

    pub(crate) fn group(&mut self, group: &'static str) -> Rows<'_> {
        Rows { group, table: self }
    }

    pub(crate) fn print(&self) {
        if self.json {
            let rows: Vec<Value> = self.rows.iter().map(object).collect();
            println!("{:#}", Value::Array(rows));
            return;
        }
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let build = if cfg!(debug_assertions) { "not optimized" } else { "optimized" };
        println!("{cores} cores, {}, {build}; ratio is value / peer_value", processor());
        let head = ["group", "name", "value", "unit", "peer", "peer_value", "ratio", "n"];
        let mut lines = vec![head.map(str::to_owned)];
        lines.extend(self.rows.iter().map(cells));
        let mut widths = [0; 8];
        for line in &lines {
            for (width, cell) in widths.iter_mut().zip(line) {
                *width = cell.chars().count().max(*width);
            }
        }
        for line in &lines {
            let padded: Vec<String> = line
                .iter()
                .zip(widths)
                .enumerate()
                .map(|(column, (cell, width))| match column {
                    2 | 5 | 6 => format!("{cell:>width$}"),
                    _ => format!("{cell:<width$}"),
                })
                .collect();
            println!("{}", padded.join("  ").trim_end());
        }
    }
}

impl Rows<'_> {
    /// Takes the outcome of a measurement of `n`: a value and its peer's.
    pub(crate) fn add(
        &mut self,
        name: &str,
        unit: &'static str,
        n: impl Into<String>,
        outcome: Result<(f64, Option<Peer>), Error>,
    ) {
        let checked = outcome.and_then(|(value, peer)| {
            anyhow::ensure!(value.is_finite(), "the value is {value}");
            Ok((value, peer))
        });
        match checked {
            Ok((value, peer)) => {
                let row = Row {
                    group: self.group,
                    name: name.to_owned(),
                    value,
                    unit,
                    peer,
                    n: n.into(),
                };
                if !self.table.json {
                    eprintln!("{}", cells(&row).join("  ").trim_end());
                }
                self.table.rows.push(row);
            }
            Err(error) => {
                self.table.failures += usize::from(error.downcast_ref::<Absent>().is_none());
                eprintln!("not measured: {}, {name}: {error:#}", self.group);
            }
        }
    }
}

impl Rows<'_> {
    /// Says that a row has no peer, and why.
    pub(crate) fn without_peer(&mut self, name: &str, peer: &str, error: &Error) {
        self.table.failures += usize::from(error.downcast_ref::<Absent>().is_none());
        eprintln!("not measured: {}, {name}, its peer {peer}: {error:#}", self.group);
    }
}

fn cells(row: &Row) -> [String; 8] {
    let peer = row.peer.as_ref();
    [
        row.group.to_owned(),
        row.name.clone(),
        number(row.value),
        row.unit.to_owned(),
        peer.map(|peer| peer.name.clone()).unwrap_or_default(),
        peer.map(|peer| number(peer.value)).unwrap_or_default(),
        peer.map(|peer| number(row.value / peer.value)).unwrap_or_default(),
        row.n.clone(),
    ]
}

fn object(row: &Row) -> Value {
    let peer = row.peer.as_ref();
    json!({
        "group": row.group,
        "name": row.name,
        "value": row.value,
        "unit": row.unit,
        "peer": peer.map(|peer| &peer.name),
        "peer_value": peer.map(|peer| peer.value),
        "ratio": peer.map(|peer| row.value / peer.value),
        "n": row.n,
    })
}

/// A number with four digits that matter, and no more.
fn number(value: f64) -> String {
    let digits = match value.abs() {
        value if value >= 1000.0 => 0,
        value if value >= 100.0 => 1,
        value if value >= 10.0 => 2,
        value if value >= 0.01 => 3,
        _ => 5,
    };
    format!("{value:.digits$}")
}

/// What the processor calls itself.
fn processor() -> String {
    let facts = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = facts.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    name.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, name)| name.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_says_all_that_is_promised() {
        let mut table = Table::new(true);
        let mut rows = table.group("bus");
        rows.add("a", "us", "3", Ok((5.0, Some(Peer::new("bare", 2.0)))));
        rows.add("b", "us", "3", Ok((f64::NAN, None)));
        rows.add("c", "us", "3", Err(Absent("no runc".to_owned()).into()));
        assert_eq!((table.rows.len(), table.failures), (1, 1));
        assert_eq!(
            object(&table.rows[0]).to_string(),
            r#"{"group":"bus","name":"a","value":5.0,"unit":"us","peer":"bare","peer_value":2.0,"ratio":2.5,"n":"3"}"#
        );
    }
}
