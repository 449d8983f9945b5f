//! What commands write and read.

use std::time::Duration;

use symbiont_sandbox::{Command, TerminalSize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

use super::noise::noise;
use super::place::{Ground, Told, how, within};
use crate::{resident, shell, told};

pub(super) async fn case_08_a_gibibyte_of_output(ground: &Ground) -> Told {
    let place = ground.place().await?;
    let before = resident();
    let size = (1_u64 << 30).to_string();
    let flood = Command {
        output_cap: 1000,
        timeout: Duration::from_secs(120),
        ..place.command(&["flood", &size, "7"])
    };
    let ended = place.exec(flood).await;
    let grown = resident().saturating_sub(before);
    let Ok(kept) = &ended else { panic!("{ended:?}") };
    let ends = kept.stdout.starts_with(b"first\0") && kept.stdout.ends_with(b"\0last");
    let told = format!(
        "{}, {} bytes kept with both ends: {ends}, truncated: {}, the host grew by less than 8 MiB: {}",
        how(&ended),
        kept.stdout.len(),
        kept.stdout_truncated,
        grown < 8 << 20
    );
    place.end().await;
    Ok(told)
}

pub(super) async fn case_09_bytes_one_by_one(ground: &Ground) -> Told {
    const COUNT: usize = 100_000;
    let place = ground.place().await?;
    let ended = place.exec(place.command(&["alternate", &COUNT.to_string()])).await;
    let want: Vec<u8> = (b'a'..=b'z').cycle().take(COUNT).collect();
    let Ok(kept) = &ended else { panic!("{ended:?}") };
    let same = kept.stdout == want && kept.stderr == want;
    place.end().await;
    Ok(format!("{}, each stream in its order: {same}", how(&ended)))
}

pub(super) async fn case_10_a_line_of_ten_mebibytes(ground: &Ground) -> Told {
    const COUNT: usize = 10 << 20;
    let place = ground.place().await?;
    let command = Command { output_cap: 16 << 20, ..place.command(&["bytes", &COUNT.to_string()]) };
    let ended = place.exec(command).await;
    let want = noise(COUNT);
    assert!(want.contains(&0) && want.contains(&0xff) && want.contains(&0x1b));
    let Ok(kept) = &ended else { panic!("{ended:?}") };
    let same = kept.stdout == want && !kept.stdout_truncated;
    place.end().await;
    Ok(format!("{}, the same bytes: {same}", how(&ended)))
}

pub(super) async fn case_11_input_that_nobody_reads(ground: &Ground) -> Told {
    let place = ground.place().await?;
    let command = within(shell("sleep 60"), Duration::from_secs(1), Duration::ZERO);
    let before = resident();
    let ended = place.exec(Command { stdin: Some(vec![b'x'; 64 << 20]), ..command }).await;
    // The input itself, and no second one on its way.
    let grown = resident().saturating_sub(before);
    place.end().await;
    Ok(format!("{}, no copy of it is made: {}", how(&ended), grown < 96 << 20))
}

pub(super) async fn case_12_input_that_is_closed(ground: &Ground) -> Told {
    let place = ground.place().await?;
    let mut told = Vec::new();
    for script in ["exec <&-; sleep 0.1", "head -c 10 >/dev/null", "true"] {
        let command = Command { stdin: Some(vec![b'x'; 1 << 20]), ..shell(script) };
        told.push(how(&place.exec(command).await));
    }
    place.end().await;
    Ok(told.join(", "))
}

pub(super) async fn case_116_how_commands_end(ground: &Ground) -> Told {
    const ENDS: [(&str, &str); 10] = [
        ("echo hi", "0:hi\n"),
        ("exit 3", "3:"),
        ("kill -9 $$", "signal 9:"),
        ("kill -TERM $$", "signal 15:"),
        ("echo out; echo wrong >&2; exit 1", "1:out\n err:wrong\n"),
        (
            "pwd; id -u; id -g; echo $HOME $LANG $TMPDIR",
            "0:/workspace\n1000\n1000\n/workspace C.UTF-8 /tmp\n",
        ),
        ("printf 'a\\0b\\377' | od -An -tx1", "0: 61 00 62 ff\n"),
        ("cat", "0:"),
        ("exec >&- 2>&-; exit 4", "4:"),
        ("hostname", "0:sandbox\n"),
    ];
    let place = ground.place().await?;
    for (script, want) in ENDS {
        assert_eq!(told(&place.exec(shell(script)).await), want, "{script}");
    }
    place.end().await;
    Ok(format!("{} commands end as they say", ENDS.len()))
}

pub(super) async fn case_119_a_mebibyte_there_and_back(ground: &Ground) -> Told {
    let place = ground.place().await?;
    let input: Vec<u8> = (0..1 << 20).map(|n: u32| n.to_le_bytes()[(n % 3) as usize]).collect();
    let cat = Command { stdin: Some(input.clone()), output_cap: 2 << 20, ..Command::new("cat") };
    let ended = place.exec(cat).await.unwrap();
    let same = ended.stdout == input && !ended.stdout_truncated;
    place.end().await;
    Ok(format!("the same bytes: {same}"))
}

pub(super) async fn case_122_a_conversation(ground: &Ground) -> Told {
    let place = ground.place().await?;
    let script = "trap 'echo asked; exit 3' USR1; echo begun; read x; echo got $x; while :; do sleep 0.1; done";
    let mut process = place.spawn(shell(script)).await.unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let mut next = async || lines.next_line().await.unwrap().unwrap_or_default();
    let begun = next().await;
    process.stdin.as_mut().unwrap().write_all(b"it\n").await.unwrap();
    let got = next().await;
    process.signal(libc::SIGUSR1).unwrap();
    let asked = next().await;
    let ended = how(&process.wait().await);
    place.end().await;
    Ok(format!("{begun}, {got}, {asked}, {ended}"))
}

pub(super) async fn case_123_a_terminal(ground: &Ground) -> Told {
    let place = ground.place().await?;
    let terminal = Some(TerminalSize { rows: 24, columns: 80 });
    let script = "test -t 0 && test -t 1 && test -t 2 && echo one; stty size; read x; stty size; echo got $x";
    let mut process = place.spawn(Command { terminal, ..shell(script) }).await.unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let mut next = async || lines.next_line().await.unwrap().unwrap_or_default();
    let (one, size) = (next().await, next().await);
    process.resize(TerminalSize { rows: 50, columns: 132 });
    process.stdin.as_mut().unwrap().write_all(b"it\n").await.unwrap();
    let (echoed, larger, got) = (next().await, next().await, next().await);
    let ended = how(&process.wait().await);
    place.end().await;
    Ok(format!("{one}, {size}, {echoed}, {larger}, {got}, {ended}"))
}

pub(super) async fn case_126_what_is_typed_to_end_it(ground: &Ground) -> Told {
    let place = ground.place().await?;
    let terminal = Some(TerminalSize { rows: 24, columns: 80 });
    let timeout = Duration::from_secs(3);
    let with = |command: Command| Command { terminal, timeout, grace: Duration::ZERO, ..command };
    let mut cat = place.spawn(with(shell("echo on; exec cat"))).await.unwrap();
    let mut on = [0; 4];
    cat.stdout.as_mut().unwrap().read_exact(&mut on).await.unwrap();
    cat.stdin.as_mut().unwrap().write_all(b"\x03").await.unwrap();
    let interrupted = how(&cat.wait().await);
    let mut cat = place.spawn(with(Command::new("cat"))).await.unwrap();
    drop(cat.stdin.take());
    let over = how(&cat.wait().await);
    place.end().await;
    Ok(format!("Control-C: {interrupted}; end of the input: {over}"))
}
