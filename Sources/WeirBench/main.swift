// What `make bench` runs. A first word that names a job makes the program that job, as any job's program: it is started so by the
// benchmarks below, alone or through a cluster.
import Weir

if let name = CommandLine.arguments.dropFirst().first, let run = benchJobs[name] {
    run()
} else {
    BenchCommand.main()
}
