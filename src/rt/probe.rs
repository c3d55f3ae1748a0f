//! What can this machine run ringway on? Asked once at start, answered with what to do about it.

use std::fmt;
use std::io;

use io_uring::{IoUring, Parameters, opcode};

use super::machine::{self, KernelVersion};
use super::runtime::DriverKind;

/// A way to set up a ring, and what it is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingFlags {
    /// Only one thread submits (Linux 6.0).
    pub single_issuer: bool,
    /// Completions are worked on when the loop asks for them, not in between (Linux 6.1).
    pub defer_taskrun: bool,
    /// Completions don't interrupt the loop (Linux 5.19).
    pub coop_taskrun: bool,
    /// One bad entry does not stop those after it (Linux 5.18).
    pub submit_all: bool,
}

/// The sets to try, best first: Linux 6.1, 6.0, 5.19, 5.18, 5.15.
pub(super) const FLAGS: [RingFlags; 5] = {
    let least = RingFlags {
        single_issuer: false,
        defer_taskrun: false,
        coop_taskrun: false,
        submit_all: false,
    };
    [
        RingFlags { single_issuer: true, defer_taskrun: true, submit_all: true, ..least },
        RingFlags { single_issuer: true, coop_taskrun: true, submit_all: true, ..least },
        RingFlags { coop_taskrun: true, submit_all: true, ..least },
        RingFlags { submit_all: true, ..least },
        least,
    ]
};

impl RingFlags {
    pub(super) fn builder(self, entries: u32) -> io_uring::Builder {
        let mut builder = IoUring::builder();
        builder.setup_clamp().setup_cqsize(entries.saturating_mul(4));
        if self.single_issuer {
            builder.setup_single_issuer();
        }
        if self.defer_taskrun {
            builder.setup_defer_taskrun();
        }
        if self.coop_taskrun {
            builder.setup_coop_taskrun();
        }
        if self.submit_all {
            builder.setup_submit_all();
        }
        builder
    }
}

impl fmt::Display for RingFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CLAMP|CQSIZE")?;
        for (set, name) in [
            (self.single_issuer, "|SINGLE_ISSUER"),
            (self.defer_taskrun, "|DEFER_TASKRUN"),
            (self.coop_taskrun, "|COOP_TASKRUN"),
            (self.submit_all, "|SUBMIT_ALL"),
        ] {
            f.write_str(if set { name } else { "" })?;
        }
        Ok(())
    }
}

/// The `io_uring` of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The running kernel.
    pub kernel: KernelVersion,
    /// How the rings of the cores will be set up.
    pub flags: RingFlags,
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Linux {}, io_uring with {}", self.kernel, self.flags)
    }
}

/// What the loops will run on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// `io_uring`, as this machine has it.
    IoUring(Probe),
    /// epoll.
    Epoll {
        /// The running kernel.
        kernel: KernelVersion,
        /// Why it is not `io_uring`; `None` if epoll was asked for.
        reason: Option<DriverError>,
    },
}

impl Choice {
    /// Which driver that is.
    pub fn kind(&self) -> DriverKind {
        match self {
            Choice::IoUring(_) => DriverKind::IoUring,
            Choice::Epoll { .. } => DriverKind::Epoll,
        }
    }

    /// The running kernel.
    pub fn kernel(&self) -> &KernelVersion {
        match self {
            Choice::IoUring(probe) => &probe.kernel,
            Choice::Epoll { kernel, .. } => kernel,
        }
    }

    /// Why `io_uring` was not taken, though nobody forbade it.
    pub fn reason(&self) -> Option<&DriverError> {
        match self {
            Choice::IoUring(_) => None,
            Choice::Epoll { reason, .. } => reason.as_ref(),
        }
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Choice::IoUring(probe) => probe.fmt(f),
            Choice::Epoll { kernel, .. } => write!(f, "Linux {kernel}, epoll"),
        }
    }
}

/// Why there is no `io_uring` here. Each text says what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DriverError {
    /// `kernel.io_uring_disabled` is 1 or 2.
    Disabled {
        /// Its value.
        value: u8,
    },
    /// The system call is refused though the kernel has it: a seccomp profile or a security module.
    Refused,
    /// The kernel does not have it.
    Missing {
        /// The running kernel.
        kernel: KernelVersion,
    },
    /// The kernel's `io_uring` is too old: something ringway needs is not there.
    TooOld {
        /// The running kernel.
        kernel: KernelVersion,
        /// What is missing.
        needs: &'static str,
    },
    /// Locked memory or memory ran out.
    Memory,
    /// Something else, as the system's error number.
    Other(i32),
}

impl fmt::Display for DriverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DriverError::Disabled { value } => write!(
                f,
                "io_uring is switched off on this machine (kernel.io_uring_disabled = {value}); \
                 an administrator can switch it on: sysctl -w kernel.io_uring_disabled=0{}",
                if *value == 1 { ", or add ringway's group to kernel.io_uring_group" } else { "" }
            ),
            DriverError::Refused => f.write_str(
                "io_uring is refused, though the kernel has it: most likely the seccomp profile of \
                 the container; allow io_uring_setup, io_uring_enter and io_uring_register in it \
                 (docker run --security-opt seccomp=PROFILE.json, in Kubernetes \
                 securityContext.seccompProfile), or check SELinux or AppArmor",
            ),
            DriverError::Missing { kernel } => write!(
                f,
                "there is no io_uring here (Linux {kernel}): it needs Linux 5.15 or newer, 6.1 or \
                 newer is better, built with CONFIG_IO_URING; or a seccomp profile hides it"
            ),
            DriverError::TooOld { kernel, needs } => write!(
                f,
                "io_uring of this kernel (Linux {kernel}) lacks {needs}: Linux 5.15 or newer has \
                 it, 6.1 or newer is better"
            ),
            DriverError::Memory => f.write_str(
                "no memory for io_uring: raise the limit of locked memory (ulimit -l, \
                 LimitMEMLOCK= in systemd) or set a smaller `ring_entries` in [runtime]",
            ),
            DriverError::Other(code) => {
                write!(f, "io_uring does not work: {}", io::Error::from_raw_os_error(*code))
            }
        }
    }
}

impl std::error::Error for DriverError {}

/// What the loops are to run on: `wanted`, or `io_uring` where it works and epoll elsewhere.
/// `rings_bytes` is the memory of all rings.
///
/// # Errors
/// When `io_uring` is wanted, and refused.
pub fn choose(wanted: Option<DriverKind>, rings_bytes: u64) -> Result<Choice, DriverError> {
    let kernel = machine::kernel_version();
    if wanted == Some(DriverKind::Epoll) {
        return Ok(Choice::Epoll { kernel, reason: None });
    }
    let fits = fits(&kernel, rings_bytes, machine::locked_memory_max().unwrap_or(u64::MAX));
    match (probe(), wanted) {
        (Ok(probe), Some(_)) => Ok(Choice::IoUring(probe)),
        (Ok(probe), None) if fits => Ok(Choice::IoUring(probe)),
        (Ok(_), None) => Ok(Choice::Epoll { kernel, reason: Some(DriverError::Memory) }),
        (Err(error), None) => Ok(Choice::Epoll { kernel, reason: Some(error) }),
        (Err(error), Some(_)) => Err(error),
    }
}

/// Whether rings of so many bytes may be made. Older kernels count them as locked memory.
pub fn fits(kernel: &KernelVersion, rings_bytes: u64, locked_memory_max: u64) -> bool {
    kernel.is_at_least(5, 12) || rings_bytes <= locked_memory_max
}

/// Sets up a small ring, looks at what it can do, and throws it away.
fn probe() -> Result<Probe, DriverError> {
    let kernel = machine::kernel_version();
    for flags in FLAGS {
        match flags.builder(8).build(8) {
            Ok(ring) => {
                check_ring(&ring, &kernel)?;
                return Ok(Probe { kernel, flags });
            }
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
            Err(error) => return Err(explain(&error, machine::io_uring_disabled(), kernel)),
        }
    }
    Err(DriverError::TooOld { kernel, needs: "IORING_SETUP_CLAMP" })
}

fn check_ring(ring: &IoUring, kernel: &KernelVersion) -> Result<(), DriverError> {
    let too_old = |needs| Err(DriverError::TooOld { kernel: kernel.clone(), needs });
    let missing_feature = |parameters: &Parameters| {
        [
            (parameters.is_feature_nodrop(), "IORING_FEAT_NODROP"),
            (parameters.is_feature_fast_poll(), "IORING_FEAT_FAST_POLL"),
            (parameters.is_feature_ext_arg(), "IORING_FEAT_EXT_ARG"),
        ]
        .into_iter()
        .find_map(|(has, name)| (!has).then_some(name))
    };
    if let Some(name) = missing_feature(ring.params()) {
        return too_old(name);
    }
    let mut known = io_uring::Probe::new();
    if ring.submitter().register_probe(&mut known).is_err() {
        return too_old("IORING_REGISTER_PROBE");
    }
    for (operation, name) in [
        (opcode::Recv::CODE, "IORING_OP_RECV"),
        (opcode::Send::CODE, "IORING_OP_SEND"),
        (opcode::PollAdd::CODE, "IORING_OP_POLL_ADD"),
        (opcode::AsyncCancel::CODE, "IORING_OP_ASYNC_CANCEL"),
        (opcode::Close::CODE, "IORING_OP_CLOSE"),
    ] {
        if !known.is_supported(operation) {
            return too_old(name);
        }
    }
    Ok(())
}

/// What a failed io_uring_setup(2) means on this machine.
fn explain(error: &io::Error, disabled: Option<u8>, kernel: KernelVersion) -> DriverError {
    match (error.raw_os_error(), disabled) {
        (Some(libc::EPERM), Some(value @ 1..)) => DriverError::Disabled { value },
        (Some(libc::EPERM | libc::EACCES), _) => DriverError::Refused,
        (Some(libc::ENOSYS), _) if kernel.is_at_least(5, 15) && disabled.is_some() => {
            DriverError::Refused // the sysctl is there, so is io_uring: something hides the call
        }
        (Some(libc::ENOSYS), _) => DriverError::Missing { kernel },
        (Some(libc::ENOMEM), _) => DriverError::Memory,
        (code, _) => DriverError::Other(code.unwrap_or(0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explained(code: i32, disabled: Option<u8>, kernel: &str) -> String {
        let error = io::Error::from_raw_os_error(code);
        explain(&error, disabled, KernelVersion::parse(kernel)).to_string()
    }

    #[test]
    fn the_machine_of_the_tests_has_a_ring() {
        let probe = probe().unwrap();
        assert!(probe.to_string().contains("io_uring with CLAMP|CQSIZE"), "{probe}");
    }

    #[test]
    fn what_is_wanted_is_taken_and_the_best_there_is_otherwise() {
        let auto = choose(None, 1 << 20).unwrap();
        assert_eq!((auto.kind(), auto.reason()), (DriverKind::IoUring, None));
        assert_eq!(choose(Some(DriverKind::IoUring), u64::MAX).unwrap(), auto);
        let epoll = choose(Some(DriverKind::Epoll), 0).unwrap();
        assert_eq!((epoll.kind(), epoll.reason()), (DriverKind::Epoll, None));
        assert_eq!(epoll.to_string(), format!("Linux {}, epoll", machine::kernel_version()));
    }

    #[test]
    fn rings_count_as_locked_memory_on_old_kernels_only() {
        let (old, new) = (KernelVersion::parse("5.11.22"), KernelVersion::parse("5.15.0"));
        assert!(fits(&old, 64, 64) && !fits(&old, 65, 64) && fits(&new, 65, 64));
    }

    #[test]
    fn every_set_of_flags_builds_on_a_new_kernel() {
        if machine::kernel_version().is_at_least(6, 1) {
            for flags in FLAGS {
                flags.builder(8).build(8).unwrap_or_else(|error| panic!("{flags}: {error}"));
            }
        }
    }

    #[test]
    fn every_refusal_names_its_remedy() {
        for (code, disabled, kernel, remedy) in [
            (libc::EPERM, Some(2), "6.8.0", "sysctl -w kernel.io_uring_disabled=0"),
            (libc::EPERM, Some(1), "6.8.0", "kernel.io_uring_group"),
            (libc::EPERM, Some(0), "6.8.0", "seccomp profile"),
            (libc::EPERM, None, "5.15.0", "seccomp profile"),
            (libc::ENOSYS, Some(0), "6.8.0", "seccomp profile"),
            (libc::ENOSYS, None, "4.19.0", "needs Linux 5.15"),
            (libc::ENOMEM, None, "5.10.0", "LimitMEMLOCK"),
            (libc::EMFILE, None, "6.8.0", "Too many open files"),
        ] {
            let text = explained(code, disabled, kernel);
            assert!(text.contains(remedy), "{code}, {disabled:?}, {kernel}: {text}");
        }
    }
}
