//! Failpoints: labelled places at which a test can kill the process, as suddenly as a power failure. Release builds do not
//! contain them.
//!
//! `FAILPOINTS=update_written=return` kills the process at that place, `9*off->return` at the tenth pass. Each label occurs
//! once in this list and once in the code; a test crashes the process at every label of the list.

/// Generates the enum, its list and its names from one table.
macro_rules! failpoints {
    ($($(#[doc = $meaning:literal])+ $point:ident = $name:literal,)+) => {
        /// A place at which a test can kill the process.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Failpoint { $($(#[doc = $meaning])+ $point,)+ }

        impl Failpoint {
            /// Every failpoint; those of a start are in the order in which a start passes them.
            pub const ALL: &[Self] = &[$(Self::$point,)+];

            /// The name in `FAILPOINTS`.
            pub fn name(self) -> &'static str {
                match self { $(Self::$point => $name,)+ }
            }
        }
    };
}

failpoints! {
    /// A start: the embedded cluster is created but not renamed yet.
    ClusterMade = "cluster_made",
    /// A start: the database responds, and no migration has run.
    MigrationBegun = "migration_begun",
    /// A start: the migrations are complete.
    MigrationDone = "migration_done",
    /// Maintenance: a partition is created, others are not.
    PartitionMade = "partition_made",
    /// A start: the seed is written but not committed.
    SeedWritten = "seed_written",
    /// A start: the seed is committed.
    SeedCommitted = "seed_committed",
    /// Maintenance: old idempotency keys are deleted.
    KeysForgotten = "keys_forgotten",

    /// A create that has read nothing yet.
    CreateBegun = "create_begun",
    /// A create that has its number.
    CreateLoaded = "create_loaded",
    /// A create whose plan is ready to be written.
    CreatePrepared = "create_prepared",
    /// A create that is committed, before the response.
    CreateWritten = "create_written",
    /// An update that has read nothing yet.
    UpdateBegun = "update_begun",
    /// An update that has read its ticket.
    UpdateLoaded = "update_loaded",
    /// An update whose plan is ready to be written.
    UpdatePrepared = "update_prepared",
    /// An update that is committed, before the response.
    UpdateWritten = "update_written",
    /// An update that holds the lock of its ticket.
    LockTaken = "lock_taken",
    /// An update that is written under the lock but not committed.
    LockedWritten = "locked_written",
    /// An update that is committed under the lock, before the response.
    LockedCommitted = "locked_committed",

    /// A change of the configuration that holds the lock.
    ConfigurationLocked = "configuration_locked",
    /// A change of the configuration that is written but not committed.
    ConfigurationWritten = "configuration_written",
    /// A change of the configuration that is committed, before it is read again and before the response.
    ConfigurationCommitted = "configuration_committed",

    /// Deliveries are leased, and their attempts have not started.
    DeliveryLeased = "delivery_leased",
    /// An attempt has ended and is not reported yet.
    DeliveryAttempted = "delivery_attempted",
    /// Attempts are about to be settled.
    DeliverySettling = "delivery_settling",
    /// Attempts are settled.
    DeliverySettled = "delivery_settled",

    /// A shutdown was requested.
    Stopping = "stopping",
    /// A shutdown is about to give back the leases of attempts that did not end.
    LeasesHeld = "leases_held",
}

impl Failpoint {
    /// Aborts the process if `FAILPOINTS` requests it here: no destructor runs, and nothing more is written.
    pub fn pass(self) {
        fail::fail_point!(self.name(), |_| std::process::abort());
    }

    /// Reads `FAILPOINTS` for the lifetime of the process; does nothing in a build without failpoints.
    pub fn arm() {
        if fail::has_failpoints() {
            std::mem::forget(fail::FailScenario::setup());
        }
    }
}
