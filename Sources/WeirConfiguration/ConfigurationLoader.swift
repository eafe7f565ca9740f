internal import Glibc
package import WeirBase
internal import Yams

/// Reads the layers of the configuration: a YAML file, then the environment, then `-D key=value`.
package enum ConfigurationLoader {
    /// Far more than any configuration: a wrong path to a large file ends here.
    package static let fileBytesMax = 1 << 20

    /// - Parameters:
    ///   - file: `--config`; nil: `weir.yaml` in `WEIR_CONF_DIR`, if that is set.
    ///   - environment: `WEIR_` and the key in upper case, with `_` for every other character: `WEIR_JOBMANAGER_RPC_PORT`.
    ///   - definitions: The words after each `-D`.
    /// - Throws: ``ConfigurationError`` with every problem of the first layer that has one.
    package static func load(file: String?, environment: [String: String], definitions: [String]) throws(ConfigurationError) -> Configuration {
        var configuration = Configuration(keys: ConfigurationKeys.all)
        if let path = file ?? environment["WEIR_CONF_DIR"].map({ $0 + "/weir.yaml" }) {
            try configuration.merge(try parse(readFile(path), path: path), origin: path)
        }
        var fromEnvironment: [String: String] = [:]
        for key in ConfigurationKeys.all where key.prefix == nil {
            if let value = environment[environmentName(of: key.name)] { fromEnvironment[key.name] = value }
        }
        try configuration.merge(fromEnvironment, origin: "environment")
        try configuration.merge(try pairs(definitions), origin: "-D")
        return configuration
    }

    package static func environmentName(of key: String) -> String {
        "WEIR_" + String(key.uppercased().map { $0.isLetter || $0.isNumber ? $0 : "_" })
    }

    /// `key=value` words.
    package static func pairs(_ definitions: [String]) throws(ConfigurationError) -> [String: String] {
        var settings: [String: String] = [:]
        var problems: [String] = []
        for definition in definitions {
            guard let equals = definition.firstIndex(of: "="), equals != definition.startIndex else {
                problems.append("-D \(definition): expected key=value")
                continue
            }
            settings[String(definition[..<equals])] = String(definition[definition.index(after: equals)...])
        }
        if !problems.isEmpty { throw ConfigurationError(problems) }
        return settings
    }

    /// Flattens nested mappings to dotted keys.
    package static func parse(_ text: String, path: String) throws(ConfigurationError) -> [String: String] {
        let root: Node?
        do {
            root = try Yams.compose(yaml: text)
        } catch {
            throw ConfigurationError(["\(path): \(error)"])
        }
        guard let root, root.null == nil else { return [:] }
        var settings: [String: String] = [:]
        var problems: [String] = []
        func walk(_ node: Node, prefix: String, depth: Int) {
            switch node {
            case .mapping(let mapping) where depth < 16:
                for (key, value) in mapping {
                    guard let name = key.string else {
                        problems.append("\(path): a key under \"\(prefix)\" is not text")
                        continue
                    }
                    walk(value, prefix: prefix.isEmpty ? name : prefix + "." + name, depth: depth + 1)
                }
            case .scalar(let scalar) where !prefix.isEmpty:
                settings[prefix] = scalar.string
            default:
                problems.append("\(path): \(prefix.isEmpty ? "the file" : prefix) must be key: value pairs")
            }
        }
        walk(root, prefix: "", depth: 0)
        if !problems.isEmpty { throw ConfigurationError(problems) }
        return settings
    }

    private static func readFile(_ path: String) throws(ConfigurationError) -> String {
        guard let file = fopen(path, "r") else { throw ConfigurationError(["cannot read \(path): \(String(cString: strerror(errno)))"]) }
        defer { fclose(file) }
        var bytes = [UInt8](repeating: 0, count: fileBytesMax + 1)
        let count = fread(&bytes, 1, bytes.count, file)
        guard ferror(file) == 0 else { throw ConfigurationError(["cannot read \(path): \(String(cString: strerror(errno)))"]) }
        guard count <= fileBytesMax else { throw ConfigurationError(["\(path) is larger than \(fileBytesMax) bytes: is it the configuration?"]) }
        guard let text = String(validating: bytes[..<count], as: UTF8.self) else { throw ConfigurationError(["\(path) is not UTF-8 text"]) }
        return text
    }
}
