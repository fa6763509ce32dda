use std::io;

#[cfg(unix)]
use tokio::signal::unix::{Signal, SignalKind, signal};
#[cfg(windows)]
use tokio::signal::windows::{CtrlC, CtrlShutdown, ctrl_c, ctrl_shutdown};

use crate::failure::{Failure, FailureKind};

/// SIGTERM and SIGINT, heard from the time this is made. SIGHUP, which would end the process, is
/// logged and ignored from then on: nothing is read again, and a terminal that closes stops no
/// service.
#[cfg(unix)]
pub(super) struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

/// Ctrl-C and the shutdown of the machine, heard from the time this is made.
#[cfg(windows)]
pub(super) struct StopSignals {
    terminate: CtrlShutdown,
    interrupt: CtrlC,
}

impl StopSignals {
    pub(super) fn heard() -> Result<Self, Failure> {
        Self::register()
            .map_err(|error| Failure::of(FailureKind::Refused, "cannot listen to signals", &error))
    }

    #[cfg(unix)]
    fn register() -> io::Result<Self> {
        let mut hangup = signal(SignalKind::hangup())?;
        tokio::spawn(async move {
            while hangup.recv().await.is_some() {
                tracing::info!("SIGHUP is ignored: restart the service to read files again");
            }
        });
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    #[cfg(windows)]
    fn register() -> io::Result<Self> {
        Ok(Self {
            terminate: ctrl_shutdown()?,
            interrupt: ctrl_c()?,
        })
    }

    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
