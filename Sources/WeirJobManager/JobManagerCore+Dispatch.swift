internal import Logging
internal import SwiftProtobuf
internal import WeirBase
package import WeirWire

extension JobManagerCore {
    /// Handles one message of a peer.
    ///
    /// - Parameter responder: Nil for a one-way.
    package func receive(_ kind: WireMessageKind, _ payload: [UInt8], from peer: any Peer, _ responder: Responder?) {
        if let waiting = untilRecovered?.count, let responder, Self.asksForJobs(kind) {
            guard waiting < Self.untilRecoveredMax else {
                return responder.refuse(Refusal(.overloaded, "the jobmanager is taking up the jobs of the one before it", hint: "ask again"))
            }
            untilRecovered?.append { [unowned self] in receive(kind, payload, from: peer, responder) }
            return
        }
        do {
            if let responder {
                try receiveRequest(kind, payload, from: peer, responder)
            } else {
                try receiveOneWay(kind, payload, from: peer)
            }
        } catch let refusal as Refusal {
            if let responder { responder.refuse(refusal) } else { logger.warning("\(refusal.message)", metadata: ["peer": "\(peer.label)"]) }
        } catch {
            // A payload that is no such message.
            let refusal = Refusal(.malformed, "the payload of \(kind) cannot be read: \(error)")
            if let responder { responder.refuse(refusal) } else { logger.warning("\(refusal.message)", metadata: ["peer": "\(peer.label)"]) }
        }
    }

    private static func asksForJobs(_ kind: WireMessageKind) -> Bool {
        switch kind {
        case .submitJob, .listJobs, .getJob, .cancelJob, .triggerSavepoint, .getCheckpoints, .fetchLogs, .getCluster: true
        default: false
        }
    }

    private func receiveRequest(_ kind: WireMessageKind, _ payload: [UInt8], from peer: any Peer, _ responder: Responder) throws {
        switch kind {
        case .registerTaskManager: responder.reply(try registerTaskManager(.init(serializedBytes: payload), from: peer))
        case .registerWorker: responder.reply(try registerWorker(.init(serializedBytes: payload), from: peer))
        case .heartbeat:
            let message = try WireHeartbeat(serializedBytes: payload)
            heartbeat(message, from: peer)
            responder.reply(heartbeatReply(to: message.sender))
        case .submitJob: submit(try .init(serializedBytes: payload), responder)
        case .listJobs: responder.reply(list(try .init(serializedBytes: payload)))
        case .getJob: responder.reply(try info(.init(serializedBytes: payload)))
        case .cancelJob: try cancel(.init(serializedBytes: payload), responder)
        case .triggerSavepoint: try triggerSavepoint(.init(serializedBytes: payload), responder)
        case .getCheckpoints: responder.reply(try checkpoints(.init(serializedBytes: payload)))
        case .fetchLogs: try fetchLogs(.init(serializedBytes: payload), responder)
        case .getCluster: responder.reply(cluster())
        case .fetchArtifact:
            let message = try WireFetchArtifact(serializedBytes: payload)
            stored(responder) { store throws(Refusal) in try store.fetch(message) }
        case .beginUpload:
            let message = try WireBeginUpload(serializedBytes: payload)
            stored(responder) { store throws(Refusal) in try store.beginUpload(message) }
        case .uploadChunk:
            let message = try WireUploadChunk(serializedBytes: payload)
            stored(responder) { store throws(Refusal) in try store.upload(message) }
        default: throw Refusal(.unknownKind, "the JobManager has no request of kind \(kind)")
        }
    }

    private func receiveOneWay(_ kind: WireMessageKind, _ payload: [UInt8], from peer: any Peer) throws {
        switch kind {
        case .workerExited: workerExited(try .init(serializedBytes: payload))
        case .heartbeat: heartbeat(try .init(serializedBytes: payload), from: peer)
        case .taskStateChanged: taskStateChanged(try .init(serializedBytes: payload), from: peer)
        case .acknowledgeCheckpoint: acknowledgeCheckpoint(try .init(serializedBytes: payload), from: peer)
        case .declineCheckpoint: declineCheckpoint(try .init(serializedBytes: payload), from: peer)
        case .restoreFailed: restoreFailed(try .init(serializedBytes: payload), from: peer)
        case .taskMetrics: taskMetrics(try .init(serializedBytes: payload), from: peer)
        default: throw Refusal(.unknownKind, "the JobManager has no message of kind \(kind)")
        }
    }

    /// Answers a request from the storage thread.
    private func stored<Reply: SwiftProtobuf.Message & Sendable>(
        _ responder: Responder, _ work: @escaping @Sendable (JobStore) throws(Refusal) -> Reply
    ) {
        let store = jobStore
        environment.store { () -> Result<Reply, Refusal> in
            do throws(Refusal) { return .success(try work(store)) } catch { return .failure(error) }
        } then: { result in
            switch result {
            case .success(let reply): responder.reply(reply)
            case .failure(let refusal): responder.refuse(refusal)
            }
        }
    }
}
