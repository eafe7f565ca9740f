internal import CWeirProcess
internal import Glibc
internal import Synchronization
internal import WeirBase

/// Starts each worker as a process of its own, in a session of its own.
///
/// - Important: The worker asks the kernel for SIGKILL at the death of its parent, and the kernel means the *thread* that spawned it.
///   So all launches must come from one thread that lives as long as the TaskManager.
package struct ProcessWorkerLauncher: WorkerLauncher {
    package init() {}

    package var needsArtifact: Bool { true }

    package func launch(
        _ launch: WorkerLaunch, onExit: @escaping @Sendable (WorkerExit) -> Void
    ) throws(WorkerLaunchFailure) -> any RunningWorkerHandle {
        let output = try Self.openLog(launch.standardOutputPath)
        defer { close(output) }
        let errors = try Self.openLog(launch.standardErrorPath)
        defer { close(errors) }
        // The worker reads its stdin: end of file tells it that the TaskManager is gone, also where PR_SET_PDEATHSIG comes too late.
        var pipe: [Int32] = [-1, -1]
        let piped = weir_pipe(&pipe)
        guard piped == 0 else { throw WorkerLaunchFailure("cannot create a pipe for worker \(launch.worker): \(errnoText(-piped))") }
        defer { close(pipe[0]) }
        let environment = launch.environment.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }
        let pid = withCStrings([launch.executable] + launch.arguments) { arguments in
            withCStrings(environment) { environment in
                weir_spawn(launch.executable, arguments, environment, [pipe[0], output, errors], 3, 1)
            }
        }
        guard pid > 0 else {
            close(pipe[1])
            throw WorkerLaunchFailure("cannot start \(launch.executable): \(errnoText(-pid))")
        }
        let process = WorkerProcess(processID: pid, standardInput: pipe[1], standardErrorPath: launch.standardErrorPath, onExit: onExit)
        process.watch()
        return process
    }

    private static func openLog(_ path: String) throws(WorkerLaunchFailure) -> Int32 {
        let descriptor = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0o644)
        guard descriptor >= 0 else { throw WorkerLaunchFailure("cannot open the log file \(path): \(errnoText())") }
        return descriptor
    }
}

/// One spawned process and the thread that waits for it.
private final class WorkerProcess: RunningWorkerHandle {
    private struct State {
        var reaped = false
        /// Held open for as long as the worker lives: its end of file is the worker's signal to end.
        var standardInput: Int32
        var onExit: (@Sendable (WorkerExit) -> Void)?
    }

    let processID: pid_t
    private let standardErrorPath: String
    private let state: Mutex<State>

    var pid: UInt32 { UInt32(processID) }

    init(processID: pid_t, standardInput: Int32, standardErrorPath: String, onExit: @escaping @Sendable (WorkerExit) -> Void) {
        self.processID = processID
        self.standardErrorPath = standardErrorPath
        state = Mutex(State(standardInput: standardInput, onExit: onExit))
    }

    func watch() {
        let started = startThread(name: "weir-reaper") { self.reap() }
        // Without a thread nobody would ever hear of the exit: better no worker. Blocks for the moment that SIGKILL takes.
        guard !started else { return }
        signal(SIGKILL)
        reap()
    }

    func stop(grace: Duration) {
        guard grace > .zero else { return signal(SIGKILL) }
        signal(SIGTERM)
        let started = startThread(name: "weir-stop") {
            // The process is waited for by the other thread; this one only has to be on time.
            var left = grace.inMilliseconds
            while left > 0, !self.state.withLock({ $0.reaped }) {
                let step = min(left, 20)
                usleep(useconds_t(step * 1_000))
                left -= step
            }
            self.signal(SIGKILL)
        }
        if !started { signal(SIGKILL) }
    }

    /// Signals the worker's process group, unless it was reaped: its number may belong to another process by then.
    private func signal(_ number: Int32) {
        state.withLock { state in
            guard !state.reaped else { return }
            // Between the spawn and its setsid the group does not exist yet.
            if kill(-processID, number) != 0 { kill(processID, number) }
        }
    }

    private func reap() {
        var info = siginfo_t()
        while waitid(P_PID, id_t(processID), &info, WEXITED | WNOWAIT) != 0, errno == EINTR {}
        let (status, onExit) = state.withLock { state -> (Int32, (@Sendable (WorkerExit) -> Void)?) in
            var status: Int32 = 0
            // What the worker left running in its session goes with it.
            kill(-processID, SIGKILL)
            while waitpid(processID, &status, 0) < 0, errno == EINTR {}
            state.reaped = true
            close(state.standardInput)
            state.standardInput = -1
            return (status, state.onExit.take())
        }
        onExit?(WorkerExit(status: Self.decode(status), standardErrorTail: StandardErrorTail.read(path: standardErrorPath)))
    }

    private static func decode(_ status: Int32) -> WorkerExit.Status {
        let signal = status & 0x7f
        return signal == 0 ? .exited((status >> 8) & 0xff) : .signaled(signal)
    }
}
