//! Who runs when: statements that decode much have threads of their own and wait for each other, so that those which ask
//! for little are answered meanwhile; and nobody takes more than his share.
//!
//! ```text
//! user    as many statements as the user may run
//! scan    as many as there are cores, of those that decode much
//! all     as many as the server runs at a time
//! ```

use std::collections::HashMap;
use std::fmt::{self, Formatter};
use std::sync::Arc;

use datafusion::common::{Result as EngineResult, resources_datafusion_err};
use datafusion::execution::memory_pool::{
    MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation,
};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::physical_plan::ExecutionPlan;
use parking_lot::Mutex;
use tokio::runtime::{Handle, Runtime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;

use super::config::{Config, Limits};
use super::metrics::Metrics;
use crate::error::{Error, Result};
use crate::query::cost::decoded_cells;
use crate::session::{runtime, sentence};

/// Cells that a statement may decode and still count as one that asks for little: some milliseconds of work.
const LITTLE: u64 = 1 << 20;

/// How much a statement decodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Size {
    Little,
    Much,
}

impl Size {
    /// Of the statement that a plan is of.
    pub(super) fn of(plan: &Arc<dyn ExecutionPlan>) -> Self {
        match decoded_cells(plan) {
            Some(cells) if cells <= LITTLE => Self::Little,
            _ => Self::Much,
        }
    }
}

/// The right to run, as long as this value lives.
#[derive(Debug)]
pub(super) struct Permit {
    #[expect(dead_code, reason = "they are held, not used")]
    held: [Option<OwnedSemaphorePermit>; 3],
}

/// What one user has.
#[derive(Debug)]
struct Share {
    statements: Option<(usize, Arc<Semaphore>)>,
    runtime: Arc<RuntimeEnv>,
}

/// Threads, permits and memory of all statements.
#[derive(Debug)]
pub(super) struct Lanes {
    limits: Limits,
    threads: [Threads; 2],
    all: Arc<Semaphore>,
    scans: (usize, Arc<Semaphore>),
    /// What all share, and what is left to users who have limits of their own.
    runtime: Arc<RuntimeEnv>,
    users: HashMap<String, Share>,
}

/// A runtime, which is shut down where nothing may wait.
#[derive(Debug)]
struct Threads {
    handle: Handle,
    runtime: Option<Runtime>,
}

impl Threads {
    fn start(name: &str) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .thread_name(name)
            .enable_all()
            .build()
            .map_err(|error| Error::io("no threads can be started", error))?;
        Ok(Self {
            handle: runtime.handle().clone(),
            runtime: Some(runtime),
        })
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Lanes {
    /// Starts threads.
    ///
    /// # Errors
    /// `Io` when there can be none.
    pub(super) fn new(config: &Config) -> Result<Self> {
        let limits = config.limits.clone();
        let engine = |error| Error::Invalid(sentence(&error));
        let bytes = |mib: usize| mib.saturating_mul(1 << 20);
        let shared = runtime(Some(bytes(limits.memory_mib))).map_err(engine)?;
        let mut users = HashMap::new();
        for user in &config.users {
            let runtime = match user.memory_mib {
                None => Arc::clone(&shared),
                Some(mib) => RuntimeEnvBuilder::from_runtime_env(&shared)
                    .with_memory_pool(Arc::new(Part {
                        owner: user.name.clone(),
                        whole: Arc::clone(&shared.memory_pool),
                        most: bytes(mib),
                        used: Mutex::new(0),
                    }))
                    .build_arc()
                    .map_err(engine)?,
            };
            let statements = user.statements;
            let share = Share {
                statements: statements.map(|most| (most, Arc::new(Semaphore::new(most)))),
                runtime,
            };
            users.insert(user.name.clone(), share);
        }
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let scans = limits.scans.unwrap_or(cores);
        Ok(Self {
            threads: [Threads::start("statement")?, Threads::start("scan")?],
            all: Arc::new(Semaphore::new(limits.statements)),
            scans: (scans, Arc::new(Semaphore::new(scans))),
            runtime: shared,
            users,
            limits,
        })
    }

    /// Where statements of a size run, apart from the network.
    pub(super) fn threads(&self, size: Size) -> &Handle {
        let [quick, scans] = &self.threads;
        match size {
            Size::Little => &quick.handle,
            Size::Much => &scans.handle,
        }
    }

    /// What a session of a user works with.
    pub(super) fn runtime(&self, user: &str) -> &Arc<RuntimeEnv> {
        self.users
            .get(user)
            .map_or(&self.runtime, |share| &share.runtime)
    }

    /// Statements that run, and bytes that they hold.
    pub(super) fn used(&self) -> (usize, usize) {
        let free = self.all.available_permits();
        let running = self.limits.statements.saturating_sub(free);
        (running, self.runtime.memory_pool.reserved())
    }

    /// The right to run, which has to be waited for while too many others do.
    pub(super) async fn permit(
        &self,
        user: &str,
        size: Size,
        metrics: &Metrics,
    ) -> std::result::Result<Permit, Status> {
        let own = self.users.get(user);
        let own = own.and_then(|share| share.statements.as_ref());
        let scans = (size == Size::Much).then_some(&self.scans);
        let all = (self.limits.statements, Arc::clone(&self.all));
        let steps = [
            (own, format!("statements of {user}")),
            (scans, "statements that read much".to_owned()),
            (Some(&all), "statements".to_owned()),
        ];
        let _waiting = metrics.waits();
        let until = tokio::time::Instant::now() + self.limits.queue();
        let mut held = [const { None }; 3];
        for ((wanted, what), place) in steps.into_iter().zip(&mut held) {
            let Some((most, permits)) = wanted else {
                continue;
            };
            let acquired = Arc::clone(permits).acquire_owned();
            *place = match tokio::time::timeout_at(until, acquired).await {
                Ok(Ok(permit)) => Some(permit),
                Ok(Err(_)) => return Err(Status::unavailable("the server stops")),
                Err(_) => {
                    return Err(Status::resource_exhausted(format!(
                        "{most} {what} are running, and none has ended within {} seconds; try again later",
                        self.limits.queue_seconds
                    )));
                }
            };
        }
        Ok(Permit { held })
    }
}

/// The part of the memory that one user may hold.
#[derive(Debug)]
struct Part {
    owner: String,
    whole: Arc<dyn MemoryPool>,
    most: usize,
    used: Mutex<usize>,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "memory of {}", self.owner)
    }
}

impl MemoryPool for Part {
    fn name(&self) -> &'static str {
        "part"
    }

    fn register(&self, consumer: &MemoryConsumer) {
        self.whole.register(consumer);
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        self.whole.unregister(consumer);
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.whole.grow(reservation, additional);
        *self.used.lock() += additional;
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.whole.shrink(reservation, shrink);
        let mut used = self.used.lock();
        *used = used.saturating_sub(shrink);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> EngineResult<()> {
        let mut used = self.used.lock();
        if used.saturating_add(additional) > self.most {
            return Err(resources_datafusion_err!(
                "{} holds {} bytes, may hold {}, and needs {additional} more for {}",
                self.owner,
                *used,
                self.most,
                reservation.consumer().name()
            ));
        }
        self.whole.try_grow(reservation, additional)?;
        *used += additional;
        Ok(())
    }

    fn reserved(&self) -> usize {
        *self.used.lock()
    }

    fn memory_limit(&self) -> MemoryLimit {
        MemoryLimit::Finite(self.most)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    fn lanes(text: &str) -> Lanes {
        Lanes::new(&Config::parse(text).unwrap()).unwrap()
    }

    const USERS: &str = "[[users]]\nname = \"ann\"\ntokens = [\"a\"]\nstatements = 1\nmemory_mib = 1\n\
                         [[users]]\nname = \"bob\"\ntokens = [\"b\"]\n";

    #[test]
    fn a_user_holds_no_more_than_his_part() {
        let lanes = lanes(&format!("{USERS}[limits]\nmemory_mib = 3"));
        let reserve =
            |user: &str| MemoryConsumer::new("test").register(&lanes.runtime(user).memory_pool);
        let (ann, other, bob) = (reserve("ann"), reserve("ann"), reserve("bob"));
        ann.try_grow(900 << 10).unwrap();
        let refused = other.try_grow(200 << 10).unwrap_err().to_string();
        assert!(refused.contains("ann holds 921600 bytes"), "{refused}");
        bob.try_grow(2 << 20).unwrap();
        assert_eq!(lanes.used().1, (900 << 10) + (2 << 20));
        // What all hold is limited, too.
        bob.try_grow(1 << 20).unwrap_err();
        ann.free();
        other.try_grow(1 << 20).unwrap();
        drop((other, bob));
        assert_eq!(lanes.used().1, 0);
    }

    #[tokio::test]
    async fn those_who_ask_for_much_wait_for_each_other_only() {
        let metrics = Metrics::default();
        let lanes = lanes(&format!(
            "{USERS}[limits]\nstatements = 3\nscans = 1\nqueue_seconds = 0"
        ));
        let permit = |user: &'static str, size| lanes.permit(user, size, &metrics);
        let scan = permit("bob", Size::Much).await.unwrap();
        let refused = permit("bob", Size::Much).await.unwrap_err();
        assert!(refused.message().contains("1 statements that read much"));
        let first = permit("ann", Size::Little).await.unwrap();
        let refused = permit("ann", Size::Little).await.unwrap_err();
        assert!(refused.message().contains("1 statements of ann"));
        let _second = permit("bob", Size::Little).await.unwrap();
        let refused = permit("bob", Size::Little).await.unwrap_err();
        assert!(refused.message().contains("3 statements are"));
        assert_eq!(lanes.used().0, 3);
        drop((scan, first));
        permit("ann", Size::Little).await.unwrap();
        permit("bob", Size::Much).await.unwrap();
    }
}
