//! `quorate node finalize`.

use serde::Serialize;

use crate::args::FinalizeArgs;
use crate::commands::node::failed;
use crate::failure::Outcome;
use crate::output::Output;

/// Gives a stopped node's store the newest format.
pub fn finalize(out: Output, args: &FinalizeArgs) -> Outcome {
    let formats = quorate_server::finalize(&args.node.data_dir).map_err(|e| failed(&e))?;
    #[derive(Serialize)]
    struct Value {
        from: u32,
        to: u32,
        software: &'static str,
    }
    let value = Value { from: formats.from, to: formats.to, software: quorate_sdk::SOFTWARE };
    out.result(&value, || {
        if value.from == value.to {
            return format!(
                "the store has format {}, the newest that {} knows; nothing was changed",
                value.to, value.software
            );
        }
        format!(
            "the store has format {} now instead of {}: what does not know it refuses to start",
            value.to, value.from
        )
    });
    Ok(())
}
