import ArgumentParser
import WeirJobManager

JobManagerCommand.main()
