//! What Landlock adds to the other walls, where the kernel has it.

use symbiont_sandbox::Command;
use tokio::io::AsyncReadExt;

use super::{driver, run, sandbox, shell, told};

#[test]
fn commands_write_where_they_may_and_meet_nobody_else() {
    run(async {
        let driver = driver();
        let sandbox = sandbox(&driver).await;
        let report = sandbox.report();
        let told_of = report.degraded.iter().any(|line| line.starts_with("Landlock"));
        let Some(version) = report.landlock else {
            assert!(told_of, "{report:?}");
            eprintln!("not run: this kernel has no Landlock");
            return sandbox.destroy().await.unwrap();
        };
        assert!(!told_of, "{report:?}");
        let cases = [
            // Its own process would let it.
            ("echo x 2>/dev/null >/proc/self/comm || echo no", "0:no\n"),
            ("mkdir a && echo x > a/f && mv a/f f && ln f a/g && rm -r a && cat f", "0:x\n"),
            ("echo x > /dev/null; echo x > /dev/shm/f; echo out > /dev/stdout", "0:out\n"),
            ("cp /bin/echo e && ./e runs && /usr/bin/env true", "0:runs\n"),
            ("(sleep 100 & kill $!; wait $!; echo $?) 2>&1 | tail -1", "0:143\n"),
        ];
        for (script, want) in cases {
            assert_eq!(told(&sandbox.exec(shell(script)).await), want, "{script}");
        }
        if version >= 6 {
            let code = |rest: &str| {
                let code = format!("import socket; s = socket.socket(socket.AF_UNIX); {rest}");
                Command::new("python3").args(["-c".to_owned(), code])
            };
            let listen = "s.bind('\\0meet'); s.listen(); print('ready', flush=True); s.accept()";
            let mut other = sandbox.spawn(code(listen)).await.unwrap();
            let mut ready = [0; 6];
            other.stdout.as_mut().unwrap().read_exact(&mut ready).await.unwrap();
            let met = told(&sandbox.exec(code("s.connect('\\0meet')")).await);
            assert!(met.contains("Operation not permitted"), "{met}");
        }
        sandbox.destroy().await.unwrap();
    });
}
