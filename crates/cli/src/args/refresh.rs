//! `quorate key refresh` and `quorate cluster repair`.

use std::path::PathBuf;

use clap::Args;

/// Whose shares are dealt anew.
#[derive(Debug, Clone, Default, Args)]
pub struct ChosenArgs {
    /// All keys of a tenant: this profile's own, by name or id [default: by its profile].
    #[arg(long, value_name = "TENANT", num_args = 0..=1, conflicts_with = "file")]
    pub tenant: Option<Option<String>>,
    /// All keys that this profile sees: those of its tenant.
    #[arg(long, conflicts_with_all = ["tenant", "file"])]
    pub all: bool,
    /// The keys that a file names by their ids, one a line; also as `key create --batch` prints them. For keys of
    /// other tenants whose coordinator this principal is; what takes an order is signed where this profile's
    /// administrator manages the tenant.
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Deal the shares of at most so many keys a second, beside what the nodes serve.
    #[arg(long, value_name = "KEYS", value_parser = rate)]
    pub rate: Option<f64>,
}

/// How `quorate key refresh` is called.
#[derive(Debug, Args)]
pub struct RefreshArgs {
    /// The keys, by alias or id.
    #[arg(required_unless_present_any = ["all", "tenant", "file"], conflicts_with_all = ["all", "tenant", "file"])]
    pub keys: Vec<String>,
    #[command(flatten)]
    pub chosen: ChosenArgs,
    /// Also where no standing order allows it now: sign an order for it. It takes the permission `change`.
    #[arg(long)]
    pub now: bool,
    /// Let the shares be refreshed by standing order once in that time from now on, and refresh them: days, weeks or
    /// hours, such as 30d; or never.
    #[arg(long, value_name = "TIME", value_parser = period)]
    pub every: Option<u64>,
}

/// How `quorate cluster repair` is called.
#[derive(Debug, Args)]
pub struct RepairArgs {
    /// The nodes, by name or id. They run, and have joined. Those of several nodes that lost their shares of one key are
    /// named together.
    #[arg(required = true, value_name = "NODE")]
    pub nodes: Vec<String>,
    /// Only this key, by alias or id; give it again for more [default: all keys of this profile's tenant].
    #[arg(long = "key", value_name = "KEY", conflicts_with_all = ["all", "tenant", "file"])]
    pub keys: Vec<String>,
    #[command(flatten)]
    pub chosen: ChosenArgs,
}

/// A time that a standing order names: 30d, 12w, 6h, 90s; or never.
pub fn period(text: &str) -> Result<u64, String> {
    let bad = || "give days, weeks or hours, such as 30d, 12w or 6h, or never".to_owned();
    if text == "never" {
        return Ok(0);
    }
    let units = [('w', 7 * 86_400), ('d', 86_400), ('h', 3600), ('m', 60), ('s', 1)];
    let (number, seconds) = units
        .into_iter()
        .find_map(|(unit, seconds)| Some((text.strip_suffix(unit)?, seconds)))
        .ok_or_else(bad)?;
    let number: u64 = number.parse().map_err(|_| bad())?;
    number.checked_mul(seconds).filter(|seconds| *seconds > 0).ok_or_else(bad)
}

/// Keys a second.
pub fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "give keys a second, such as 5 or 0.5".to_owned())?;
    if rate.is_finite() && rate > 0.0 { Ok(rate) } else { Err("give more than 0".to_owned()) }
}
