// Counts words of text files: reads lines, writes a line "word count" each time a count changes.
import Weir

@Record struct WordTotal {
    var word: String
    var count: Int
}

@main struct WordCount: StreamJob {
    @Option(help: "A text file or a directory of them.") var input: String
    @Option(help: "The directory for the counts.") var output: String

    func define(in job: JobContext) throws {
        try job.source(.lines(input), uid: "lines")
            .flatMap { line in line.split { !$0.isLetter }.map { $0.lowercased() } }
            .keyed(by: \.self)
            .aggregate(Count()) { word, count in WordTotal(word: word, count: count) }
            .uid("counts")
            .map { "\($0.word) \($0.count)" }
            .sink(to: .lines(output), uid: "files")
    }
}
