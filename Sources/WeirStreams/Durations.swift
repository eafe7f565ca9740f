/// Spans that windows, timeouts and lateness are given in; what does not fit is the longest that does.
extension Duration {
    public static func minutes(_ minutes: Int64) -> Duration { times(minutes, 60) }
    public static func hours(_ hours: Int64) -> Duration { times(hours, 3_600) }
    /// Of 24 hours.
    public static func days(_ days: Int64) -> Duration { times(days, 86_400) }

    private static func times(_ count: Int64, _ seconds: Int64) -> Duration {
        let (whole, overflow) = count.multipliedReportingOverflow(by: seconds)
        return .seconds(overflow ? (count < 0 ? .min : .max) : whole)
    }
}
