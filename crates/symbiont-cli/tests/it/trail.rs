//! `audit`, and what `run --data` leaves behind.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::Stdio;

use crate::{Ran, program, root, symbiont};

fn audit(arguments: &[&str], data: &Path) -> Ran {
    let mut command = symbiont();
    command.arg("audit").args(arguments).arg("--data").arg(data);
    command.output().expect("it starts").into()
}

/// The directory of a run of the notebook.
fn notebook() -> tempfile::TempDir {
    let data = tempfile::tempdir().expect("a temporary directory");
    let mut command = symbiont();
    command.args(["run", "agents/notebook.symbi", "--data"]).arg(data.path());
    let Ran { code, err, .. } = command.output().expect("it starts").into();
    assert_eq!(code, Some(0), "{err}");
    data
}

/// The records of a trail, as `export` gives them, and the receipt.
fn exported(data: &Path) -> (Vec<serde_json::Value>, serde_json::Value) {
    let Ran { code, out, err } = audit(&["export"], data);
    assert_eq!(code, Some(0), "{err}");
    let mut lines: Vec<serde_json::Value> =
        out.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect();
    let receipt = lines.pop().expect("a receipt")["receipt"].clone();
    (lines, receipt)
}

#[test]
fn a_run_leaves_a_trail_that_is_whole() {
    let data = notebook();
    let Ran { code, out, err } = audit(&["verify"], data.path());
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(out.starts_with("verdict  intact"), "{out}");
    assert!(!out.contains("DAMAGE"), "{out}");

    let Ran { code, out, .. } = audit(&["verify", "-o", "json"], data.path());
    let report: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((code, &report["verdict"]), (Some(0), &"Intact".into()));
    let (records, receipt) = exported(data.path());
    assert_eq!(report["records_checked"], records.len());
    assert_eq!(report["head"], receipt["head"]);
    assert_eq!(receipt["records"], records.len());
    assert_eq!(receipt["last_sequence"], records.len());
    let kinds: Vec<_> =
        records.iter().map(|record| record["kind"].as_str().expect("text")).collect();
    for kind in ["agent.created", "policy.decision", "memory.write", "memory.read", "run.completed"]
    {
        assert!(kinds.contains(&kind), "no record of kind {kind}: {kinds:?}");
    }
    // A second run goes on with the same trail.
    let mut command = symbiont();
    command.args(["run", "agents/notebook.symbi", "--data"]).arg(data.path());
    assert!(command.status().expect("it starts").success());
    assert_eq!(audit(&["verify"], data.path()).code, Some(0));
    assert!(exported(data.path()).0.len() > records.len());
}

#[test]
fn an_export_has_every_record_in_every_format() {
    // More records than the command reads at a time.
    let (directory, path) = program(
        "agent a { with { for n in range(0, 5000) { log(\"info\", \"n,\\\"\\n=\" + n); } } }",
    );
    let data = directory.path().join("data");
    let mut command = symbiont();
    command.args(["run", &path, "--data"]).arg(&data).stderr(Stdio::null());
    assert!(command.status().expect("it starts").success());
    let (records, receipt) = exported(&data);
    assert!(records.len() > 5000);
    for (at, record) in records.iter().enumerate() {
        assert_eq!(record["sequence"], at + 1);
    }
    assert_eq!(receipt["head"], records[records.len() - 1]["leaf_hash"]);

    let Ran { out, .. } = audit(&["export", "--format", "json"], &data);
    let document: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(document["events"], serde_json::Value::Array(records.clone()));
    assert_eq!(document["receipt"], receipt);

    let file = directory.path().join("trail.csv");
    let out = file.to_str().expect("text");
    let told = audit(&["export", "--format", "csv", "--out", out], &data);
    assert_eq!((told.code, told.out.as_str()), (Some(0), ""));
    assert!(
        told.err.contains(&format!("{},{:03} records", records.len() / 1000, records.len() % 1000)),
        "{}",
        told.err
    );
    let csv = std::fs::read_to_string(&file).expect("it is there");
    // One header, a row for each record, the receipt.
    assert_eq!(csv.matches("sequence,id,").count(), 1);
    assert_eq!(csv.matches("\r\n").count(), records.len() + 2);
    let last = csv.trim_end().lines().last().expect("a row");
    assert!(last.starts_with("receipt,\"{\"\"records\"\":"), "{last}");
}

#[test]
fn show_is_for_people() {
    let data = notebook();
    let Ran { code, out, err } = audit(&["show", "--limit", "3"], data.path());
    assert_eq!(code, Some(0), "{err}");
    assert!(err.starts_with("there are older records"), "{err}");
    assert_eq!(out.lines().count(), 3);
    assert!(out.lines().last().is_some_and(|line| line.contains("runtime.stopped")), "{out}");
    let Ran { out, .. } =
        audit(&["show", "--agent", "notebook", "--kind", "memory.*"], data.path());
    assert!(out.lines().count() > 5, "{out}");
    assert!(out.lines().all(|line| line.contains("notebook") && line.contains("memory.")), "{out}");
    for nobody in ["nobody", "0192aaaa-0000-7000-8000-00000000abcd"] {
        let Ran { code, out, err } = audit(&["show", "--agent", nobody], data.path());
        assert_eq!((code, out.as_str()), (Some(2), ""), "{err}");
        assert!(err.contains(&format!("the trail has no agent `{nobody}`")), "{err}");
    }
    let Ran { code, err, .. } = audit(&["show", "--kind", "a*b"], data.path());
    assert_eq!(code, Some(2), "{err}");
    let Ran { code, out, err } = audit(&["show", "--kind", "nothing.of.it"], data.path());
    assert_eq!((code, out.as_str(), err.as_str()), (Some(0), "", "no record matches\n"));

    let (records, _) = exported(data.path());
    let Ran { out, err, .. } = audit(&["show", "-o", "json"], data.path());
    let shown: Vec<serde_json::Value> =
        out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!((shown, err.as_str()), (records.clone(), ""));
    let Ran { out, .. } = audit(&["show", "--sequence", "2"], data.path());
    let hash = records[1]["leaf_hash"].as_str().expect("a hash");
    for part in ["sequence         2\n", "id               ", ". kind           ", hash] {
        assert!(out.contains(part), "`{part}` is not in it:\n{out}");
    }
}

#[test]
fn where_there_is_no_trail_it_is_said() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = |name: &str| directory.path().join(name);
    std::fs::write(path("file"), "").expect("it is written");
    for name in ["empty file", "half made"] {
        std::fs::create_dir(path(name)).expect("a directory");
        std::fs::write(path(name).join("symbiont.db"), "").expect("it is written");
    }
    // What a process that was killed at once leaves.
    let half = rusqlite::Connection::open(path("half made").join("symbiont.db")).expect("it opens");
    half.pragma_update(None, "journal_mode", "WAL").expect("it is set");
    drop(half);
    std::fs::create_dir(path("empty")).expect("a directory");
    std::fs::create_dir(path("pipe")).expect("a directory");
    let pipe = std::process::Command::new("mkfifo").arg(path("pipe").join("symbiont.db")).status();
    assert!(pipe.expect("mkfifo starts").success());
    for name in ["missing", "file", "empty", "empty file", "half made", "pipe"] {
        for command in ["verify", "show", "export"] {
            let Ran { code, out, err } = audit(&[command], &path(name));
            assert_eq!((code, out.as_str()), (Some(2), ""), "{name}: {err}");
            let want = format!("there is no trail in `{}`", path(name).display());
            assert!(err.contains(&want), "{name}: {err}");
        }
    }
}

#[test]
fn what_was_there_stays_until_an_export_is_whole() {
    let data = notebook();
    let elsewhere = tempfile::tempdir().expect("a temporary directory");
    let target = elsewhere.path().join("trail.jsonl");
    std::fs::write(&target, "an earlier one").expect("it is written");
    let to = |path: &Path| audit(&["export", "--out", path.to_str().expect("text")], data.path());

    let database = data.path().join("symbiont.db");
    let before = std::fs::metadata(&database).expect("it is there").len();
    std::os::unix::fs::symlink(&database, elsewhere.path().join("link")).expect("a link");
    for own in [database.clone(), data.path().join("new"), elsewhere.path().join("link")] {
        let Ran { code, err, .. } = to(&own);
        assert_eq!(code, Some(2), "{err}");
        assert!(err.contains("is in the data directory"), "{err}");
    }
    assert_eq!(std::fs::metadata(&database).expect("it is there").len(), before);
    for (path, code) in [("/dev/full", 1), ("/tmp", 2), ("/missing/trail", 2), ("/dev/null", 0)] {
        let ran = to(Path::new(path));
        assert_eq!(ran.code, Some(code), "{path}: {}", ran.err);
    }

    // A trail that can't be read replaces nothing.
    let connection = rusqlite::Connection::open(&database).expect("it opens");
    connection.execute_batch("ALTER TABLE audit_events RENAME TO other").expect("it is changed");
    let Ran { code, err, .. } = to(&target);
    assert_eq!(code, Some(1), "{err}");
    assert_eq!(std::fs::read_to_string(&target).expect("text"), "an earlier one");
    connection.execute_batch("ALTER TABLE other RENAME TO audit_events").expect("it is changed");
    drop(connection);
    assert_eq!(to(&target).code, Some(1), "renamed twice it is not what it was");
}

#[test]
fn one_record_that_can_not_be_read_hides_no_other() {
    let data = notebook();
    let (records, _) = exported(data.path());
    let database = rusqlite::Connection::open(data.path().join("symbiont.db")).expect("it opens");
    // The one that names the agent.
    let sql = "UPDATE audit_events SET metadata = 'x' WHERE kind = 'agent.created'";
    assert_eq!(database.execute(sql, []).expect("it is changed"), 1);
    drop(database);
    let Ran { code, out, err } = audit(&["export"], data.path());
    assert_eq!((code, out.lines().count()), (Some(1), records.len() + 1), "{err}");
    assert!(out.contains(r#""unreadable":"it has no sensible `metadata`""#), "{out}");
    assert!(err.contains("1 record can't be read") && err.contains("audit verify"), "{err}");
    let Ran { code, out, .. } = audit(&["show"], data.path());
    assert_eq!((code, out.lines().count()), (Some(1), records.len()));
    assert!(out.contains("unreadable: it has no sensible `metadata`"), "{out}");
    let Ran { code, .. } = audit(&["show", "--kind", "memory.*"], data.path());
    assert_eq!(code, Some(0), "it is not asked for");
}

#[test]
fn a_view_in_the_place_of_the_log_answers_nobody() {
    let data = notebook();
    let database = rusqlite::Connection::open(data.path().join("symbiont.db")).expect("it opens");
    let endless = "ALTER TABLE audit_events RENAME TO copy;
        CREATE VIEW audit_events AS WITH RECURSIVE n(i) AS
            (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT copy.* FROM copy, n";
    database.execute_batch(endless).expect("it is changed");
    drop(database);
    for command in ["verify", "show", "export"] {
        let Ran { code, out, err } = audit(&[command], data.path());
        assert_eq!((code, out.as_str()), (Some(1), ""), "{command}");
        assert!(err.contains("the store is damaged"), "{command}: {err}");
    }
}

#[test]
fn what_an_agent_remembers_is_there_for_the_next_run_of_its_name() {
    let once = |source: &str, data: &Path| -> Ran {
        let (_directory, path) = program(source);
        let mut command = symbiont();
        command.args(["run", &path, "-o", "json", "--data"]).arg(data);
        command.output().expect("it starts").into()
    };
    let counter = |name: &str, with: &str| {
        format!(
            "agent {name} {{ with {with} {{ let n = memory.get(\"n\"); \
             memory.set(\"n\", if n == null {{ 1 }} else {{ n + 1 }}); return memory.get(\"n\"); }} }}"
        )
    };
    let data = tempfile::tempdir().expect("a temporary directory");
    let cases = [
        ("a", "", "1"),
        ("a", "", "2"),
        ("a", "memory = \"persistent\"", "3"),
        // Another agent's is another's.
        ("b", "", "1"),
        ("a", "memory = \"ephemeral\"", "1"),
        ("a", "memory = \"session\"", "1"),
        ("a", "", "4"),
    ];
    for (name, with, want) in cases {
        let Ran { code, out, err } = once(&counter(name, with), data.path());
        assert_eq!((code, out.trim()), (Some(0), want), "{name} {with}: {err}");
    }
    // The notebook finds what it wrote before.
    let data = notebook();
    let keys = "agent notebook { with { return memory.keys(); } }";
    let Ran { out, .. } = once(keys, data.path());
    assert_eq!(out, "[\"note/1\",\"note/2\",\"note/3\"]\n");
    let mut command = symbiont();
    command.args(["run", "agents/notebook.symbi", "-o", "json", "--data"]).arg(data.path());
    let Ran { code, err, .. } = command.output().expect("it starts").into();
    assert_eq!(code, Some(0), "{err}");
    assert_eq!(audit(&["verify"], data.path()).code, Some(0));
}

#[test]
fn tampering_is_found() {
    #[track_caller]
    fn check(what: &str, sql: &str) {
        let data = notebook();
        let database =
            rusqlite::Connection::open(data.path().join("symbiont.db")).expect("it opens");
        database.execute_batch(sql).expect("it is changed");
        drop(database);
        let Ran { code, out, err } = audit(&["verify", "-o", "json"], data.path());
        assert_eq!(code, Some(1), "{what}: {out}{err}");
        let report: serde_json::Value = serde_json::from_str(&out).expect("JSON");
        assert_eq!(report["verdict"], "Tampered", "{what}");
        let text = audit(&["verify"], data.path());
        assert_eq!(text.code, Some(1), "{what}");
        assert!(text.out.contains("DAMAGE   "), "{what}: {}", text.out);
    }
    check("details", "UPDATE audit_events SET details = details || '!' WHERE sequence = 5");
    check("metadata", "UPDATE audit_events SET metadata = '{}' WHERE sequence = 6");
    check("time", "UPDATE audit_events SET at = at + 1 WHERE sequence = 2");
    check("agent", "UPDATE audit_events SET agent_id = NULL WHERE sequence = 4");
    check("a middle record", "DELETE FROM audit_events WHERE sequence = 7");
    check("the first record", "DELETE FROM audit_events WHERE sequence = 1");
    check(
        "the last record",
        "DELETE FROM audit_events WHERE sequence = (SELECT max(sequence) FROM audit_events)",
    );
    check("all records", "DELETE FROM audit_events");
    check(
        "two swapped",
        "UPDATE audit_events SET sequence = -1 WHERE sequence = 5;
         UPDATE audit_events SET sequence = 5 WHERE sequence = 6;
         UPDATE audit_events SET sequence = 6 WHERE sequence = -1",
    );
    check(
        "a middle record, the rest moved up",
        "DELETE FROM audit_events WHERE sequence = 7;
         UPDATE audit_events SET sequence = -sequence WHERE sequence > 7;
         UPDATE audit_events SET sequence = -sequence - 1 WHERE sequence < 0",
    );
    let added = |id: &str| {
        format!(
            "INSERT INTO audit_events
             SELECT sequence + 1, {id}, ingested_at, at, event_type, kind, agent_id, actor,
                    correlation, 'never happened', metadata, leaf_hash, leaf_hash
             FROM audit_events ORDER BY sequence DESC LIMIT 1"
        )
    };
    check("a record added", &added("'00000000-0000-7000-8000-000000000001'"));
    check("nonsense added", &added("'nonsense'"));
    check("an id made nonsense", "UPDATE audit_events SET id = 'nonsense' WHERE sequence = 3");
    check("an id in capitals", "UPDATE audit_events SET id = upper(id) WHERE sequence = 3");
    check(
        "metadata that says two things",
        r#"UPDATE audit_events SET metadata = replace(metadata, '{', '{"kind":"forged",')
           WHERE sequence = 3"#,
    );
    for place in ["(SELECT max(sequence) + 2 FROM audit_events)", "0", "-1"] {
        check(
            place,
            &format!(
                "INSERT INTO audit_events
                 SELECT {place}, '00000000-0000-7000-8000-000000000001', ingested_at, at, event_type,
                        kind, agent_id, actor, correlation, 'never happened', metadata, prev_hash,
                        leaf_hash
                 FROM audit_events WHERE sequence = 2"
            ),
        );
    }
    check("hashes cut", "UPDATE audit_events SET leaf_hash = x'00' WHERE sequence = 9");
}

#[test]
fn a_receipt_kept_elsewhere_is_an_anchor() {
    let data = notebook();
    let elsewhere = tempfile::tempdir().expect("a temporary directory");
    let verify = |receipt: &Path| {
        audit(&["verify", "--receipt", receipt.to_str().expect("text")], data.path())
    };
    let exports: Vec<_> = ["jsonl", "csv", "json"]
        .into_iter()
        .map(|format| {
            let path = elsewhere.path().join(format!("trail.{format}"));
            let out = path.to_str().expect("text");
            let told = audit(&["export", "--format", format, "--out", out], data.path());
            assert_eq!(told.code, Some(0), "{}", told.err);
            path
        })
        .collect();
    for export in &exports {
        let Ran { code, out, err } = verify(export);
        assert_eq!((code, err.as_str()), (Some(0), ""));
        assert!(out.contains("anchor   a receipt names: records up to "), "{out}");
        assert!(!out.contains("no anchor"), "{out}");
    }
    let foreign = elsewhere.path().join("no receipt");
    std::fs::write(&foreign, "nothing of the kind").expect("it is written");
    for (path, reason) in
        [(&foreign, "an export has one at its end"), (&"/missing".into(), "No such")]
    {
        let Ran { code, err, .. } = verify(path);
        assert_eq!(code, Some(2), "{err}");
        assert!(err.contains(reason) && err.contains("audit export"), "{err}");
    }
    // The end is cut off, and everything in the file that knows of it.
    let database = rusqlite::Connection::open(data.path().join("symbiont.db")).expect("it opens");
    let cut = "DELETE FROM audit_events WHERE sequence > 5;
               UPDATE store_state SET sequence = 5,
                   hash = (SELECT leaf_hash FROM audit_events WHERE sequence = 5),
                   ingested_at = (SELECT ingested_at FROM audit_events WHERE sequence = 5)";
    database.execute_batch(cut).expect("it is changed");
    drop(database);
    assert_eq!(audit(&["verify"], data.path()).code, Some(0), "by itself it can't be told");
    for export in &exports {
        let Ran { code, out, .. } = verify(export);
        assert_eq!(code, Some(1), "{out}");
        assert!(out.contains("DAMAGE") && out.contains("TruncatedTail"), "{out}");
    }
}

#[test]
fn what_was_told_is_on_record_after_kill_9() {
    let (directory, path) = program(
        "agent ticker { with { let n = 0; while true { \
           log(\"info\", \"tick \" + n); \
           if n % 10 == 0 { exec(\"true\"); } \
           n += 1; } } }",
    );
    // One directory for all of them: each run finds what the one before left behind.
    let data = directory.path().join("data");
    for ticks in [1, 2, 15, 60, 200] {
        let mut command = symbiont();
        command.args(["run", &path, "--data"]).arg(&data);
        let mut child =
            command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().expect("it starts");
        let mut told = BufReader::new(child.stderr.take().expect("it is piped"));
        let mut lines = Vec::new();
        let tick = |line: &str| line.split_once("log      info: ").map(|(_, text)| text.to_owned());
        let mut line = String::new();
        while lines.iter().filter(|line: &&String| tick(line).is_some()).count() < ticks {
            line.clear();
            assert!(told.read_line(&mut line).expect("text") > 0, "it ended: {lines:?}");
            lines.push(line.trim_end().to_owned());
        }
        child.kill().expect("it is killed");
        child.wait().expect("it is gone");
        let mut rest = String::new();
        told.read_to_string(&mut rest).expect("text");
        // The last line may be in part.
        let whole = rest.rfind('\n').map_or("", |end| &rest[..end]);
        lines.extend(whole.lines().map(str::to_owned));

        let Ran { code, out, .. } = audit(&["verify"], &data);
        assert_eq!(code, Some(0), "{out}");
        let (records, _) = exported(&data);
        let started = records.iter().rposition(|record| record["kind"] == "run.started");
        let records = &records[started.expect("the run is on record")..];
        let logged: Vec<_> = records
            .iter()
            .filter(|record| record["kind"] == "log")
            .map(|record| record["details"].as_str().expect("text").to_owned())
            .collect();
        let acknowledged: Vec<_> = lines.iter().filter_map(|line| tick(line)).collect();
        assert!(acknowledged.len() >= ticks);
        assert_eq!(logged[..acknowledged.len()], acknowledged[..], "after {ticks}");
    }
    // The directory is of use again.
    let mut command = symbiont();
    command.current_dir(root()).args(["run", "agents/notebook.symbi", "--data"]).arg(&data);
    let Ran { code, err, .. } = command.output().expect("it starts").into();
    assert_eq!(code, Some(0), "{err}");
    assert_eq!(audit(&["verify"], &data).code, Some(0));
}

#[test]
fn a_directory_has_one_user_at_a_time() {
    let (directory, path) = program("agent a { with { log(\"info\", \"here\"); receive(1h); } }");
    let data = directory.path().join("data");
    let mut command = symbiont();
    command.args(["run", &path, "--data"]).arg(&data).stderr(Stdio::piped());
    let mut first = command.spawn().expect("it starts");
    let mut told = BufReader::new(first.stderr.take().expect("it is piped"));
    let mut line = String::new();
    while !line.contains("info: here") {
        line.clear();
        assert!(told.read_line(&mut line).expect("text") > 0, "it ended early");
    }
    let mut command = symbiont();
    command.args(["run", &path, "--data"]).arg(&data);
    let Ran { code, out, err } = command.output().expect("it starts").into();
    assert_eq!((code, out.as_str()), (Some(1), ""));
    let holder = format!("process {}", first.id());
    assert!(err.contains(&holder), "it says who holds it: {err}");
    // Readers may look meanwhile.
    assert_eq!(audit(&["verify"], &data).code, Some(0));
    first.kill().expect("it is killed");
    first.wait().expect("it is gone");
}
