package import SwiftProtobuf
package import WeirBase

/// A message's bytes. Encoding fails only for messages over 2 GiB, which no limit of ours lets come about.
package func encoded(_ message: some SwiftProtobuf.Message) -> [UInt8] {
    do { return try message.serializedBytes() } catch { preconditionFailure("a message cannot be encoded: \(error)") }
}

extension SubtaskID {
    package var wire: WireSubtask {
        var message = WireSubtask()
        message.vertex = vertex.rawValue
        message.index = index
        return message
    }
}

extension JobFailure {
    package var wire: WireFailure { WireFailure(self) }
}
