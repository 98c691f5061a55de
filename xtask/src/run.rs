//! Running cargo and other programs from the workspace's root.

use std::path::PathBuf;
use std::process::Command;

/// What went wrong, in a sentence.
pub type Outcome<T = ()> = Result<T, String>;

/// The root of the workspace.
pub fn root() -> PathBuf {
    let mut path = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    path.pop();
    path
}

/// The cargo that runs us.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// Runs a command, its output going where ours goes.
pub fn must(command: &mut Command) -> Outcome {
    let status = command
        .status()
        .map_err(|e| format!("{} could not be started: {e}", command.get_program().display()))?;
    if status.success() { Ok(()) } else { Err(format!("{} ended with {status}", line(command))) }
}

/// Runs a command and gives back what it printed.
pub fn output(command: &mut Command) -> Outcome<String> {
    let out = command
        .output()
        .map_err(|e| format!("{} could not be started: {e}", command.get_program().display()))?;
    if !out.status.success() {
        return Err(format!(
            "{} ended with {}:\n{}",
            line(command),
            out.status,
            String::from_utf8_lossy(&out.stderr)
        ));
    }
    String::from_utf8(out.stdout).map_err(|_| format!("{} printed no text", line(command)))
}

fn line(command: &Command) -> String {
    let mut text = PathBuf::from(command.get_program())
        .file_name()
        .map(|n| n.to_string_lossy().into_owned())
        .unwrap_or_default();
    for arg in command.get_args() {
        text.push(' ');
        text.push_str(&arg.to_string_lossy());
    }
    text
}
