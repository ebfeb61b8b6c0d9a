//! What must be confirmed: commands that destroy or send something again.

use clap::Args;

use crate::failure::Failure;

/// `--dry-run` and `--yes`, to be flattened into the arguments of such a command.
#[derive(Debug, Clone, Copy, Args)]
pub struct Confirm {
    /// Says what would be done, and does nothing
    #[arg(long, conflicts_with = "yes")]
    pub dry_run: bool,
    /// Does it. Without this, nothing is done
    #[arg(long)]
    pub yes: bool,
}

impl Confirm {
    /// Whether to do it (`true`), or only to say what would be done (`false`).
    ///
    /// # Errors
    /// If neither was said. `what` completes "this …".
    pub fn is_to_be_done(self, what: &str) -> Result<bool, Failure> {
        match self {
            Self { dry_run: true, .. } => Ok(false),
            Self { yes: true, .. } => Ok(true),
            _ => Err(Failure::usage(format!(
                "this {what}: add `--yes` if that is what you want, or `--dry-run` to see what it would do. Nothing was done"
            ))),
        }
    }
}
