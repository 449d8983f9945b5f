//! The bus: mailboxes, order, expiry, dead letters, topics, leases, signatures and what is kept.

use std::path::Path;

use symbiont_runtime::*;

use crate::support::{config, message, records, runtime, started};

/// A bus in memory on a clock that goes with the timers, with `adjust`ed settings.
async fn bus(adjust: impl FnOnce(&mut CommunicationConfig)) -> DefaultCommunicationBus {
    let mut config = CommunicationConfig::default();
    adjust(&mut config);
    let journal = Journal::in_memory(Clock::anchored(SystemTime::now()));
    DefaultCommunicationBus::builder(config).journal(journal).build().await.expect("the bus builds")
}

async fn registered<const N: usize>(bus: &DefaultCommunicationBus) -> [AgentId; N] {
    let ids = [(); N].map(|()| AgentId::new());
    for id in ids {
        bus.register_agent(id, vec![]).await.expect("the agent registers");
    }
    ids
}

async fn received(bus: &DefaultCommunicationBus, id: AgentId) -> Vec<Vec<u8>> {
    let messages = bus.receive_messages(id).await.expect("the mail is handed over");
    messages.into_iter().map(|message| message.message.payload).collect()
}

/// Lets virtual time pass, and with it every timer that is due in it.
async fn pass(time: Duration) {
    tokio::time::sleep(time + Duration::from_millis(1)).await;
}

#[tokio::test]
async fn urgent_mail_comes_first_and_one_senders_mail_in_order() {
    let bus = bus(|_| {}).await;
    let [a, b, to] = registered(&bus).await;
    let sent = [
        (a, "a low", Priority::Low),
        (a, "a normal 1", Priority::Normal),
        (b, "b critical", Priority::Critical),
        (a, "a normal 2", Priority::Normal),
        (b, "b high", Priority::High),
        (a, "a critical", Priority::Critical),
    ];
    for (from, text, priority) in sent {
        let mail = Message { priority, ..message(from, to, text.as_bytes()) };
        bus.send_message(mail).await.expect("it is accepted");
    }
    let order = received(&bus, to).await;
    let order: Vec<_> = order.iter().map(|text| String::from_utf8_lossy(text)).collect();
    let want = ["b critical", "a critical", "b high", "a normal 1", "a normal 2", "a low"];
    assert_eq!(order, want);
}

#[tokio::test(start_paused = true)]
async fn mail_that_is_not_fetched_in_time_is_a_dead_letter() {
    let bus = bus(|_| {}).await;
    let [from, to] = registered(&bus).await;
    let mail = Message { ttl: Duration::from_secs(5), ..message(from, to, b"late") };
    let id = bus.send_message(mail).await.expect("it is accepted");
    assert_eq!(bus.get_message_status(id).await, Ok(DeliveryStatus::Pending));
    pass(Duration::from_secs(5)).await;
    assert_eq!(bus.get_message_status(id).await, Ok(DeliveryStatus::Expired));
    assert_eq!(received(&bus, to).await, Vec::<Vec<u8>>::new());
    let [dead] = &bus.dead_letters()[..] else { panic!("{:?}", bus.dead_letters()) };
    assert_eq!((dead.cause, dead.message.message.id), (DeadCause::Expired, id));
    assert_eq!(bus.pending(), 0);
}

#[tokio::test]
async fn a_full_mailbox_refuses_and_keeps_what_it_has() {
    let bus = bus(|config| config.max_queue_size = 2).await;
    let [from, to] = registered(&bus).await;
    for text in [b"1", b"2"] {
        bus.send_message(message(from, to, text)).await.expect("it is accepted");
    }
    let third = message(from, to, b"3");
    let id = third.id;
    let refused = bus.send_message(third.clone()).await.expect_err("it is full");
    let CommunicationError::DeliveryFailed { message_id, reason } = refused else {
        panic!("{refused:?}")
    };
    assert_eq!(message_id, id);
    assert!(reason.contains("max_queue_size"), "{reason}");
    assert!(bus.get_message_status(id).await.is_err(), "a refused message is not known");
    assert_eq!(received(&bus, to).await, [b"1", b"2"]);
    // Refused is not seen: the same message may come again.
    bus.send_message(third).await.expect("there is room now");
    assert_eq!(received(&bus, to).await, [b"3"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_was_seen_is_acknowledged_and_dropped() {
    let bus = bus(|_| {}).await;
    let [from, to] = registered(&bus).await;
    // One after the other, and after it was delivered.
    let first = message(from, to, b"once");
    for _ in 0..3 {
        assert_eq!(bus.send_message(first.clone()).await, Ok(first.id));
    }
    assert_eq!(received(&bus, to).await, [b"once"]);
    assert_eq!(bus.send_message(first.clone()).await, Ok(first.id));
    assert_eq!(received(&bus, to).await.len(), 0);
    assert_eq!(bus.get_message_status(first.id).await, Ok(DeliveryStatus::Delivered));
    // At the same moment, where recording takes a while.
    let directory = tempfile::tempdir().expect("a directory");
    let journal = Journal::open(&directory.path().join("data"), Clock::system()).expect("opens");
    let bus = DefaultCommunicationBus::builder(CommunicationConfig::default()).journal(journal);
    let bus = bus.build().await.expect("the bus builds");
    let [from, to] = registered(&bus).await;
    for round in 0..10 {
        let same = message(from, to, b"at once");
        let sends: Vec<_> = (0..8)
            .map(|_| {
                let (bus, same) = (bus.clone(), same.clone());
                tokio::spawn(async move { bus.send_message(same).await })
            })
            .collect();
        for send in sends {
            assert_eq!(send.await.expect("it does not panic"), Ok(same.id));
        }
        assert_eq!(received(&bus, to).await.len(), 1, "round {round}");
    }
}

#[tokio::test]
async fn a_broadcast_is_a_copy_for_each_subscriber() {
    let bus = bus(|_| {}).await;
    let [sender, other, idle] = registered(&bus).await;
    let news = || message(sender, sender, b"news");
    let topic = || "weather".to_owned();
    assert_eq!(
        bus.broadcast_message(topic(), news()).await,
        Err(CommunicationError::TopicNotFound { topic: topic() }),
        "nobody ever subscribed"
    );
    for agent in [sender, other] {
        bus.subscribe_to_topic(agent, topic()).await.expect("it subscribes");
        bus.subscribe_to_topic(agent, topic()).await.expect("again is fine");
        assert_eq!(bus.get_agent_topics(agent).await, Ok(vec![topic()]));
    }
    let original = news();
    let copies = bus.broadcast_message(topic(), original.clone()).await.expect("it is sent");
    assert_eq!(copies.len(), 2, "the sender is one of the subscribers");
    assert!(!copies.contains(&original.id));
    for agent in [sender, other] {
        let [copy] = &bus.receive_messages(agent).await.expect("mail")[..] else { panic!() };
        assert!(copies.contains(&copy.message.id));
        assert_eq!((copy.message.to, copy.message.from), (agent, sender));
        assert_eq!((&*copy.message.topic, &*copy.message.payload), ("weather", &b"news"[..]));
    }
    assert_eq!(received(&bus, idle).await.len(), 0);
    for agent in [sender, other] {
        bus.unsubscribe_from_topic(agent, topic()).await.expect("it unsubscribes");
        bus.unsubscribe_from_topic(agent, topic()).await.expect("again is fine");
    }
    assert_eq!(bus.broadcast_message(topic(), news()).await, Ok(vec![]), "no subscribers");
    let never = bus.unsubscribe_from_topic(idle, "never".to_owned()).await;
    assert_eq!(never, Err(CommunicationError::TopicNotFound { topic: "never".to_owned() }));
}

#[tokio::test(start_paused = true)]
async fn a_leased_message_waits_again_until_it_is_acknowledged_or_given_up() {
    let lease = Duration::from_secs(10);
    let bus = bus(|config| {
        config.delivery_timeout = lease;
        config.retry_attempts = 1;
    })
    .await;
    let [from, to] = registered(&bus).await;
    let ttl = Duration::from_secs(600);
    let send = async |text: &[u8]| {
        let mail = Message { ttl, ..message(from, to, text) };
        bus.send_message(mail).await.expect("it is accepted")
    };
    let lease_one = async || bus.receive_leased(to, 1).await.expect("mail").pop();

    // Acknowledged.
    let id = send(b"a").await;
    let held = lease_one().await.expect("it waits");
    assert_eq!((held.attempt, &*held.message.message.payload), (1, &b"a"[..]));
    assert_eq!(lease_one().await, None, "it is in somebody's hands");
    bus.ack(&held).await.expect("the lease is the newest");
    assert_eq!(bus.get_message_status(id).await, Ok(DeliveryStatus::Delivered));
    let again = bus.ack(&held).await.expect_err("it is over");
    assert!(again.to_string().contains("over"), "{again}");

    // Given back, to wait for a while.
    let id = send(b"b").await;
    let held = lease_one().await.expect("it waits");
    bus.nack(&held, Duration::from_secs(60)).expect("the lease is the newest");
    pass(Duration::from_secs(59)).await;
    assert_eq!(lease_one().await, None, "it is put off");
    pass(Duration::from_secs(1)).await;
    let second = lease_one().await.expect("it waits again");
    assert_eq!(second.attempt, 2);
    assert!(bus.ack(&held).await.is_err(), "the first lease is over");
    // Never heard of again: the attempts are used up.
    pass(lease).await;
    assert_eq!(lease_one().await, None);
    assert_eq!(bus.get_message_status(id).await, Ok(DeliveryStatus::Failed));
    let dead: Vec<_> = bus.dead_letters().iter().map(|l| (l.message.message.id, l.cause)).collect();
    assert_eq!(dead, [(id, DeadCause::AttemptsExhausted)]);
}

#[tokio::test]
async fn a_signature_is_verified_with_the_senders_public_key_alone() {
    let bus = bus(|_| {}).await;
    let [from, other, to] = registered(&bus).await;
    bus.send_message(message(from, to, b"signed")).await.expect("it is accepted");
    let [mail] = &bus.receive_messages(to).await.expect("mail")[..] else { panic!() };
    let key = bus.public_key(from).expect("it is registered");
    assert!(verify_message(mail, &key), "it is what was sent");
    let strange = bus.public_key(other).expect("it is registered");
    let change = |change: fn(&mut SecureMessage)| {
        let mut changed = mail.clone();
        change(&mut changed);
        changed
    };
    let changed = [
        ("payload", change(|m| m.message.payload[0] ^= 1)),
        ("to", change(|m| m.message.to = m.message.from)),
        ("from", change(|m| m.message.from = m.message.to)),
        ("id", change(|m| m.message.id = MessageId::new())),
        ("topic", change(|m| m.message.topic.push('x'))),
        ("priority", change(|m| m.message.priority = Priority::Critical)),
        ("ttl", change(|m| m.message.ttl += Duration::from_secs(1))),
        ("timestamp", change(|m| m.timestamp += Duration::from_secs(1))),
        ("ciphertext", change(|m| *m.encrypted_payload.last_mut().expect("sealed") ^= 1)),
        ("signature", change(|m| *m.signature.last_mut().expect("signed") ^= 1)),
        ("no signature", change(|m| m.signature.clear())),
        ("short signature", change(|m| m.signature.truncate(3))),
        ("stripped", change(|m| m.encrypted_payload.clear())),
    ];
    for (what, forged) in &changed {
        assert!(!verify_message(forged, &key), "{what}");
    }
    assert!(!verify_message(mail, &strange));
    assert!(!verify_message(mail, b"no key"));
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_comes_back_within_the_grace_finds_its_mail() {
    let grace = Duration::from_secs(30);
    let bus = bus(|config| config.delivery_timeout = grace).await;
    let [from, to] = registered(&bus).await;
    let ttl = Duration::from_secs(3000);
    let send = async || bus.send_message(Message { ttl, ..message(from, to, b"kept") }).await;
    let id = send().await.expect("it is accepted");

    bus.unregister_agent(to).await.expect("it leaves");
    bus.unregister_agent(to).await.expect("again is fine");
    let gone = CommunicationError::AgentNotRegistered { agent_id: to };
    assert_eq!(send().await, Err(gone.clone()));
    assert_eq!(bus.receive_messages(to).await, Err(gone.clone()));
    pass(grace / 2).await;
    bus.register_agent(to, vec![Capability::Network]).await.expect("it comes back");
    assert_eq!(bus.capabilities(to), Ok(vec![Capability::Network]));
    bus.unregister_agent(to).await.expect("it leaves again");
    // The first grace is over, the second is not.
    pass(grace * 3 / 4).await;
    assert_eq!(bus.get_message_status(id).await, Ok(DeliveryStatus::Pending));
    bus.register_agent(to, vec![]).await.expect("it comes back");
    assert_eq!(received(&bus, to).await, [b"kept"]);

    let id = send().await.expect("it is accepted");
    bus.unregister_agent(to).await.expect("it leaves for good");
    pass(grace).await;
    assert_eq!(bus.get_message_status(id).await, Ok(DeliveryStatus::Failed));
    let causes: Vec<_> = bus.dead_letters().iter().map(|letter| letter.cause).collect();
    assert_eq!(causes, [DeadCause::ReceiverGone]);
    assert_eq!(bus.receive_messages(to).await, Err(gone));
    // What it sent before can still be verified by those that have not read it yet.
    bus.register_agent(to, vec![]).await.expect("a new life");
    assert_eq!(received(&bus, to).await.len(), 0);
}

#[tokio::test]
async fn one_call_takes_at_most_256_messages() {
    let bus = bus(|_| {}).await;
    let [from, to] = registered(&bus).await;
    for n in 0..300_u32 {
        bus.send_message(message(from, to, &n.to_be_bytes())).await.expect("it is accepted");
    }
    let first = received(&bus, to).await;
    let second = received(&bus, to).await;
    assert_eq!((first.len(), second.len()), (256, 44));
    let all: Vec<_> = first.into_iter().chain(second).collect();
    assert_eq!(all, (0..300_u32).map(|n| n.to_be_bytes().to_vec()).collect::<Vec<_>>());
}

/// Whether any file below `directory` has these bytes in it.
fn is_kept(directory: &Path, needle: &[u8]) -> bool {
    std::fs::read_dir(directory).expect("it can be listed").any(|entry| {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            return is_kept(&path, needle);
        }
        let bytes = std::fs::read(&path).unwrap_or_default();
        bytes.windows(needle.len()).any(|window| window == needle)
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mail_and_topics_survive_a_restart_and_are_kept_sealed() {
    for encrypted in [true, false] {
        let payload = b"the recognisable words of a secret letter";
        let directory = tempfile::tempdir().expect("a directory");
        let data = directory.path().join("data");
        let open = async || {
            runtime(|config| {
                config.data_dir = Some(data.clone());
                config.bus.enable_encryption = encrypted;
            })
            .await
        };
        let first = open().await;
        let [from, to] = registered(first.bus()).await;
        first.bus().subscribe_to_topic(to, "news".to_owned()).await.expect("it subscribes");
        let urgent = Message { priority: Priority::High, ..message(from, to, b"urgent") };
        let id = first.bus().send_message(message(from, to, payload)).await.expect("accepted");
        first.bus().send_message(urgent).await.expect("accepted");
        assert_eq!(is_kept(&data, payload), !encrypted, "encrypted: {encrypted}");
        assert!(first.shutdown().await.is_empty());
        drop(first);
        assert_eq!(is_kept(&data, payload), !encrypted, "encrypted: {encrypted}");

        let second = open().await;
        let bus = second.bus();
        assert_eq!(bus.get_agent_topics(to).await, Ok(vec!["news".to_owned()]));
        assert_eq!(bus.get_message_status(id).await, Ok(DeliveryStatus::Pending));
        assert_eq!(received(bus, to).await, [&b"urgent"[..], payload]);
        assert_eq!(bus.get_message_status(id).await, Ok(DeliveryStatus::Delivered));
        // Seen is remembered over the restart.
        let again = Message { id, ..message(from, to, payload) };
        assert_eq!(bus.send_message(again).await, Ok(id));
        assert_eq!(received(bus, to).await.len(), 0);
        assert!(second.shutdown().await.is_empty());
    }
}

#[tokio::test]
async fn a_bus_that_is_shut_down_says_so() {
    let bus = bus(|_| {}).await;
    let [from, to] = registered(&bus).await;
    bus.shutdown().await.expect("it closes");
    bus.shutdown().await.expect("again is fine");
    let refusals = [
        bus.register_agent(AgentId::new(), vec![]).await.expect_err("closed"),
        bus.send_message(message(from, to, b"")).await.expect_err("closed"),
        bus.receive_messages(to).await.expect_err("closed"),
        bus.subscribe_to_topic(to, "t".to_owned()).await.expect_err("closed"),
        bus.broadcast_message("t".to_owned(), message(from, to, b"")).await.expect_err("closed"),
    ];
    for refusal in refusals {
        assert!(refusal.to_string().contains("shutting down"), "{refusal}");
    }
}

/// A runtime in `data`, with `adjust`ed settings.
async fn durable(data: &Path, adjust: impl FnOnce(&mut RuntimeConfig)) -> Runtime {
    runtime(|config| {
        config.data_dir = Some(data.to_owned());
        adjust(config);
    })
    .await
}

async fn closed(runtime: Runtime) {
    assert!(runtime.shutdown().await.is_empty());
}

/// Every row of the table of mail that waits.
fn mail_rows(data: &Path) -> Vec<(Vec<u8>, Vec<u8>)> {
    let connection = rusqlite::Connection::open(data.join("symbiont.db")).expect("it opens");
    let mut rows =
        connection.prepare("SELECT key, value FROM kv_mail ORDER BY key").expect("a table");
    let rows = rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).expect("it can be read");
    rows.map(|row| row.expect("a row")).collect()
}

fn write_mail_row(data: &Path, key: &[u8], value: &[u8]) {
    let connection = rusqlite::Connection::open(data.join("symbiont.db")).expect("it opens");
    let insert = "INSERT OR REPLACE INTO kv_mail (key, value) VALUES (?1, ?2)";
    connection.execute(insert, (key, value)).expect("it is written");
}

fn causes(bus: &DefaultCommunicationBus) -> Vec<DeadCause> {
    bus.dead_letters().iter().map(|letter| letter.cause).collect()
}

/// Asks once and goes away unless the answer is there at once.
async fn glance<T>(asked: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        answer = asked => Some(answer),
        () = std::future::ready(()) => None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mail_that_nobody_stayed_to_take_waits_again() {
    let directory = tempfile::tempdir().expect("a directory");
    let runtime = durable(&directory.path().join("data"), |_| {}).await;
    let bus = runtime.bus();
    let [from, to] = registered(bus).await;
    for leased in [false, true] {
        for round in 0..10 {
            let id = bus.send_message(message(from, to, b"wait")).await.expect("it is accepted");
            let took = match leased {
                false => glance(bus.receive_messages(to)).await.is_some(),
                true => glance(bus.receive_leased(to, 1)).await.is_some(),
            };
            assert!(!took, "recording takes a while on a disk");
            let again = async {
                loop {
                    let mail = bus.receive_messages(to).await.expect("mail");
                    match mail.first() {
                        Some(mail) => return mail.message.id,
                        None => tokio::task::yield_now().await,
                    }
                }
            };
            let again = tokio::time::timeout(Duration::from_secs(30), again).await;
            assert_eq!(again, Ok(id), "leased: {leased}, round {round}");
            assert_eq!(bus.get_message_status(id).await, Ok(DeliveryStatus::Delivered));
        }
    }
    closed(runtime).await;
}

#[tokio::test(start_paused = true)]
async fn a_new_life_has_a_new_key_which_everyone_uses() {
    let runtime = runtime(|config| {
        config.clock = Clock::anchored(SystemTime::now());
        config.bus.delivery_timeout = Duration::from_secs(30);
        config.bus.message_ttl = Duration::from_secs(100);
    })
    .await;
    let bus = runtime.bus();
    let [from, to] = registered(bus).await;
    let talk = async |text: &'static [u8]| {
        bus.send_message(message(from, to, text)).await.expect("it is accepted");
        assert_eq!(received(bus, to).await, [text]);
        bus.send_message(message(to, from, text)).await.expect("it is accepted");
        assert_eq!(received(bus, from).await, [text]);
    };
    talk(b"the first life").await;
    let first = bus.public_key(to).expect("it is registered");
    bus.unregister_agent(to).await.expect("it leaves");
    pass(Duration::from_secs(131)).await;
    bus.register_agent(to, vec![]).await.expect("a new life");
    assert_ne!(bus.public_key(to).expect("it is registered"), first);
    talk(b"the second life").await;
    let listed = records(&runtime, "key.listed").await;
    let epochs: Vec<_> = listed
        .iter()
        .filter(|event| event.agent_id == Some(to))
        .map(|event| event.metadata["epoch"].parse::<u32>().expect("a number"))
        .collect();
    assert!(matches!(epochs[..], [one, two] if one < two), "{epochs:?}");
}

#[tokio::test]
async fn an_id_that_was_seen_with_another_message_is_refused() {
    let bus = bus(|_| {}).await;
    let [from, to, other] = registered(&bus).await;
    let first = message(from, to, b"one");
    bus.send_message(first.clone()).await.expect("it is accepted");
    for delivered in [false, true] {
        if delivered {
            assert_eq!(received(&bus, to).await, [b"one"]);
        }
        assert_eq!(bus.send_message(first.clone()).await, Ok(first.id), "the same again is fine");
        for changed in [
            Message { to: other, ..first.clone() },
            Message { from: other, ..first.clone() },
            Message { payload: b"two".to_vec(), ..first.clone() },
        ] {
            let refused = bus.send_message(changed).await.expect_err("it is another message");
            let CommunicationError::DeliveryFailed { message_id, reason } = refused else {
                panic!("{refused:?}")
            };
            assert_eq!(message_id, first.id);
            assert!(reason.contains("another message"), "{reason}");
        }
    }
    assert_eq!(received(&bus, other).await.len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mail_that_was_delivered_is_not_delivered_again_from_a_copy() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("data");
    let first = durable(&data, |_| {}).await;
    let [from, to] = registered(first.bus()).await;
    let low = Message { priority: Priority::Low, ..message(from, to, b"low") };
    first.bus().send_message(low).await.expect("it is accepted");
    first.bus().send_message(message(from, to, b"once")).await.expect("it is accepted");
    let rows = mail_rows(&data);
    let [taken] = &first.bus().receive_leased(to, 1).await.expect("mail")[..] else { panic!() };
    first.bus().ack(taken).await.expect("it is acknowledged");
    closed(first).await;
    let [low, once] = &rows[..] else { panic!("{} rows", rows.len()) };
    write_mail_row(&data, &once.0, &once.1);
    // A copy of what still waits, in another place.
    let place = [&low.0[..16], &[0x7f; 8]].concat();
    write_mail_row(&data, &place, &low.1);
    let second = durable(&data, |_| {}).await;
    assert_eq!(received(second.bus(), to).await, [b"low"]);
    assert_eq!(records(&second, "message.replayed").await.len(), 2);
    closed(second).await;
    assert_eq!(mail_rows(&data).len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_letter_that_was_changed_is_a_dead_letter_and_holds_nothing_up() {
    for lent in [false, true] {
        let directory = tempfile::tempdir().expect("a directory");
        let data = directory.path().join("data");
        let first = durable(&data, |_| {}).await;
        let [from, to] = registered(first.bus()).await;
        for text in [&b"bad 1"[..], b"bad 2", b"good"] {
            first.bus().send_message(message(from, to, text)).await.expect("it is accepted");
        }
        closed(first).await;
        for (key, mut value) in mail_rows(&data).into_iter().take(2) {
            *value.last_mut().expect("a sealed payload") ^= 1;
            write_mail_row(&data, &key, &value);
        }
        let second = durable(&data, |_| {}).await;
        let bus = second.bus();
        if lent {
            let [held] = &bus.receive_leased(to, 1).await.expect("mail")[..] else { panic!() };
            assert_eq!(held.message.message.payload, b"good");
            bus.ack(held).await.expect("it is acknowledged");
        } else {
            assert_eq!(received(bus, to).await, [b"good"]);
        }
        assert_eq!(causes(bus), [DeadCause::BadSignature; 2], "lent: {lent}");
        assert_eq!(records(&second, "message.rejected").await.len(), 2, "lent: {lent}");
        closed(second).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_that_became_smaller_do_not_concern_mail_that_was_accepted() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("data");
    let first = durable(&data, |config| config.bus.enable_compression = true).await;
    let [from, to] = registered(first.bus()).await;
    let payload = vec![b'x'; 5000];
    first.bus().send_message(message(from, to, &payload)).await.expect("it is accepted");
    closed(first).await;
    let second = durable(&data, |config| config.bus.max_message_size = 10).await;
    assert_eq!(received(second.bus(), to).await, [payload]);
    closed(second).await;
}

#[tokio::test]
async fn a_public_key_is_listed_before_the_first_message_of_its_owner() {
    let runtime = runtime(|_| {}).await;
    let bus = runtime.bus();
    let [a, b] = registered(bus).await;
    for (from, to) in [(a, b), (b, a), (a, b)] {
        bus.send_message(message(from, to, b"x")).await.expect("it is accepted");
    }
    let listed = records(&runtime, "key.listed").await;
    let whose: Vec<_> = listed.iter().filter_map(|event| event.agent_id).collect();
    assert_eq!(whose, [a, b]);
    for (event, agent) in listed.iter().zip([a, b]) {
        let key = bus.public_key(agent).expect("it is registered");
        let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(event.metadata["public_key"], hex);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hand_overs_are_counted_over_restarts() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("data");
    let open = async || durable(&data, |config| config.bus.retry_attempts = 1).await;
    let first = open().await;
    let [from, to] = registered(first.bus()).await;
    let id = first.bus().send_message(message(from, to, b"heavy")).await.expect("it is accepted");
    closed(first).await;
    for attempt in [1, 2] {
        let runtime = open().await;
        let held = runtime.bus().receive_leased(to, 1).await.expect("mail");
        assert_eq!(held.iter().map(|held| held.attempt).collect::<Vec<_>>(), [attempt]);
        closed(runtime).await;
    }
    let last = open().await;
    assert_eq!(last.bus().receive_leased(to, 1).await, Ok(vec![]));
    assert_eq!(last.bus().get_message_status(id).await, Ok(DeliveryStatus::Failed));
    assert_eq!(causes(last.bus()), [DeadCause::AttemptsExhausted]);
    closed(last).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_keystore_that_was_lost_costs_the_mail_and_not_the_directory() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("data");
    let first = durable(&data, |_| {}).await;
    let [from, to] = registered(first.bus()).await;
    let old = first.bus().public_key(to).expect("it is registered");
    first.bus().send_message(message(from, to, b"lost")).await.expect("it is accepted");
    closed(first).await;
    let key = data.join("keystore.key");
    std::fs::write(&key, []).expect("it is emptied");
    let config = RuntimeConfig { data_dir: Some(data.clone()), ..RuntimeConfig::default() };
    let refused = Runtime::open(config).await.expect_err("half a key is no key").to_string();
    assert!(refused.contains("keystore.key") && refused.contains("remove it"), "{refused}");
    std::fs::remove_file(&key).expect("it is removed");
    for opened in 1..=2 {
        let second = durable(&data, |_| {}).await;
        let bus = second.bus();
        assert_eq!(causes(bus), [DeadCause::BadSignature]);
        assert_ne!(bus.public_key(to).expect("it is registered"), old);
        for (from, to) in [(from, to), (to, from)] {
            bus.send_message(message(from, to, b"new")).await.expect("it is accepted");
            assert_eq!(received(bus, to).await, [b"new"]);
        }
        assert_eq!(records(&second, "key.lost").await.len(), 2, "opened {opened} times");
        closed(second).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mail_without_a_mailbox_is_a_dead_letter_at_the_next_start() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("data");
    let first = durable(&data, |_| {}).await;
    let [from, to] = registered(first.bus()).await;
    let id = first.bus().send_message(message(from, to, b"x")).await.expect("it is accepted");
    closed(first).await;
    let connection = rusqlite::Connection::open(data.join("symbiont.db")).expect("it opens");
    connection
        .execute("DELETE FROM kv_mailboxes WHERE key = ?1", [to.as_uuid().as_bytes()])
        .expect("it is gone");
    drop(connection);
    let second = durable(&data, |_| {}).await;
    assert_eq!(causes(second.bus()), [DeadCause::ReceiverGone]);
    assert_eq!(second.bus().get_message_status(id).await, Ok(DeliveryStatus::Failed));
    assert_eq!(second.bus().pending(), 0);
    closed(second).await;
}

#[tokio::test]
async fn one_call_takes_at_most_four_mebibytes_of_payloads() {
    for compressed in [false, true] {
        let bus = bus(|config| config.enable_compression = compressed).await;
        let [from, to] = registered(&bus).await;
        let payload = vec![b'x'; 1 << 20];
        for _ in 0..6 {
            bus.send_message(message(from, to, &payload)).await.expect("it is accepted");
        }
        let counts = [received(&bus, to).await.len(), received(&bus, to).await.len()];
        assert_eq!(counts, [4, 2], "compressed: {compressed}");
    }
}

#[tokio::test]
async fn the_copies_of_a_broadcast_share_a_signature_and_each_verifies_alone() {
    for count in [1, 2, 3, 7] {
        let bus = bus(|_| {}).await;
        let [sender] = registered(&bus).await;
        let mut agents = Vec::new();
        for _ in 0..count {
            let [agent] = registered(&bus).await;
            bus.subscribe_to_topic(agent, "news".to_owned()).await.expect("it subscribes");
            agents.push(agent);
        }
        let news = message(sender, sender, b"news");
        bus.broadcast_message("news".to_owned(), news).await.expect("it is sent");
        let key = bus.public_key(sender).expect("it is registered");
        let mut copies = Vec::new();
        for agent in agents {
            copies.extend(bus.receive_messages(agent).await.expect("mail"));
        }
        assert_eq!(copies.len(), count);
        for copy in &copies {
            assert_eq!(copy.signature[0], if count == 1 { 1 } else { 2 }, "the format");
            assert!(verify_message(copy, &key));
            let elsewhere = copies.iter().find(|other| other.message.id != copy.message.id);
            if let Some(other) = elsewhere {
                let moved = SecureMessage { signature: other.signature.clone(), ..copy.clone() };
                assert!(!verify_message(&moved, &key), "each has a path of its own");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_whose_handling_ends_the_process_is_given_up_at_last() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("data");
    let source = "agent heavy { on message(topic, payload) { while true { } } }";
    let agent = config("heavy", source, ExecutionMode::Persistent);
    let id = agent.id;
    let first = durable(&data, |_| {}).await;
    started(&first, agent).await;
    first.lifecycle().settled(id).await.expect("it rests");
    let mail = message(id, id, b"heavy");
    first.bus().send_message(mail).await.expect("it is accepted");
    first.lifecycle().until(id, &[AgentState::Running]).await.expect("it runs");
    // What a process leaves that ends here.
    let left = directory.path().join("left");
    std::fs::create_dir(&left).expect("a directory");
    for entry in std::fs::read_dir(&data).expect("it can be listed") {
        let file = entry.expect("an entry");
        if file.path().is_file() {
            std::fs::copy(file.path(), left.join(file.file_name())).expect("it is copied");
        }
    }
    first.lifecycle().terminate_agent(id).await.expect("it ends");
    closed(first).await;
    let second = durable(&left, |config| config.bus.retry_attempts = 0).await;
    assert_eq!(second.bus().receive_leased(id, 1).await, Ok(vec![]));
    assert_eq!(causes(second.bus()), [DeadCause::AttemptsExhausted]);
    closed(second).await;
}
