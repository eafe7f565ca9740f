import WeirKafkaWire

extension Broker {
    /// ApiVersions, SaslHandshake, SaslAuthenticate.
    func registerSessionHandlers() {
        register(.apiVersions) { [unowned self] _, context in context.reply(apiVersions(.none)) }
        registerSaslHandlers()
    }

    /// What this broker speaks.
    func apiVersions(_ code: KafkaErrorCode) -> KafkaStruct {
        var response = KafkaStruct(responseOf: .apiVersions)
        response["errorCode"] = .code(code)
        for api in handledAPIs {
            let versions = ApiSchema.of(api).versions
            response.append(to: "apiKeys") { entry in
                entry["apiKey"] = .int(api.rawValue)
                // librdkafka takes a broker without Produce 0 for one that knows no compression (KAFKA-18659), though it never sends it.
                entry["minVersion"] = .int(api == .produce ? 0 : versions.lowest)
                entry["maxVersion"] = .int(versions.highest)
            }
        }
        return response
    }
}
