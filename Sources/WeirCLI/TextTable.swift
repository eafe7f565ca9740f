/// Columns under titles, as wide as their widest cell, two blanks apart.
package struct TextTable {
    package enum Alignment: Sendable { case left, right }

    private let columns: [(title: String, alignment: Alignment)]
    private var rows: [[String]] = []

    package init(_ columns: (title: String, alignment: Alignment)...) {
        self.columns = columns
    }

    package var isEmpty: Bool { rows.isEmpty }

    /// - Precondition: One cell a column.
    package mutating func add(_ cells: String...) {
        precondition(cells.count == columns.count, "a row has one cell a column")
        // A line break or another control character would break the alignment, or worse, the terminal.
        rows.append(cells.map { oneLine($0) })
    }

    /// The lines, without blanks at their ends and without a newline at the last.
    package var text: String {
        let table = [columns.map(\.title)] + rows
        let widths = columns.indices.map { column in table.map { $0[column].count }.max() ?? 0 }
        return table.map { row in
            var line = ""
            for (index, cell) in row.enumerated() {
                if index > 0 { line += "  " }
                let padding = String(repeating: " ", count: widths[index] - cell.count)
                line += columns[index].alignment == .left ? cell + padding : padding + cell
            }
            while line.last == " " { line.removeLast() }
            return line
        }.joined(separator: "\n")
    }
}

/// The text with every run of control characters replaced by one blank.
package func oneLine(_ text: String) -> String {
    var result = ""
    var gap = false
    for scalar in text.unicodeScalars {
        guard scalar.value >= 0x20, scalar.value != 0x7F else {
            gap = true
            continue
        }
        if gap, !result.isEmpty { result += " " }
        gap = false
        result.unicodeScalars.append(scalar)
    }
    return result
}
