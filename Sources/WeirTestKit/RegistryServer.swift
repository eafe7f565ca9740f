internal import Glibc
internal import Synchronization

/// A small HTTP/1.1 server on loopback: one request a connection, each answered by a closure.
package final class RegistryServer: Sendable {
    package struct Request: Sendable, Equatable {
        package var method: String
        package var path: String
        package var headers: [String: String]
        package var body: String
    }

    package enum Answer: Sendable {
        case reply(Int, String)
        /// The connection is closed without one.
        case hangUp
        /// Nothing comes, and the connection stays open until the server stops.
        case silence
    }

    package let port: Int
    private let listener: Int32
    private let requests = Mutex<[Request]>([])
    private let silent = Mutex<[Int32]>([])
    private let answer: @Sendable (Request) -> Answer

    /// - Parameter port: 0 for a free one; else one on which a server was before.
    package init(port wanted: Int = 0, _ answer: @escaping @Sendable (Request) -> Answer) {
        self.answer = answer
        listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var isReused: Int32 = 1
        setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &isReused, socklen_t(MemoryLayout<Int32>.size))
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = UInt16(wanted).bigEndian
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let listener = listener
        port = withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { address in
                precondition(bind(listener, address, length) == 0 && listen(listener, 16) == 0, "no port to listen on")
                precondition(getsockname(listener, address, &length) == 0, "no port to listen on")
            }
            return Int(UInt16(bigEndian: pointer.pointee.sin_port))
        }
        var thread = pthread_t()
        let code = pthread_create(
            &thread, nil,
            { argument in
                if let argument { Unmanaged<RegistryServer>.fromOpaque(argument).takeRetainedValue().serve() }
                return nil
            }, Unmanaged.passRetained(self).toOpaque())
        precondition(code == 0, "no thread")
        pthread_detach(thread)
    }

    package var address: String { "http://127.0.0.1:\(port)" }
    /// All requests so far.
    package var received: [Request] { requests.withLock { $0 } }

    package func stop() {
        shutdown(listener, Int32(SHUT_RDWR))
        close(listener)
        for connection in silent.withLock({ $0 }) { close(connection) }
    }

    private func serve() {
        while true {
            let connection = accept(listener, nil, nil)
            guard connection >= 0 else { return }
            guard let request = Self.read(connection) else {
                close(connection)
                continue
            }
            requests.withLock { $0.append(request) }
            switch answer(request) {
            case .reply(let status, let body):
                let text =
                    "HTTP/1.1 \(status) X\r\nContent-Type: application/vnd.schemaregistry.v1+json\r\nContent-Length: \(body.utf8.count)\r\n"
                    + "Connection: close\r\n\r\n" + body
                let bytes = Array(text.utf8)
                var sent = 0
                while sent < bytes.count {
                    let count = bytes[sent...].withUnsafeBytes { send(connection, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
                    if count <= 0 { break }
                    sent += count
                }
                close(connection)
            case .hangUp: close(connection)
            case .silence: silent.withLock { $0.append(connection) }
            }
        }
    }

    private static func read(_ connection: Int32) -> Request? {
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 4_096)
        while true {
            let text = String(decoding: bytes, as: UTF8.self)
            if let head = text.range(of: "\r\n\r\n") {
                let lines = text[..<head.lowerBound].split(separator: "\r\n")
                var headers: [String: String] = [:]
                for line in lines.dropFirst() {
                    let parts = line.split(separator: ":", maxSplits: 1)
                    if parts.count == 2 { headers[parts[0].lowercased()] = String(parts[1].drop { $0 == " " }) }
                }
                let body = String(text[head.upperBound...])
                if body.utf8.count >= headers["content-length"].flatMap({ Int($0) }) ?? 0 {
                    let words = lines.first?.split(separator: " ") ?? []
                    guard words.count == 3 else { return nil }
                    return Request(method: String(words[0]), path: String(words[1]), headers: headers, body: body)
                }
            }
            let count = recv(connection, &buffer, buffer.count, 0)
            guard count > 0 else { return nil }
            bytes += buffer[..<count]
        }
    }
}

extension String {
    fileprivate func range(of part: String) -> Range<String.Index>? { firstRange(of: part) }
}
