import Testing
import WeirDigest

@Suite struct SHA256Tests {
    @Test func knownAnswers() {
        #expect(sha256([]) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
        #expect(sha256(Array("abc".utf8)) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
    }

    @Test func piecesGiveTheSameAsTheWhole() {
        var digest = SHA256()
        digest.update(Array("a".utf8))
        digest.update([])
        digest.update(Array("bc".utf8))
        #expect(digest.hexadecimal() == sha256(Array("abc".utf8)))
    }

    @Test func onlyLowerCaseDigitsAreAHash() {
        #expect(SHA256.isHash(sha256([])))
        #expect(!SHA256.isHash(sha256([]).uppercased()))
        #expect(!SHA256.isHash(String(repeating: "a", count: 63)))
        #expect(!SHA256.isHash("../" + String(repeating: "a", count: 61)))
    }
}
