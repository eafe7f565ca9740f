internal import Dispatch
internal import Foundation
internal import Synchronization
public import WeirBase
public import WeirFormats

/// A client of a schema registry with Confluent's REST interface, version 1.
///
///     let registry = try ConfluentSchemaRegistry("http://localhost:8081")
///     .kafka(bootstrap, topics: ["readings"], format: try .avro(Reading.self, framing: .registry(registry, subject: "readings-value")))
///
/// Schemas are asked for in the background when a record first names them, and kept for as long as the client lives. A registry that does not
/// answer is asked again, with pauses; records wait meanwhile, and back pressure with them. After ``Options/timeout`` the job fails and
/// restarts by its strategy. An id that the registry does not have makes a record a bad one, to which the source's policy applies.
public final class ConfluentSchemaRegistry: SchemaRegistry {
    public struct Options: Sendable {
        /// How long one request may take.
        public var requestTimeout = Duration.seconds(5)
        /// How long the registry may not answer before the job fails.
        public var timeout = Duration.seconds(30)
        /// Whether a sink registers its schema; else the schema must be registered already.
        public var registersSchemas = true
        /// For a registry that asks for a name and a password.
        public var user: String?
        public var password: String?
        /// For a registry that asks for a token.
        public var bearerToken: String?

        public init() {}
    }

    private struct State {
        var lookup: SchemaLookup
        var waiting: [UInt32: [@Sendable () -> Void]] = [:]
    }

    private let http: RegistryHTTP
    private let options: Options
    private let queue = DispatchQueue(label: "weir.schema-registry")
    private let state: Mutex<State>

    /// - Parameter addresses: `http://host:port`, or several of them behind each other with commas, which are tried in turn.
    /// - Throws: Every problem of the addresses and options.
    public convenience init(_ addresses: String, options: Options = Options()) throws(ConfigurationError) {
        try self.init(addresses, options: options, limits: SchemaLookup.Limits())
    }

    package init(_ addresses: String, options: Options, limits: SchemaLookup.Limits) throws(ConfigurationError) {
        var problems: [String] = []
        if options.requestTimeout < .milliseconds(1) { problems.append("the request timeout of a schema registry must be at least 1 ms") }
        if options.timeout < options.requestTimeout { problems.append("the timeout of a schema registry is shorter than that of one request") }
        if (options.user == nil) != (options.password == nil) { problems.append("a schema registry needs both a user and a password, or neither") }
        if options.user != nil, options.bearerToken != nil { problems.append("a schema registry takes a password or a token, not both") }
        let urls = addresses.split(separator: ",").map { $0.trimmingCharacters(in: .whitespaces) }
        if urls.isEmpty { problems.append("a schema registry needs an address, such as http://localhost:8081") }
        for url in urls {
            guard let parsed = URL(string: url), ["http", "https"].contains(parsed.scheme), parsed.host?.isEmpty == false else {
                problems.append("\"\(url)\" is no address of a schema registry, such as http://localhost:8081")
                continue
            }
            if parsed.user != nil || parsed.password != nil {
                problems.append("the address of the schema registry at \(parsed.host ?? "") holds a password: set the options' user and password")
            }
        }
        if !problems.isEmpty { throw ConfigurationError(problems) }
        var limits = limits
        limits.timeout = options.timeout
        self.options = options
        http = RegistryHTTP(addresses: urls, options: options)
        state = Mutex(State(lookup: SchemaLookup(limits: limits)))
    }

    // MARK: Reading

    public func schema(id: UInt32) throws -> AvroSchema {
        switch step({ $0.ask(id, now: Self.now()) }) {
        case .schema(let schema): return schema
        case .absent(let failure): throw failure
        case .unreachable(let failure): throw failure
        case .pending:
            throw SchemaPending("schema \(id) of \(http.place)") { [self] body in
                // Answered between the record's question and now, perhaps.
                let (isAnswered, effects) = state.withLock { state in
                    let (answer, effects) = state.lookup.ask(id, now: Self.now())
                    guard case .pending = answer else { return (true, effects) }
                    state.waiting[id, default: []].append(body)
                    return (false, effects)
                }
                for effect in effects { perform(effect) }
                if isAnswered { body() }
            }
        }
    }

    private static func now() -> Instant { Instant(nanoseconds: Int64(DispatchTime.now().uptimeNanoseconds)) }

    private func step<Result: Sendable>(_ event: (inout SchemaLookup) -> (Result, [SchemaLookup.Effect])) -> Result {
        let (result, effects) = state.withLock { event(&$0.lookup) }
        for effect in effects { perform(effect) }
        return result
    }

    private func perform(_ effect: SchemaLookup.Effect) {
        switch effect {
        case .request(let id): request(id)
        case .requestLater(let id, let pause):
            queue.asyncAfter(deadline: .now() + .nanoseconds(Int(pause.inNanoseconds))) { [weak self] in self?.request(id) }
        case .wake(let id):
            for body in state.withLock({ $0.waiting.removeValue(forKey: id) ?? [] }) { body() }
        }
    }

    private func request(_ id: UInt32) {
        http.send(.init(method: "GET", path: "/schemas/ids/\(id)", body: nil)) { [weak self] reply in
            guard let self else { return }
            step { lookup in ((), lookup.finish(id, self.outcome(of: reply, id: id), now: Self.now())) }
        }
    }

    private func outcome(of reply: RegistryHTTP.Reply, id: UInt32) -> SchemaLookup.Outcome {
        let what = "schema \(id) of the registry at \(http.place)"
        func absent(_ message: String) -> SchemaLookup.Outcome { .absent(FormatFailure("Avro", .unknownSchema, message, offset: 1)) }
        switch reply {
        case .unreachable(let reason):
            return .failed(failure("cannot fetch \(what)", reason, recovery: .restart))
        case .answered(let status, let body):
            let (code, message) = RegistryHTTP.problem(in: body)
            switch status {
            case 200:
                guard let tree = try? JSONTree(parsing: String(decoding: body, as: UTF8.self)), let text = tree["schema"]?.stringValue else {
                    return .failed(failure("cannot fetch \(what)", "the answer is none of a schema registry", recovery: .restart))
                }
                let type = tree["schemaType"]?.stringValue ?? "AVRO"
                guard type == "AVRO" else { return absent("\(what) is of the type \(type), and no Avro") }
                guard tree["references"]?.arrayValue?.isEmpty ?? true else {
                    return absent("\(what) refers to other subjects, which Weir cannot follow: register it as one schema")
                }
                do throws(AvroSchemaFailure) { return .schema(try AvroSchema(parsing: text)) } catch {
                    return absent("\(what) is none: \(error.message)")
                }
            // The registry says so; a proxy that finds no such page does not have the code.
            case 404 where code == 40_403: return absent("a record of schema \(id), which the registry at \(http.place) does not have")
            case 401, 403:
                return .refused(
                    failure(
                        "the registry at \(http.place) does not permit to read \(what)", message, recovery: .fail, advice: "check user and password"))
            default: return .failed(failure("cannot fetch \(what)", "HTTP status \(status): \(message)", recovery: .restart))
            }
        }
    }

    private func failure(_ what: String, _ cause: String, recovery: JobFailure.Recovery, advice: String? = nil) -> JobFailure {
        JobFailure(domain: .external, recovery: recovery, message: advice.map { "\(what): \($0)" } ?? what, cause: cause)
    }

    // MARK: Writing

    /// Registers the schema under the subject, or finds its id where ``Options/registersSchemas`` is false. Waits up to ``Options/timeout``.
    public func register(_ schema: AvroSchema, subject: String) throws -> UInt32 {
        let path = "/subjects/\(RegistryHTTP.escaped(subject))"
        let body = JSONTree.object(["schema": .string(schema.text)]).text
        let request = RegistryHTTP.Request(method: "POST", path: options.registersSchemas ? path + "/versions" : path, body: Array(body.utf8))
        let start = Self.now()
        var pause = Duration.milliseconds(100)
        while true {
            let problem: JobFailure
            switch http.sendAndWait(request) {
            case .answered(let status, let body):
                if status == 200, let id = RegistryHTTP.id(in: body) { return id }
                problem = registrationFailure(status, body, subject)
            case .unreachable(let reason):
                problem = failure("cannot \(verb) the schema of subject \(subject) at \(http.place)", reason, recovery: .restart)
            }
            guard problem.recovery == .restart, start.duration(to: Self.now()) + pause < options.timeout else { throw problem }
            Thread.sleep(forTimeInterval: pause.inSeconds)
            pause = min(.seconds(5), pause * 2)
        }
    }

    private var verb: String { options.registersSchemas ? "register" : "look up" }

    private func registrationFailure(_ status: Int, _ body: [UInt8], _ subject: String) -> JobFailure {
        let message = RegistryHTTP.problem(in: body).message
        let what = "the schema of subject \(subject) at \(http.place)"
        switch status {
        case 401, 403: return failure("no permission to \(verb) \(what)", message, recovery: .fail, advice: "check user and password")
        case 404 where !options.registersSchemas:
            return failure("\(what) is not registered", message, recovery: .fail, advice: "register it, or let the sink do it (registersSchemas)")
        case 409:
            return failure(
                "the registry refuses \(what)", message, recovery: .fail,
                advice: "it does not go with the versions before; see the subject's compatibility")
        case 422: return failure("the registry refuses \(what)", message, recovery: .fail)
        default: return failure("cannot \(verb) \(what)", "HTTP status \(status): \(message)", recovery: .restart)
        }
    }
}
