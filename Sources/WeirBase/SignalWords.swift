/// A Linux signal that ended a process, by its name and the words that people know.
///
/// The numbers are those of x86-64 and ARM64.
package func signalInWords(_ number: Int32) -> String {
    switch number {
    case 2: "SIGINT: interrupted"
    case 4: "SIGILL: a Swift runtime check failed"
    case 5: "SIGTRAP: a Swift runtime check failed"
    case 6: "SIGABRT: it gave up"
    case 7: "SIGBUS: it touched memory that is not there"
    case 8: "SIGFPE: an arithmetic fault"
    case 9: "SIGKILL: killed from outside, perhaps for want of memory"
    case 11: "SIGSEGV: it touched memory that is not its own"
    case 13: "SIGPIPE: nobody reads any more what it wrote"
    case 15: "SIGTERM: asked to end from outside"
    case 24: "SIGXCPU: its limit of processor time is used up"
    case 25: "SIGXFSZ: a file grew beyond its limit"
    default: "signal \(number)"
    }
}
