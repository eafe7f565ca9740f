package import WeirBase
package import WeirControl

/// The content of a checkpoint's `_metadata`: version 1 of `proto-docs/checkpoint-format.md`, all integers little-endian.
///
/// The file around it carries magic, length and checksum; this is its payload.
package enum CheckpointMetadata {
    private static let version: UInt16 = 1

    package static func encode(_ checkpoint: CompletedCheckpoint) -> [UInt8] {
        var writer = ByteWriter(capacity: 4096)
        writer.writeU16(version)
        writer.writeU64(checkpoint.job.high)
        writer.writeU64(checkpoint.job.low)
        writer.writeU64(checkpoint.id.rawValue)
        switch checkpoint.kind {
        case .periodic: writer.writeU8(0)
        case .final: writer.writeU8(1)
        case .savepoint(let directory):
            writer.writeU8(2)
            writer.writeString(directory)
        }
        writer.writeU32(checkpoint.epoch.rawValue)
        writer.writeU32(UInt32(checkpoint.maxParallelism))
        writer.writeI64(checkpoint.duration.inNanoseconds)
        writer.writeVarint(UInt64(checkpoint.vertices.count))
        for vertex in checkpoint.vertices {
            writer.writeI32(vertex.vertex.rawValue)
            writer.writeU32(UInt32(vertex.parallelism))
            writer.writeVarint(UInt64(vertex.operators.count))
            for id in vertex.operators { writer.writeU64(id.rawValue) }
        }
        writer.writeVarint(UInt64(checkpoint.handles.count))
        for handle in checkpoint.handles {
            writer.writeI32(handle.subtask.vertex.rawValue)
            writer.writeI32(handle.subtask.index)
            switch handle.content {
            case .inline(let bytes):
                writer.writeU8(0)
                writer.writeVarint(UInt64(bytes.count))
                writer.writeBytes(bytes)
            case .file(let file):
                writer.writeU8(1)
                write(file, into: &writer)
            }
            writer.writeVarint(UInt64(handle.shared.count))
            for file in handle.shared { write(file, into: &writer) }
        }
        return writer.finish()
    }

    /// - Parameter path: Where the `_metadata` lies; becomes ``CompletedCheckpoint/path``.
    /// - Throws: ``DecodingFailure`` for anything that ``encode(_:)`` did not write.
    package static func decode(_ bytes: [UInt8], path: String) throws(DecodingFailure) -> CompletedCheckpoint {
        var result: Result<CompletedCheckpoint, DecodingFailure> = .failure(DecodingFailure("empty checkpoint metadata", offset: 0))
        bytes.withUnsafeBytes { raw in
            do throws(DecodingFailure) {
                var reader = ByteReader(raw)
                let checkpoint = try decode(&reader, path: path)
                try reader.expectEnd()
                result = .success(checkpoint)
            } catch {
                result = .failure(error)
            }
        }
        return try result.get()
    }

    private static func decode(_ reader: inout ByteReader, path: String) throws(DecodingFailure) -> CompletedCheckpoint {
        let found = try reader.readU16()
        guard found == version else { throw DecodingFailure("checkpoint metadata version \(found), this build reads \(version)", offset: 0) }
        let job = JobID(high: try reader.readU64(), low: try reader.readU64())
        let id = CheckpointID(try reader.readU64())
        let kind: CheckpointKind
        switch try reader.readU8() {
        case 0: kind = .periodic
        case 1: kind = .final
        case 2: kind = .savepoint(directory: try reader.readString())
        case let other: throw DecodingFailure("an unknown checkpoint kind \(other)", offset: reader.position - 1)
        }
        let epoch = Epoch(try reader.readU32())
        let maxParallelism = Int(try reader.readU32())
        let duration = Duration.nanoseconds(try reader.readI64())
        var vertices: [CheckpointVertex] = []
        for _ in 0..<(try reader.readCount(ofAtLeast: 9)) {
            let vertex = VertexID(try reader.readI32())
            let parallelism = Int(try reader.readU32())
            var operators: [OperatorID] = []
            for _ in 0..<(try reader.readCount(ofAtLeast: 8)) { operators.append(OperatorID(try reader.readU64())) }
            vertices.append(CheckpointVertex(vertex: vertex, operators: operators, parallelism: parallelism))
        }
        var handles: [StateHandle] = []
        for _ in 0..<(try reader.readCount(ofAtLeast: 10)) {
            let subtask = SubtaskID(vertex: VertexID(try reader.readI32()), index: try reader.readI32())
            let content: StateHandle.Content
            switch try reader.readU8() {
            case 0: content = .inline([UInt8](try reader.readBytes(try reader.readCount())))
            case 1: content = .file(try readFile(&reader))
            case let other: throw DecodingFailure("an unknown kind of state handle \(other)", offset: reader.position - 1)
            }
            var shared: [StateFile] = []
            for _ in 0..<(try reader.readCount(ofAtLeast: 13)) { shared.append(try readFile(&reader)) }
            handles.append(StateHandle(subtask: subtask, content: content, shared: shared))
        }
        return CompletedCheckpoint(
            job: job, id: id, kind: kind, epoch: epoch, maxParallelism: maxParallelism, vertices: vertices, handles: handles, duration: duration,
            path: path)
    }

    private static func write(_ file: StateFile, into writer: inout ByteWriter) {
        writer.writeString(file.path)
        writer.writeU64(UInt64(file.lengthBytes))
        writer.writeU32(file.crc32c)
    }

    private static func readFile(_ reader: inout ByteReader) throws(DecodingFailure) -> StateFile {
        let path = try reader.readString()
        let offset = reader.position
        guard let length = Int(exactly: try reader.readU64()) else { throw DecodingFailure("a file length past 2^63", offset: offset) }
        return StateFile(path: path, lengthBytes: length, crc32c: try reader.readU32())
    }
}
