//! What an agent is, once its source has been read: its behaviour and what it may use.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use aws_lc_rs::digest::{SHA256, digest};
use symbiont_dsl::definition::{
    AgentDefinition, Bound, CheckedProgram, MemoryMode, SourceKind, bind_input, check, classify,
};
use symbiont_dsl::diagnostic::{Severity, render};
use symbiont_dsl::machine::{Code, compile};
use symbiont_types::{
    AgentConfig, AgentId, Capability, ExecutionMode, Policy, ResourceLimits, SecurityTier,
};
use uuid::Uuid;

use super::Input;

/// An agent that has been initialized.
#[derive(Debug)]
pub(crate) struct Definition {
    pub(crate) behaviour: Behaviour,
    /// The config's limits as the program's attributes tighten them.
    pub(crate) limits: ResourceLimits,
    /// The tier as the program's attributes tighten it.
    pub(crate) tier: SecurityTier,
    /// A tier that the program asks for and nobody serves.
    pub(crate) unserved_tier: Option<String>,
    /// What the program says that it may be able to do; empty says nothing.
    pub(crate) capabilities: Vec<String>,
    /// What the config says of the same.
    pub(crate) granted: Vec<String>,
    /// The config's policies and the program's.
    pub(crate) policies: Vec<Policy>,
    pub(crate) mode: ExecutionMode,
    /// Whose memory is used, when it outlives the agent.
    kept_memory: Option<Uuid>,
}

impl Definition {
    /// Under what the memory of agent `id` is kept.
    pub(crate) fn memory_of(&self, id: AgentId) -> Uuid {
        self.kept_memory.unwrap_or_else(|| *id.as_uuid())
    }
}

/// The key of an agent's metadata that names a memory which outlives it.
///
/// What an agent remembers is its own, and gone when it is terminated. With this key, its memory is
/// the one of that name: whoever is created with the same name later finds it, and it stays until it
/// is removed. It is not applied to programs whose `memory` is `ephemeral` or `session`. Whoever may
/// create agents can reach what is remembered so.
pub const REMEMBERS_AS: &str = "remembers_as";

/// The key of the memory of that name: no agent has it as its id, since those are of version 7 or 4.
fn memory_named(name: &str) -> Uuid {
    let digest = digest(&SHA256, format!("symbiont memory\0{name}").as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest.as_ref()[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

/// What an agent does.
#[derive(Debug)]
pub(crate) enum Behaviour {
    /// It follows a program.
    Program(Program),
    /// It follows an instruction in plain words.
    Instruction,
}

/// One agent of a source.
#[derive(Debug)]
pub(crate) struct Program {
    source: Arc<Source>,
    index: usize,
    pub(crate) code: Arc<Code>,
}

/// A source that has been read, shared by all agents that come from it.
#[derive(Debug)]
struct Source {
    checked: Arc<CheckedProgram>,
    codes: Vec<OnceLock<Arc<Code>>>,
    /// Where each line begins.
    lines: Vec<usize>,
}

impl Program {
    pub(crate) fn agent(&self) -> &AgentDefinition {
        &self.source.checked.agents[self.index]
    }

    /// The line, from 1, that a byte of the source is in.
    pub(crate) fn line(&self, byte: usize) -> usize {
        self.source.lines.partition_point(|start| *start <= byte)
    }

    /// The arguments that an input gives, and what of it nobody takes.
    pub(crate) fn bind(&self, input: &serde_json::Value) -> Result<Bound, String> {
        let program = &self.source.checked.hir;
        bind_input(program, &program.agents[self.index], input)
    }

    pub(crate) fn bind_text(&self, input: &Input) -> Result<Bound, String> {
        let json = match input {
            Input::None | Input::Message(_) | Input::Machine(_) => serde_json::Value::Null,
            Input::Json(text) => serde_json::from_str(text)
                .map_err(|error| format!("the input is no JSON: {error}"))?,
        };
        self.bind(&json)
    }
}

impl Definition {
    /// Whether a start without input runs the behaviour.
    pub(crate) fn runs_at_start(&self) -> bool {
        let mode = matches!(self.mode, ExecutionMode::Ephemeral | ExecutionMode::Persistent);
        match &self.behaviour {
            Behaviour::Instruction => true,
            Behaviour::Program(program) => {
                mode && program.agent().params.iter().all(|param| param.optional)
            }
        }
    }

    /// Whether it has a behaviour that needs an input before it can run.
    pub(crate) fn needs_input(&self) -> bool {
        match &self.behaviour {
            Behaviour::Instruction => false,
            Behaviour::Program(program) => {
                program.agent().params.iter().any(|param| !param.optional)
            }
        }
    }

    /// Whether a message that arrives begins a run.
    pub(crate) fn takes_messages(&self) -> bool {
        match &self.behaviour {
            Behaviour::Instruction => self.mode == ExecutionMode::EventDriven,
            Behaviour::Program(program) => {
                let agent = program.agent();
                agent.has_on_message
                    || self.mode == ExecutionMode::EventDriven
                    || !agent.has_behaviour
            }
        }
    }

    pub(crate) fn has_on_stop(&self) -> bool {
        match &self.behaviour {
            Behaviour::Instruction => false,
            Behaviour::Program(program) => program.agent().has_on_stop,
        }
    }
}

/// The name of a capability as a program would write it.
fn capability_name(capability: &Capability) -> String {
    match capability {
        Capability::FileSystem | Capability::Network | Capability::Database => {
            format!("{capability:?}")
        }
        Capability::Custom(name) => name.clone(),
    }
}

/// Sources that have been read and are in use, by digest: ten thousand agents of one program
/// share it.
#[derive(Debug, Default)]
pub(crate) struct Programs {
    sources: Mutex<HashMap<[u8; 32], Weak<Source>>>,
}

impl Programs {
    /// Reads the config's source, and fits the two together. What is wrong, in full.
    pub(crate) fn define(&self, config: &AgentConfig) -> Result<Definition, String> {
        let kept_memory = config.metadata.get(REMEMBERS_AS).map(|name| memory_named(name));
        let plain = |behaviour| Definition {
            behaviour,
            limits: config.resource_limits.clone(),
            tier: config.security_tier,
            unserved_tier: None,
            capabilities: Vec::new(),
            granted: config.capabilities.iter().map(capability_name).collect(),
            policies: config.policies.clone(),
            mode: config.execution_mode.clone(),
            kept_memory,
        };
        match classify(&config.dsl_source) {
            SourceKind::Empty => return Err("the source is empty".to_owned()),
            SourceKind::Instruction => return Ok(plain(Behaviour::Instruction)),
            SourceKind::Program => {}
        }
        let source = self.source(&config.dsl_source)?;
        let agents = &source.checked.agents;
        let named = agents.iter().position(|agent| agent.name == config.name);
        let index = match (named, agents.len()) {
            (Some(index), _) => index,
            // A lone agent goes by whatever name its config gives it.
            (None, 1) => 0,
            (None, 0) => return Err("the source declares no agent".to_owned()),
            (None, _) => {
                let names: Vec<&str> = agents.iter().map(|agent| agent.name.as_str()).collect();
                return Err(format!(
                    "the source declares several agents ({}), and none is called `{}`",
                    names.join(", "),
                    config.name
                ));
            }
        };
        let code = match source.codes[index].get() {
            Some(code) => Arc::clone(code),
            None => {
                let code =
                    compile(&source.checked.hir, index).map_err(|error| error.to_string())?;
                Arc::clone(source.codes[index].get_or_init(|| Arc::new(code)))
            }
        };
        let agent = &agents[index];
        let attributes = &agent.attributes;
        let given = &config.resource_limits;
        let tighter = |limit: u64, own: Option<u64>| own.map_or(limit, |own| own.min(limit));
        let limits = ResourceLimits {
            memory_mb: tighter(given.memory_mb, attributes.max_memory_mb),
            cpu_cores: attributes
                .max_cpu_cores
                .map_or(given.cpu_cores, |own| own.min(given.cpu_cores)),
            execution_timeout: attributes
                .timeout
                .map_or(given.execution_timeout, |own| own.min(given.execution_timeout)),
            ..given.clone()
        };
        let mut policies = config.policies.clone();
        policies.extend(agent.policies.iter().cloned());
        Ok(Definition {
            kept_memory: match attributes.memory {
                Some(MemoryMode::Ephemeral | MemoryMode::Session) => None,
                None | Some(MemoryMode::Persistent | MemoryMode::Encrypted) => kept_memory,
            },
            limits,
            tier: attributes.tier.map_or(config.security_tier, |own| own.max(config.security_tier)),
            unserved_tier: attributes.unserved_tier.clone(),
            capabilities: agent.capabilities.clone().unwrap_or_default(),
            policies,
            ..plain(Behaviour::Program(Program { source, index, code }))
        })
    }

    fn source(&self, text: &str) -> Result<Arc<Source>, String> {
        let key: [u8; 32] =
            digest(&SHA256, text.as_bytes()).as_ref().try_into().expect("SHA-256 gives 32 bytes");
        let known = {
            let sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
            sources.get(&key).and_then(Weak::upgrade)
        };
        if let Some(source) = known {
            return Ok(source);
        }
        let checked = check(text);
        let Some(program) = checked.program else {
            let errors: Vec<_> =
                checked.diagnostics.into_iter().filter(|d| d.severity == Severity::Error).collect();
            return Err(format!(
                "the program has errors\n{}",
                render(&errors, text, "dsl_source", false)
            ));
        };
        let lines =
            std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        let codes = program.agents.iter().map(|_| OnceLock::new()).collect();
        let source = Arc::new(Source { checked: program, codes, lines });
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        if sources.len() >= 1024 {
            sources.retain(|_, source| source.strong_count() > 0);
        }
        sources.insert(key, Arc::downgrade(&source));
        Ok(source)
    }
}
