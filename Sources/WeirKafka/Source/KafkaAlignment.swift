import WeirDataflow
import WeirStreams

/// A source's part in keeping watermarks together.
struct KafkaAlignment {
    private let wanted: WatermarkAlignment
    private var splits: SplitAlignment
    private var membership: (hub: WatermarkAlignmentHub, member: WatermarkAlignmentHub.Member)?

    init(wanted: WatermarkAlignment) {
        self.wanted = wanted
        splits = SplitAlignment(wanted)
    }

    mutating func join(_ hub: WatermarkAlignmentHub, waker: any Waker) { membership = (hub, hub.join(wanted.group, waker: waker)) }

    mutating func leave() {
        if let membership { membership.hub.leave(membership.member) }
        membership = nil
    }

    mutating func forget(_ split: Int) { splits.forget(split) }

    /// - Parameters:
    ///   - least: The least watermark of the source, `Int64.max` if it is idle.
    ///   - watermarks: Of the splits that are read or paused.
    mutating func decide(least: Int64, _ watermarks: [(split: Int, watermark: Int64)]) -> SplitAlignment.Decision {
        guard let membership else { return SplitAlignment.Decision() }
        return splits.decide(watermarks, least: membership.hub.report(membership.member, watermark: least))
    }
}

extension KafkaReader {
    /// Stops reading splits that are too far ahead of the group, and goes on with those that are so no longer.
    func align() {
        guard alignment != nil, isSettled else { return }
        let present = splits.indices.filter { splits[$0].phase == .reading }.map { (split: $0, watermark: watermarks.watermark(split: $0)) }
        guard let decision = alignment?.decide(least: watermarks.least, present) else { return }
        for split in decision.pause { splits[split].isPaused = true }
        for split in decision.resume { splits[split].isPaused = false }
        if !decision.pause.isEmpty { consumer?.pause(decision.pause.map { splits[$0].position.split }) }
        if !decision.resume.isEmpty { consumer?.resume(decision.resume.map { splits[$0].position.split }) }
    }
}
