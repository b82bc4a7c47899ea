//! Which of how many: rank and world size from whichever launcher set them, so that `srun`, `mpirun`, `torchrun`, array
//! jobs and Kubernetes indexed jobs spread work without a word of configuration.

use crate::error::{Exit, ExitKind};

/// This process among those that share the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rank {
    /// From 0, below `world`.
    pub rank: u64,
    /// At least 1.
    pub world: u64,
}

impl Rank {
    /// Alone.
    pub const SOLO: Self = Self { rank: 0, world: 1 };

    /// From the environment; [`Rank::SOLO`] when no launcher is known.
    pub fn from_env() -> Result<Self, LauncherError> {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    /// The first launcher whose variables are set. Open MPI, PMI and Slurm come before torchrun, whose names are the
    /// least particular; a job array counts only where the job itself has one task.
    pub fn from_variables(get: impl Fn(&str) -> Option<String>) -> Result<Self, LauncherError> {
        const KNOWN: [(&str, &str); 5] = [
            ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
            ("PMI_RANK", "PMI_SIZE"),
            ("SLURM_PROCID", "SLURM_NTASKS"),
            ("RANK", "WORLD_SIZE"),
            ("JOB_COMPLETION_INDEX", "JOB_COMPLETIONS"),
        ];
        for (rank_name, world_name) in KNOWN {
            let (Some(rank), Some(world)) = (get(rank_name), get(world_name)) else { continue };
            let found = Self::of(rank_name, &rank, world_name, &world, 0)?;
            if found.world > 1 {
                return Ok(found);
            }
        }
        let array = "SLURM_ARRAY_TASK_ID";
        match (get(array), get("SLURM_ARRAY_TASK_COUNT"), get("SLURM_ARRAY_TASK_MIN")) {
            (Some(rank), Some(world), first) => {
                let first = first.map_or(Ok(0), |text| number("SLURM_ARRAY_TASK_MIN", &text))?;
                Self::of(array, &rank, "SLURM_ARRAY_TASK_COUNT", &world, first)
            }
            _ => Ok(Self::SOLO),
        }
    }

    fn of(
        rank_name: &str,
        rank: &str,
        world_name: &str,
        world: &str,
        first: u64,
    ) -> Result<Self, LauncherError> {
        let (rank, world) = (number(rank_name, rank)?, number(world_name, world)?);
        match rank.checked_sub(first) {
            Some(rank) if rank < world => Ok(Self { rank, world }),
            _ => Err(LauncherError(format!(
                "{rank_name}={rank} is not below {world_name}={world}: number the processes without gaps"
            ))),
        }
    }

    /// Whether piece `index` of the work is this process's.
    pub fn owns(&self, index: u64) -> bool {
        index % self.world == self.rank
    }
}

fn number(name: &str, text: &str) -> Result<u64, LauncherError> {
    text.trim()
        .parse()
        .map_err(|_| LauncherError(format!("{name}={text:?} is not a number: set or unset it")))
}

/// Variables that contradict each other.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct LauncherError(String);

impl ExitKind for LauncherError {
    fn exit(&self) -> Exit {
        Exit::BadInput
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rank(variables: &[(&str, &str)]) -> Result<Rank, LauncherError> {
        Rank::from_variables(|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn each_launcher_is_known() {
        assert_eq!(rank(&[]), Ok(Rank::SOLO));
        let second = Ok(Rank { rank: 1, world: 4 });
        assert_eq!(rank(&[("OMPI_COMM_WORLD_RANK", "1"), ("OMPI_COMM_WORLD_SIZE", "4")]), second);
        assert_eq!(rank(&[("SLURM_PROCID", "1"), ("SLURM_NTASKS", "4")]), second);
        assert_eq!(rank(&[("RANK", "1"), ("WORLD_SIZE", "4")]), second);
        assert_eq!(rank(&[("JOB_COMPLETION_INDEX", "1"), ("JOB_COMPLETIONS", "4")]), second);
        // An array of jobs of one task each.
        let array = [
            ("SLURM_PROCID", "0"),
            ("SLURM_NTASKS", "1"),
            ("SLURM_ARRAY_TASK_ID", "6"),
            ("SLURM_ARRAY_TASK_MIN", "5"),
            ("SLURM_ARRAY_TASK_COUNT", "4"),
        ];
        assert_eq!(rank(&array), second);
    }

    #[test]
    fn nonsense_is_named() {
        let text = |variables: &[(&str, &str)]| rank(variables).unwrap_err().to_string();
        assert!(text(&[("RANK", "4"), ("WORLD_SIZE", "4")]).contains("RANK=4 is not below WORLD_SIZE=4"));
        assert!(text(&[("RANK", "one"), ("WORLD_SIZE", "4")]).contains("RANK=\"one\""));
        assert!(text(&[("RANK", "-1"), ("WORLD_SIZE", "4")]).contains("not a number"));
    }

    #[test]
    fn pieces_have_one_owner() {
        for piece in 0..20 {
            assert_eq!((0..3).filter(|&rank| Rank { rank, world: 3 }.owns(piece)).count(), 1);
        }
    }
}
