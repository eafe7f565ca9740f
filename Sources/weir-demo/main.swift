// What `make demo` shows: the main job survives the kill of a TaskManager with an exact result.
import Glibc
import WeirTestKit

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
