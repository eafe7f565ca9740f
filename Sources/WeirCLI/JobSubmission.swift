internal import Glibc
internal import WeirTransport
package import WeirWire

/// Takes a binary to a running job: check, describe, upload, submit.
package struct JobSubmission {
    package var binary: String
    package var arguments: [String]
    package var name: String?
    package var parallelism: Int?
    package var restorePath: String?
    /// Whether what it starts from becomes the job's.
    package var claims = false
    package var allowsUnclaimedState = false
    /// Laid over what the job itself sets.
    package var options: [String: String]

    package init(
        binary: String, arguments: [String] = [], name: String? = nil, parallelism: Int? = nil, restorePath: String? = nil,
        options: [String: String] = [:]
    ) {
        self.binary = binary
        self.arguments = arguments
        self.name = name
        self.parallelism = parallelism
        self.restorePath = restorePath
        self.options = options
    }

    /// Runs the binary for its description, and adds what only this command knows.
    ///
    /// - Parameters:
    ///   - isChecked: Whether connectors look at what the job needs: brokers, topics.
    ///   - warn: Is called with each doubtful finding.
    package func describe(
        runner: any ProgramRunner = PosixProgramRunner(), isChecked: Bool = false, warn: (String) -> Void = { _ in }
    ) throws(CommandFailure) -> WireSubmitJob {
        var submission = try JobDescription(runner: runner).describe(
            binary: executablePath, arguments: arguments, parallelism: parallelism, checkedWith: isChecked ? options : nil, warn: warn)
        submission.arguments = arguments
        if let name { submission.name = name }
        if submission.name.isEmpty { submission.name = String(binary.split(separator: "/").last ?? Substring(binary)) }
        if let parallelism { submission.parallelism = UInt32(parallelism) }
        if let restorePath { submission.restorePath = Self.absolute(restorePath) }
        submission.claim = claims
        submission.allowNonRestoredState = allowsUnclaimedState
        submission.options.merge(options) { _, new in new }
        return submission
    }

    /// A name without a slash is a file here, not one of PATH.
    private var executablePath: String { binary.contains("/") ? binary : "./" + binary }

    /// The JobManager runs in another directory.
    static func absolute(_ path: String) -> String {
        guard !path.hasPrefix("/"), !path.contains("://") else { return path }
        guard let directory = getcwd(nil, 0) else { return path }
        defer { free(directory) }
        return String(cString: directory) + "/" + path
    }

    /// Submits under one request id: a second try is answered with the same job.
    ///
    /// - Returns: The job's id, and the connection that is in use at the end.
    package static func submit(
        _ submission: WireSubmitJob, artifact: ArtifactFile, client first: JobManagerClient, tries: Int = 3
    ) throws(CommandFailure) -> (job: String, client: JobManagerClient) {
        var submission = submission
        submission.requestID = randomID()
        submission.artifactSha256 = artifact.sha256
        submission.artifactBytes = artifact.bytes
        var client = first
        for attempt in 1... {
            do {
                let reply = try client.request(.submitJob, submission, deadline: .seconds(60), as: WireSubmitJobReply.self)
                switch reply.outcome {
                case .job(let job)?: return (job, client)
                case .failure(let failure)?: throw CommandFailure("the job was refused", detail: WeirCLI.describe(failure))
                case nil: throw CommandFailure("the JobManager answered the submission with nothing", hint: "do both run the same release of Weir?")
                }
            } catch let failure as CommandFailure {
                throw failure
            } catch let failure as RPCFailure {
                guard attempt < tries, failure.kind == .connectionLost || failure.kind == .notConnected else {
                    throw JobManagerClient.inWords(failure, purpose: "submit the job", address: client.address)
                }
                client = try JobManagerClient(client.address)
            } catch {
                throw CommandFailure("cannot submit the job: \(error)")
            }
        }
        throw CommandFailure("cannot submit the job")
    }

    /// 32 hexadecimal digits that no other submission has.
    private static func randomID() -> String {
        (0..<16).map { _ in
            let byte = UInt8.random(in: .min ... .max)
            return (byte < 16 ? "0" : "") + String(byte, radix: 16)
        }.joined()
    }
}
