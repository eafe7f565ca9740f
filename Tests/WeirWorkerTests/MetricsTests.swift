import CoreMetrics
import Synchronization
import Testing
import WeirBase
import WeirDataflow
import WeirWire
import WeirWorker

/// A backend that keeps what it is told.
private final class RecordingFactory: MetricsFactory {
    final class Handler: CounterHandler, RecorderHandler {
        let label: String
        let dimensions: [String: String]
        private let values = Mutex<[Int64]>([])

        init(_ label: String, _ dimensions: [(String, String)]) {
            self.label = label
            self.dimensions = Dictionary(dimensions, uniquingKeysWith: { first, _ in first })
        }
        var told: [Int64] { values.withLock { $0 } }
        func increment(by amount: Int64) { values.withLock { $0.append(amount) } }
        func reset() {}
        func record(_ value: Int64) { values.withLock { $0.append(value) } }
        func record(_ value: Double) { values.withLock { $0.append(Int64(value)) } }
    }

    private let live = Mutex<[Handler]>([])
    private let destroyed = Mutex(0)

    func handler(_ label: String, subtask: Int = 0) -> Handler? {
        live.withLock { $0.first { $0.label == label && $0.dimensions["subtask_index"] == "\(subtask)" } }
    }
    var labels: [String] { live.withLock { $0.map(\.label) } }

    private func make(_ label: String, _ dimensions: [(String, String)]) -> Handler {
        let handler = Handler(label, dimensions)
        live.withLock { $0.append(handler) }
        return handler
    }
    func makeCounter(label: String, dimensions: [(String, String)]) -> any CounterHandler { make(label, dimensions) }
    func makeRecorder(label: String, dimensions: [(String, String)], aggregate: Bool) -> any RecorderHandler { make(label, dimensions) }
    func makeTimer(label: String, dimensions: [(String, String)]) -> any TimerHandler { NOOPMetricsHandler.instance }
    func destroyCounter(_ handler: any CounterHandler) { live.withLock { $0.removeAll { $0 === handler as AnyObject } } }
    func destroyRecorder(_ handler: any RecorderHandler) { live.withLock { $0.removeAll { $0 === handler as AnyObject } } }
    func destroyTimer(_ handler: any TimerHandler) {}
}

@Suite struct MetricsTests {
    private let factory = RecordingFactory()

    private func export() -> MetricsExport { MetricsExport(jobName: "Totals", taskManager: "tm-1", factory: factory) }

    private func sample(_ index: Int32 = 0, epoch: UInt32 = 1, _ change: (inout TaskSample) -> Void) -> MetricsExport.Sample {
        var metrics = TaskSample()
        change(&metrics)
        return .init(
            attempt: TaskAttempt(epoch: Epoch(epoch), subtask: SubtaskID(vertex: VertexID(3), index: index)), taskName: "readings -> window",
            metrics: metrics)
    }

    @Test func timesAreSharesOfTheTimeSinceTheLastReport() {
        var export = export()
        let first = export.publish([
            sample {
                $0.busyNanoseconds = 100
                $0.idleNanoseconds = 300
            }
        ])
        #expect(first[0].busyRatio == 0.25 && first[0].idleRatio == 0.75 && first[0].backPressuredRatio == 0)
        let second = export.publish([
            sample {
                $0.busyNanoseconds = 200
                $0.idleNanoseconds = 300
                $0.backPressuredNanoseconds = 100
            }
        ])
        #expect(second[0].busyRatio == 0.5 && second[0].idleRatio == 0 && second[0].backPressuredRatio == 0.5)
        #expect(factory.handler("weir.task.busyTimeMsPerSecond")?.told == [250, 500])
        #expect(factory.handler("weir.task.backPressuredTimeMsPerSecond")?.told == [0, 500])
        let third = export.publish([
            sample {
                $0.busyNanoseconds = 200
                $0.idleNanoseconds = 300
                $0.backPressuredNanoseconds = 100
            }
        ])
        #expect(third[0].busyRatio == 0)
    }

    @Test func lateRecordsAreThoseThatTheOperatorsDropped() {
        var export = export()
        let messages = export.publish([
            sample {
                $0.operators = [("a", [.init("numLateRecordsDropped", 2)]), ("b", [.init("numLateRecordsDropped", 3), .init("other", 9)])]
            }
        ])
        #expect(messages[0].lateRecords == 5)
        #expect(messages[0].counters == ["a.numLateRecordsDropped": 2, "b.numLateRecordsDropped": 3, "b.other": 9])
    }

    @Test func sumsGrowAndBeginAnewBehindARestart() {
        var export = export()
        for value in [5, 5, 12] { _ = export.publish([sample { $0.recordsIn = value }]) }
        #expect(factory.handler("weir.task.numRecordsIn")?.told == [5, 7])
        _ = export.publish([sample(epoch: 2) { $0.recordsIn = 4 }])
        #expect(factory.handler("weir.task.numRecordsIn")?.told == [5, 7, 4])
    }

    @Test func statesAreGaugesWithTheDimensionsOfTheirOperator() {
        var export = export()
        _ = export.publish([sample { $0.operators = [("readings", [.init("pendingRecords", 9, isGauge: true), .init("numBytesIn", 1)])] }])
        _ = export.publish([sample { $0.operators = [("readings", [.init("pendingRecords", 3, isGauge: true), .init("numBytesIn", 1)])] }])
        let gauge = factory.handler("weir.operator.pendingRecords")
        #expect(gauge?.told == [9, 3])
        #expect(
            gauge?.dimensions == [
                "job_name": "Totals", "tm_id": "tm-1", "task_name": "readings -> window", "subtask_index": "0", "operator_name": "readings",
            ])
        #expect(factory.handler("weir.operator.numBytesIn")?.told == [1])
        // A counter becomes a gauge when it is first set.
        _ = export.publish([sample { $0.operators = [("readings", [.init("numBytesIn", 7, isGauge: true)])] }])
        #expect(factory.handler("weir.operator.numBytesIn")?.told == [7])
    }

    @Test func theWatermarkIsToldOnceThereIsOne() {
        var export = export()
        #expect(export.publish([sample { _ in }])[0].watermarkMs == .min)
        #expect(factory.handler("weir.task.currentInputWatermark") == nil)
        #expect(export.publish([sample { $0.watermark = 77 }])[0].watermarkMs == 77)
        #expect(factory.handler("weir.task.currentInputWatermark")?.told == [77])
    }

    @Test func numbersOfTasksThatLeftAreTakenBack() {
        var export = export()
        _ = export.publish([sample(0) { $0.recordsIn = 1 }, sample(1) { $0.recordsIn = 2 }])
        #expect(factory.handler("weir.task.numRecordsIn", subtask: 1)?.told == [2])
        _ = export.publish([sample(0) { $0.recordsIn = 1 }])
        #expect(factory.handler("weir.task.numRecordsIn", subtask: 1) == nil)
        #expect(factory.handler("weir.task.numRecordsIn", subtask: 0)?.told == [1])
        _ = export.publish([])
        #expect(factory.labels.isEmpty)
    }

    @Test func aCounterThatIsSetIsAState() {
        let counter = WeirDataflow.Counter()
        counter.add(3)
        #expect(!counter.isGauge)
        counter.set(2)
        #expect(counter.isGauge && counter.value == 2)
    }
}
