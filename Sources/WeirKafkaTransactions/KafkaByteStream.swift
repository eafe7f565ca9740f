internal import CWeirSystem
internal import Glibc
package import WeirBase
package import WeirKafkaWire

/// Why a broker was not reached, or did not answer: what was asked may have been done or not.
package struct KafkaClientFailure: Error, Sendable, Equatable, CustomStringConvertible {
    package var description: String
    package init(_ description: String) { self.description = description }
}

/// A connection's bytes, in order, both ways: TCP as it is, or something that secures it.
///
/// One thread uses it. Every call waits, until its deadline at most, and looks at ``KafkaPatience/isOver`` meanwhile.
package protocol KafkaByteStream: AnyObject {
    func write(_ pieces: [KafkaBytes], _ patience: KafkaPatience) throws(KafkaClientFailure)
    /// Exactly `count` bytes.
    func read(_ count: Int, _ patience: KafkaPatience) throws(KafkaClientFailure) -> KafkaBytes
    func close()
}

/// How long a caller waits, and what ends its waiting early.
package struct KafkaPatience: Sendable {
    package var clock: any WeirClock
    package var deadline: Instant
    package var isCanceled: @Sendable () -> Bool

    package init(clock: any WeirClock, deadline: Instant, isCanceled: @escaping @Sendable () -> Bool = { false }) {
        self.clock = clock
        self.deadline = deadline
        self.isCanceled = isCanceled
    }

    /// Patience that ends after `timeout`, or with this one.
    package func limited(to timeout: Duration) -> KafkaPatience {
        var copy = self
        copy.deadline = min(deadline, clock.now.advanced(by: timeout))
        return copy
    }

    package var isOver: Bool { isCanceled() || clock.now >= deadline }
    package var remaining: Duration { max(.zero, clock.now.duration(to: deadline)) }
}

/// A plain TCP connection.
package final class PlainByteStream: KafkaByteStream {
    /// A cancelled caller notices within this.
    private static let sliceMilliseconds: Int32 = 20
    private static let deadAfterMilliseconds: Int32 = 30_000

    private var descriptor: Int32
    private let address: String

    /// Connects to the first address of the host that answers. Names are resolved by the C library, which does not heed the deadline.
    package init(host: String, port: UInt16, _ patience: KafkaPatience) throws(KafkaClientFailure) {
        address = "\(host):\(port)"
        descriptor = try Self.connect(host: host, port: port, patience)
        weir_socket_tune(descriptor, Self.deadAfterMilliseconds)
    }

    deinit { close() }

    package func close() {
        if descriptor >= 0 { _ = Glibc.close(descriptor) }
        descriptor = -1
    }

    private static func connect(host: String, port: UInt16, _ patience: KafkaPatience) throws(KafkaClientFailure) -> Int32 {
        var hints = addrinfo()
        hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        var list: UnsafeMutablePointer<addrinfo>?
        let code = getaddrinfo(host, "\(port)", &hints, &list)
        guard code == 0 else { throw KafkaClientFailure("the name \(host) is not resolved: \(String(cString: gai_strerror(code)))") }
        defer { freeaddrinfo(list) }
        var failure = KafkaClientFailure("the name \(host) has no address")
        var next = list
        while let entry = next {
            next = entry.pointee.ai_next
            let descriptor = weir_socket_stream(entry.pointee.ai_family)
            guard descriptor >= 0 else {
                failure = KafkaClientFailure("no socket: \(explain(-descriptor))")
                continue
            }
            do throws(KafkaClientFailure) {
                let started = Glibc.connect(descriptor, entry.pointee.ai_addr, entry.pointee.ai_addrlen)
                if started != 0 {
                    guard errno == EINPROGRESS else { throw KafkaClientFailure(explain(errno)) }
                    try wait(for: descriptor, POLLOUT, patience, "connecting")
                    let pending = weir_socket_error(descriptor)
                    guard pending == 0 else { throw KafkaClientFailure(explain(pending)) }
                }
                return descriptor
            } catch {
                _ = Glibc.close(descriptor)
                failure = KafkaClientFailure("\(host):\(port): \(error)")
            }
        }
        throw failure
    }

    private static func explain(_ code: Int32) -> String { String(cString: strerror(code)) }

    private static func wait(for descriptor: Int32, _ events: Int32, _ patience: KafkaPatience, _ what: String) throws(KafkaClientFailure) {
        while true {
            guard !patience.isCanceled() else { throw KafkaClientFailure("\(what) was given up") }
            let left = Int32(clamping: patience.remaining.inMilliseconds)
            guard left > 0 else { throw KafkaClientFailure("no answer in time while \(what)") }
            var entry = pollfd(fd: descriptor, events: Int16(truncatingIfNeeded: events), revents: 0)
            let ready = poll(&entry, 1, min(left, sliceMilliseconds))
            if ready > 0 { return }
            if ready < 0, errno != EINTR { throw KafkaClientFailure("\(what): \(explain(errno))") }
        }
    }

    package func write(_ pieces: [KafkaBytes], _ patience: KafkaPatience) throws(KafkaClientFailure) {
        for piece in pieces {
            var sent = 0
            while sent < piece.count {
                let count = piece.withUnsafeBytes { bytes in
                    var vector = iovec(iov_base: UnsafeMutableRawPointer(mutating: bytes.baseAddress.map { $0 + sent }), iov_len: bytes.count - sent)
                    return weir_send_vector(descriptor, &vector, 1)
                }
                if count > 0 {
                    sent += Int(count)
                } else if -count == Int(EAGAIN) {
                    try Self.wait(for: descriptor, POLLOUT, patience, "writing to \(address)")
                } else if -count != Int(EINTR) {
                    throw KafkaClientFailure("writing to \(address): \(Self.explain(Int32(-count)))")
                }
            }
        }
    }

    package func read(_ count: Int, _ patience: KafkaPatience) throws(KafkaClientFailure) -> KafkaBytes {
        try KafkaBytes(count: count) { (buffer) throws(KafkaClientFailure) -> Int in
            var filled = 0
            while filled < count {
                guard let start = buffer.baseAddress else { break }
                let received = weir_receive(descriptor, start + filled, count - filled)
                if received > 0 {
                    filled += Int(received)
                } else if received == 0 {
                    throw KafkaClientFailure("\(address) closed the connection")
                } else if -received == Int(EAGAIN) {
                    try Self.wait(for: descriptor, POLLIN, patience, "waiting for \(address)")
                } else if -received != Int(EINTR) {
                    throw KafkaClientFailure("reading from \(address): \(Self.explain(Int32(-received)))")
                }
            }
            return count
        }
    }
}
