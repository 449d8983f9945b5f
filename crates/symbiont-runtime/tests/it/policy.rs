//! The policy engine: kept policies, decisions, and what they do to agents.

use symbiont_runtime::*;

use crate::support::{config, run, runtime};

fn policy(id: &str, effect: PolicyEffect, operation: &str) -> Policy {
    Policy {
        id: id.to_owned(),
        name: id.to_owned(),
        description: String::new(),
        rules: vec![PolicyRule::new("rule", effect, [operation])],
        priority: 10,
        enabled: true,
    }
}

fn context(agent_id: AgentId, operation: &str) -> PolicyContext {
    PolicyContext {
        agent_id,
        operation: operation.to_owned(),
        resource_requirements: None,
        security_context: SecurityContext::default(),
        metadata: HashMap::new(),
    }
}

async fn allowed(runtime: &Runtime, agent: AgentId, operation: &str) -> bool {
    let context = context(agent, operation);
    let answer = runtime.policy().check_operation_allowed(agent, operation, &context).await;
    answer.expect("it can be decided")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn policies_are_kept_changed_and_removed() {
    let directory = tempfile::tempdir().expect("a directory");
    let open = async || runtime(|c| c.data_dir = Some(directory.path().join("data"))).await;
    let agent = AgentId::new();
    let first = open().await;
    let engine = first.policy();
    let digest = engine.digest();
    assert!(allowed(&first, agent, "fs.read:/a").await, "the dev profile allows");
    let deny = policy("no-reading", PolicyEffect::Deny, "fs.read:*");
    engine.update_policy(deny.clone()).await.expect("it is well formed");
    assert_ne!(engine.digest(), digest);
    assert!(!allowed(&first, agent, "fs.read:/a").await);
    let (reading, writing) = (context(agent, "fs.read:/a"), context(agent, "fs.write:/a"));
    let decision = engine.evaluate_policy("no-reading".to_owned(), &reading);
    let decision = decision.await.expect("it is there");
    assert_eq!(decision.effect, Some(PolicyEffect::Deny));
    assert_eq!(decision.policy_id.as_deref(), Some("no-reading"));
    let other = engine.evaluate_policy("no-reading".to_owned(), &writing);
    assert_eq!(other.await.expect("it is there").effect, None, "no rule of it applies");
    assert!(first.shutdown().await.is_empty());
    drop(first);

    let second = open().await;
    let engine = second.policy();
    assert!(!allowed(&second, agent, "fs.read:/a").await, "it is there again");
    engine.update_policy(Policy { enabled: false, ..deny }).await.expect("it is well formed");
    assert!(allowed(&second, agent, "fs.read:/a").await, "it is disabled");
    engine.delete_policy("no-reading".to_owned()).await.expect("it is there");
    let again = engine.delete_policy("no-reading".to_owned()).await;
    assert_eq!(again, Err(PolicyError::NotFound { policy_id: "no-reading".to_owned() }));
    assert_eq!(engine.digest(), digest);
    assert!(second.shutdown().await.is_empty());
}

#[tokio::test]
async fn a_deny_beats_an_allow_of_whatever_priority() {
    let runtime = runtime(|_| {}).await;
    let agent = AgentId::new();
    let allow = policy("allow", PolicyEffect::Allow, "fs.read:*");
    let deny = policy("deny", PolicyEffect::Deny, "fs.read:/etc/*");
    for policy in [Policy { priority: 1000, ..allow }, Policy { priority: 1, ..deny }] {
        runtime.policy().update_policy(policy).await.expect("it is well formed");
    }
    assert!(allowed(&runtime, agent, "fs.read:/a").await);
    assert!(!allowed(&runtime, agent, "fs.read:/etc/passwd").await);
}

#[tokio::test]
async fn an_agents_own_policies_govern_its_calls_and_never_its_start() {
    let runtime = runtime(|_| {}).await;
    let source = r#"agent strict {
        policy own { deny: "agent.start" allow: memory.read }
        with {
            let written = "yes";
            try { memory.set("a", 1); } catch (PolicyDenied e) { written = e.operation; }
            return { read: memory.get("a"), written: written };
        }
    }"#;
    let outcome = run(&runtime, source, "{}").await;
    let RunOutcome::Returned(json) = outcome else { panic!("{outcome:?}") };
    assert_eq!(&*json, r#"{"read":null,"written":"memory.write"}"#);
}

#[tokio::test]
async fn production_starts_nothing_that_no_policy_allows() {
    for (grant, starts) in [(false, false), (true, true)] {
        let runtime = runtime(|c| c.profile = Profile::Production).await;
        if grant {
            let grant = policy("starts", PolicyEffect::Allow, "agent.start");
            runtime.policy().update_policy(grant).await.expect("it is well formed");
        }
        let config = config("a", "agent a", ExecutionMode::Persistent);
        let id = config.id;
        let lifecycle = runtime.lifecycle();
        lifecycle.create_agent(config).await.expect("it is created");
        lifecycle.initialize_agent(id).await.expect("it initializes");
        let started = lifecycle.start_agent(id).await;
        assert_eq!(started.is_ok(), starts, "{started:?}");
        if let Err(error) = started {
            assert!(error.to_string().contains("agent.start"), "{error}");
            assert_eq!(lifecycle.get_agent_state(id).await, Ok(AgentState::Ready));
            let promised = runtime.resources().get_system_resources().await.allocations;
            assert_eq!(promised, 0, "nothing is promised to what does not start");
        }
    }
}
