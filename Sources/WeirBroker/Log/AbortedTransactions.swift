internal import WeirBase

/// A transaction of one partition that ended in an abort marker: `read_committed` consumers skip its records.
package struct AbortedTransaction: Equatable, Sendable {
    package var producerID: Int64
    /// Of its first record in the partition.
    package var firstOffset: Int64
    /// Of its abort marker.
    package var markerOffset: Int64
    /// The partition's last stable offset once the marker was written: every transaction that ends later starts at or after it.
    package var lastStableOffset: Int64

    package init(producerID: Int64, firstOffset: Int64, markerOffset: Int64, lastStableOffset: Int64) {
        self.producerID = producerID
        self.firstOffset = firstOffset
        self.markerOffset = markerOffset
        self.lastStableOffset = lastStableOffset
    }

    func encode(to writer: inout ByteWriter) {
        writer.writeI64(producerID)
        writer.writeI64(firstOffset)
        writer.writeI64(markerOffset)
        writer.writeI64(lastStableOffset)
    }

    init(from reader: inout ByteReader) throws(DecodingFailure) {
        producerID = try reader.readI64()
        firstOffset = try reader.readI64()
        markerOffset = try reader.readI64()
        lastStableOffset = try reader.readI64()
    }
}

/// The aborted transactions of a partition, in the order of their markers.
struct AbortedTransactions: Equatable {
    private(set) var transactions: [AbortedTransaction] = []

    /// - Parameter transaction: Its marker comes after all before it.
    mutating func add(_ transaction: AbortedTransaction) {
        precondition(transactions.last.map { $0.markerOffset < transaction.markerOffset } ?? true, "abort markers come in order")
        transactions.append(transaction)
    }

    /// Those that have records in a range of offsets, or had before it and end in or after it: a consumer that starts at the range's lower bound
    /// sees the markers of the latter and must know of their records.
    ///
    /// - Returns: By first offset, as the Fetch response wants them.
    /// - Complexity: O(log n) and those between the range's lower bound and the last that can overlap it.
    func overlapping(_ range: Range<Int64>) -> [AbortedTransaction] {
        var found: [AbortedTransaction] = []
        for transaction in transactions[firstIndex(markerAtOrAfter: range.lowerBound)...] {
            if transaction.firstOffset < range.upperBound { found.append(transaction) }
            if transaction.lastStableOffset >= range.upperBound { break }
        }
        return found.sorted { ($0.firstOffset, $0.producerID) < ($1.firstOffset, $1.producerID) }
    }

    /// Those whose marker lies in a range of offsets: what a segment's file keeps.
    func withMarkers(in range: Range<Int64>) -> [AbortedTransaction] {
        Array(transactions[firstIndex(markerAtOrAfter: range.lowerBound)..<firstIndex(markerAtOrAfter: range.upperBound)])
    }

    /// Forgets those that ended before an offset, which is now the first of the log.
    mutating func removeAll(endedBefore offset: Int64) { transactions.removeSubrange(..<firstIndex(markerAtOrAfter: offset)) }

    private func firstIndex(markerAtOrAfter offset: Int64) -> Int {
        var low = 0
        var high = transactions.count
        while low < high {
            let middle = (low + high) / 2
            if transactions[middle].markerOffset >= offset { high = middle } else { low = middle + 1 }
        }
        return low
    }
}
