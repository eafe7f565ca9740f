internal import Dispatch
internal import Foundation
internal import FoundationNetworking
internal import Synchronization
import WeirBase
import WeirFormats

/// Requests to the registry's addresses, in turn until one answers.
final class RegistryHTTP: Sendable {
    struct Request: Sendable {
        var method: String
        /// From the root, escaped.
        var path: String
        var body: [UInt8]?
    }

    enum Reply: Sendable {
        /// By a server, whatever the status; 5xx of the last address.
        case answered(status: Int, body: [UInt8])
        /// By none: why not.
        case unreachable(String)
    }

    /// Bytes of an answer, at most: a schema's text doubles when its quotes are escaped, twice.
    static let answerBytesMax = 4 << 20

    let addresses: [String]
    private let session: URLSession
    private let collector: ReplyCollector
    private let requestTimeout: Double
    private let authorization: String?

    /// For messages.
    var place: String { addresses.joined(separator: ",") }

    init(addresses: [String], options: ConfluentSchemaRegistry.Options) {
        self.addresses = addresses.map { $0.hasSuffix("/") ? String($0.dropLast()) : $0 }
        requestTimeout = options.requestTimeout.inSeconds
        if let user = options.user, let password = options.password {
            authorization = "Basic " + Data("\(user):\(password)".utf8).base64EncodedString()
        } else {
            authorization = options.bearerToken.map { "Bearer \($0)" }
        }
        let configuration = URLSessionConfiguration.ephemeral
        configuration.timeoutIntervalForRequest = requestTimeout
        configuration.timeoutIntervalForResource = requestTimeout
        configuration.httpShouldSetCookies = false
        configuration.urlCache = nil
        collector = ReplyCollector()
        session = URLSession(configuration: configuration, delegate: collector, delegateQueue: nil)
    }

    // The session keeps its collector alive until it is told that no more comes.
    deinit { session.invalidateAndCancel() }

    /// Sends the request without waiting; the reply comes on a thread of its own.
    func send(_ request: Request, _ completion: @escaping @Sendable (Reply) -> Void) { send(request, to: 0, completion) }

    private func send(_ request: Request, to index: Int, _ completion: @escaping @Sendable (Reply) -> Void) {
        guard let url = URL(string: addresses[index] + request.path) else {
            return completion(.unreachable("\(addresses[index])\(request.path) is no address"))
        }
        var message = URLRequest(url: url, timeoutInterval: requestTimeout)
        message.httpMethod = request.method
        message.httpBody = request.body.map { Data($0) }
        message.setValue("application/vnd.schemaregistry.v1+json", forHTTPHeaderField: request.body == nil ? "Accept" : "Content-Type")
        if let authorization { message.setValue(authorization, forHTTPHeaderField: "Authorization") }
        let task = session.dataTask(with: message)
        collector.expect(task) { [weak self] reply in
            guard let self, index + 1 < addresses.count else { return completion(reply) }
            switch reply {
            case .answered(let status, _) where status < 500: completion(reply)
            case .answered, .unreachable: send(request, to: index + 1, completion)
            }
        }
        task.resume()
    }

    /// Sends the request and waits for the reply.
    func sendAndWait(_ request: Request) -> Reply {
        let done = DispatchSemaphore(value: 0)
        let result = Mutex<Reply>(.unreachable("no answer"))
        send(request) { reply in
            result.withLock { $0 = reply }
            done.signal()
        }
        done.wait()
        return result.withLock { $0 }
    }

    // MARK: Pieces of answers

    /// The registry's own error code and message, or the beginning of whatever else was answered.
    static func problem(in body: [UInt8]) -> (code: Int64?, message: String) {
        let text = String(decoding: body, as: UTF8.self)
        guard let tree = try? JSONTree(parsing: text), let message = tree["message"]?.stringValue else { return (nil, String(text.prefix(200))) }
        return (tree["error_code"]?.integerValue, String(message.prefix(500)))
    }

    static func id(in body: [UInt8]) -> UInt32? {
        let tree = try? JSONTree(parsing: String(decoding: body, as: UTF8.self))
        return tree?["id"]?.integerValue.flatMap { UInt32(exactly: $0) }
    }

    /// A name as a part of a path.
    static func escaped(_ name: String) -> String {
        var allowed = CharacterSet.alphanumerics.intersection(CharacterSet(charactersIn: Unicode.Scalar(0)..<Unicode.Scalar(128)))
        allowed.insert(charactersIn: "-_.~")
        return name.addingPercentEncoding(withAllowedCharacters: allowed) ?? name
    }
}

/// Puts the answers of a session together, up to their bound.
private final class ReplyCollector: NSObject, URLSessionDataDelegate, Sendable {
    private struct Pending {
        var body: [UInt8] = []
        var isTooLarge = false
        let completion: @Sendable (RegistryHTTP.Reply) -> Void
    }
    private let pending = Mutex<[Int: Pending]>([:])

    func expect(_ task: URLSessionTask, _ completion: @escaping @Sendable (RegistryHTTP.Reply) -> Void) {
        pending.withLock { $0[task.taskIdentifier] = Pending(completion: completion) }
    }

    func urlSession(_ session: URLSession, dataTask: URLSessionDataTask, didReceive data: Data) {
        let isTooLarge = pending.withLock { pending in
            guard var entry = pending[dataTask.taskIdentifier] else { return false }
            if entry.body.count + data.count > RegistryHTTP.answerBytesMax { entry.isTooLarge = true } else { entry.body += data }
            pending[dataTask.taskIdentifier] = entry
            return entry.isTooLarge
        }
        if isTooLarge { dataTask.cancel() }
    }

    func urlSession(_ session: URLSession, task: URLSessionTask, didCompleteWithError error: (any Error)?) {
        guard let entry = pending.withLock({ $0.removeValue(forKey: task.taskIdentifier) }) else { return }
        let status = (task.response as? HTTPURLResponse)?.statusCode
        if entry.isTooLarge {
            entry.completion(.unreachable("an answer of more than \(RegistryHTTP.answerBytesMax) bytes"))
        } else if let error {
            entry.completion(.unreachable(Self.words(error)))
        } else if let status {
            entry.completion(.answered(status: status, body: entry.body))
        } else {
            entry.completion(.unreachable("no answer"))
        }
    }

    /// Foundation on Linux trusts the authorities of the system, and cannot be given others.
    private static func words(_ error: any Error) -> String {
        // The code of the error is of no kind: the words are those of libcurl and OpenSSL.
        guard error.localizedDescription.contains("certificate") else { return error.localizedDescription }
        return error.localizedDescription
            + "; an authority of one's own is trusted once it is among the system's (on Debian: /usr/local/share/ca-certificates, then"
            + " update-ca-certificates)"
    }
}
