package import WeirBase

extension WireFailure {
    package init(_ failure: JobFailure) {
        self.init()
        domain =
            switch failure.domain {
            case .user: .user
            case .external: .external
            case .system: .system
            case .resource: .resource
            case .configuration: .configuration
            }
        recovery =
            switch failure.recovery {
            case .restart: .restart
            case .fail: .fail
            }
        message = failure.message
        cause = failure.cause ?? ""
        if let origin = failure.place {
            place.operatorName = origin.operatorName
            place.subtask = Int32(clamping: origin.subtask)
            place.parallelism = Int32(clamping: origin.parallelism)
            place.taskManager = origin.taskManager
        }
    }
}

extension JobFailure {
    /// What a peer sent. Values that this version does not know become a system failure that is worth a restart.
    package init(_ wire: WireFailure) {
        let domain: Domain =
            switch wire.domain {
            case .user: .user
            case .external: .external
            case .resource: .resource
            case .configuration: .configuration
            case .system, .unspecified, .UNRECOGNIZED: .system
            }
        let recovery: Recovery =
            switch wire.recovery {
            case .fail: .fail
            case .restart, .unspecified, .UNRECOGNIZED: .restart
            }
        let place =
            wire.hasPlace
            ? Place(
                operatorName: wire.place.operatorName, subtask: Int(wire.place.subtask), parallelism: Int(wire.place.parallelism),
                taskManager: wire.place.taskManager) : nil
        self.init(
            domain: domain, recovery: recovery, message: wire.message, place: place, cause: wire.cause.isEmpty ? nil : wire.cause)
    }
}

extension WireSubtask {
    package init(_ subtask: SubtaskID) {
        self.init()
        vertex = subtask.vertex.rawValue
        index = subtask.index
    }
}

extension SubtaskID {
    package init(_ wire: WireSubtask) {
        self.init(vertex: VertexID(wire.vertex), index: wire.index)
    }
}
