internal import Foundation
internal import WeirBase
internal import WeirControl
internal import WeirWire

// Between the control plane's values and the messages on the wire. What a message lacks or garbles gives nil: the caller answers with an error.

extension StateFile {
    init?(_ wire: WireStateHandle.File) {
        guard !wire.path.isEmpty, let length = Int(exactly: wire.length) else { return nil }
        self.init(path: wire.path, lengthBytes: length, crc32c: wire.crc32C)
    }

    var wire: WireStateHandle.File {
        var message = WireStateHandle.File()
        message.path = path
        message.length = UInt64(lengthBytes)
        message.crc32C = crc32c
        return message
    }
}

extension StateHandle {
    init?(_ wire: WireStateHandle) {
        let content: Content
        switch wire.location {
        case .inlineState(let bytes): content = .inline([UInt8](bytes))
        case .file(let file):
            guard let file = StateFile(file) else { return nil }
            content = .file(file)
        case nil: content = .inline([])
        }
        let shared = wire.shared.compactMap { StateFile($0) }
        guard shared.count == wire.shared.count else { return nil }
        self.init(subtask: SubtaskID(wire.subtask), content: content, shared: shared)
    }

    var wire: WireStateHandle {
        var message = WireStateHandle()
        message.subtask = subtask.wire
        switch content {
        case .inline(let bytes): message.inlineState = .init(bytes)
        case .file(let file): message.file = file.wire
        }
        message.shared = shared.map(\.wire)
        return message
    }
}

extension JobState {
    var wire: WireJobState {
        switch self {
        case .created: .created
        case .waitingForResources: .waitingForResources
        case .deploying: .deploying
        case .running: .running
        case .restarting: .restarting
        case .cancelling: .cancelling
        case .failing: .failing
        case .canceled: .canceled
        case .failed: .failed
        case .finished: .finished
        }
    }
}

extension TaskState {
    init?(_ wire: WireTaskState) {
        switch wire {
        case .created, .scheduled: self = .created
        case .deploying, .initializing: self = .deploying
        case .running: self = .running
        case .finished: self = .finished
        case .failed: self = .failed
        case .canceled: self = .canceled
        case .canceling, .unspecified, .UNRECOGNIZED: return nil
        }
    }

    var wire: WireTaskState {
        switch self {
        case .created: .created
        case .deploying: .deploying
        case .running: .running
        case .finished: .finished
        case .failed: .failed
        case .canceled: .canceled
        }
    }
}

extension DeploymentPlan {
    /// - Parameters:
    ///   - receiver: The worker it goes to.
    ///   - checkpointDirectory: The job's: relative paths of state files are relative to it.
    func wire(for receiver: WorkerID, graph: [UInt8], graphHash: UInt64, checkpointDirectory: String, options: [String: String]) -> WireDeploy {
        var message = WireDeploy()
        message.job = job.description
        message.epoch = epoch.rawValue
        message.options = options
        message.graph = .init(graph)
        message.graphHash = graphHash
        message.slots = UInt32(slots)
        message.checkpointDirectory = checkpointDirectory
        message.restoreDirectory = checkpointDirectory
        message.workerIndex = UInt32(workers.firstIndex { $0.worker == receiver } ?? 0)
        message.workers = workers.enumerated().map { index, endpoint in
            var address = WireWorkerAddress()
            address.index = UInt32(index)
            address.worker = endpoint.worker.rawValue
            address.host = endpoint.address.host
            address.port = UInt32(endpoint.address.port)
            address.taskManager = endpoint.taskManager.rawValue
            return address
        }
        message.placements = placements.map { placement in
            var wire = WireVertexPlacement()
            wire.vertex = placement.vertex.rawValue
            wire.workers = placement.workers.map { UInt32($0) }
            return wire
        }
        message.tasks = tasks.map { task in
            var wire = WireTaskDeployment()
            wire.subtask = task.subtask.wire
            wire.slot = UInt32(task.slot)
            return wire
        }
        if let restore {
            message.restoreCheckpoint = restore.checkpoint.rawValue
            message.restore = restore.vertices.map { vertex in
                var wire = WireVertexRestore()
                wire.vertex = vertex.vertex.rawValue
                wire.handles = vertex.handles.map(\.wire)
                return wire
            }
        }
        return message
    }
}
