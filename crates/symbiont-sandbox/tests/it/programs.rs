//! Ordinary programs do their ordinary work under the system call filter.

use super::{driver, run, sandbox, shell, told};

/// A program, what it is to do, and what that says.
const WORK: &[(&str, &str, &str)] = &[
    (
        "python3",
        "python3 -c 'import subprocess, threading, multiprocessing, asyncio, sqlite3, tempfile, socket
def f(x): return x * x
if __name__ == \"__main__\":
    with multiprocessing.Pool(2) as pool: print(pool.map(f, [1, 2, 3]))
    print(subprocess.run([\"echo\", \"child\"], capture_output=True).stdout.decode().strip())
    threading.Thread(target=lambda: print(\"thread\")).start()
    print(asyncio.run(asyncio.sleep(0, \"async\")))
    a, b = socket.socketpair(); a.send(b\"pair\"); print(b.recv(9).decode())
    print(sqlite3.connect(\":memory:\").execute(\"select 6*7\").fetchone()[0])'",
        "[1, 4, 9]\nchild\nthread\nasync\npair\n42\n",
    ),
    (
        "git",
        "git init -q r && cd r && git config user.email a@b && git config user.name a && echo x > f \
         && git add f && git commit -qm first && git gc -q && git clone -q . ../c && git -C ../c log \
         --format=%s",
        "first\n",
    ),
    (
        "sqlite3",
        "sqlite3 d 'pragma journal_mode=wal; create table t(a); insert into t values(1),(2); select \
         sum(a) from t; vacuum; pragma integrity_check'",
        "wal\n3\nok\n",
    ),
    (
        "gcc",
        "printf '#include <stdio.h>\\n#include <pthread.h>\\nvoid *f(void *x){return x;}\\nint \
         main(){pthread_t t;pthread_create(&t,0,f,0);pthread_join(t,0);puts(\"built\");}' > a.c && gcc \
         -O2 -pthread a.c -o a && ./a",
        "built\n",
    ),
    (
        "busybox",
        "echo packed > p && busybox tar cf - p | busybox gzip | busybox gunzip | busybox tar tf - && \
         busybox ls -l p | busybox awk '{print $5}'",
        "p\n7\n",
    ),
    (
        "node",
        "node -e 'const {Worker} = require(\"worker_threads\"); \
         require(\"fs\").promises.writeFile(\"n\", \"x\").then(() => console.log(\"written\")).then(() => \
         new Worker(\"console.log(1+1)\", {eval: true}))'",
        "written\n2\n",
    ),
    ("perl", "perl -e 'my $p = fork; if (!$p) { exit 3 } wait; print $? >> 8, \"\\n\"'", "3\n"),
    ("make", "printf 'all: a b\\n\\t@echo all\\na b:\\n\\t@touch $@\\n' > Makefile; make -sj2", "all\n"),
    ("bash", "bash -c 'coproc cat; echo co >&${COPROC[1]}; read -r x <&${COPROC[0]}; echo $x; kill %1'", "co\n"),
    ("find", "mkdir -p x/y; mkfifo x/y/p; find x -type p | xargs stat -c %F", "fifo\n"),
];

#[test]
fn ordinary_programs_work() {
    run(async {
        let driver = driver();
        let sandbox = sandbox(&driver).await;
        for (program, script, want) in WORK {
            if told(&sandbox.exec(shell(&format!("command -v {program}"))).await).starts_with("127")
            {
                eprintln!("not run: there is no {program} here");
                continue;
            }
            let script =
                format!("mkdir /workspace/{program} && cd /workspace/{program} && {script}");
            let got = told(&sandbox.exec(shell(&script)).await);
            assert_eq!(got, format!("0:{want}"), "{program}");
        }
        sandbox.destroy().await.unwrap();
    });
}
