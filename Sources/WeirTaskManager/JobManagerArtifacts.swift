internal import SwiftProtobuf
internal import Synchronization
internal import WeirTransport
internal import WeirWire

/// Artifacts by the connection that there is at the moment.
final class JobManagerArtifacts: ArtifactSource {
    static let deadline = Duration.seconds(30)

    let connection = Mutex<RPCConnection?>(nil)

    func fetch(
        sha256: String, offset: UInt64, bytesMax: UInt32, _ completion: @escaping @Sendable (Result<ArtifactPiece, ArtifactFailure>) -> Void
    ) {
        guard let connection = connection.withLock({ $0 }) else {
            return completion(.failure(ArtifactFailure("there is no connection to the JobManager", isTransient: true)))
        }
        var message = WireFetchArtifact()
        message.sha256 = sha256
        message.offset = offset
        message.bytesMax = bytesMax
        connection.send(.fetchArtifact, message, deadline: Self.deadline, as: WireArtifactChunk.self) { result in
            completion(
                result.map { ArtifactPiece(bytes: Array($0.bytes), totalBytes: $0.totalBytes) }
                    .mapError { ArtifactFailure($0.message, isTransient: Self.isTransient($0)) })
        }
    }

    private static func isTransient(_ failure: RPCFailure) -> Bool {
        switch failure.kind {
        case .refused(.overloaded), .refused(.unavailable): true
        case .refused, .protocolViolation: false
        default: true
        }
    }
}
