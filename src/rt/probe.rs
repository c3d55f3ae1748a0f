//! Can this machine run ringway? Asked once at start, answered with what to do about it.

use std::fmt;
use std::io;

use io_uring::{IoUring, Parameters, opcode};

use super::machine::{self, KernelVersion};

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

/// What the machine offers.
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

/// Why ringway cannot run here. Each text says what to do.
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
                "there is no io_uring here (Linux {kernel}): ringway needs Linux 5.15 or newer, \
                 6.1 or newer is better, built with CONFIG_IO_URING; or a seccomp profile hides it"
            ),
            DriverError::TooOld { kernel, needs } => write!(
                f,
                "io_uring of this kernel (Linux {kernel}) lacks {needs}: ringway needs Linux 5.15 \
                 or newer, 6.1 or newer is better"
            ),
            DriverError::Memory => f.write_str(
                "no memory for io_uring: raise the limit of locked memory (ulimit -l, \
                 LimitMEMLOCK= in systemd) or make worker.ring_entries smaller",
            ),
            DriverError::Other(code) => {
                write!(f, "io_uring does not work: {}", io::Error::from_raw_os_error(*code))
            }
        }
    }
}

impl std::error::Error for DriverError {}

/// Sets up a small ring, looks at what it can do, and throws it away.
///
/// # Errors
/// See [`DriverError`].
pub fn probe() -> Result<Probe, DriverError> {
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
