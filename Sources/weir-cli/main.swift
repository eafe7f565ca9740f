internal import ArgumentParser
internal import WeirCLI

WeirCommand.main(WeirCommand.words(CommandLine.arguments.dropFirst()))
