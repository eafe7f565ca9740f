import WeirBase
import WeirKafkaWire

extension Broker {
    /// FindCoordinator, JoinGroup, SyncGroup, Heartbeat, LeaveGroup, and the administration of groups and their offsets.
    func registerGroupHandlers() {
        register(.findCoordinator) { request, context in Self.findCoordinator(request, context) }
        register(.joinGroup) { [unowned self] request, context in joinGroup(request, context) }
        register(.syncGroup) { [unowned self] request, context in syncGroup(request, context) }
        register(.heartbeat) { [unowned self] request, context in heartbeat(request, context) }
        register(.leaveGroup) { [unowned self] request, context in leaveGroup(request, context) }
        register(.listGroups) { [unowned self] request, context in listGroups(request, context) }
        register(.describeGroups) { [unowned self] request, context in describeGroups(request, context) }
        register(.deleteGroups) { [unowned self] request, context in deleteGroups(request, context) }
        registerOffsetHandlers()
    }

    /// This node coordinates every group (type 0) and every transactional id (type 1).
    private static func findCoordinator(_ request: KafkaStruct, _ context: RequestContext) {
        var response = KafkaStruct(responseOf: .findCoordinator)
        let isKnownType = (0...1).contains(request.int8("keyType"))
        func answer(_ entry: inout KafkaStruct) {
            entry["errorCode"] = .code(isKnownType ? .none : .invalidRequest)
            guard isKnownType else {
                entry["errorMessage"] = "The key type is neither 0 (group) nor 1 (transaction)."
                entry["nodeId"] = -1
                entry["port"] = -1
                return
            }
            entry["nodeId"] = .int(nodeID)
            entry["host"] = .string(context.advertised.host)
            entry["port"] = .int(context.advertised.port)
        }
        if context.apiVersion < 4 {
            answer(&response)
        } else {
            for key in request.strings("coordinatorKeys") {
                response.append(to: "coordinators") { entry in
                    entry["key"] = .string(key)
                    answer(&entry)
                }
            }
        }
        context.reply(response)
    }

    // MARK: Members

    private func joinGroup(_ request: KafkaStruct, _ context: RequestContext) {
        let sessionTimeout = request.int32("sessionTimeoutMs")
        let rebalanceTimeout = request.int32("rebalanceTimeoutMs")
        let instanceID = request.optionalString("groupInstanceId")
        let join = GroupJoin(
            group: request.string("groupId"), memberID: request.string("memberId"), instanceID: instanceID, clientID: context.clientID ?? "",
            clientHost: context.clientHost, protocolType: request.string("protocolType"),
            protocols: request.structures("protocols").map { MemberProtocol(name: $0.string("name"), metadata: $0.bytes("metadata").array) },
            sessionTimeout: .milliseconds(sessionTimeout),
            // Version 0 has one timeout for both.
            rebalanceTimeout: .milliseconds(max(0, context.apiVersion == 0 ? sessionTimeout : rebalanceTimeout)),
            requiresKnownMemberID: context.apiVersion >= 4 && instanceID == nil, supportsSkippingAssignment: context.apiVersion >= 9)
        coordinators.handle(.join(join)) { reply in
            guard case .join(let reply) = reply else { preconditionFailure("JoinGroup answered with \(reply)") }
            context.reply(Self.response(reply, version: context.apiVersion))
        }
    }

    private static func response(_ reply: GroupReply.Join, version: Int16) -> KafkaStruct {
        var response = KafkaStruct(responseOf: .joinGroup)
        response["errorCode"] = .code(reply.error)
        response["generationId"] = .int(reply.generation)
        response["protocolType"] = .optional(reply.protocolType)
        // Null is for the newer versions only.
        response["protocolName"] = version >= 7 ? .optional(reply.protocolName) : .string(reply.protocolName ?? "")
        response["leader"] = .string(reply.leaderID)
        response["skipAssignment"] = .bool(reply.skipsAssignment)
        response["memberId"] = .string(reply.memberID)
        for member in reply.members {
            response.append(to: "members") { entry in
                entry["memberId"] = .string(member.id)
                entry["groupInstanceId"] = .optional(member.instanceID)
                entry["metadata"] = .bytes(KafkaBytes(member.metadata))
            }
        }
        return response
    }

    private func syncGroup(_ request: KafkaStruct, _ context: RequestContext) {
        let assignments = request.structures("assignments").map { ($0.string("memberId"), $0.bytes("assignment").array) }
        let sync = GroupSync(
            group: request.string("groupId"), generation: request.int32("generationId"), memberID: request.string("memberId"),
            instanceID: request.optionalString("groupInstanceId"), protocolType: request.optionalString("protocolType"),
            protocolName: request.optionalString("protocolName"), assignments: Dictionary(assignments) { _, last in last })
        coordinators.handle(.sync(sync)) { reply in
            guard case .sync(let reply) = reply else { preconditionFailure("SyncGroup answered with \(reply)") }
            var response = KafkaStruct(responseOf: .syncGroup)
            response["errorCode"] = .code(reply.error)
            response["protocolType"] = .optional(reply.protocolType)
            response["protocolName"] = .optional(reply.protocolName)
            response["assignment"] = .bytes(KafkaBytes(reply.assignment))
            context.reply(response)
        }
    }

    private func heartbeat(_ request: KafkaStruct, _ context: RequestContext) {
        let event = GroupCoordinator.Event.heartbeat(
            group: request.string("groupId"), memberID: request.string("memberId"), instanceID: request.optionalString("groupInstanceId"),
            generation: request.int32("generationId"))
        coordinators.handle(event) { reply in
            guard case .heartbeat(let error) = reply else { preconditionFailure("Heartbeat answered with \(reply)") }
            var response = KafkaStruct(responseOf: .heartbeat)
            response["errorCode"] = .code(error)
            context.reply(response)
        }
    }

    private func leaveGroup(_ request: KafkaStruct, _ context: RequestContext) {
        // Before version 3 a member leaves for itself alone.
        let isSingle = context.apiVersion < 3
        let members =
            isSingle
            ? [LeavingMember(memberID: request.string("memberId"))]
            : request.structures("members").map {
                LeavingMember(memberID: $0.string("memberId"), instanceID: $0.optionalString("groupInstanceId"))
            }
        coordinators.handle(.leave(group: request.string("groupId"), members)) { reply in
            guard case .leave(let reply) = reply else { preconditionFailure("LeaveGroup answered with \(reply)") }
            var response = KafkaStruct(responseOf: .leaveGroup)
            response["errorCode"] = .code(isSingle && reply.error == .none ? reply.members.first ?? .none : reply.error)
            for (member, error) in zip(members, reply.members) where !isSingle {
                response.append(to: "members") { entry in
                    entry["memberId"] = .string(member.memberID)
                    entry["groupInstanceId"] = .optional(member.instanceID)
                    entry["errorCode"] = .code(error)
                }
            }
            context.reply(response)
        }
    }

    // MARK: Administration

    private func listGroups(_ request: KafkaStruct, _ context: RequestContext) {
        let states = Set(request.strings("statesFilter").map { $0.lowercased() })
        let types = Set(request.strings("typesFilter").map { $0.lowercased() })
        coordinators.query { (groups: GroupCoordinator) in
            groups.list()
        } reply: { groups in
            var response = KafkaStruct(responseOf: .listGroups)
            for group in groups where (states.isEmpty || states.contains(group.state.lowercased())) && (types.isEmpty || types.contains("classic")) {
                response.append(to: "groups") { entry in
                    entry["groupId"] = .string(group.id)
                    entry["protocolType"] = .string(group.protocolType)
                    entry["groupState"] = .string(group.state)
                    entry["groupType"] = "classic"
                }
            }
            context.reply(response)
        }
    }

    private func describeGroups(_ request: KafkaStruct, _ context: RequestContext) {
        let names = request.strings("groups")
        let wantsOperations = request.bool("includeAuthorizedOperations")
        coordinators.query { (groups: GroupCoordinator) in
            names.map { groups.describe($0) }
        } reply: { groups in
            var response = KafkaStruct(responseOf: .describeGroups)
            for (name, group) in zip(names, groups) {
                response.append(to: "groups") { entry in
                    entry["groupId"] = .string(name)
                    // Kafka says so of groups that it does not know.
                    entry["groupState"] = .string(group?.state ?? "Dead")
                    if let group { Self.describe(group, &entry) }
                    // Read, delete and describe: there are no access rules.
                    if wantsOperations { entry["authorizedOperations"] = .int(1 << 3 | 1 << 6 | 1 << 8) }
                }
            }
            context.reply(response)
        }
    }

    private static func describe(_ group: GroupDescription, _ entry: inout KafkaStruct) {
        entry["protocolType"] = .string(group.protocolType)
        entry["protocolData"] = .string(group.protocolName)
        for member in group.members {
            entry.append(to: "members") { entry in
                entry["memberId"] = .string(member.id)
                entry["groupInstanceId"] = .optional(member.instanceID)
                entry["clientId"] = .string(member.clientID)
                entry["clientHost"] = .string(member.clientHost)
                entry["memberMetadata"] = .bytes(KafkaBytes(member.metadata))
                entry["memberAssignment"] = .bytes(KafkaBytes(member.assignment))
            }
        }
    }

    private func deleteGroups(_ request: KafkaStruct, _ context: RequestContext) {
        let names = request.strings("groupsNames")
        coordinators.handle(.deleteGroups(names)) { reply in
            guard case .deleteGroups(let errors) = reply else { preconditionFailure("DeleteGroups answered with \(reply)") }
            var response = KafkaStruct(responseOf: .deleteGroups)
            for (name, error) in zip(names, errors) {
                response.append(to: "results") { entry in
                    entry["groupId"] = .string(name)
                    entry["errorCode"] = .code(error)
                }
            }
            context.reply(response)
        }
    }
}
