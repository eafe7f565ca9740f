import CWeirSystem
import Glibc

/// An IP address and port.
package struct SocketAddress: Sendable, CustomStringConvertible {
    fileprivate(set) var storage = sockaddr_storage()
    fileprivate(set) var length: socklen_t = 0

    var family: Int32 { Int32(storage.ss_family) }

    package var port: UInt16 {
        withUnsafeBytes(of: storage) { bytes in
            // The port of sockaddr_in and of sockaddr_in6 lies behind the family's two bytes, in network order.
            UInt16(bigEndian: bytes.loadUnaligned(fromByteOffset: 2, as: UInt16.self))
        }
    }

    /// The numeric host.
    package var host: String {
        var storage = storage
        return withUnsafeTemporaryAllocation(of: CChar.self, capacity: Int(NI_MAXHOST)) { name in
            guard let base = name.baseAddress else { return "?" }
            let code = withUnsafePointer(to: &storage) { pointer in
                pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    getnameinfo($0, length, base, socklen_t(NI_MAXHOST), nil, 0, NI_NUMERICHOST)
                }
            }
            return code == 0 ? String(cString: base) : "?"
        }
    }

    package var description: String {
        family == AF_INET6 ? "[\(host)]:\(port)" : "\(host):\(port)"
    }

    func withPointer<R>(_ body: (UnsafePointer<sockaddr>, socklen_t) -> R) -> R {
        withUnsafePointer(to: storage) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, length) }
        }
    }

    /// The addresses of a host name.
    ///
    /// - Parameter numericOnly: Take only IP addresses, so that the call does not block on a name server.
    /// - Important: Blocks, unless `numericOnly`.
    package static func resolve(host: String, port: UInt16, numericOnly: Bool = false) throws(TransportFailure) -> [SocketAddress] {
        var hints = addrinfo()
        hints.ai_family = AF_UNSPEC
        hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        hints.ai_flags = numericOnly ? AI_NUMERICHOST | AI_NUMERICSERV : AI_NUMERICSERV
        var list: UnsafeMutablePointer<addrinfo>?
        let code = getaddrinfo(host, String(port), &hints, &list)
        guard code == 0 else {
            let reason = code == EAI_SYSTEM ? errorText(errno) : String(cString: gai_strerror(code))
            throw TransportFailure(operation: "resolve \(host)", code: 0, detail: reason)
        }
        defer { freeaddrinfo(list) }
        var found: [SocketAddress] = []
        var next = list
        while let entry = next?.pointee {
            next = entry.ai_next
            guard let address = entry.ai_addr, entry.ai_addrlen <= MemoryLayout<sockaddr_storage>.size else { continue }
            var result = SocketAddress()
            result.length = entry.ai_addrlen
            withUnsafeMutableBytes(of: &result.storage) {
                $0.copyMemory(from: UnsafeRawBufferPointer(start: address, count: Int(entry.ai_addrlen)))
            }
            found.append(result)
        }
        guard !found.isEmpty else { throw TransportFailure(operation: "resolve \(host)", code: 0, detail: "it has no address") }
        return found
    }

    /// The address that a socket is bound to.
    package static func local(of descriptor: Int32) -> SocketAddress? {
        var result = SocketAddress()
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        let code = withUnsafeMutablePointer(to: &result.storage) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(descriptor, $0, &length) }
        }
        guard code == 0 else { return nil }
        result.length = length
        return result
    }

    /// Accepts one connection: its descriptor or a negated errno, and where it comes from.
    static func accept(on listener: Int32) -> (Int32, SocketAddress) {
        var peer = SocketAddress()
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        let descriptor = weir_accept(listener, &peer.storage, &length)
        peer.length = length
        return (descriptor, peer)
    }
}
