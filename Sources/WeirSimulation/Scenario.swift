package import WeirBase
package import WeirControl
import WeirGraph

/// What a seed stands for: the cluster, the jobs, and how bad the weather is.
package struct Scenario: Sendable {
    package enum Ending: Sendable, Hashable {
        /// Runs until it is looked at.
        case unbounded
        /// Sources end by themselves; with `answersAfterEnd` finished tasks go on answering barriers.
        case bounded(answersAfterEnd: Bool)
        case cancelled(at: Duration)
        case stoppedWithSavepoint(at: Duration, SavepointMode)
    }

    package struct Job: Sendable {
        package var submission: JobSubmission
        package var submitAt: Duration
        package var ending: Ending
        package var savepointAt: Duration?
    }

    package var taskManagers: [(id: TaskManagerID, slots: Int)]
    package var jobs: [Job]
    package var options: ControlOptions
    /// Faults happen until then; what can run must run after it.
    package var faultsUntil: Duration
    package var end: Duration
    /// Per mille of messages at which the receiver crashes.
    package var crashPerMessage: Int
    /// Milliseconds between faults of the weather.
    package var faultEvery: ClosedRange<Int>
    package var publishFails: Int
    package var declines: Int
    package var lateAcknowledgements: Int
    package var damagesRestore: Int

    package init(seed: UInt64) {
        var draw = Draw(seed: seed ^ 0x5CE7_A210)
        options = ControlOptions()
        options.heartbeatInterval = .milliseconds(500)
        options.heartbeatTimeout = .milliseconds(2_000)
        options.workerStartTimeout = .seconds(4)
        options.evenlySpreadOutSlots = draw.chance(500)
        faultsUntil = .seconds(25)
        end = .seconds(70)
        let isCalm = draw.chance(100)
        crashPerMessage = isCalm ? 0 : draw.below(4)
        faultEvery = isCalm ? 100_000...100_000 : 200...draw.within(800...6_000)
        publishFails = draw.chance(500) ? draw.below(150) : 0
        declines = draw.chance(300) ? draw.below(20) : 0
        lateAcknowledgements = draw.chance(400) ? draw.below(60) : 0
        damagesRestore = draw.chance(150) ? draw.below(40) : 0

        jobs = []
        for index in 0..<draw.within(1...3) { jobs.append(Self.job(index, seed: seed, draw: &draw)) }
        let needed = jobs.reduce(0) { $0 + $1.submission.graph.slotsNeeded }
        taskManagers = []
        var slots = 0
        while slots < needed || taskManagers.count < 2 {
            let count = draw.within(1...3)
            taskManagers.append((TaskManagerID("tm-\(taskManagers.count)"), count))
            slots += count
        }
    }

    private static func job(_ index: Int, seed: UInt64, draw: inout Draw) -> Job {
        let graph = graph(name: "job-\(index)", draw: &draw)
        var submission = JobSubmission(
            job: JobID(high: seed, low: UInt64(index)), graph: graph,
            artifact: ArtifactReference(sha256: String(repeating: "ab", count: 32), sizeBytes: 1_000))
        submission.options.cancellationTimeout = .seconds(2)
        submission.options.checkpointing.interval = .milliseconds(draw.within(200...1_500))
        submission.options.checkpointing.timeout = .seconds(3)
        submission.options.checkpointing.maxConcurrent = draw.within(1...3)
        if submission.options.checkpointing.maxConcurrent == 1 { submission.options.checkpointing.minPause = .milliseconds(draw.within(0...300)) }
        submission.options.checkpointing.tolerableFailed = draw.within(0...3)
        submission.options.checkpointing.retained = draw.within(1...3)
        if draw.chance(300) { submission.options.checkpointing.retention = draw.chance(500) ? .deleteOnCancellation : .never }
        var restart = ExponentialDelayOptions()
        restart.initialBackoff = .milliseconds(draw.within(0...100))
        restart.maxBackoff = .seconds(2)
        restart.resetThreshold = .seconds(10)
        submission.options.restartStrategy = .exponentialDelay(restart)
        submission.firstEpoch = Epoch(UInt32(draw.within(1...5)))
        if draw.chance(250) { submission.restoreFrom = [restored(graph, job: submission.job, draw: &draw)] }
        let ending: Ending
        switch draw.below(6) {
        case 0, 1: ending = .unbounded
        case 2: ending = .bounded(answersAfterEnd: true)
        case 3: ending = .bounded(answersAfterEnd: false)
        case 4: ending = .cancelled(at: draw.milliseconds(0...30_000))
        default: ending = .stoppedWithSavepoint(at: draw.milliseconds(3_000...35_000), draw.chance(400) ? .drains : .stops)
        }
        let savepoint: Duration? = draw.chance(300) ? draw.milliseconds(1_000...20_000) : nil
        return Job(submission: submission, submitAt: draw.milliseconds(0...5_000), ending: ending, savepointAt: savepoint)
    }

    /// What another job left: a savepoint or checkpoint, claimed or not.
    private static func restored(_ graph: JobGraph, job: JobID, draw: inout Draw) -> CompletedCheckpoint {
        let vertices = graph.vertices.map { vertex in
            CheckpointVertex(vertex: vertex.id, operators: vertex.nodes.map { CheckpointOperator(uid: $0.uid) }, parallelism: vertex.parallelism)
        }
        let handles = graph.subtasks.sorted().map { subtask in
            StateHandle(subtask: subtask, content: .file(StateFile(path: "\(job.low)/restored/\(subtask)", lengthBytes: 100, crc32c: 7)))
        }
        return CompletedCheckpoint(
            job: job, id: CheckpointID(UInt64(draw.within(1...9))), kind: draw.chance(500) ? .savepoint(directory: "/restored") : .periodic,
            epoch: Epoch(1), maxParallelism: graph.maxParallelism, vertices: vertices, handles: handles, path: "/restored",
            isOwned: draw.chance(500))
    }

    /// source (and now and then a second one) → map → sink, each of its own width, every edge all to all.
    private static func graph(name: String, draw: inout Draw) -> JobGraph {
        var vertices: [JobVertex] = []
        func add(_ kind: StreamNode.Kind, _ name: String, _ parallelism: Int) -> VertexID {
            let id = VertexID(Int32(vertices.count))
            let node = JobNode(id: id.rawValue, uid: "\(name)-\(id)", name: name, kind: kind)
            vertices.append(JobVertex(id: id, nodes: [node], parallelism: parallelism))
            return id
        }
        let sources = (0..<draw.within(1...2)).map { _ in add(.source, "source", draw.within(1...3)) }
        let map = add(.operator, "map", draw.within(1...3))
        let sink = add(.sink, "sink", draw.within(1...2))
        var edges: [JobEdge] = []
        for (from, to) in sources.map({ ($0, map) }) + [(map, sink)] {
            edges.append(JobEdge(id: Int32(edges.count), from: from, fromNode: from.rawValue, to: to, partitioner: .hash))
        }
        return JobGraph(name: name, maxParallelism: 16, vertices: vertices, edges: edges)
    }
}
