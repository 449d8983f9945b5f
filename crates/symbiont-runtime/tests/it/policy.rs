//! The policy engine: kept policies, decisions, and what they do to agents.

use symbiont_runtime::*;

use crate::support::{config, records, run, runtime};

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

// On one thread, so that the changes begin in the order of the calls.
#[tokio::test]
async fn a_change_that_nobody_waits_for_is_in_force_all_the_same() {
    let directory = tempfile::tempdir().expect("a directory");
    let open = async || runtime(|c| c.data_dir = Some(directory.path().join("data"))).await;
    let agent = AgentId::new();
    let first = open().await;
    let engine = first.policy();
    let keep = policy("keep", PolicyEffect::Deny, "fs.write:*");
    engine.update_policy(keep).await.expect("it is well formed");
    // Each call is begun and then dropped.
    tokio::select! {
        biased;
        done = engine.update_policy(policy("deny", PolicyEffect::Deny, "fs.read:*")) => {
            panic!("it was done at once: {done:?}")
        }
        () = std::future::ready(()) => {}
    }
    tokio::select! {
        biased;
        done = engine.delete_policy("keep".to_owned()) => panic!("it was done at once: {done:?}"),
        () = std::future::ready(()) => {}
    }
    // Changes are made one after another, so that these two are made when a third one is.
    engine.update_policy(policy("last", PolicyEffect::Allow, "x")).await.expect("well formed");
    assert!(!allowed(&first, agent, "fs.read:/a").await);
    assert!(allowed(&first, agent, "fs.write:/a").await);
    assert_eq!(records(&first, "policy.updated").await.len(), 3);
    let digest = engine.digest();
    assert!(first.shutdown().await.is_empty());
    drop(first);
    let second = open().await;
    assert_eq!(second.policy().digest(), digest, "what is in force is what is on record");
}

#[tokio::test]
async fn what_can_not_be_carried_out_is_refused_by_whoever_is_asked() {
    let minute = Duration::from_secs(60);
    let limit = |count| Obligation::RateLimit { count, per: minute };
    // The demand, and whether `memory.read` and `agent.start` may go ahead with it.
    let cases = [
        (None, true, true),
        (Some(Obligation::Notify("ops".to_owned())), false, false),
        (Some(limit(0)), false, false),
        (Some(limit(1)), true, false),
        (Some(Obligation::Timeout(minute)), true, false),
        (Some(Obligation::Redact(vec!["x".to_owned()])), true, false),
        (Some(Obligation::LogLevel("warn".to_owned())), true, false),
    ];
    for (demand, calls, starts) in cases {
        for (operation, want) in [("memory.read", calls), ("agent.start", starts)] {
            let runtime = runtime(|_| {}).await;
            let mut policy = policy("p", PolicyEffect::Allow, operation);
            policy.rules[0].obligations.extend(demand.clone());
            runtime.policy().update_policy(policy).await.expect("it is well formed");
            let agent = AgentId::new();
            assert_eq!(allowed(&runtime, agent, operation).await, want, "{demand:?} {operation}");
            let source = "agent a { with { memory.get(\"a\"); } }";
            let config = config("a", source, ExecutionMode::Ephemeral);
            let id = config.id;
            let lifecycle = runtime.lifecycle();
            lifecycle.create_agent(config).await.expect("it is created");
            lifecycle.initialize_agent(id).await.expect("it initializes");
            let went = match lifecycle.start_agent(id).await {
                Ok(()) => {
                    let report = lifecycle.settled(id).await.expect("it exists").expect("it ran");
                    matches!(report.outcome, RunOutcome::Returned(_))
                }
                Err(error) => {
                    assert_eq!(operation, "agent.start", "{error}");
                    false
                }
            };
            assert_eq!(went, want, "{demand:?} {operation}");
        }
    }
}

#[tokio::test]
async fn what_needs_approval_leaves_a_record_that_says_that_nobody_is_asked() {
    let runtime = runtime(|_| {}).await;
    let effect = PolicyEffect::RequireApproval {
        approvers: vec!["ann".to_owned()],
        quorum: 1,
        ttl: Duration::from_secs(60),
    };
    runtime.policy().update_policy(policy("p", effect, "x")).await.expect("it is well formed");
    let agent = AgentId::new();
    assert!(!allowed(&runtime, agent, "x").await);
    assert!(allowed(&runtime, agent, "y").await);
    let [record] = <[AuditEvent; 1]>::try_from(records(&runtime, "policy.decision").await)
        .expect("the one that needs approval");
    assert_eq!(record.event_type, AuditEventType::PolicyViolation);
    assert_eq!(record.agent_id, Some(agent));
    assert_eq!(record.metadata["decision"], "approval");
    assert_eq!(record.metadata["operation"], "x");
    assert_eq!(record.metadata["rules"], "p/rule");
    assert!(record.details.contains("not served yet, so none is pending"), "{}", record.details);
    assert!(runtime.shutdown().await.is_empty());
    let check = runtime.policy().check_operation_allowed(agent, "x", &context(agent, "x")).await;
    assert_eq!(check, Err(PolicyError::ShuttingDown), "it can't be recorded");
}

#[tokio::test]
async fn a_formula_is_kept_with_its_policy() {
    let journal = Journal::in_memory(Clock::system());
    let engine = || async {
        let config =
            PolicyEngineConfig { profile: Profile::Production, ..PolicyEngineConfig::default() };
        let builder = DefaultPolicyEngine::builder(config).journal(journal.clone());
        builder.build().await.expect("its policies are fit")
    };
    let mut policy = policy("p", PolicyEffect::Allow, "x");
    let formula = Operand::Formula("agent.name.length + time.unix > 0".to_owned());
    policy.rules[0].conditions = vec![Condition::Is(formula)];
    engine().await.update_policy(policy.clone()).await.expect("it is well formed");
    let agent = AgentId::new();
    let checked = engine().await.check_operation_allowed(agent, "x", &context(agent, "x")).await;
    assert_eq!(checked, Ok(true));
    policy.rules[0].conditions = vec![Condition::Is(Operand::Formula("lookup(1)".to_owned()))];
    let refused = engine().await.update_policy(policy).await;
    assert!(matches!(refused, Err(PolicyError::Invalid { .. })), "{refused:?}");
}

#[tokio::test]
async fn the_tier_of_an_agent_that_is_not_known_is_the_contexts() {
    let runtime = runtime(|c| c.profile = Profile::Production).await;
    let mut policy = policy("p", PolicyEffect::Allow, "x");
    policy.rules[0].conditions = vec![Condition::TierAtLeast(SecurityTier::Tier2)];
    runtime.policy().update_policy(policy).await.expect("it is well formed");
    let agent = AgentId::new();
    for (tier, want) in
        [(SecurityTier::Tier1, false), (SecurityTier::Tier2, true), (SecurityTier::Tier3, true)]
    {
        let security_context = SecurityContext { tier, ..SecurityContext::default() };
        let context = PolicyContext { security_context, ..context(agent, "x") };
        let engine = runtime.policy();
        let checked = engine.check_operation_allowed(agent, "x", &context).await;
        assert_eq!(checked, Ok(want), "{tier:?}");
        let evaluated = engine.evaluate_policy("p".to_owned(), &context).await;
        let effect = evaluated.expect("it is there").effect;
        assert_eq!(effect == Some(PolicyEffect::Allow), want, "{tier:?}");
    }
    // Of an agent that the engine knows, the tier is the agent's.
    let facts = AgentFacts {
        name: "a".to_owned(),
        tier: SecurityTier::Tier1,
        metadata: HashMap::new(),
        policies: Vec::new(),
    };
    runtime.policy().set_agent(agent, facts).expect("no policies are no faulty policies");
    let security_context =
        SecurityContext { tier: SecurityTier::Tier3, ..SecurityContext::default() };
    let context = PolicyContext { security_context, ..context(agent, "x") };
    let checked = runtime.policy().check_operation_allowed(agent, "x", &context).await;
    assert_eq!(checked, Ok(false));
}
