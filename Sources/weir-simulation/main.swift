// Runs seeds of the control plane's simulation, each to one line: the seed, its steps, and a hash of its trace.
//
//     weir-simulation FIRST COUNT      one line a seed
//     weir-simulation SEED             the whole trace of one, to look into a failure
//
// Two processes must print the same: what follows from the order of a dictionary shows here, as that order is another in each process.
import Glibc
import WeirBase
import WeirSimulation

func usage() -> Never {
    print("usage: weir-simulation FIRST COUNT | weir-simulation SEED")
    exit(64)
}

let numbers = CommandLine.arguments.dropFirst().map { UInt64($0) }
guard (1...2).contains(numbers.count), let first = numbers[0] else { usage() }

if numbers.count == 1 {
    let simulation = Simulation(seed: first, keepsTrace: true)
    simulation.run()
    for line in simulation.trace { print(line) }
    for violation in simulation.violations { print("VIOLATION \(violation)") }
    exit(simulation.violations.isEmpty ? 0 : 1)
}

guard let count = numbers[1], count <= 1_000_000 else { usage() }
var isSound = true
for seed in first..<(first &+ count) {
    let simulation = Simulation(seed: seed, keepsTrace: true)
    simulation.run()
    var bytes: [UInt8] = []
    for line in simulation.trace { bytes += line.utf8 + [0x0A] }
    let hash = bytes.withUnsafeBytes { KeyHash.hash($0) }
    let verdict = simulation.violations.first.map { "VIOLATION \($0)" } ?? "ok"
    print("\(seed) \(simulation.steps) \(String(hash, radix: 16)) \(verdict)")
    if !simulation.violations.isEmpty { isSound = false }
}
exit(isSound ? 0 : 1)
