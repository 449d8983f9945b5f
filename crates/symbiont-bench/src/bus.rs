//! Messages from hand to hand: signed, sealed, recorded, delivered, opened and verified.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use symbiont_runtime::{
    AgentId, CommunicationBus, DefaultCommunicationBus, Duration, HashMap, Message, MessageId,
    Priority, SecureMessage,
};
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;

use crate::table::{Peer, Rows};
use crate::{Scale, all, close, median, micros, per_second, rounds, runtime};

const SENDERS: usize = 8;
const PAYLOAD: usize = 1024;
/// Messages on their way at a time, far from what a mailbox holds.
const UNDER_WAY: usize = 1024;
const PEER: &str = "Ed25519 sign + verify, AES-256-GCM seal + open";

pub(crate) async fn measure(scale: Scale, rows: &mut Rows<'_>) {
    let each = scale.of(4_000, 50);
    let name = "1 KiB send to receive, 8 senders";
    let outcome = rounds(scale.rounds(), async || many(each).await).await;
    let bare = rounds(scale.rounds(), async || bare_many(each).await).await;
    let outcome = outcome.and_then(|value| Ok((value, Some(Peer::new(PEER, bare?)))));
    rows.add(name, "messages/s", format!("{} messages", SENDERS * each), outcome);

    let count = scale.of(5_000, 50);
    let name = "1 KiB send to receive, lone sender, p50";
    let outcome = lone(count).await.and_then(|value| {
        let bare = bare_lone(count)?;
        Ok((value, Some(Peer::new(PEER, bare))))
    });
    rows.add(name, "us", format!("{count} messages"), outcome);
}

/// Messages per second that `SENDERS` agents send to one, who takes them as they come.
async fn many(each: usize) -> Result<f64> {
    let runtime = runtime(None).await?;
    let bus = runtime.bus();
    let receiver = registered(bus).await?;
    let came = Arc::new(Notify::new());
    let room = Arc::new(Semaphore::new(UNDER_WAY));
    let mut senders = Vec::new();
    for _ in 0..SENDERS {
        senders.push(registered(bus).await?);
    }
    let began = Instant::now();
    let mut sending = JoinSet::new();
    for from in senders {
        let (bus, came, room) = (Arc::clone(bus), Arc::clone(&came), Arc::clone(&room));
        sending.spawn(async move {
            for number in 0..each {
                room.acquire().await?.forget();
                bus.send_message(message(from, receiver, number)).await?;
                came.notify_one();
            }
            anyhow::Ok(())
        });
    }
    let inbox = Arc::clone(bus);
    sending.spawn(async move {
        let mut next = HashMap::new();
        let mut received = 0;
        while received < SENDERS * each {
            let messages = inbox.receive_messages(receiver).await?;
            if messages.is_empty() {
                // A message that came before this has left its permit.
                came.notified().await;
            }
            room.add_permits(messages.len());
            for message in messages {
                let expected = next.entry(message.message.from).or_insert(0);
                check(&message, *expected)?;
                *expected += 1;
                received += 1;
            }
        }
        Ok(())
    });
    all(sending).await?;
    let took = began.elapsed();
    close(runtime).await?;
    Ok(per_second(SENDERS * each, took))
}

/// The median time, in microseconds, from the start of sending to the end of receiving.
async fn lone(count: usize) -> Result<f64> {
    let runtime = runtime(None).await?;
    let bus = runtime.bus();
    let (from, to) = (registered(bus).await?, registered(bus).await?);
    let mut times = Vec::with_capacity(count);
    for number in 0..count + count / 10 {
        let message = message(from, to, number);
        let began = Instant::now();
        bus.send_message(message).await?;
        let messages = bus.receive_messages(to).await?;
        let took = began.elapsed();
        ensure!(messages.len() == 1, "{} messages came instead of one", messages.len());
        check(&messages[0], number)?;
        if number >= count / 10 {
            times.push(micros(took));
        }
    }
    close(runtime).await?;
    Ok(median(&mut times))
}

async fn registered(bus: &DefaultCommunicationBus) -> Result<AgentId> {
    let agent = AgentId::new();
    bus.register_agent(agent, Vec::new()).await?;
    Ok(agent)
}

fn message(from: AgentId, to: AgentId, number: usize) -> Message {
    Message {
        id: MessageId::new(),
        from,
        to,
        topic: "bench".to_owned(),
        payload: payload(number),
        priority: Priority::Normal,
        ttl: Duration::from_secs(60),
    }
}

/// A payload that begins with its number.
fn payload(number: usize) -> Vec<u8> {
    let mut payload = vec![0x5a; PAYLOAD];
    payload[..8].copy_from_slice(&(number as u64).to_le_bytes());
    payload
}

fn check(message: &SecureMessage, number: usize) -> Result<()> {
    ensure!(message.message.payload == payload(number), "message {number} is not what was sent");
    ensure!(!message.encrypted_payload.is_empty(), "message {number} was not encrypted");
    ensure!(!message.signature.is_empty(), "message {number} was not signed");
    Ok(())
}

/// The bare operations that a message cannot do without.
struct Bare {
    signing: Ed25519KeyPair,
    verifying: UnparsedPublicKey<Vec<u8>>,
    sealing: LessSafeKey,
    counter: u64,
}

impl Bare {
    fn new() -> Result<Self> {
        let signing = Ed25519KeyPair::generate()?;
        let verifying = UnparsedPublicKey::new(&ED25519, signing.public_key().as_ref().to_vec());
        let mut key = [0; 32];
        aws_lc_rs::rand::fill(&mut key)?;
        let sealing = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key)?);
        Ok(Self { signing, verifying, sealing, counter: 0 })
    }

    fn message(&mut self, number: usize) -> Result<()> {
        let plain = payload(number);
        let mut nonce = [0; NONCE_LEN];
        nonce[4..].copy_from_slice(&self.counter.to_be_bytes());
        self.counter += 1;
        let mut sealed = plain.clone();
        let unique = || Nonce::assume_unique_for_key(nonce);
        self.sealing.seal_in_place_append_tag(unique(), Aad::empty(), &mut sealed)?;
        let signature = self.signing.sign(&sealed);
        let verified = self.verifying.verify(&sealed, signature.as_ref());
        verified.ok().context("a bare signature does not verify")?;
        let opened = self.sealing.open_in_place(unique(), Aad::empty(), &mut sealed)?;
        ensure!(opened == plain, "a bare message is not what was sealed");
        Ok(())
    }
}

async fn bare_many(each: usize) -> Result<f64> {
    let began = Instant::now();
    let mut senders = JoinSet::new();
    for _ in 0..SENDERS {
        senders.spawn(async move {
            let mut bare = Bare::new()?;
            (0..each).try_for_each(|number| bare.message(number))
        });
    }
    all(senders).await?;
    Ok(per_second(SENDERS * each, began.elapsed()))
}

fn bare_lone(count: usize) -> Result<f64> {
    let mut bare = Bare::new()?;
    let mut number = 0;
    crate::median_micros(count, || {
        number += 1;
        bare.message(number)
    })
}
