extension Broker {
    /// FindCoordinator, JoinGroup, SyncGroup, Heartbeat, LeaveGroup, and the administration of groups and their offsets.
    func registerGroupHandlers() {}
}
