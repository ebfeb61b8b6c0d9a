//! What the kernel says about processes. Linux only: it needs `/proc`.

use std::fs;

use rustix::process::{Pid, Signal, kill_process};

use crate::Error;

/// A process, distinct from a later one with the same pid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    pid: i32,
    started: u64,
}

struct Stat {
    state: char,
    parent: i32,
    started: u64,
}

fn stat(pid: i32) -> Option<Stat> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// `pid (name) state parent …`; the name may hold blanks and parentheses.
fn parse_stat(line: &str) -> Option<Stat> {
    let mut fields = line.rsplit_once(')')?.1.split_whitespace();
    Some(Stat {
        state: fields.next()?.chars().next()?,
        parent: fields.next()?.parse().ok()?,
        started: fields.nth(17)?.parse().ok()?,
    })
}

/// The processor time, in user and kernel mode, of all children that this process has waited for,
/// and of theirs.
pub(crate) fn cpu_seconds_of_children() -> Result<f64, Error> {
    let line = fs::read_to_string("/proc/self/stat").map_err(|error| {
        Error::io("read the processor time from /proc/self/stat (Linux only)", error)
    })?;
    let ticks = children_ticks(&line).ok_or_else(|| {
        Error::new(format!("/proc/self/stat has another form than expected: {line}"))
    })?;
    Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// The processor time of a process, of its children that live, and of those it has waited for.
pub(crate) fn cpu_seconds_of_tree(root: i32) -> Result<f64, Error> {
    let line = |pid: i32| fs::read_to_string(format!("/proc/{pid}/stat"));
    let own = |line: &str| {
        let mut fields = line.rsplit_once(')')?.1.split_whitespace().skip(11);
        Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
    };
    let stat = line(root)
        .map_err(|error| Error::io("read the processor time of a server (Linux only)", error))?;
    let mut ticks = own(&stat).unwrap_or(0) + children_ticks(&stat).unwrap_or(0);
    for child in Pid::from_raw(root).map(children).unwrap_or_default() {
        ticks += line(child.pid).ok().and_then(|line| own(&line)).unwrap_or(0);
    }
    Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// The most memory that a process has had, in MiB.
pub(crate) fn peak_mib(pid: i32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    kib.map_or(f64::NAN, |kib| kib / 1024.0)
}

/// `cutime` and `cstime` of proc(5).
fn children_ticks(line: &str) -> Option<u64> {
    let mut fields = line.rsplit_once(')')?.1.split_whitespace().skip(13);
    let user: u64 = fields.next()?.parse().ok()?;
    let kernel: u64 = fields.next()?.parse().ok()?;
    Some(user + kernel)
}

/// Whether `pid` is stopped by SIGSTOP, or has ended.
pub(crate) fn is_stopped(pid: Pid) -> bool {
    stat(pid.as_raw_pid()).is_none_or(|stat| matches!(stat.state, 'T' | 't' | 'Z' | 'X'))
}

/// The children of `parent`.
pub(crate) fn children(parent: Pid) -> Vec<Identity> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let stat = stat(pid)?;
            (stat.parent == parent.as_raw_pid()).then_some(Identity { pid, started: stat.started })
        })
        .collect()
}

impl Identity {
    pub(crate) fn is_running(self) -> bool {
        // A zombie holds nothing any more, and in a container it may never be collected.
        stat(self.pid)
            .is_some_and(|stat| stat.started == self.started && !matches!(stat.state, 'Z' | 'X'))
    }

    pub(crate) fn kill(self) {
        if let Some(pid) = Pid::from_raw(self.pid).filter(|_| self.is_running()) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

/// Whether process `pid` runs and has `argument` on its command line: a pid from a file may belong
/// to another program by now.
pub(crate) fn runs_with(pid: i32, argument: &str) -> bool {
    stat(pid).is_some_and(|stat| !matches!(stat.state, 'Z' | 'X'))
        && fs::read(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|line| line.split(|byte| *byte == 0).any(|part| part == argument.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_name_with_parentheses_does_not_shift_the_fields() {
        let line = "42 (a) b (c)) S 7 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 9876 1000 10";
        let stat = parse_stat(line).unwrap();
        assert_eq!((stat.state, stat.parent, stat.started), ('S', 7, 9876));
    }
}
