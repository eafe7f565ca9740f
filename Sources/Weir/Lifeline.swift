internal import CWeirSystem
internal import Glibc

/// Ends the worker with its TaskManager, however that one ends.
enum Lifeline {
    /// The kernel kills the process when the thread that spawned it ends, and the pipe at stdin tells of a TaskManager that died before that was
    /// set up, or of one in another process namespace.
    static func install() {
        _ = weir_set_parent_death_signal(SIGKILL)
        var thread = pthread_t()
        let code = pthread_create(
            &thread, nil,
            { _ in
                weir_set_thread_name("lifeline")
                var byte: UInt8 = 0
                while true {
                    let count = read(0, &byte, 1)
                    if count == 0 || (count < 0 && errno != EINTR) { _exit(1) }
                }
            }, nil)
        if code == 0 { pthread_detach(thread) }
    }
}
