package import WeirBase

/// What a TaskManager tells the worker process that it spawns, through the environment.
package struct WorkerSettings: Sendable, Equatable {
    package var worker: String
    package var job: JobID
    package var taskManager: String
    package var clusterID: String
    package var jobManagerHost: String
    package var jobManagerPort: UInt16
    /// Where the worker listens for data, and the address that other workers use.
    package var bindHost: String
    package var dataHost: String
    package var slots: Int
    /// Whether each slot's thread stays on one processor.
    package var pinsSlots: Bool

    package init(
        worker: String, job: JobID, taskManager: String, clusterID: String, jobManagerHost: String, jobManagerPort: UInt16, bindHost: String,
        dataHost: String, slots: Int, pinsSlots: Bool = false
    ) {
        self.worker = worker
        self.job = job
        self.taskManager = taskManager
        self.clusterID = clusterID
        self.jobManagerHost = jobManagerHost
        self.jobManagerPort = jobManagerPort
        self.bindHost = bindHost
        self.dataHost = dataHost
        self.slots = slots
        self.pinsSlots = pinsSlots
    }

    /// - Throws: ``ConfigurationError`` that names every variable that is missing: the binary was started by hand in worker mode.
    package init(environment: [String: String]) throws(ConfigurationError) {
        var problems: [String] = []
        func value(_ name: String) -> String {
            if let value = environment[name], !value.isEmpty { return value }
            problems.append("\(name) is not set: worker mode is for processes that a taskmanager starts")
            return ""
        }
        let job = JobID(value("WEIR_JOB_ID"))
        let port = UInt16(value("WEIR_JOBMANAGER_PORT"))
        let slots = Int(value("WEIR_SLOTS"))
        let worker = value("WEIR_WORKER_ID")
        let taskManager = value("WEIR_TASKMANAGER_ID")
        let host = value("WEIR_JOBMANAGER_HOST")
        let bindHost = environment["WEIR_BIND_HOST"] ?? "127.0.0.1"
        if problems.isEmpty, job == nil || port == nil || slots == nil {
            problems.append("WEIR_JOB_ID, WEIR_JOBMANAGER_PORT or WEIR_SLOTS is malformed")
        }
        guard problems.isEmpty, let job, let port, let slots else { throw ConfigurationError(problems) }
        self.init(
            worker: worker, job: job, taskManager: taskManager, clusterID: environment["WEIR_CLUSTER_ID"] ?? "", jobManagerHost: host,
            jobManagerPort: port, bindHost: bindHost, dataHost: environment["WEIR_DATA_HOST"] ?? bindHost, slots: slots,
            pinsSlots: environment["WEIR_PIN_SLOTS"] == "true")
    }
}
