import Testing
import WeirBroker

@Suite struct BrokerTests {
    @Test func aBrokerStartsOnAFreePortAndStops() throws {
        let broker = try Broker(options: BrokerOptions())
        try broker.start()
        #expect(broker.bootstrap.hasPrefix("127.0.0.1:"))
        broker.stop()
    }
}
