//! What a process costs, as the kernel counts it (`man 5 proc`).

/// User and system time of a process, in seconds.
pub(crate) fn cpu(pid: u32) -> f64 {
    stat_seconds(pid, 11)
}

/// The sum of a field of `/proc/PID/stat` that holds a user time and of the next, its system time. The first behind
/// the name is 0; a tick is 10 ms.
pub(crate) fn stat_seconds(pid: u32, at: usize) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("a running process");
    // The name in parentheses may hold blanks.
    let fields: Vec<&str> = stat.rsplit(") ").next().expect("fields").split(' ').collect();
    let ticks = |n: usize| fields[n].parse::<f64>().expect("ticks");
    (ticks(at) + ticks(at + 1)) / 100.0
}

/// What it has in memory, and the most that it had. None where it has ended.
pub(crate) fn memory_mib(pid: u32) -> Option<(f64, f64)> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let kib = |key: &str| {
        let line = status.lines().find(|l| l.starts_with(key))?;
        line.split_whitespace().nth(1).and_then(|n| n.parse::<f64>().ok()).map(|kib| kib / 1024.0)
    };
    Some((kib("VmRSS:")?, kib("VmHWM:")?))
}
