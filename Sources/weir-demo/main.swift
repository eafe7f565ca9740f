// What `make demo` shows: the main job survives the kill of a TaskManager with an exact result.
import Glibc
import WeirTestKit

// It must end by Ctrl-C also where whoever started it blocks signals; what it started ends with it.
var signals = sigset_t()
sigemptyset(&signals)
sigaddset(&signals, SIGINT)
sigaddset(&signals, SIGTERM)
sigprocmask(SIG_UNBLOCK, &signals, nil)

do {
    let scenario = TelemetryScenario(readings: 30_000, perSecond: 3_000, victim: .taskManager, exactlyOnce: true) { line in
        print(line)
        fflush(nil)
    }
    exit(try scenario.run().isExact ? 0 : 1)
} catch {
    print("the demo failed: \(error)")
    exit(1)
}
