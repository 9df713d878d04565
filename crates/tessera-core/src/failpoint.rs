//! Failpoints: labelled places at which a test lets the process die, as suddenly as by a power cut. In a release they are nothing.
//!
//! `FAILPOINTS=update_written=return` ends the process at that place, `9*off->return` when it comes there for the tenth
//! time. A label stands once in this list and once in the code; the test that crashes at each goes through the list.

/// Makes the enumeration, its list and its names from one table, so that none can be forgotten.
macro_rules! failpoints {
    ($($(#[doc = $meaning:literal])+ $point:ident = $name:literal,)+) => {
        /// A place at which a process may be made to die.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Failpoint { $($(#[doc = $meaning])+ $point,)+ }

        impl Failpoint {
            /// All there are: those of a start in the order in which a start comes by.
            pub const ALL: &[Self] = &[$(Self::$point,)+];

            /// What `FAILPOINTS` calls it.
            pub fn name(self) -> &'static str {
                match self { $(Self::$point => $name,)+ }
            }
        }
    };
}

failpoints! {
    /// A start: the embedded cluster is made, and has not got its name yet.
    ClusterMade = "cluster_made",
    /// A start: the database answers, and no migration has run.
    MigrationBegun = "migration_begun",
    /// A start: the database has its schema.
    MigrationDone = "migration_done",
    /// Upkeep: a partition is made, others are not.
    PartitionMade = "partition_made",
    /// A start: the seed is written, and not committed.
    SeedWritten = "seed_written",
    /// A start: the seed is committed.
    SeedCommitted = "seed_committed",
    /// Upkeep: old idempotency keys are away.
    KeysForgotten = "keys_forgotten",

    /// A create that has read nothing yet.
    CreateBegun = "create_begun",
    /// A create that has its number.
    CreateLoaded = "create_loaded",
    /// A create whose plan is ready to be written.
    CreatePrepared = "create_prepared",
    /// A create that is committed and not answered.
    CreateWritten = "create_written",
    /// An update that has read nothing yet.
    UpdateBegun = "update_begun",
    /// An update that has read its ticket.
    UpdateLoaded = "update_loaded",
    /// An update whose plan is ready to be written.
    UpdatePrepared = "update_prepared",
    /// An update that is committed and not answered.
    UpdateWritten = "update_written",
    /// An update that holds the lock of its ticket.
    LockTaken = "lock_taken",
    /// An update that is written in the lock, and not committed.
    LockedWritten = "locked_written",
    /// An update that is committed in the lock, and not answered.
    LockedCommitted = "locked_committed",

    /// A change of the configuration that has its turn.
    ConfigurationLocked = "configuration_locked",
    /// A change of the configuration that is written, and not committed.
    ConfigurationWritten = "configuration_written",
    /// A change of the configuration that is committed, and neither read again nor answered.
    ConfigurationCommitted = "configuration_committed",

    /// Deliveries are leased, and their attempts have not begun.
    DeliveryLeased = "delivery_leased",
    /// An attempt has come to an end, and nobody knows.
    DeliveryAttempted = "delivery_attempted",
    /// Attempts are about to be settled.
    DeliverySettling = "delivery_settling",
    /// Attempts are settled.
    DeliverySettled = "delivery_settled",

    /// A stop has been asked for.
    Stopping = "stopping",
    /// A stop is about to give back the leases of attempts that did not end.
    LeasesHeld = "leases_held",
}

impl Failpoint {
    /// Dies here, if a test has said so. No destructor runs, and nothing is written any more.
    pub fn pass(self) {
        fail::fail_point!(self.name(), |_| std::process::abort());
    }

    /// Takes in what `FAILPOINTS` says, for as long as the process lives. A program without failpoints reads nothing.
    pub fn arm() {
        if fail::has_failpoints() {
            std::mem::forget(fail::FailScenario::setup());
        }
    }
}
