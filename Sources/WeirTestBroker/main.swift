// A broker for tests and demos until the embedded one replaces it: librdkafka's mock cluster in a process of its own.
//
//     weir-testbroker --topics telemetries:4,summaries:1 [--missing name] [--brokers 1]
//
// The mock makes every topic that it is asked for, except the missing one.
// Prints the address to connect to as its only line, and serves until a SIGTERM, or until standard input, if it is a pipe, is closed.
// Records live in memory; the mock keeps only the newest few megabytes of a partition.

import CRdKafka
import Glibc

func say(_ line: String, to descriptor: Int32) {
    let bytes = Array("\(descriptor == STDERR_FILENO ? "weir-testbroker: " : "")\(line)\n".utf8)
    _ = write(descriptor, bytes, bytes.count)
}

func exitWithUsage(_ problem: String) -> Never {
    say("\(problem)\nusage: weir-testbroker --topics name:partitions[,name:partitions…] [--missing name] [--brokers count]", to: STDERR_FILENO)
    exit(64)
}

var topics: [(name: String, partitions: Int32)] = []
var missing: String?
var brokers: Int32 = 1

var arguments = CommandLine.arguments.dropFirst()
while let argument = arguments.popFirst() {
    switch argument {
    case "--topics":
        guard let list = arguments.popFirst() else { exitWithUsage("--topics needs a value") }
        for item in list.split(separator: ",") {
            let parts = item.split(separator: ":")
            guard (1...2).contains(parts.count), let count = parts.count == 2 ? Int32(parts[1]) : 1, (1...1_024).contains(count) else {
                exitWithUsage("\"\(item)\" is no topic with a number of partitions, as telemetries:4 is")
            }
            topics.append((String(parts[0]), count))
        }
    case "--missing":
        guard let name = arguments.popFirst() else { exitWithUsage("--missing needs a topic") }
        missing = name
    case "--brokers":
        guard let text = arguments.popFirst(), let count = Int32(text), (1...16).contains(count) else {
            exitWithUsage("--brokers needs a number in 1...16")
        }
        brokers = count
    default: exitWithUsage("unknown argument \(argument)")
    }
}

var problem = [CChar](repeating: 0, count: 512)
let configuration = rd_kafka_conf_new()
rd_kafka_conf_set(configuration, "log_level", "2", &problem, problem.count)
guard let client = rd_kafka_new(RD_KAFKA_PRODUCER, configuration, &problem, problem.count),
    let cluster = weir_kafka_mock_create(client, brokers),
    let bootstrap = rd_kafka_mock_cluster_bootstraps(cluster)
else {
    say("the mock cluster cannot be started", to: STDERR_FILENO)
    exit(1)
}
for (name, partitions) in topics {
    let error = rd_kafka_mock_topic_create(cluster, name, partitions, 1)
    guard error == RD_KAFKA_RESP_ERR_NO_ERROR else {
        say("topic \(name): \(String(cString: rd_kafka_err2str(error)))", to: STDERR_FILENO)
        exit(1)
    }
}
if let missing {
    rd_kafka_mock_topic_create(cluster, missing, 1, 1)
    rd_kafka_mock_topic_set_error(cluster, missing, RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART)
}

say(String(cString: bootstrap), to: STDOUT_FILENO)

// SIGTERM ends the process by itself: there is nothing to clean up. A pipe on standard input is the parent's hold on it: closed, it ends.
// Anything else there, as the /dev/null of a job in the background, means nothing.
var status = stat()
let isHeld = fstat(STDIN_FILENO, &status) == 0 && [S_IFIFO, S_IFSOCK].contains(status.st_mode & S_IFMT)
while !isHeld { pause() }
var buffer = [UInt8](repeating: 0, count: 1_024)
while read(STDIN_FILENO, &buffer, buffer.count) > 0 {}
rd_kafka_mock_cluster_destroy(cluster)
rd_kafka_destroy(client)
