//! The processes that mpirun or srun started for one training.

/// The number of processes that a launcher of MPI started, of which this is one; 1 without a launcher.
///
/// By Open MPI's mpirun, MPICH's mpiexec and SLURM's srun with PMI-2; and srun with PMIx.
fn launched() -> usize {
    let number = |name: &str| std::env::var(name).ok()?.parse().ok();
    let of_pmix = || {
        std::env::var_os("PMIX_RANK")?;
        number("SLURM_STEP_NUM_TASKS")
    };
    let counts = ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE"].map(number);
    counts
        .into_iter()
        .flatten()
        .next()
        .or_else(of_pmix)
        .unwrap_or(1)
}

#[cfg(not(feature = "mpi"))]
pub(crate) use alone::{end_all, join};
#[cfg(feature = "mpi")]
pub(crate) use of_mpi::{end_all, join};

#[cfg(not(feature = "mpi"))]
mod alone {
    use std::rc::Rc;

    use wdsr_train::{Alone, Ranks};

    use super::launched;
    use crate::WrongUsage;

    /// The only rank.
    ///
    /// # Errors
    /// If there are others, as this program was built without MPI.
    pub(crate) fn join() -> Result<Rc<dyn Ranks>, WrongUsage> {
        match launched() {
            0 | 1 => Ok(Rc::new(Alone)),
            count => Err(WrongUsage(format!(
                "{count} processes were started for one training, but this program was built without MPI; build it \
                 with --features mpi, or start one process"
            ))),
        }
    }

    pub(crate) fn end_all(_ranks: &dyn Ranks, _error: &anyhow::Error) {}
}

#[cfg(feature = "mpi")]
mod of_mpi {
    use std::rc::Rc;
    use std::thread;
    use std::time::Duration;

    use mpi::Threading;
    use mpi::environment::Universe;
    use mpi::topology::SimpleCommunicator;
    use mpi::traits::{Communicator, Destination, Root, Source};
    use wdsr_train::{Alone, Ranks};

    use super::launched;
    use crate::{WrongUsage, exit, progress};

    /// How long an error of another rank than the first waits to be told: one that the first has too is
    /// told by that alone, which ends the others.
    const FIRST_TELLS_WITHIN: Duration = Duration::from_secs(1);

    /// The processes that MPI started.
    struct MpiRanks {
        world: SimpleCommunicator,
        _universe: Universe,
    }

    /// Joins the other processes. The ranks must be dropped on the thread of this call.
    pub(crate) fn join() -> Result<Rc<dyn Ranks>, WrongUsage> {
        if launched() < 2 {
            return Ok(Rc::new(Alone));
        }
        let Some((universe, _)) = mpi::initialize_with_threading(Threading::Funneled) else {
            unreachable!("MPI is started once");
        };
        Ok(Rc::new(MpiRanks {
            world: universe.world(),
            _universe: universe,
        }))
    }

    /// Tells an error of this process and ends all; one alone goes on.
    pub(crate) fn end_all(ranks: &dyn Ranks, error: &anyhow::Error) {
        if ranks.count() < 2 {
            return;
        }
        if ranks.rank() > 0 {
            thread::sleep(FIRST_TELLS_WITHIN);
        }
        progress::note(&format!(
            "error: rank {}: {}",
            ranks.rank(),
            progress::one_line(error)
        ));
        SimpleCommunicator::world().abort(exit::number_of(error).into());
    }

    impl Ranks for MpiRanks {
        fn rank(&self) -> usize {
            self.world.rank() as usize
        }

        fn count(&self) -> usize {
            self.world.size() as usize
        }

        fn send(&self, bytes: &[u8]) {
            self.world
                .process_at_rank(self.world.rank() + 1)
                .send(bytes);
        }

        fn receive(&self, bytes: &mut [u8]) {
            let before = self.world.process_at_rank(self.world.rank() - 1);
            before.receive_into(bytes);
        }

        fn share(&self, from: usize, bytes: &mut [u8]) {
            self.world
                .process_at_rank(from as i32)
                .broadcast_into(bytes);
        }
    }
}
