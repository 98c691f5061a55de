//! `quorate node finalize`.

use clap::Args;

use super::NodeArgs;

/// How `quorate node finalize` is called.
#[derive(Debug, Args)]
pub struct FinalizeArgs {
    #[command(flatten)]
    pub node: NodeArgs,
}
