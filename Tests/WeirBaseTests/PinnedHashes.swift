enum PinnedHashes {
    static let table: [(String, UInt64)] = [
        ("", 0x1FF5C2923A788D2C),
        ("a", 0x37C0AB888779F5BA),
        ("container-1", 0x88B34442C53481D3),
        ("C-000123", 0x9EC76540432673AF),
        ("the quick brown fox jumps over the lazy dog", 0xD561DA21B53208F4),
    ]
}
