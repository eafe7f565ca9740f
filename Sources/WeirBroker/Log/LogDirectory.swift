/// The logs of the broker's partitions.
package final class LogDirectory {
    private unowned let broker: Broker

    init(broker: Broker) throws(BrokerFailure) {
        self.broker = broker
    }

    /// Writes what a start after an orderly end need not look for, and closes the files.
    func close() {}
}
