import Foundation
import Testing
import WeirTaskManager

@Suite struct ProcessWorkerLauncherTests {
    private let directory: ScratchDirectory

    init() throws { directory = try ScratchDirectory() }

    private func run(_ script: String, environment: [String: String] = [:]) throws -> WorkerExit {
        let exits = Inbox<WorkerExit>()
        _ = try ProcessWorkerLauncher().launch(shellLaunch(script, in: directory, environment: environment)) { exits.put($0) }
        return try #require(exits.take())
    }

    @Test func exitCodeIsReported() throws {
        #expect(try run("exit 3").status == .exited(3))
        #expect(try run("exit 0").status == .exited(0))
    }

    @Test func signalIsReported() throws {
        #expect(try run("kill -9 $$") == WorkerExit(status: .signaled(9), standardErrorTail: []))
    }

    @Test func aTrapIsReportedWithWhatWasSaidBefore() throws {
        let exit = try run("echo 'Fatal error: Index out of range' >&2; kill -ILL $$")
        #expect(exit == WorkerExit(status: .signaled(4), standardErrorTail: ["Fatal error: Index out of range"]))
    }

    @Test func outputGoesToTheLogFilesAndTheEndOfStderrIntoTheReport() throws {
        let exit = try run("echo out; for i in $(seq 1 30); do echo line $i >&2; done; exit 1")
        #expect(exit.standardErrorTail == (11...30).map { "line \($0)" })
        #expect(text(directory.path + "/w1.out") == "out\n")
        #expect(text(directory.path + "/w1.err").hasPrefix("line 1\nline 2\n"))
    }

    @Test func environmentIsExactlyTheGivenOne() throws {
        _ = try run("env", environment: ["WEIR_MODE": "worker", "WITH_BLANKS": "a b = c"])
        let lines = text(directory.path + "/w1.out").split(separator: "\n")
        #expect(lines.contains("WEIR_MODE=worker"))
        #expect(lines.contains("WITH_BLANKS=a b = c"))
        #expect(!lines.contains { $0.hasPrefix("HOME=") })
    }

    @Test func onlyTheThreeStandardDescriptorsAreOpen() throws {
        let file = FileHandle(forReadingAtPath: "/dev/null")
        // The shell itself opens the directory while it lists it.
        _ = try run("ls /proc/self/fd")
        #expect(file != nil)
        #expect(text(directory.path + "/w1.out").split(separator: "\n").count <= 4)
    }

    @Test func blockedAndIgnoredSignalsAreNotInherited() throws {
        signal(SIGPIPE, SIG_IGN)
        var set = sigset_t()
        sigemptyset(&set)
        sigaddset(&set, SIGUSR2)
        pthread_sigmask(SIG_BLOCK, &set, nil)
        defer { pthread_sigmask(SIG_UNBLOCK, &set, nil) }
        _ = try run("grep -E '^Sig(Blk|Ign)' /proc/self/status")
        // Signals 1 to 28: 32 and 33 are the C library's own.
        let lines = text(directory.path + "/w1.out").split(separator: "\n")
        #expect(lines.count == 2 && lines.allSatisfy { $0.hasSuffix("0000000") })
    }

    @Test func stopAsksFirst() throws {
        let exits = Inbox<WorkerExit>()
        let script = "trap 'echo asked; exit 7' TERM; echo up; while :; do sleep 0.02; done"
        let worker = try ProcessWorkerLauncher().launch(shellLaunch(script, in: directory)) { exits.put($0) }
        while text(directory.path + "/w1.out").isEmpty { usleep(2_000) }
        worker.stop(grace: .seconds(10))
        #expect(exits.take()?.status == .exited(7))
        #expect(text(directory.path + "/w1.out") == "up\nasked\n")
    }

    @Test func stopKillsAfterTheGrace() throws {
        let exits = Inbox<WorkerExit>()
        let worker = try ProcessWorkerLauncher().launch(
            shellLaunch("trap '' TERM; echo up; while :; do sleep 0.02; done", in: directory)
        ) { exits.put($0) }
        while text(directory.path + "/w1.out").isEmpty { usleep(2_000) }
        let started = ContinuousClock.now
        worker.stop(grace: .milliseconds(200))
        #expect(exits.take()?.status == .signaled(9))
        #expect(ContinuousClock.now - started >= .milliseconds(200))
    }

    @Test func whatTheWorkerStartedGoesWithIt() throws {
        let exits = Inbox<WorkerExit>()
        let worker = try ProcessWorkerLauncher().launch(
            shellLaunch("sleep 1000 & echo $!; wait", in: directory)
        ) { exits.put($0) }
        while !text(directory.path + "/w1.out").hasSuffix("\n") { usleep(2_000) }
        let child = try #require(Int32(text(directory.path + "/w1.out").dropLast()))
        worker.stop(grace: .zero)
        #expect(exits.take()?.status == .signaled(9))
        // An orphan that is dead but not reaped yet by process 1 still has a number.
        var state = ""
        for _ in 0..<500 {
            state = text("/proc/\(child)/stat")
            if state.isEmpty || state.contains(") Z ") { break }
            usleep(10_000)
        }
        #expect(state.isEmpty || state.contains(") Z "))
    }

    @Test func standardInputStaysOpenWhileTheWorkerRuns() throws {
        let exits = Inbox<WorkerExit>()
        let worker = try ProcessWorkerLauncher().launch(
            shellLaunch("read line; echo end of file", in: directory)
        ) { exits.put($0) }
        #expect(exits.take(within: 0.3) == nil)
        worker.stop(grace: .zero)
        #expect(exits.take()?.status == .signaled(9))
    }

    @Test func programThatIsNotThereIsSaidInWords() throws {
        var launch = shellLaunch("", in: directory)
        launch.executable = directory.path + "/missing"
        #expect(throws: WorkerLaunchFailure("cannot start \(directory.path)/missing: No such file or directory")) {
            try ProcessWorkerLauncher().launch(launch) { _ in }
        }
    }
}

@Suite struct StandardErrorTailTests {
    private func lines(_ text: String, cut: Bool = false) -> [String] { StandardErrorTail.lines(of: Array(text.utf8)[...], cut: cut) }

    @Test func linesAreCountedFromTheEnd() {
        #expect(lines("") == [])
        #expect(lines("a") == ["a"])
        #expect(lines("a\n\nb\n") == ["a", "", "b"])
        #expect(lines((1...25).map { "\($0)\n" }.joined()) == (6...25).map { "\($0)" })
    }

    @Test func aFatalErrorIsKeptWithTheLinesAroundItHoweverLongTheStackBelow() {
        let stack = (1...40).map { "\($0) frame" }
        let said = ["1", "2", "3", "4", "5", "main.swift:7: Fatal error: no such key"]
        let tail = lines((said + stack).joined(separator: "\n"))
        #expect(tail == Array(said.dropFirst()) + stack.prefix(15))
        #expect(lines("Fatal error: " + String(repeating: "x", count: 5_000) + "\n" + stack.joined(separator: "\n")).map(\.utf8.count) == [4_096])
    }

    @Test func brokenFirstLineIsDropped() {
        #expect(lines("roken\nwhole\n", cut: true) == ["whole"])
        #expect(lines("endless", cut: true) == ["ndless"])
    }

    @Test func bytesAreBounded() {
        let tail = lines(String(repeating: "x", count: 10_000), cut: true)
        #expect(tail.map(\.utf8.count) == [StandardErrorTail.bytesMax])
    }

    @Test func invalidTextIsRepaired() {
        #expect(StandardErrorTail.lines(of: [0xFF, 0x61][...], cut: false) == ["\u{FFFD}a"])
    }
}
