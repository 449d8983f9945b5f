//! Delivery of messages between agents.
//!
//! Every registered agent has one mailbox. A sent message is signed, sealed for its receiver and put
//! into the receiver's mailbox; a broadcast puts a copy with an id of its own into the mailbox of
//! each agent subscribed to the topic at that moment.
//!
//! # What holds
//!
//! - A message is in one place: a mailbox, the dead letters, or its receiver's hands.
//! - `send_message` returns when the message is recorded; on a durable journal it then survives
//!   `kill -9`.
//! - Between one sender and one receiver, messages of equal priority keep their order.
//! - A full mailbox refuses; it never makes room by dropping something.
//! - What is kept of an encrypted message has its payload only sealed.
//! - What a call began is finished although its caller stops waiting; mail that was taken for a caller
//!   who has gone waits again.
//!
//! # What is not here
//!
//! No policy: whoever may not send was stopped before this module heard of it.

mod keeping;
mod keystore;
mod mailbox;
mod membership;
mod receiving;
mod restore;
mod seal;
mod sending;
mod stored;
mod tree;
mod window;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use symbiont_store::StoreError;
use symbiont_types::{
    AgentId, Capability, CommunicationError, DeliveryStatus, EncryptionAlgorithm, Message,
    MessageId, SecureMessage,
};
use tokio::sync::Notify;

use self::keystore::Keystore;
pub use self::mailbox::{DeadCause, DeadLetter};
use self::mailbox::{Mailbox, Office};
use self::receiving::Taken;
pub use self::seal::verify_message;
use crate::clock::Clock;
use crate::directory::{Directory, MailPort, Outgoing};
use crate::journal::{Change, Journal};
use crate::tasks::Tasks;

/// Delivers messages between agents.
#[async_trait]
pub trait CommunicationBus: Send + Sync {
    /// Gives the agent a mailbox and keys. Again is fine; within the grace after
    /// [`CommunicationBus::unregister_agent`] it brings the waiting mail back.
    ///
    /// # Errors
    ///
    /// `DeliveryFailed` when another bus of the directory has the agent, when the change can't be
    /// recorded or the bus is shutting down.
    async fn register_agent(
        &self,
        agent_id: AgentId,
        capabilities: Vec<Capability>,
    ) -> Result<(), CommunicationError>;

    /// Closes the mailbox. Mail in it goes to the dead letters after a grace of one
    /// `delivery_timeout`. Again is fine.
    ///
    /// # Errors
    ///
    /// `AgentNotRegistered` for an id that never was.
    async fn unregister_agent(&self, agent_id: AgentId) -> Result<(), CommunicationError>;

    /// Accepts a message. `Ok` means that it is recorded and waits for its receiver. The same message
    /// again, by its id, is acknowledged and dropped.
    ///
    /// # Errors
    ///
    /// `AgentNotRegistered` for the sender or the receiver, `MessageTooLarge`, `EncryptionFailed`,
    /// `DeliveryFailed` for a full mailbox, an id that another message had, a topic that is no topic or
    /// a bus that is shutting down.
    async fn send_message(&self, message: Message) -> Result<MessageId, CommunicationError>;

    /// Takes what waits for the agent, the most urgent first: at most 256 messages and 4 MiB of
    /// payloads. Mail that was taken for a future that is dropped before it answers waits again.
    ///
    /// # Errors
    ///
    /// `AgentNotRegistered`; `DeliveryFailed` when the hand-over can't be recorded (the messages
    /// then still wait).
    async fn receive_messages(
        &self,
        agent_id: AgentId,
    ) -> Result<Vec<SecureMessage>, CommunicationError>;

    /// Subscribes the agent; the first subscriber creates the topic. Again is fine.
    ///
    /// # Errors
    ///
    /// `AgentNotRegistered`, `DeliveryFailed` for a topic that is no topic.
    async fn subscribe_to_topic(
        &self,
        agent_id: AgentId,
        topic: String,
    ) -> Result<(), CommunicationError>;

    /// Ends the subscription; that there is none is fine.
    ///
    /// # Errors
    ///
    /// `AgentNotRegistered`, `TopicNotFound`.
    async fn unsubscribe_from_topic(
        &self,
        agent_id: AgentId,
        topic: String,
    ) -> Result<(), CommunicationError>;

    /// Sends a copy to each subscriber, the sender included if it is one; `message.to` and
    /// `message.id` are rewritten in each. Returns the ids of the copies.
    ///
    /// # Errors
    ///
    /// `TopicNotFound` when nobody ever subscribed. If a mailbox is full nothing is sent to it and
    /// the others still get theirs; when no copy could be sent, the reason of the last one.
    async fn broadcast_message(
        &self,
        topic: String,
        message: Message,
    ) -> Result<Vec<MessageId>, CommunicationError>;

    /// How far the message has come, for a day after its end and until it would have expired.
    ///
    /// # Errors
    ///
    /// `DeliveryFailed` for an id that is not known.
    async fn get_message_status(
        &self,
        message_id: MessageId,
    ) -> Result<DeliveryStatus, CommunicationError>;

    /// The agent's subscriptions, sorted.
    ///
    /// # Errors
    ///
    /// `AgentNotRegistered`.
    async fn get_agent_topics(&self, agent_id: AgentId) -> Result<Vec<String>, CommunicationError>;

    /// Finishes what is being recorded and takes nothing more. Again is fine.
    ///
    /// # Errors
    ///
    /// None at present.
    async fn shutdown(&self) -> Result<(), CommunicationError>;
}

/// Settings of the bus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommunicationConfig {
    /// Time to live of a message whose own is zero, and the most that any message gets.
    pub message_ttl: Duration,
    /// The most messages in one mailbox.
    pub max_queue_size: usize,
    /// How long one hand-over may take before the message waits again; also the grace after an
    /// agent has unregistered.
    pub delivery_timeout: Duration,
    /// Hand-overs after the first before a message counts as undeliverable.
    pub retry_attempts: u32,
    /// Whether payloads are encrypted. Messages are signed either way.
    pub enable_encryption: bool,
    /// Whether encrypted payloads above 1 KiB are compressed first.
    pub enable_compression: bool,
    /// The most bytes in a payload.
    pub max_message_size: usize,
    /// The most dead letters; the oldest goes, with an audit event.
    pub dead_letter_queue_size: usize,
}

impl Default for CommunicationConfig {
    /// One hour, 10,000 messages, 30 seconds, three retries, encrypted, not compressed, 1 MiB,
    /// 1,000 dead letters.
    fn default() -> Self {
        Self {
            message_ttl: Duration::from_secs(3600),
            max_queue_size: 10_000,
            delivery_timeout: Duration::from_secs(30),
            retry_attempts: 3,
            enable_encryption: true,
            enable_compression: false,
            max_message_size: 1024 * 1024,
            dead_letter_queue_size: 1000,
        }
    }
}

/// The most messages and bytes that one call takes.
const MOST_MESSAGES: usize = 256;
const MOST_BYTES: usize = 4 * 1024 * 1024;
/// Changes about so many agents are made at a time.
const TURNS: usize = 64;
/// The most topics that there may be.
const MOST_TOPICS: usize = 100_000;
/// The longest that anything may be asked to take.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// A message in somebody's hands, who has to acknowledge it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeasedMessage {
    /// The message.
    pub message: SecureMessage,
    /// Which hand-over this is, from 1. Only the newest one can be acknowledged.
    pub attempt: u32,
    /// When it waits again unless it is acknowledged before.
    pub until: SystemTime,
}

/// The bus over a journal.
#[derive(Debug, Clone)]
pub struct DefaultCommunicationBus {
    inner: Arc<Inner>,
}

struct Inner {
    settings: CommunicationConfig,
    algorithm: EncryptionAlgorithm,
    journal: Journal,
    directory: Arc<Directory>,
    keystore: Keystore,
    office: Mutex<Office>,
    /// Told when the earliest timer may have changed.
    timers: Arc<Notify>,
    /// Told when a message that was being sealed is in its mailbox, or was refused.
    sent: Notify,
    /// One for all agents whose ids end alike: held while a change about one of them is recorded.
    turns: [tokio::sync::Mutex<()>; TURNS],
    tasks: Tasks,
    this: Weak<Self>,
}

/// Builds a [`DefaultCommunicationBus`].
#[derive(Debug)]
pub struct BusBuilder {
    config: CommunicationConfig,
    algorithm: EncryptionAlgorithm,
    directory: Arc<Directory>,
    journal: Journal,
    keystore: Option<PathBuf>,
}

impl DefaultCommunicationBus {
    /// A bus in memory, which meets the process's other components in their directory.
    ///
    /// # Errors
    ///
    /// `DeliveryFailed` for settings that make no sense.
    pub async fn new(config: CommunicationConfig) -> Result<Self, CommunicationError> {
        Self::builder(config).directory(Directory::process()).build().await
    }

    /// A bus with a directory of its own, in memory, unless the builder is told otherwise.
    pub fn builder(config: CommunicationConfig) -> BusBuilder {
        BusBuilder {
            config,
            algorithm: EncryptionAlgorithm::default(),
            directory: Directory::new(),
            journal: Journal::in_memory(Clock::system()),
            keystore: None,
        }
    }

    /// The agent's Ed25519 public key, with which [`verify_message`] checks what it sent.
    ///
    /// # Errors
    ///
    /// `AgentNotRegistered`.
    pub fn public_key(&self, agent_id: AgentId) -> Result<Vec<u8>, CommunicationError> {
        let keys = self.inner.lock().mailbox(agent_id)?.keys.clone();
        keys.public_key()
    }

    /// The dead letters, the oldest first.
    pub fn dead_letters(&self) -> Vec<DeadLetter> {
        self.inner.lock().dead.iter().cloned().collect()
    }

    /// Messages that wait in all mailboxes.
    pub fn pending(&self) -> usize {
        self.inner.lock().waiting()
    }

    /// What the agent said at its registration that it can do.
    ///
    /// # Errors
    ///
    /// `AgentNotRegistered`.
    pub fn capabilities(&self, agent_id: AgentId) -> Result<Vec<Capability>, CommunicationError> {
        Ok(self.inner.lock().mailbox(agent_id)?.capabilities.clone())
    }

    /// Takes up to `most` messages into the caller's hands: each waits again after
    /// `delivery_timeout` unless it is acknowledged, and is undeliverable after `retry_attempts`
    /// more hand-overs.
    ///
    /// # Errors
    ///
    /// As [`CommunicationBus::receive_messages`].
    pub async fn receive_leased(
        &self,
        agent_id: AgentId,
        most: usize,
    ) -> Result<Vec<LeasedMessage>, CommunicationError> {
        self.inner.lend(agent_id, most, self.inner.settings.delivery_timeout, true).await
    }

    /// Says that the message has been dealt with.
    ///
    /// # Errors
    ///
    /// `DeliveryFailed` when that hand-over is over, or when it can't be recorded.
    pub async fn ack(&self, leased: &LeasedMessage) -> Result<(), CommunicationError> {
        let inner = Arc::clone(&self.inner);
        let (id, attempt) = (leased.message.message.id, leased.attempt);
        self.inner.finish(async move { inner.ack(id, attempt).await }).await
    }

    /// Gives the message back, to be handed over again after `delay`.
    ///
    /// # Errors
    ///
    /// `DeliveryFailed` when that hand-over is over.
    pub fn nack(&self, leased: &LeasedMessage, delay: Duration) -> Result<(), CommunicationError> {
        self.inner.nack(leased.message.message.id, leased.attempt, delay)
    }
}

impl BusBuilder {
    /// Meets other components in `directory`.
    #[must_use]
    pub fn directory(self, directory: Arc<Directory>) -> Self {
        Self { directory, ..self }
    }

    /// Uses `journal`; mail that is kept there waits again.
    #[must_use]
    pub fn journal(self, journal: Journal) -> Self {
        Self { journal, ..self }
    }

    /// Encrypts with `algorithm`.
    #[must_use]
    pub fn algorithm(self, algorithm: EncryptionAlgorithm) -> Self {
        Self { algorithm, ..self }
    }

    /// Seals the keys that are kept with the key in this file, which is made if it is not there.
    #[must_use]
    pub fn keystore(self, file: PathBuf) -> Self {
        Self { keystore: Some(file), ..self }
    }

    /// The bus.
    ///
    /// # Errors
    ///
    /// `DeliveryFailed` for settings that make no sense, `EncryptionFailed` when the keystore can't
    /// be used, `DeliveryFailed` when the kept mail can't be read.
    pub async fn build(self) -> Result<DefaultCommunicationBus, CommunicationError> {
        let c = &self.config;
        let zero = [
            ("message_ttl", c.message_ttl.is_zero()),
            ("max_queue_size", c.max_queue_size == 0),
            ("delivery_timeout", c.delivery_timeout.is_zero()),
            ("max_message_size", c.max_message_size == 0),
        ];
        if let Some((name, _)) = zero.iter().find(|(_, is_zero)| *is_zero) {
            return Err(refused(MessageId::new(), format!("`{name}` must not be zero")));
        }
        if u32::try_from(c.max_message_size).is_err() {
            return Err(refused(
                MessageId::new(),
                "`max_message_size` must be below 4 GiB".to_owned(),
            ));
        }
        let keystore = match &self.keystore {
            Some(file) => Keystore::open(file)?,
            None => Keystore::in_memory()?,
        };
        let restored = restore::restore(&self.journal, &keystore).await?;
        let inner = Arc::new_cyclic(|this| Inner {
            settings: CommunicationConfig {
                message_ttl: self.config.message_ttl.min(LONGEST),
                delivery_timeout: self.config.delivery_timeout.min(LONGEST),
                ..self.config
            },
            algorithm: self.algorithm,
            journal: self.journal,
            directory: self.directory,
            keystore,
            office: Mutex::new(restored.office),
            timers: Arc::default(),
            sent: Notify::new(),
            turns: std::array::from_fn(|_| tokio::sync::Mutex::default()),
            tasks: Tasks::default(),
            this: Weak::clone(this),
        });
        let registered: Vec<AgentId> = inner.lock().boxes.keys().copied().collect();
        for agent_id in registered {
            inner.take_place(agent_id)?;
        }
        if !restored.change.is_empty() {
            inner.commit(MessageId::new(), restored.change).await?;
        }
        inner.bury(restored.dead, inner.journal.now()).await;
        inner.tasks.spawn(keeping::keep_time(Weak::clone(&inner.this), inner.tasks.stopping()));
        Ok(DefaultCommunicationBus { inner })
    }
}

impl Office {
    fn mailbox(&self, agent_id: AgentId) -> Result<&Mailbox, CommunicationError> {
        let mailbox = self.boxes.get(&agent_id).filter(|mailbox| mailbox.is_registered());
        mailbox.ok_or(CommunicationError::AgentNotRegistered { agent_id })
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Office> {
        self.office.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn me(&self) -> Arc<Self> {
        self.this.upgrade().expect("`self` is alive")
    }

    /// Does `work` to its end although the caller may stop waiting for it.
    async fn finish<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, CommunicationError>> + Send + 'static,
    ) -> Result<T, CommunicationError> {
        self.tasks.finish(work).await.unwrap_or_else(|| Err(self.closing(MessageId::new())))
    }

    /// Takes messages for a caller, back again if the caller has gone.
    async fn take_for_good(
        &self,
        agent_id: AgentId,
        most: usize,
    ) -> Result<Vec<SecureMessage>, CommunicationError> {
        let (inner, keeper) = (self.me(), self.me());
        let work = async move { inner.receive(agent_id, most).await };
        let unclaimed = |taken: Result<Vec<Taken>, _>| async move {
            if let Ok(taken) = taken {
                keeper.take_back(taken).await;
            }
        };
        let taken = self.tasks.hand_over(work, unclaimed).await;
        let taken = taken.unwrap_or_else(|| Err(self.closing(MessageId::new())))?;
        for Taken { message, .. } in &taken {
            let (message_id, from) = (message.message.id, message.message.from);
            tracing::info!(%agent_id, %message_id, %from, "message delivered");
        }
        Ok(taken.into_iter().map(|taken| taken.message).collect())
    }

    /// Takes messages into a caller's hands, back again if the caller has gone.
    async fn lend(
        &self,
        agent_id: AgentId,
        most: usize,
        hold: Duration,
        record: bool,
    ) -> Result<Vec<LeasedMessage>, CommunicationError> {
        let (inner, keeper) = (self.me(), self.me());
        let work = async move { inner.lease(agent_id, most, hold, record).await };
        let unclaimed = |leased: Result<Vec<LeasedMessage>, _>| async move {
            if let Ok(leased) = leased {
                keeper.release(&leased);
            }
        };
        let leased = self.tasks.hand_over(work, unclaimed).await;
        leased.unwrap_or_else(|| Err(self.closing(MessageId::new())))
    }

    fn closing(&self, message_id: MessageId) -> CommunicationError {
        refused(message_id, "the bus is shutting down".to_owned())
    }

    fn open(&self) -> Result<MutexGuard<'_, Office>, CommunicationError> {
        let office = self.lock();
        if office.closed { Err(self.closing(MessageId::new())) } else { Ok(office) }
    }

    async fn commit(
        &self,
        message_id: MessageId,
        change: Change,
    ) -> Result<(), CommunicationError> {
        self.journal.commit(change).await.map(|_| ()).map_err(|error| match error {
            StoreError::Closed => self.closing(message_id),
            error => refused(message_id, format!("not recorded: {error}")),
        })
    }
}

#[async_trait]
impl CommunicationBus for DefaultCommunicationBus {
    async fn register_agent(
        &self,
        agent_id: AgentId,
        capabilities: Vec<Capability>,
    ) -> Result<(), CommunicationError> {
        let inner = Arc::clone(&self.inner);
        self.inner.finish(async move { inner.register(agent_id, capabilities).await }).await
    }

    async fn unregister_agent(&self, agent_id: AgentId) -> Result<(), CommunicationError> {
        let inner = Arc::clone(&self.inner);
        self.inner.finish(async move { inner.unregister(agent_id).await }).await
    }

    async fn send_message(&self, message: Message) -> Result<MessageId, CommunicationError> {
        let inner = Arc::clone(&self.inner);
        self.inner.finish(async move { inner.send(message).await }).await
    }

    async fn receive_messages(
        &self,
        agent_id: AgentId,
    ) -> Result<Vec<SecureMessage>, CommunicationError> {
        self.inner.take_for_good(agent_id, MOST_MESSAGES).await
    }

    async fn subscribe_to_topic(
        &self,
        agent_id: AgentId,
        topic: String,
    ) -> Result<(), CommunicationError> {
        let inner = Arc::clone(&self.inner);
        self.inner.finish(async move { inner.subscribe(agent_id, topic).await }).await
    }

    async fn unsubscribe_from_topic(
        &self,
        agent_id: AgentId,
        topic: String,
    ) -> Result<(), CommunicationError> {
        let inner = Arc::clone(&self.inner);
        self.inner.finish(async move { inner.unsubscribe(agent_id, topic).await }).await
    }

    async fn broadcast_message(
        &self,
        topic: String,
        message: Message,
    ) -> Result<Vec<MessageId>, CommunicationError> {
        let inner = Arc::clone(&self.inner);
        self.inner.finish(async move { inner.publish_copies(topic, message).await }).await
    }

    async fn get_message_status(
        &self,
        message_id: MessageId,
    ) -> Result<DeliveryStatus, CommunicationError> {
        let office = self.inner.lock();
        let unknown = || refused(message_id, "nothing is known of it".to_owned());
        let receipt = office.receipts.get(message_id).ok_or_else(unknown)?;
        let expires_at = receipt.place.map(|_| receipt.identity.expires_at);
        // The timer that buries it may not have rung yet; the truth does not wait for it.
        match expires_at {
            Some(at) if at <= self.inner.journal.now() => Ok(DeliveryStatus::Expired),
            _ => Ok(receipt.status),
        }
    }

    async fn get_agent_topics(&self, agent_id: AgentId) -> Result<Vec<String>, CommunicationError> {
        let office = self.inner.lock();
        office.mailbox(agent_id)?;
        Ok(office.topics.of(agent_id))
    }

    async fn shutdown(&self) -> Result<(), CommunicationError> {
        self.inner.lock().closed = true;
        self.inner.tasks.stop(Duration::from_secs(30)).await;
        Ok(())
    }
}

#[async_trait]
impl MailPort for Inner {
    async fn send(&self, message: Message) -> Result<MessageId, CommunicationError> {
        let inner = self.me();
        self.finish(async move { Inner::send(&inner, message).await }).await
    }

    async fn publish(
        &self,
        from: AgentId,
        outgoing: Outgoing,
    ) -> Result<Vec<MessageId>, CommunicationError> {
        let Outgoing { topic, payload, priority, ttl } = outgoing;
        let message = Message {
            id: MessageId::new(),
            from,
            to: from,
            topic: topic.clone(),
            payload,
            priority,
            ttl,
        };
        let inner = self.me();
        self.finish(async move { inner.publish_copies(topic, message).await }).await
    }

    async fn take(&self, id: AgentId) -> Result<Option<SecureMessage>, CommunicationError> {
        Ok(self.take_for_good(id, 1).await?.pop())
    }

    fn has_mail(&self, id: AgentId) -> bool {
        let now = self.journal.now();
        self.lock().boxes.get(&id).is_some_and(|mailbox| mailbox.ready(now).next().is_some())
    }

    async fn lend(&self, id: AgentId) -> Result<Option<LeasedMessage>, CommunicationError> {
        Ok(Inner::lend(self, id, 1, LONGEST, false).await?.pop())
    }

    fn lent(&self, lent: &LeasedMessage) -> Change {
        Inner::lent(self, lent.message.message.id, lent.attempt)
    }

    fn receipt(&self, lent: &LeasedMessage) -> Change {
        self.dealt_with(lent)
    }

    fn settle(&self, lent: &LeasedMessage) {
        self.settle_lent(lent);
    }

    fn give_back(&self, lent: &LeasedMessage) {
        // One that is in nobody's hands any more needs no giving back.
        let _ = self.nack(lent.message.message.id, lent.attempt, Duration::ZERO);
    }

    fn give_up_on(&self, message: MessageId) -> Change {
        Inner::give_up_on(self, message)
    }

    async fn agent_gone(&self, id: AgentId) {
        let inner = self.me();
        let _ = self.finish(async move { inner.unregister(id).await }).await;
    }
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bus").field("settings", &self.settings).finish_non_exhaustive()
    }
}

fn check_topic(id: MessageId, topic: &str) -> Result<(), CommunicationError> {
    let length = topic.chars().count();
    if length == 0 || length > 256 || topic.chars().any(char::is_control) {
        let reason = "a topic has 1 to 256 characters, none of them a control character";
        return Err(refused(id, reason.to_owned()));
    }
    Ok(())
}

/// Foreign text, cut to what a message can bear.
fn shown(text: &str) -> String {
    text.chars().take(256).collect()
}

fn refused(message_id: MessageId, reason: String) -> CommunicationError {
    CommunicationError::DeliveryFailed { message_id, reason }
}
