package import WeirBase
internal import WeirControl

/// The configuration keys of the three processes.
package enum ConfigurationKeys {
    package static let all: [ConfigurationKey] = processes + ControlOptions.keys + JobOptions.keys

    private static let processes: [ConfigurationKey] = [
        .init("cluster.id", .string, default: "weir", "Processes of another cluster id are refused."),
        .init("jobmanager.rpc.address", .string, default: "127.0.0.1", "Where TaskManagers and the CLI find the JobManager."),
        .init("jobmanager.rpc.port", .integer(0...65_535), default: "6123", "Its port; 0 lets the system choose, and is printed."),
        .init("jobmanager.bind-host", .string, default: "127.0.0.1", "The address that the JobManager listens on."),
        .init("jobmanager.storage.dir", .string, default: "", "Job graphs and uploaded binaries; default <io.tmp.dirs>/weir-jobmanager-<user id>."),
        .init("taskmanager.numberOfTaskSlots", .integer(1...1_024), default: "1", "Slots that a TaskManager offers; each is a thread."),
        .init(
            "taskmanager.slots.pinned", .boolean, default: "false",
            "Whether slot i of a worker stays on processor i of those allowed; pays only where nothing else runs on them."),
        .init("taskmanager.bind-host", .string, default: "127.0.0.1", "The address that workers listen on for data."),
        .init("taskmanager.host", .string, default: "", "The address at which other workers reach them; default: the bind host."),
        .init("taskmanager.resource-id", .string, default: "", "The TaskManager's name; default tm-<host>-<process id>."),
        .init("taskmanager.log.dir", .string, default: "", "Workers' stdout and stderr; default <io.tmp.dirs>/weir-taskmanager-<resource id>/log."),
        .init(
            "execution.checkpointing.dir", .string, default: "",
            "A directory that every process reaches; not set: <jobmanager.storage.dir>/checkpoints."),
        .init("execution.checkpointing.savepoint-dir", .string, default: "", "Where savepoints go that are asked for without a directory."),
        .init("io.tmp.dirs", .string, default: "/tmp", "Scratch space."),
        .init(
            "kafka.*", .string, default: "",
            "Kafka clients of jobs: kafka.property.NAME for all, kafka.UID.property.NAME and kafka.UID.topics for the source or sink UID."),
    ]
}
