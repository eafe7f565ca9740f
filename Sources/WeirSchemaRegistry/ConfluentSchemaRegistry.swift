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
    public struct Options: Sendable, CustomStringConvertible, CustomReflectable {
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

        /// Without secrets.
        public var description: String {
            let authentication = user.map { "user \($0), password *****" } ?? (bearerToken == nil ? "none" : "token *****")
            return "request timeout \(requestTimeout), timeout \(timeout), registers schemas \(registersSchemas), authentication \(authentication)"
        }

        public var customMirror: Mirror { Mirror(self, children: ["options": description]) }
    }

    private struct State {
        var lookup: SchemaLookup
        var waiting: [UInt32: [@Sendable () -> Void]] = [:]
    }

    private let http: RegistryHTTP
    private let options: Options
    private let queue = DispatchQueue(label: "weir.schema-registry")
    private let state: Mutex<State>

    /// - Parameter addresses: `http://host:port`, or several of them behind each other with commas, which are tried in turn. With `https` the
    ///   certificate authorities of the system count: one's own must be among them.
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
        let what = "schema \(id) of the registry at \(http.place)"
        http.send(.init(method: "GET", path: "/schemas/ids/\(id)", body: nil)) { [weak self] reply in
            guard let self else { return }
            switch fetched(reply, what, absence: "a record of schema \(id), which the registry at \(http.place) does not have") {
            case .failure(let ended): finish(id, ended.outcome)
            case .success(let schema): follow(SchemaReferences(schema.references), of: schema.text, id, what)
            }
        }
    }

    private func finish(_ id: UInt32, _ outcome: SchemaLookup.Outcome) {
        step { lookup in ((), lookup.finish(id, outcome, now: Self.now())) }
    }

    /// Fetches what a schema refers to, one after the other, and then parses all of it.
    private func follow(_ references: SchemaReferences, of text: String, _ id: UInt32, _ what: String) {
        var references = references
        let next: SchemaReferences.Reference?
        do { next = try references.next() } catch {
            return finish(id, Self.absent("\(what) refers to more than \(SchemaReferences.countMax) others"))
        }
        guard let next else {
            do throws(AvroSchemaFailure) {
                return finish(id, .schema(try AvroSchema(parsing: text, references: references.texts)))
            } catch {
                return finish(id, Self.absent("\(what) is none: \(error.message)"))
            }
        }
        let name = "version \(next.version) of subject \(next.subject)"
        let path = "/subjects/\(RegistryHTTP.escaped(next.subject))/versions/\(next.version)"
        let fetched = references
        http.send(.init(method: "GET", path: path, body: nil)) { [weak self] reply in
            guard let self else { return }
            switch self.fetched(reply, "\(name), which \(what) refers to", absence: "\(what) refers to \(name), which is not there") {
            case .failure(let ended): finish(id, ended.outcome)
            case .success(let schema):
                var references = fetched
                references.take(schema.text, schema.references)
                follow(references, of: text, id, what)
            }
        }
    }

    /// What a question for a schema ended with, where not with a schema.
    private struct Ended: Error {
        var outcome: SchemaLookup.Outcome
        init(_ outcome: SchemaLookup.Outcome) { self.outcome = outcome }
    }

    private static func absent(_ message: String) -> SchemaLookup.Outcome { .absent(FormatFailure("Avro", .unknownSchema, message, offset: 1)) }

    /// Reads the answer to a question for a schema.
    ///
    /// - Parameter absence: What to say of a record whose schema is not there.
    private func fetched(
        _ reply: RegistryHTTP.Reply, _ what: String, absence: String
    ) -> Result<(text: String, references: [SchemaReferences.Reference]), Ended> {
        func failed(_ cause: String) -> Ended { Ended(.failed(failure("cannot fetch \(what)", cause, recovery: .restart))) }
        guard case .answered(let status, let body) = reply else {
            if case .unreachable(let reason) = reply { return .failure(failed(reason)) }
            return .failure(failed("no answer"))
        }
        let (code, message) = RegistryHTTP.problem(in: body)
        switch status {
        case 200:
            guard let tree = try? JSONTree(parsing: String(decoding: body, as: UTF8.self)), let text = tree["schema"]?.stringValue else {
                return .failure(failed("the answer is none of a schema registry"))
            }
            let type = tree["schemaType"]?.stringValue ?? "AVRO"
            guard type == "AVRO" else { return .failure(Ended(Self.absent("\(what) is of the type \(type), and no Avro"))) }
            var references: [SchemaReferences.Reference] = []
            for reference in tree["references"]?.arrayValue ?? [] {
                guard let subject = reference["subject"]?.stringValue, let version = reference["version"]?.integerValue else {
                    return .failure(failed("the answer is none of a schema registry"))
                }
                references.append(.init(subject: subject, version: version))
            }
            return .success((text, references))
        // The registry says so (schema, subject, version not found); a proxy that finds no such page does not have the code.
        case 404 where [40_401, 40_402, 40_403].contains(code): return .failure(Ended(Self.absent(absence)))
        case 401, 403:
            return .failure(
                Ended(
                    .refused(
                        failure(
                            "the registry at \(http.place) does not permit to read \(what)", message, recovery: .fail,
                            advice: "check user and password"))))
        default: return .failure(failed("HTTP status \(status): \(message)"))
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
