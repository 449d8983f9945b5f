//! Who has a mailbox, and who is subscribed to what.
//!
//! # What holds
//!
//! - A change is in force once it is recorded, and not before: one that could not be recorded leaves
//!   everything as it was.
//! - Changes about one agent come one after the other.

use std::sync::Arc;

use symbiont_types::{AgentId, Capability, CommunicationError, MessageId};

use super::keystore::Keystore;
use super::mailbox::Mailbox;
use super::seal::AgentKeys;
use super::stored::{self, Aspect};
use super::{Inner, MOST_TOPICS, check_topic, refused, shown};
use crate::clock::micros;
use crate::directory::MailPort;
use crate::journal::{Change, MAILBOXES, TOPICS};

impl Inner {
    /// The turn to change something about the agent.
    pub(super) async fn turn(&self, agent_id: AgentId) -> tokio::sync::MutexGuard<'_, ()> {
        let byte = usize::from(agent_id.as_uuid().as_bytes()[15]);
        self.turns[byte % self.turns.len()].lock().await
    }

    /// Takes the agent's place in the directory.
    pub(super) fn take_place(&self, agent_id: AgentId) -> Result<(), CommunicationError> {
        let port: Arc<dyn MailPort> = self.me();
        self.directory.set_mail(agent_id, &port).map_err(|_| {
            refused(MessageId::new(), format!("another bus keeps the mail of agent `{agent_id}`"))
        })
    }

    pub(super) async fn register(
        &self,
        agent_id: AgentId,
        capabilities: Vec<Capability>,
    ) -> Result<(), CommunicationError> {
        let _turn = self.turn(agent_id).await;
        let (keys, is_new) = {
            let mut office = self.open()?;
            match office.boxes.get(&agent_id) {
                Some(mailbox) => (Arc::clone(&mailbox.keys), false),
                None => (Arc::new(AgentKeys::generate(agent_id, office.next_epoch())?), true),
            }
        };
        self.take_place(agent_id)?;
        let row = registration(&self.keystore, &keys, &capabilities, None)?;
        let change = Change::new().put(MAILBOXES, Aspect::Registration.key(agent_id), &row);
        if let Err(error) = self.commit(MessageId::new(), change).await {
            if is_new {
                self.directory.clear_mail(agent_id);
            }
            return Err(error);
        }
        let mut office = self.lock();
        let mailbox =
            office.boxes.entry(agent_id).or_insert_with(|| Mailbox::new(keys, Vec::new()));
        mailbox.capabilities = capabilities;
        mailbox.leaves_at = None;
        Ok(())
    }

    pub(super) async fn unregister(&self, agent_id: AgentId) -> Result<(), CommunicationError> {
        let _turn = self.turn(agent_id).await;
        let leaves_at = self.journal.now() + self.settings.delivery_timeout;
        let row = {
            let office = self.lock();
            let mailbox = office
                .boxes
                .get(&agent_id)
                .ok_or(CommunicationError::AgentNotRegistered { agent_id })?;
            if !mailbox.is_registered() {
                return Ok(());
            }
            let left = Some(micros(leaves_at));
            registration(&self.keystore, &mailbox.keys, &mailbox.capabilities, left)?
        };
        let change = Change::new().put(MAILBOXES, Aspect::Registration.key(agent_id), &row);
        self.commit(MessageId::new(), change).await?;
        {
            let mut office = self.lock();
            if let Some(mailbox) = office.boxes.get_mut(&agent_id) {
                mailbox.leaves_at = Some(leaves_at);
            }
            office.timers.insert((leaves_at, agent_id, None));
        }
        self.timers.notify_one();
        Ok(())
    }

    pub(super) async fn subscribe(
        &self,
        agent_id: AgentId,
        topic: String,
    ) -> Result<(), CommunicationError> {
        check_topic(MessageId::new(), &topic)?;
        let _turn = self.turn(agent_id).await;
        {
            let office = self.open()?;
            office.mailbox(agent_id)?;
            if office.topics.is_subscribed(&topic, agent_id) {
                return Ok(());
            }
            if !office.topics.contains(&topic) && office.topics.len() >= MOST_TOPICS {
                let reason = format!("there are {MOST_TOPICS} topics already, which is the most");
                return Err(refused(MessageId::new(), reason));
            }
        }
        let change = Change::new().put(TOPICS, stored::topic_key(&topic, None), &()).put(
            TOPICS,
            stored::topic_key(&topic, Some(agent_id)),
            &(),
        );
        self.commit(MessageId::new(), change).await?;
        self.lock().topics.subscribe(&topic, agent_id);
        Ok(())
    }

    pub(super) async fn unsubscribe(
        &self,
        agent_id: AgentId,
        topic: String,
    ) -> Result<(), CommunicationError> {
        let _turn = self.turn(agent_id).await;
        {
            let office = self.open()?;
            office.mailbox(agent_id)?;
            if !office.topics.contains(&topic) {
                return Err(CommunicationError::TopicNotFound { topic: shown(&topic) });
            }
            if !office.topics.is_subscribed(&topic, agent_id) {
                return Ok(());
            }
        }
        let change = Change::new().remove(TOPICS, stored::topic_key(&topic, Some(agent_id)));
        self.commit(MessageId::new(), change).await?;
        self.lock().topics.unsubscribe(&topic, agent_id);
        Ok(())
    }
}

/// The row of a mailbox.
pub(super) fn registration(
    keystore: &Keystore,
    keys: &AgentKeys,
    capabilities: &[Capability],
    leaves_at: Option<i64>,
) -> Result<stored::Registration, CommunicationError> {
    Ok(stored::Registration {
        capabilities: capabilities.to_vec(),
        epoch: keys.epoch,
        sealed_keys: keystore.seal(keys)?,
        leaves_at,
    })
}

#[cfg(test)]
mod tests {
    use symbiont_types::AgentId;

    use crate::bus::{CommunicationBus, CommunicationConfig, DefaultCommunicationBus};
    use crate::clock::Clock;
    use crate::journal::Journal;

    #[tokio::test]
    async fn what_could_not_be_recorded_is_not_in_force() {
        let journal = Journal::in_memory(Clock::system());
        let bus = DefaultCommunicationBus::builder(CommunicationConfig::default());
        let bus = bus.journal(journal.clone()).build().await.unwrap();
        let (there, new) = (AgentId::new(), AgentId::new());
        bus.register_agent(there, vec![]).await.unwrap();
        bus.subscribe_to_topic(there, "old".to_owned()).await.unwrap();
        journal.store().close().await.unwrap();

        assert!(bus.register_agent(new, vec![]).await.is_err());
        assert!(bus.capabilities(new).is_err(), "it has no mailbox");
        assert!(bus.inner.directory.mail(new).is_none(), "nor a place");
        assert!(bus.unregister_agent(there).await.is_err());
        assert!(bus.capabilities(there).is_ok(), "it has its mailbox still");
        for _ in 0..2 {
            assert!(bus.subscribe_to_topic(there, "new".to_owned()).await.is_err());
            assert!(bus.unsubscribe_from_topic(there, "old".to_owned()).await.is_err());
        }
        assert_eq!(bus.get_agent_topics(there).await.unwrap(), ["old"]);
    }
}
