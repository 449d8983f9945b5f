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
//!
//! # What is not here
//!
//! No policy: whoever may not send was stopped before this module heard of it.

mod keystore;
pub(crate) mod mailbox;
pub(crate) mod seal;
mod stored;

use std::cmp::Reverse;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use symbiont_store::StoreError;
use symbiont_types::{
    AgentId, AuditEventType, Capability, CommunicationError, DeliveryStatus, EncryptionAlgorithm,
    Message, MessageId, SecureMessage,
};
use tokio::sync::Notify;

use self::keystore::Keystore;
pub use self::mailbox::{DeadCause, DeadLetter};
use self::mailbox::{Letter, Mailbox, Office, Slot};
pub use self::seal::verify_message;
use self::seal::{AgentKeys, Sealing};
use crate::clock::{Clock, FAR, from_micros, micros};
use crate::directory::{Directory, MailPort, Outgoing};
use crate::journal::{Change, DEAD, Entry, Journal, MAIL, MAILBOXES, RECEIPTS, TOPICS, rows};
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

    /// Accepts a message. `Ok` means that it is recorded and waits for its receiver. A message with
    /// an id that was seen before is acknowledged and dropped.
    ///
    /// # Errors
    ///
    /// `AgentNotRegistered` for the sender or the receiver, `MessageTooLarge`, `EncryptionFailed`,
    /// `DeliveryFailed` for a full mailbox, a topic that is no topic or a bus that is shutting down.
    async fn send_message(&self, message: Message) -> Result<MessageId, CommunicationError>;

    /// Takes what waits for the agent, the most urgent first: at most 256 messages and 4 MiB.
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

    /// How far the message has come, for a day after its end.
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
        let inner = Arc::clone(&self.inner);
        self.inner
            .detached(
                async move { inner.lease(agent_id, most, inner.settings.delivery_timeout).await },
            )
            .await
    }

    /// Says that the message has been dealt with.
    ///
    /// # Errors
    ///
    /// `DeliveryFailed` when that hand-over is over, or when it can't be recorded.
    pub async fn ack(&self, leased: &LeasedMessage) -> Result<(), CommunicationError> {
        let inner = Arc::clone(&self.inner);
        let (id, attempt) = (leased.message.message.id, leased.attempt);
        self.inner.detached(async move { inner.ack(id, attempt).await }).await
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
        let office = restore(&self.journal, &keystore).await?;
        let registered: Vec<AgentId> = office.boxes.keys().copied().collect();
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
            office: Mutex::new(office),
            timers: Arc::default(),
            sent: Notify::new(),
            tasks: Tasks::default(),
            this: Weak::clone(this),
        });
        let mut change = Change::new();
        for agent_id in registered {
            inner.take_place(agent_id)?;
            // The numbers that were skipped are not given out again after the next restart either.
            if let Some(mailbox) = inner.lock().boxes.get(&agent_id) {
                let row = inner.registration(mailbox)?;
                change = change.put(MAILBOXES, *agent_id.as_uuid().as_bytes(), &row);
            }
        }
        if !change.is_empty() {
            inner.commit(MessageId::new(), change).await?;
        }
        inner.tasks.spawn(keep_time(Weak::clone(&inner.this), inner.tasks.stopping()));
        Ok(DefaultCommunicationBus { inner })
    }
}

/// Everything that a journal has of a bus.
async fn restore(journal: &Journal, keystore: &Keystore) -> Result<Office, CommunicationError> {
    let store = journal.store();
    let mut office = Office::default();
    for (key, kept) in
        rows::<stored::Registration>(store, MAILBOXES, &[]).await.map_err(unreadable)?
    {
        let Ok(uuid) = uuid::Uuid::from_slice(&key) else { continue };
        let agent_id = AgentId::from(uuid);
        let keys = keystore.open_keys(agent_id, kept.epoch, &kept.sealed_keys)?;
        let mut mailbox = Mailbox::new(Arc::new(keys), kept.capabilities);
        // Numbers that were given out and not kept are skipped.
        mailbox.sequence = kept.sequence + SEQUENCE_STEP;
        mailbox.leaves_at = kept.leaves_at.map(from_micros);
        if let Some(at) = mailbox.leaves_at {
            office.timers.insert((at, agent_id, None));
        }
        office.boxes.insert(agent_id, mailbox);
    }
    let mut after: Option<Vec<u8>> = None;
    loop {
        let page = store.scan(TOPICS, &[], after.as_deref(), 1000).await.map_err(unreadable)?;
        for (key, _) in &page {
            match stored::topic_of(key) {
                Some((topic, Some(agent))) => {
                    office.topics.subscribe(&topic, agent);
                }
                Some((topic, None)) => {
                    office.topics.create(&topic);
                }
                None => {}
            }
        }
        match page.last() {
            Some((key, _)) => after = Some(key.clone()),
            None => break,
        }
    }
    for (key, ended) in rows::<stored::Ended>(store, RECEIPTS, &[]).await.map_err(unreadable)? {
        if let Ok(uuid) = uuid::Uuid::from_slice(&key) {
            office.receipts.end(uuid.into(), ended.status, from_micros(ended.at));
        }
    }
    for table in [MAIL, DEAD] {
        let mut after: Option<Vec<u8>> = None;
        loop {
            let page = store.scan(table, &[], after.as_deref(), 256).await.map_err(unreadable)?;
            for (key, bytes) in &page {
                let kept = stored::decode(bytes).map_err(unreadable)?;
                let order = stored::order_of(key);
                office.order = office.order.max(order);
                let sealed = Arc::new(kept.sealed);
                match kept.cause {
                    None => {
                        let slot = (Reverse(sealed.message.priority), order);
                        let letter = Letter {
                            expires_at: kept.expires_at,
                            attempts: kept.attempts,
                            away_until: None,
                            sealed: Arc::clone(&sealed),
                        };
                        office.deliver(sealed.message.to, slot, letter);
                    }
                    Some(cause) => {
                        let at = kept.expires_at;
                        office.dead.push_back(DeadLetter { message: sealed, cause, at, order });
                    }
                }
            }
            match page.last() {
                Some((key, _)) => after = Some(key.clone()),
                None => break,
            }
        }
    }
    Ok(office)
}

/// Sequence numbers are kept once for so many.
const SEQUENCE_STEP: u64 = 1 << 20;

/// Looks at each letter and mailbox when its time has come.
async fn keep_time(this: Weak<Inner>, stop: tokio_util::sync::CancellationToken) {
    loop {
        let Some(inner) = this.upgrade() else { return };
        let now = inner.journal.now();
        let due = inner.lock().timers.first().map(|(at, _, _)| *at);
        let wait = match due {
            Some(at) if at <= now => {
                inner.ring(now).await;
                continue;
            }
            Some(at) => inner.journal.clock().instant_of(at),
            None => Clock::instant_in(FAR),
        };
        let timers = Arc::clone(&inner.timers);
        drop(inner); // Whoever waits here keeps nobody alive.
        let changed = timers.notified();
        // A timer set between the look and this line has left its notice.
        tokio::select! {
            () = stop.cancelled() => return,
            () = changed => {}
            () = tokio::time::sleep_until(wait) => {}
        }
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

    /// Runs `work` to its end although the caller may stop waiting for it.
    async fn detached<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, CommunicationError>> + Send + 'static,
    ) -> Result<T, CommunicationError> {
        self.tasks.finish(work).await.unwrap_or_else(|| Err(self.closing(MessageId::new())))
    }

    fn closing(&self, message_id: MessageId) -> CommunicationError {
        refused(message_id, "the bus is shutting down".to_owned())
    }

    fn open(&self) -> Result<MutexGuard<'_, Office>, CommunicationError> {
        let office = self.lock();
        if office.closed { Err(self.closing(MessageId::new())) } else { Ok(office) }
    }

    fn take_place(&self, agent_id: AgentId) -> Result<(), CommunicationError> {
        let port: Arc<dyn MailPort> = self.me();
        self.directory.set_mail(agent_id, &port).map_err(|_| {
            refused(MessageId::new(), format!("another bus keeps the mail of agent `{agent_id}`"))
        })
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

    fn registration(&self, mailbox: &Mailbox) -> Result<stored::Registration, CommunicationError> {
        Ok(stored::Registration {
            capabilities: mailbox.capabilities.clone(),
            epoch: mailbox.keys.epoch,
            sealed_keys: self.keystore.seal(&mailbox.keys)?,
            sequence: mailbox.sequence,
            leaves_at: mailbox.leaves_at.map(micros),
        })
    }

    async fn register(
        &self,
        agent_id: AgentId,
        capabilities: Vec<Capability>,
    ) -> Result<(), CommunicationError> {
        self.take_place(agent_id)?;
        let change = {
            let mut office = self.open()?;
            let mailbox = match office.boxes.entry(agent_id) {
                std::collections::hash_map::Entry::Occupied(there) => there.into_mut(),
                std::collections::hash_map::Entry::Vacant(free) => {
                    let keys = AgentKeys::generate(agent_id, 1)?;
                    free.insert(Mailbox::new(Arc::new(keys), Vec::new()))
                }
            };
            mailbox.capabilities = capabilities;
            mailbox.leaves_at = None;
            let row = self.registration(mailbox)?;
            Change::new().put(MAILBOXES, *agent_id.as_uuid().as_bytes(), &row)
        };
        self.commit(MessageId::new(), change).await
    }

    async fn unregister(&self, agent_id: AgentId) -> Result<(), CommunicationError> {
        let (change, leaves_at) = {
            let mut office = self.lock();
            let now = self.journal.now();
            let mailbox = office
                .boxes
                .get_mut(&agent_id)
                .ok_or(CommunicationError::AgentNotRegistered { agent_id })?;
            if !mailbox.is_registered() {
                return Ok(());
            }
            let leaves_at = now + self.settings.delivery_timeout;
            mailbox.leaves_at = Some(leaves_at);
            let row = self.registration(mailbox)?;
            office.timers.insert((leaves_at, agent_id, None));
            (Change::new().put(MAILBOXES, *agent_id.as_uuid().as_bytes(), &row), leaves_at)
        };
        debug_assert!(leaves_at > SystemTime::UNIX_EPOCH);
        self.timers.notify_one();
        self.commit(MessageId::new(), change).await
    }

    async fn send(&self, mut message: Message) -> Result<MessageId, CommunicationError> {
        let id = message.id;
        let Message { from, to, priority, .. } = message;
        check_topic(id, &message.topic)?;
        if message.payload.len() > self.settings.max_message_size {
            return Err(CommunicationError::MessageTooLarge {
                size: message.payload.len(),
                max_size: self.settings.max_message_size,
            });
        }
        if message.ttl.is_zero() || message.ttl > self.settings.message_ttl {
            message.ttl = self.settings.message_ttl;
        }
        let size = message.payload.len();
        let (sender, receiver, sequence, new_step, forgotten, order) = loop {
            let sent = self.sent.notified();
            let reserved = 'reserve: {
                let mut office = self.lock();
                if office.closed {
                    return Err(self.closing(id));
                }
                if office.receipts.get(id).is_some() {
                    return Ok(id);
                }
                if office.sealing.contains(&id) {
                    // Another call has the same message in hand: what becomes of it there decides.
                    break 'reserve None;
                }
                office.mailbox(from)?;
                let waiting = {
                    let mailbox = office.mailbox(to)?;
                    mailbox.letters.len() + mailbox.promised
                };
                if waiting >= self.settings.max_queue_size {
                    let reason = format!(
                        "the mailbox of agent `{to}` is full: it holds {waiting} messages (try again \
                     later, or raise max_queue_size)"
                    );
                    return Err(refused(id, reason));
                }
                let order = office.next_order();
                let forgotten = office.receipts.forget_old(self.journal.now());
                let receiver = {
                    let mailbox = office.boxes.get_mut(&to).expect("it was there a line ago");
                    mailbox.promised += 1;
                    Arc::clone(&mailbox.keys)
                };
                let mailbox = office.boxes.get_mut(&from).expect("it was there a line ago");
                mailbox.sequence += 1;
                let new_step = mailbox.sequence.is_multiple_of(SEQUENCE_STEP);
                let sender = Arc::clone(&mailbox.keys);
                let sequence = mailbox.sequence;
                office.sealing.insert(id);
                Some((sender, receiver, sequence, new_step, forgotten, order))
            };
            match reserved {
                Some(reserved) => break reserved,
                None => sent.await,
            }
        };
        let promise = Promise { inner: self, id, to };
        let sealing = Sealing {
            algorithm: self.settings.enable_encryption.then_some(self.algorithm),
            compress: self.settings.enable_compression,
        };
        // Times are kept to the microsecond, and signed as they are kept.
        let now = from_micros(micros(self.journal.now()));
        let expires_at = now + message.ttl;
        let first_use = !sender.is_in_use();
        let topic = message.topic.clone();
        let sealed = Arc::new(seal::seal(message, sequence, now, &sender, &receiver, sealing)?);
        let slot: Slot = (Reverse(priority), order);
        let mut change = Change::new().put_bytes(
            MAIL,
            stored::mail_key(to, order),
            stored::encode(&sealed, expires_at, 0, None),
        );
        for old in forgotten {
            change = change.remove(RECEIPTS, *old.as_uuid().as_bytes());
        }
        if new_step && let Some(mailbox) = self.lock().boxes.get(&from) {
            change =
                change.put(MAILBOXES, *from.as_uuid().as_bytes(), &self.registration(mailbox)?);
        }
        if first_use {
            change = change.record(self.key_listed(&sender)?);
        }
        let event = self
            .journal
            .event(AuditEventType::MessageSent, "message.sent")
            .agent(from)
            .details(topic)
            .with("message", id)
            .with("to", to)
            .with("size", size);
        self.commit(id, change.record(event)).await?;
        {
            let mut office = self.lock();
            let letter = Letter { sealed, expires_at, attempts: 0, away_until: None };
            office.deliver(to, slot, letter);
        }
        drop(promise);
        self.timers.notify_one();
        if let Some(agent) = self.directory.agent(to) {
            agent.mail_waiting(to);
        }
        Ok(id)
    }

    /// Lists a public key in the trail, where anyone who verifies a message can find it.
    fn key_listed(&self, keys: &AgentKeys) -> Result<Entry, CommunicationError> {
        let public = crate::audit::hex(&keys.public_key()?);
        Ok(self
            .journal
            .event(AuditEventType::SecurityEvent, "key.listed")
            .agent(keys.agent_id)
            .details("Ed25519 public key of the agent's messages")
            .with("epoch", keys.epoch)
            .with("public_key", public))
    }

    /// Takes letters that are ready, up to the bounds, out of the mailbox, and says which had
    /// expired.
    fn pick(
        &self,
        office: &Office,
        agent_id: AgentId,
        most: usize,
        now: SystemTime,
    ) -> Result<Vec<Slot>, CommunicationError> {
        let mailbox = office.mailbox(agent_id)?;
        let mut bytes = 0;
        Ok(mailbox
            .ready(now)
            .take(most.min(MOST_MESSAGES))
            .take_while(|(_, letter)| {
                let first = bytes == 0;
                bytes +=
                    letter.sealed.encrypted_payload.len() + letter.sealed.message.payload.len() + 1;
                first || bytes <= MOST_BYTES
            })
            .map(|(slot, _)| *slot)
            .collect())
    }

    /// The message behind a letter, if it is what its sender signed.
    fn unseal(
        &self,
        letter: &Letter,
        receiver: &AgentKeys,
    ) -> Result<SecureMessage, CommunicationError> {
        let sender = {
            let office = self.lock();
            let from = letter.sealed.message.from;
            let mailbox = office.boxes.get(&from);
            mailbox.map(|m| Arc::clone(&m.keys)).ok_or_else(|| {
                CommunicationError::EncryptionFailed {
                    reason: format!("the public key of `{from}` is not known any more"),
                }
            })?
        };
        let sealed = SecureMessage::clone(&letter.sealed);
        seal::open(sealed, &sender.public_key()?, receiver, self.settings.max_message_size)
    }

    /// Takes messages for good.
    async fn receive(
        &self,
        agent_id: AgentId,
        most: usize,
    ) -> Result<Vec<SecureMessage>, CommunicationError> {
        let now = self.journal.now();
        let (taken, receiver) = {
            let mut office = self.open()?;
            let slots = self.pick(&office, agent_id, most, now)?;
            let receiver = Arc::clone(&office.mailbox(agent_id)?.keys);
            let taken: Vec<(Slot, Letter)> = slots
                .into_iter()
                .filter_map(|slot| Some((slot, office.take(agent_id, slot)?)))
                .collect();
            (taken, receiver)
        };
        if taken.is_empty() {
            return Ok(Vec::new());
        }
        let mut change = Change::new();
        let mut good = Vec::new();
        let mut bad = Vec::new();
        for (slot, letter) in &taken {
            let id = letter.sealed.message.id;
            change = change.remove(MAIL, stored::mail_key(agent_id, slot.1));
            match self.unseal(letter, &receiver) {
                Ok(message) => {
                    let ended =
                        stored::Ended { status: DeliveryStatus::Delivered, at: micros(now) };
                    change = change
                        .put(RECEIPTS, *id.as_uuid().as_bytes(), &ended)
                        .record(self.received(agent_id, &message));
                    good.push(message);
                }
                Err(error) => {
                    let event = self
                        .journal
                        .event(AuditEventType::SecurityEvent, "message.rejected")
                        .agent(agent_id)
                        .details(error.to_string())
                        .with("message", id)
                        .with("from", letter.sealed.message.from);
                    change = change.record(event);
                    bad.push(*slot);
                }
            }
        }
        if let Err(error) = self.commit(MessageId::new(), change).await {
            let mut office = self.lock();
            for (slot, letter) in taken {
                office.deliver(agent_id, slot, letter);
            }
            return Err(error);
        }
        let mut rejected = Vec::new();
        {
            let mut office = self.lock();
            for (slot, letter) in taken {
                if bad.contains(&slot) {
                    rejected.push((slot, letter));
                } else {
                    office.receipts.end(letter.sealed.message.id, DeliveryStatus::Delivered, now);
                }
            }
        }
        self.bury(agent_id, rejected, DeadCause::BadSignature, now).await;
        for message in &good {
            let (message_id, from) = (message.message.id, message.message.from);
            tracing::info!(%agent_id, %message_id, %from, "message delivered");
        }
        Ok(good)
    }

    fn received(&self, agent_id: AgentId, message: &SecureMessage) -> Entry {
        self.journal
            .event(AuditEventType::MessageReceived, "message.received")
            .agent(agent_id)
            .details(message.message.topic.clone())
            .with("message", message.message.id)
            .with("from", message.message.from)
    }

    /// Takes messages into somebody's hands for `hold`.
    async fn lease(
        &self,
        agent_id: AgentId,
        most: usize,
        hold: Duration,
    ) -> Result<Vec<LeasedMessage>, CommunicationError> {
        let now = self.journal.now();
        let until = now + hold;
        let (leased, receiver) = {
            let mut office = self.open()?;
            let slots = self.pick(&office, agent_id, most, now)?;
            let receiver = Arc::clone(&office.mailbox(agent_id)?.keys);
            let mailbox = office.boxes.get_mut(&agent_id).expect("it was there a line ago");
            let mut leased = Vec::new();
            for slot in slots {
                if let Some(letter) = mailbox.letters.get_mut(&slot) {
                    letter.attempts += 1;
                    letter.away_until = Some(until);
                    leased.push((slot, letter.clone()));
                }
            }
            for (slot, _) in &leased {
                office.timers.insert((until, agent_id, Some(*slot)));
            }
            (leased, receiver)
        };
        self.timers.notify_one();
        let mut messages = Vec::new();
        let mut bad = Vec::new();
        for (slot, letter) in leased {
            match self.unseal(&letter, &receiver) {
                Ok(message) => {
                    messages.push(LeasedMessage { message, attempt: letter.attempts, until });
                }
                Err(_) => bad.push(slot),
            }
        }
        let bad: Vec<(Slot, Letter)> = {
            let mut office = self.lock();
            bad.into_iter().filter_map(|slot| Some((slot, office.take(agent_id, slot)?))).collect()
        };
        self.bury(agent_id, bad, DeadCause::BadSignature, now).await;
        Ok(messages)
    }

    /// Where a message is that is in the caller's hands by its newest hand-over.
    fn in_hand(
        office: &Office,
        id: MessageId,
        attempt: u32,
    ) -> Result<(AgentId, Slot), CommunicationError> {
        let over = || refused(id, "this hand-over is over".to_owned());
        let (to, slot) =
            office.receipts.get(id).and_then(|receipt| receipt.place).ok_or_else(over)?;
        let letter = office
            .boxes
            .get(&to)
            .and_then(|mailbox| mailbox.letters.get(&slot))
            .ok_or_else(over)?;
        if letter.attempts == attempt && letter.away_until.is_some() {
            Ok((to, slot))
        } else {
            Err(over())
        }
    }

    async fn ack(&self, id: MessageId, attempt: u32) -> Result<(), CommunicationError> {
        let now = self.journal.now();
        let (to, slot, letter) = {
            let mut office = self.open()?;
            let (to, slot) = Self::in_hand(&office, id, attempt)?;
            let letter = office.take(to, slot).expect("it was there a line ago");
            (to, slot, letter)
        };
        let ended = stored::Ended { status: DeliveryStatus::Delivered, at: micros(now) };
        let change = Change::new()
            .remove(MAIL, stored::mail_key(to, slot.1))
            .put(RECEIPTS, *id.as_uuid().as_bytes(), &ended)
            .record(self.received(to, &letter.sealed));
        if let Err(error) = self.commit(id, change).await {
            self.lock().deliver(to, slot, letter);
            return Err(error);
        }
        self.lock().receipts.end(id, DeliveryStatus::Delivered, now);
        Ok(())
    }

    fn nack(&self, id: MessageId, attempt: u32, delay: Duration) -> Result<(), CommunicationError> {
        let at = self.journal.now() + delay.min(LONGEST);
        let mut office = self.open()?;
        let (to, slot) = Self::in_hand(&office, id, attempt)?;
        let mailbox = office.boxes.get_mut(&to).expect("it was there a line ago");
        let letter = mailbox.letters.get_mut(&slot).expect("it was there a line ago");
        let before = letter.away_until.replace(at);
        if let Some(before) = before {
            office.timers.remove(&(before, to, Some(slot)));
        }
        office.timers.insert((at, to, Some(slot)));
        drop(office);
        self.timers.notify_one();
        Ok(())
    }

    /// Puts letters that were taken out among the dead ones.
    async fn bury(
        &self,
        to: AgentId,
        letters: Vec<(Slot, Letter)>,
        cause: DeadCause,
        now: SystemTime,
    ) {
        for (slot, letter) in letters {
            let id = letter.sealed.message.id;
            let sealed = Arc::clone(&letter.sealed);
            let attempts = letter.attempts;
            let room = self.settings.dead_letter_queue_size;
            let (order, dropped, status) = {
                let mut office = self.lock();
                let (order, dropped) = office.bury(letter, cause, now, room);
                let status = office.receipts.get(id).map(|receipt| receipt.status);
                (order, dropped, status)
            };
            let mut change = Change::new().remove(MAIL, stored::mail_key(to, slot.1));
            if let Some(status) = status {
                let ended = stored::Ended { status, at: micros(now) };
                change = change.put(RECEIPTS, *id.as_uuid().as_bytes(), &ended);
            }
            if room > 0 {
                let bytes = stored::encode(&sealed, now, attempts, Some(cause));
                change = change.put_bytes(DEAD, order.to_be_bytes(), bytes);
            }
            let event = self
                .journal
                .event(AuditEventType::ErrorOccurred, "message.dead")
                .agent(to)
                .details(format!("{cause:?}"))
                .with("message", id);
            change = change.record(event);
            for gone in dropped {
                let event = self
                    .journal
                    .event(AuditEventType::ErrorOccurred, "message.dropped")
                    .agent(gone.message.message.to)
                    .details("the oldest dead letter made room")
                    .with("message", gone.message.message.id);
                change = change.remove(DEAD, gone.order.to_be_bytes()).record(event);
            }
            if let Err(error) = self.journal.commit(change).await {
                tracing::error!(message_id = %id, %error, "a dead letter could not be recorded");
            }
        }
    }

    /// Does what is due at `now`.
    async fn ring(&self, now: SystemTime) {
        let mut expired: Vec<(AgentId, Slot, Letter)> = Vec::new();
        let mut exhausted = Vec::new();
        let mut gone = Vec::new();
        let mut forgotten = Vec::new();
        let mut back = Vec::new();
        {
            let mut office = self.lock();
            while let Some(&(at, agent, slot)) = office.timers.first() {
                if at > now {
                    break;
                }
                office.timers.pop_first();
                let Some(slot) = slot else {
                    let left = office.boxes.get(&agent).and_then(|mailbox| mailbox.leaves_at);
                    // Its keys stay for as long as mail that it sent may wait somewhere.
                    let forget = left.map(|at| at + self.settings.message_ttl);
                    match (left, forget) {
                        (Some(_), Some(forget)) if forget <= now => forgotten.push(agent),
                        // It came back since, and left again: another timer tells when.
                        (Some(left), _) if left > now => {}
                        (_, Some(forget)) => {
                            office.timers.insert((forget, agent, None));
                            gone.push(agent);
                        }
                        (_, None) => {}
                    }
                    continue;
                };
                let Some(letter) =
                    office.boxes.get_mut(&agent).and_then(|mailbox| mailbox.letters.get_mut(&slot))
                else {
                    continue;
                };
                let in_hand = letter.away_until.is_some_and(|until| now < until);
                if letter.expires_at <= now && !in_hand {
                    let letter = office.take(agent, slot).expect("it was there a line ago");
                    expired.push((agent, slot, letter));
                } else if letter.away_until.is_some_and(|until| until <= now) {
                    letter.away_until = None;
                    if letter.attempts > self.settings.retry_attempts {
                        let letter = office.take(agent, slot).expect("it was there a line ago");
                        exhausted.push((agent, slot, letter));
                    } else {
                        back.push(agent);
                    }
                }
            }
        }
        for (agent, slot, letter) in expired {
            self.bury(agent, vec![(slot, letter)], DeadCause::Expired, now).await;
        }
        for (agent, slot, letter) in exhausted {
            self.bury(agent, vec![(slot, letter)], DeadCause::AttemptsExhausted, now).await;
        }
        for agent in gone {
            self.close_mailbox(agent, now).await;
        }
        for agent in forgotten {
            self.close_mailbox(agent, now).await;
            let left = {
                let mut office = self.lock();
                let busy = office.boxes.get(&agent).is_some_and(|mailbox| mailbox.promised > 0);
                if busy {
                    // A letter to it is being sealed at this moment: look again a little later.
                    office.timers.insert((now + Duration::from_secs(1), agent, None));
                    continue;
                }
                office.topics.leave(agent)
            };
            let mut change = Change::new().remove(MAILBOXES, *agent.as_uuid().as_bytes());
            for topic in left {
                change = change.remove(TOPICS, stored::topic_key(&topic, Some(agent)));
            }
            if let Err(error) = self.journal.commit(change).await {
                tracing::error!(agent_id = %agent, %error, "a mailbox could not be removed");
            }
            let mut office = self.lock();
            if office.boxes.get(&agent).is_some_and(|mailbox| !mailbox.is_registered()) {
                office.boxes.remove(&agent);
            }
        }
        for agent in back {
            if let Some(port) = self.directory.agent(agent) {
                port.mail_waiting(agent);
            }
        }
    }

    /// Buries what is left in the mailbox of an agent that does not come back.
    async fn close_mailbox(&self, agent_id: AgentId, now: SystemTime) {
        let letters: Vec<(Slot, Letter)> = {
            let mut office = self.lock();
            let Some(mailbox) = office.boxes.get(&agent_id) else { return };
            let slots: Vec<Slot> = mailbox.letters.keys().copied().collect();
            slots
                .into_iter()
                .filter_map(|slot| Some((slot, office.take(agent_id, slot)?)))
                .collect()
        };
        self.bury(agent_id, letters, DeadCause::ReceiverGone, now).await;
        self.directory.clear_mail(agent_id);
    }

    async fn publish_copies(
        &self,
        topic: String,
        message: Message,
    ) -> Result<Vec<MessageId>, CommunicationError> {
        check_topic(message.id, &topic)?;
        let subscribers = {
            let office = self.open()?;
            office.mailbox(message.from)?;
            office
                .topics
                .subscribers(&topic)
                .ok_or_else(|| CommunicationError::TopicNotFound { topic: topic.clone() })?
        };
        let mut sent = Vec::new();
        let mut last_error = None;
        for to in subscribers {
            let copy =
                Message { id: MessageId::new(), to, topic: topic.clone(), ..message.clone() };
            match self.send(copy).await {
                Ok(id) => sent.push(id),
                // A subscriber that left is no reason to fail.
                Err(CommunicationError::AgentNotRegistered { agent_id }) if agent_id == to => {}
                Err(error) => last_error = Some(error),
            }
        }
        match last_error {
            Some(error) if sent.is_empty() => Err(error),
            _ => Ok(sent),
        }
    }
}

/// A place in a mailbox that was promised to a message being sealed.
struct Promise<'a> {
    inner: &'a Inner,
    id: MessageId,
    to: AgentId,
}

impl Drop for Promise<'_> {
    fn drop(&mut self) {
        let mut office = self.inner.lock();
        office.sealing.remove(&self.id);
        if let Some(mailbox) = office.boxes.get_mut(&self.to) {
            mailbox.promised = mailbox.promised.saturating_sub(1);
        }
        drop(office);
        self.inner.sent.notify_waiters();
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
        self.inner.detached(async move { inner.register(agent_id, capabilities).await }).await
    }

    async fn unregister_agent(&self, agent_id: AgentId) -> Result<(), CommunicationError> {
        let inner = Arc::clone(&self.inner);
        self.inner.detached(async move { inner.unregister(agent_id).await }).await
    }

    async fn send_message(&self, message: Message) -> Result<MessageId, CommunicationError> {
        let inner = Arc::clone(&self.inner);
        self.inner.detached(async move { inner.send(message).await }).await
    }

    async fn receive_messages(
        &self,
        agent_id: AgentId,
    ) -> Result<Vec<SecureMessage>, CommunicationError> {
        let inner = Arc::clone(&self.inner);
        self.inner.detached(async move { inner.receive(agent_id, MOST_MESSAGES).await }).await
    }

    async fn subscribe_to_topic(
        &self,
        agent_id: AgentId,
        topic: String,
    ) -> Result<(), CommunicationError> {
        let inner = Arc::clone(&self.inner);
        let subscribe = async move {
            check_topic(MessageId::new(), &topic)?;
            {
                let mut office = inner.open()?;
                office.mailbox(agent_id)?;
                if !office.topics.contains(&topic) && office.topics.len() >= MOST_TOPICS {
                    let reason =
                        format!("there are {MOST_TOPICS} topics already, which is the most");
                    return Err(refused(MessageId::new(), reason));
                }
                if !office.topics.subscribe(&topic, agent_id) {
                    return Ok(());
                }
            }
            let change = Change::new().put(TOPICS, stored::topic_key(&topic, None), &()).put(
                TOPICS,
                stored::topic_key(&topic, Some(agent_id)),
                &(),
            );
            let outcome = inner.commit(MessageId::new(), change).await;
            if outcome.is_err() {
                inner.lock().topics.unsubscribe(&topic, agent_id);
            }
            outcome
        };
        self.inner.detached(subscribe).await
    }

    async fn unsubscribe_from_topic(
        &self,
        agent_id: AgentId,
        topic: String,
    ) -> Result<(), CommunicationError> {
        let inner = Arc::clone(&self.inner);
        let unsubscribe = async move {
            {
                let mut office = inner.open()?;
                office.mailbox(agent_id)?;
                match office.topics.unsubscribe(&topic, agent_id) {
                    None => return Err(CommunicationError::TopicNotFound { topic: shown(&topic) }),
                    Some(false) => return Ok(()),
                    Some(true) => {}
                }
            }
            let change = Change::new().remove(TOPICS, stored::topic_key(&topic, Some(agent_id)));
            let outcome = inner.commit(MessageId::new(), change).await;
            if outcome.is_err() {
                inner.lock().topics.subscribe(&topic, agent_id);
            }
            outcome
        };
        self.inner.detached(unsubscribe).await
    }

    async fn broadcast_message(
        &self,
        topic: String,
        message: Message,
    ) -> Result<Vec<MessageId>, CommunicationError> {
        let inner = Arc::clone(&self.inner);
        self.inner.detached(async move { inner.publish_copies(topic, message).await }).await
    }

    async fn get_message_status(
        &self,
        message_id: MessageId,
    ) -> Result<DeliveryStatus, CommunicationError> {
        let office = self.inner.lock();
        let unknown = || refused(message_id, "nothing is known of it".to_owned());
        let receipt = office.receipts.get(message_id).ok_or_else(unknown)?;
        let expires_at = receipt
            .place
            .and_then(|(to, slot)| Some(office.boxes.get(&to)?.letters.get(&slot)?.expires_at));
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
        self.detached(async move { Inner::send(&inner, message).await }).await
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
        self.detached(async move { inner.publish_copies(topic, message).await }).await
    }

    async fn take(&self, id: AgentId) -> Result<Option<SecureMessage>, CommunicationError> {
        let inner = self.me();
        let mut taken = self.detached(async move { inner.receive(id, 1).await }).await?;
        Ok(taken.pop())
    }

    fn waiting(&self, id: AgentId) -> usize {
        let now = self.journal.now();
        self.lock().boxes.get(&id).map_or(0, |mailbox| mailbox.ready(now).count())
    }

    async fn lend(&self, id: AgentId) -> Result<Option<LeasedMessage>, CommunicationError> {
        let inner = self.me();
        Ok(self.detached(async move { inner.lease(id, 1, LONGEST).await }).await?.pop())
    }

    fn receipt(&self, lent: &LeasedMessage) -> Change {
        let id = lent.message.message.id;
        let Ok((to, slot)) = Self::in_hand(&self.lock(), id, lent.attempt) else {
            return Change::new(); // It was buried meanwhile, with its agent.
        };
        let ended =
            stored::Ended { status: DeliveryStatus::Delivered, at: micros(self.journal.now()) };
        Change::new()
            .remove(MAIL, stored::mail_key(to, slot.1))
            .put(RECEIPTS, *id.as_uuid().as_bytes(), &ended)
            .record(self.received(to, &lent.message))
    }

    fn settle(&self, lent: &LeasedMessage) {
        let id = lent.message.message.id;
        let mut office = self.lock();
        let Ok((to, slot)) = Self::in_hand(&office, id, lent.attempt) else { return };
        office.take(to, slot);
        office.receipts.end(id, DeliveryStatus::Delivered, self.journal.now());
        tracing::info!(agent_id = %to, message_id = %id, "message delivered");
    }

    fn give_back(&self, lent: &LeasedMessage) {
        // One that is in nobody's hands any more needs no giving back.
        let _ = self.nack(lent.message.message.id, lent.attempt, Duration::ZERO);
    }

    async fn agent_gone(&self, id: AgentId) {
        let inner = self.me();
        let _ = self.detached(async move { inner.unregister(id).await }).await;
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

fn unreadable(error: StoreError) -> CommunicationError {
    refused(MessageId::new(), format!("the kept mail can't be read: {error}"))
}
