use symbiont_runtime::*;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Initialize components
    let lifecycle_controller = DefaultLifecycleController::new(LifecycleConfig::default()).await?;
    let resource_manager = DefaultResourceManager::new(ResourceManagerConfig::default()).await?;
    let scheduler = DefaultScheduler::new(SchedulerConfig::default()).await?;
    let comm_bus = DefaultCommunicationBus::new(CommunicationConfig::default()).await?;
    let error_handler = DefaultErrorHandler::new(ErrorHandlerConfig::default()).await?;

    // Create agent configuration
    let agent_config = AgentConfig {
        id: AgentId::new(),
        name: "example_agent".to_string(),
        dsl_source: "agent logic".to_string(),
        execution_mode: ExecutionMode::Persistent,
        security_tier: SecurityTier::Tier2,
        resource_limits: ResourceLimits {
            memory_mb: 512,
            cpu_cores: 1.0,
            disk_io_mbps: 50,
            network_io_mbps: 10,
            execution_timeout: Duration::from_secs(3600),
            idle_timeout: Duration::from_secs(300),
        },
        capabilities: vec![Capability::FileSystem, Capability::Network],
        policies: vec![],
        metadata: HashMap::new(),
        priority: Priority::Normal,
    };

    // Create and manage agent
    let agent = lifecycle_controller.create_agent(agent_config.clone()).await?;
    println!("Created agent: {}", agent.id);

    // Allocate resources
    let allocation = resource_manager.allocate_resources(agent.id, agent_config.resource_limits).await?;
    println!("Allocated resources for agent: {}", agent.id);

    // Register with communication bus
    comm_bus.register_agent(agent.id, agent_config.capabilities).await?;
    println!("Registered agent with communication bus");

    // Initialize and start agent
    lifecycle_controller.initialize_agent(agent.id).await?;
    lifecycle_controller.start_agent(agent.id).await?;
    println!("Agent started successfully");

    // Schedule a task
    let task = ScheduledTask {
        id: TaskId::new(),
        agent_id: agent.id,
        priority: Priority::Normal,
        scheduled_time: SystemTime::now(),
        timeout: Duration::from_secs(60),
        retry_count: 0,
    };
    scheduler.schedule_task(task).await?;

    // Send a message
    let message = Message {
        id: MessageId::new(),
        from: agent.id,
        to: agent.id, // Self-message for demo
        topic: "test_topic".to_string(),
        payload: b"Hello, world!".to_vec(),
        priority: Priority::Normal,
        ttl: Duration::from_secs(300),
    };
    comm_bus.send_message(message).await?;

    // Monitor and cleanup
    tokio::time::sleep(Duration::from_secs(5)).await;
    
    let state = lifecycle_controller.get_agent_state(agent.id).await?;
    println!("Agent state: {:?}", state);
    
    let usage = resource_manager.get_resource_usage(agent.id).await?;
    println!("Resource usage: {:?}", usage);

    // Shutdown
    lifecycle_controller.terminate_agent(agent.id).await?;
    resource_manager.deallocate_resources(agent.id).await?;
    comm_bus.unregister_agent(agent.id).await?;

    Ok(())
}
