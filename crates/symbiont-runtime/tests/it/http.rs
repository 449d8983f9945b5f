//! Requests over HTTP, to a server on this machine.

use std::sync::{Arc, Mutex};

use symbiont_runtime::*;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use crate::support::{records, run, runtime, told};

/// A server that answers by path and keeps what it was asked.
struct Server {
    port: u16,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    async fn start(tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let kept = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (kept, tls) = (Arc::clone(&kept), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => answer(stream, &kept).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                answer(stream, &kept).await;
                            }
                        }
                    }
                });
            }
        });
        Self { port, asked }
    }

    /// What it was asked since the last time, whole.
    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().expect("no panic"))
    }
}

async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, asked: &Mutex<Vec<String>>) {
    let mut text = String::new();
    let mut bytes = [0; 4096];
    loop {
        let whole = text.split_once("\r\n\r\n").is_some_and(|(head, body)| {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            body.len() >= length.map_or(0, |length| length.parse().expect("a number"))
        });
        if whole {
            break;
        }
        match stream.read(&mut bytes).await {
            Ok(read) if read > 0 => text.push_str(&String::from_utf8_lossy(&bytes[..read])),
            _ => return,
        }
    }
    let path = text.split(' ').nth(1).unwrap_or_default().to_owned();
    asked.lock().expect("no panic").push(text);
    let answer = match path.as_str() {
        "/missing" => "HTTP/1.1 404 Not Found\r\ncontent-length: 7\r\n\r\nnothing".to_owned(),
        "/redirect" => {
            "HTTP/1.1 302 Found\r\nLocation: /secret\r\ncontent-length: 0\r\n\r\n".to_owned()
        }
        "/twice" => "HTTP/1.1 200 OK\r\nX-A: 1\r\nx-a: 2\r\ncontent-length: 0\r\n\r\n".to_owned(),
        "/long" => format!("HTTP/1.1 200 OK\r\ncontent-length: 4000\r\n\r\n{}", "é".repeat(2000)),
        "/endless" => format!("HTTP/1.1 200 OK\r\n{}", "x-a: b\r\n".repeat(20_000)),
        "/broken" => "nonsense\r\n\r\n".to_owned(),
        "/cut" => "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf".to_owned(),
        "/json" => "HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\n{\"a\": 1}".to_owned(),
        "/never" => return std::future::pending().await,
        _ => "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 5\r\n\r\nhello"
            .to_owned(),
    };
    // Whoever has read enough does not read the rest.
    let _ = stream.write_all(answer.as_bytes()).await;
}

fn here(config: &mut RuntimeConfig) {
    config.http.allowed_private = vec!["127.0.0.1".parse().expect("an address")];
}

/// What a body returns, or how it fails; `HOST` in it is the server's.
async fn outcome(runtime: &Runtime, server: &Server, items: &str, body: &str) -> String {
    let body = body.replace("HOST", &format!("127.0.0.1:{}", server.port));
    let source = format!("agent test {{ {items} with {{ {body} }} }}");
    told(run(runtime, &source, "{}").await)
}

#[tokio::test]
async fn an_answer_is_a_value() {
    let server = Server::start(None).await;
    let runtime = runtime(|config| {
        here(config);
        config.http.max_response_bytes = 1001;
    })
    .await;
    for (body, want) in [
        (
            "return http.get(\"http://HOST/x\");",
            r#"{"status":200,"headers":{"content-type":"text/plain","content-length":"5"},"body":"hello","truncated":false}"#,
        ),
        (
            "let r = http.get(\"http://HOST/missing\"); return [r.status, r.body];",
            r#"[404,"nothing"]"#,
        ),
        (
            "let r = http.get(\"http://HOST/redirect\"); return [r.status, r.headers.location];",
            r#"[302,"/secret"]"#,
        ),
        ("return http.get(\"http://HOST/twice\").headers[\"x-a\"];", r#""1, 2""#),
        (
            "let r = http.get(\"http://HOST/long\"); return [r.truncated, r.body.len()];",
            "[true,500]",
        ),
        ("return http.request(\"head\", \"http://HOST/x\").status;", "200"),
    ] {
        assert_eq!(outcome(&runtime, &server, "", body).await, want, "{body}");
    }
    assert!(server.asked().iter().all(|asked| !asked.contains("/secret")), "nothing is followed");
    for (body, want) in [
        (
            "http.get(\"http://HOST/never\", { timeout: 50ms });",
            "Timeout: there was no answer in 50ms [true]",
        ),
        (
            "http.post(\"http://HOST/never\", { timeout: 50ms });",
            "Timeout: there was no answer in 50ms [false]",
        ),
        ("http.get(\"http://HOST/endless\");", "NetworkError"),
        ("http.get(\"http://HOST/broken\");", "NetworkError"),
        ("http.get(\"http://HOST/cut\");", "NetworkError"),
        ("http.get(\"http://127.0.0.1:1/\");", "NetworkError: 127.0.0.1:1: Connection refused"),
    ] {
        let shown = outcome(&runtime, &server, "", body).await;
        assert!(shown.starts_with(want), "{body}: {shown}");
    }
    runtime.shutdown().await;
}

#[tokio::test]
async fn a_request_is_what_the_program_says() {
    let server = Server::start(None).await;
    let runtime = runtime(here).await;
    let get = "http.get(\"HTTP://HOST/a/./b/../c%41?x=1#part\", { query: { q: \"a b&c\", n: [1, 2] }, headers: { Accept: \"text/plain\" } });";
    let got = outcome(&runtime, &server, "", &format!("return {get}")).await;
    assert!(got.contains("hello"), "{got}");
    let asked = server.asked().concat();
    let first = "GET /a/cA?x=1&q=a%20b%26c&n=1&n=2 HTTP/1.1\r\n";
    assert!(asked.starts_with(first), "{asked}");
    assert!(asked.contains(&format!("host: 127.0.0.1:{}\r\n", server.port)), "{asked}");
    assert!(asked.contains("accept: text/plain\r\n"), "{asked}");
    let operations: Vec<_> = records(&runtime, "policy.decision")
        .await
        .into_iter()
        .map(|event| event.metadata["operation"].replace(&server.port.to_string(), "PORT"))
        .filter(|operation| operation.starts_with("net") || operation.starts_with("http"))
        .collect();
    assert_eq!(
        operations,
        [
            "net.connect:127.0.0.1:PORT",
            "http.get:http://127.0.0.1:PORT/a/cA?x=1&q=a%20b%26c&n=1&n=2"
        ]
    );
    let post = "http.post(\"http://HOST/p\", { body: { a: 1 }, idempotency_key: \"k-1\", headers: { authorization: \"Bearer s3cret\" } });";
    outcome(&runtime, &server, "", post).await;
    let asked = server.asked().concat();
    for part in [
        "POST /p HTTP/1.1\r\n",
        "idempotency-key: k-1\r\n",
        "content-type: application/json\r\n",
        "authorization: Bearer s3cret\r\n",
        "\r\n\r\n{\"a\":1}",
    ] {
        assert!(asked.contains(part), "{part}: {asked}");
    }
    let trail = records(&runtime, "net.connect").await;
    assert!(trail.iter().any(|event| event.details.contains("headers authorization, 7 bytes")));
    assert!(!format!("{trail:?}").contains("s3cret"), "{trail:?}");
    runtime.shutdown().await;
}

#[tokio::test]
async fn what_can_not_be_sent_is_refused_before_anyone_decides() {
    let server = Server::start(None).await;
    let runtime = runtime(here).await;
    for (body, want) in [
        ("http.get(\"ftp://HOST/\");", "TypeError: `http.get` can't use `ftp://"),
        ("http.get(\"http://good.org@HOST/\");", "TypeError: `http.get` can't use"),
        ("http.get(5);", "TypeError: `http.get` takes a string as `url`, and got int"),
        ("http.get();", "TypeError: `http.get` needs its argument `url`"),
        (
            "http.request(\"CONNECT\", \"http://HOST/\");",
            "TypeError: `http.request` takes one of GET",
        ),
        (
            "http.get(\"http://HOST/\", { headers: { host: \"x\" } });",
            "TypeError: `http.get` has the header `host`",
        ),
        (
            "http.get(\"http://HOST/\", { headers: { \"a b\": \"x\" } });",
            "TypeError: `http.get` has the header `a b`",
        ),
        (
            "http.get(\"http://HOST/\", { headers: { a: \"x\\r\\nb: c\" } });",
            "TypeError: `http.get` can't send the header `a`",
        ),
        (
            "http.get(\"http://HOST/\", { query: { a: {} } });",
            "TypeError: `http.get` can't send map as `a`",
        ),
        (
            "http.post(\"http://HOST/\", { idempotency_key: \"a\\nb\" });",
            "TypeError: `http.post` takes a string of visible ASCII",
        ),
    ] {
        let shown = outcome(&runtime, &server, "", body).await;
        assert!(shown.starts_with(want), "{body}: {shown}");
    }
    let decided = records(&runtime, "policy.decision").await;
    assert!(
        decided.iter().all(|event| event.metadata["operation"] == "agent.start"),
        "{decided:?}"
    );
    assert!(server.asked().is_empty());
    runtime.shutdown().await;
}

#[tokio::test]
async fn both_the_host_and_the_url_have_to_be_allowed() {
    let server = Server::start(None).await;
    let runtime = runtime(here).await;
    let call = "return http.get(\"http://HOST/x\").body;";
    for (rules, allowed) in [
        ("allow: network", true),
        // Whoever allows a request allows its connection.
        ("allow: http.get", true),
        ("allow: net.connect", false),
        ("allow: [\"net.connect:127.0.0.1:*\", \"http.get:http://127.0.0.1:*/x\"]", true),
        ("allow: [\"net.connect:127.0.0.1:*\", \"http.get:http://127.0.0.1:*/y\"]", false),
        ("allow: any deny: \"http.get:*/x\"", false),
        ("allow: any deny: http.get(url) if url.ends_with(\"/x\")", false),
        ("allow: any deny: http.post", true),
    ] {
        let shown = outcome(&runtime, &server, &format!("policy p {{ {rules} }}"), call).await;
        assert_eq!(shown == "\"hello\"", allowed, "{rules}: {shown}");
        assert!(allowed || shown.starts_with("PolicyDenied"), "{rules}: {shown}");
    }
    let caught = format!("try {{ {call} }} catch (e) {{ return e.kind; }}");
    let shown = outcome(&runtime, &server, "capabilities = [\"fs\"]", &caught).await;
    assert_eq!(shown, "\"CapabilityDenied\"");
    runtime.shutdown().await;
    // In production nothing is allowed that no policy speaks of.
    let runtime = crate::support::runtime(|config| {
        here(config);
        config.profile = Profile::Production;
    })
    .await;
    let config = crate::support::config("test", "agent test", ExecutionMode::Ephemeral);
    let id = config.id;
    let lifecycle = runtime.lifecycle();
    let started = match lifecycle.create_agent(config).await {
        Ok(_) => {
            lifecycle.initialize_agent(id).await.is_ok() && lifecycle.start_agent(id).await.is_ok()
        }
        Err(_) => false,
    };
    assert!(!started, "not even a start is");
    runtime.shutdown().await;
}

#[tokio::test]
async fn what_is_not_public_is_not_asked() {
    let server = Server::start(None).await;
    let runtime = runtime(|_| {}).await;
    for host in [
        "127.0.0.1:PORT",
        "localhost:PORT",
        "[::ffff:127.0.0.1]:PORT",
        "169.254.169.254",
        "[::1]:PORT",
    ] {
        let host = host.replace("PORT", &server.port.to_string());
        let shown = outcome(&runtime, &server, "", &format!("http.get(\"http://{host}/\");")).await;
        assert!(
            shown.starts_with("NetworkError") && shown.contains("no public address"),
            "{host}: {shown}"
        );
        assert!(shown.ends_with("[false]"), "{shown}");
    }
    assert!(server.asked().is_empty());
    runtime.shutdown().await;
}

/// A server with a certificate of an authority of its own, and that authority's certificate.
async fn secured() -> (Server, Vec<u8>) {
    let authority_key = rcgen::KeyPair::generate().expect("a key");
    let mut authority = rcgen::CertificateParams::new(Vec::new()).expect("parameters");
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let root = authority.self_signed(&authority_key).expect("a certificate");
    let issuer = rcgen::Issuer::new(authority, authority_key);
    let key = rcgen::KeyPair::generate().expect("a key");
    let own = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("parameters");
    let own = own.signed_by(&key, &issuer).expect("a certificate");
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![own.der().clone()], key)
        .expect("a certificate");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    (Server::start(Some(acceptor)).await, root.der().to_vec())
}

#[tokio::test]
async fn a_certificate_has_to_be_good() {
    let (server, root) = secured().await;
    let get = "return http.get(\"https://HOST/x\").body;";
    let unverified = "return http.get(\"https://HOST/x\", { verify_tls: false }).body;";
    for (extra_roots, allow_unverified_tls, body, want) in [
        (vec![root.clone()], false, get, "\"hello\""),
        (vec![], false, get, "NetworkError: `127.0.0.1` is not trusted"),
        (vec![], true, get, "NetworkError: `127.0.0.1` is not trusted"),
        (vec![root], false, unverified, "NetworkError: `verify_tls: false` is not allowed"),
        (vec![], true, unverified, "\"hello\""),
    ] {
        let runtime = runtime(|config| {
            here(config);
            config.http.extra_roots = extra_roots;
            config.http.allow_unverified_tls = allow_unverified_tls;
        })
        .await;
        let shown = outcome(&runtime, &server, "", body).await;
        assert!(shown.starts_with(want), "{body}: {shown}");
        runtime.shutdown().await;
    }
    let config = RuntimeConfig {
        http: HttpConfig { extra_roots: vec![b"none".to_vec()], ..HttpConfig::default() },
        ..RuntimeConfig::default()
    };
    assert!(matches!(Runtime::open(config).await, Err(RuntimeError::Configuration(_))));
}

#[tokio::test]
async fn a_tool_asks_a_host() {
    let server = Server::start(None).await;
    let manifest = format!(
        r#"
name = "inquire"
description = "Asks the server of the test."
effect = "read"
risk = "low"
output = "json"
[[parameters]]
name = "what"
type = "string"
[http]
url = "http://127.0.0.1:{}/{{what}}"
[errors]
404 = "Missing"
"#,
        server.port
    );
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("inquire.toml"), manifest).expect("written");
    let tools = load_tools(directory.path()).expect("it can be read").tools;
    let runtime = runtime(|config| {
        here(config);
        config.tools = tools;
    })
    .await;
    for (items, body, want) in [
        ("", "return inquire(\"json\").a;", "1"),
        ("policy p { allow: inquire }", "return inquire(\"json\").a;", "1"),
        (
            "",
            "return inquire(\"missing\");",
            "Missing: `inquire` was answered 404: nothing [false]",
        ),
        ("", "return inquire(\"redirect\");", "ToolError: `inquire` was answered 302 [false]"),
        ("", "return inquire(\"plain\");", "ParseError: `inquire` gave no JSON"),
        ("", "return inquire(\"..\");", "ToolArgumentError: `inquire`: a part of the path"),
        (
            "policy p { allow: any deny: \"net.connect:127.0.0.1\" deny: \"net.connect:127.*\" }",
            "return inquire(\"json\").a;",
            "PolicyDenied: `inquire` would do what a rule denies",
        ),
    ] {
        let shown = outcome(&runtime, &server, items, body).await;
        assert!(shown.starts_with(want), "{items} {body}: {shown}");
    }
    let calls = records(&runtime, "tool.call").await;
    let want = format!("GET http://127.0.0.1:{}/json", server.port);
    assert_eq!(calls[0].metadata["does"], want);
    runtime.shutdown().await;
}
