internal import ArgumentParser
internal import WeirBase
internal import WeirStorage

/// `weir savepoint inspect PATH`
struct InspectSavepointCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "inspect", abstract: "Show what a savepoint or checkpoint holds, and whether every file of it is whole.",
        discussion: "Reads the files alone: no cluster is needed.")

    @Flag(help: "Print JSON for programs.")
    var json = false

    @Argument(help: "The directory of the savepoint or checkpoint.")
    var path: String

    func run() throws {
        try reportingFailure {
            let found: CheckpointInspection
            do throws(JobFailure) { found = try CheckpointInspection(path: path) } catch {
                throw CommandFailure(error.message, detail: error.cause ?? "", hint: "")
            }
            printOut(json ? Rendering.json(found).pretty : Rendering.text(found, format: .local))
        }
    }
}
