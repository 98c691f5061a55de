//! Key management that acts only when quorate: the command line.
//!
//! The program is [`main`]; `src/main.rs` calls it, and so does the build for tests of upgrades (`examples/quorate-next.rs`).
#![forbid(unsafe_code)]

mod app;
mod args;
mod commands;
mod config;
mod failure;
mod files;
mod interrupted;
mod local;
mod output;

use std::io::Write;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use app::App;
use args::{Cli, Command, Config, Docs};
use failure::{Code, Exit, Failure, Outcome};
use output::{Output, print_line};

/// The program.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return not_understood(&error),
    };
    let json = cli.common.json;
    let done = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::new(Code::Internal, format!("no runtime: {e}")))
        .and_then(|runtime| {
            let done = runtime.block_on(until_told_to_end(cli)).and_then(|()| {
                output::unprinted().map_or(Ok(()), |why| {
                    Err(Failure::new(
                        Code::Output,
                        format!("the result could not be written to standard output: {why}"),
                    )
                    .unchanged("What the command did is done; only its result is missing."))
                })
            });
            // Standard input may still be waited for on a thread that nothing can interrupt.
            runtime.shutdown_background();
            done
        });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            print_failure(&failure, json);
            ExitCode::from(failure.exit.number())
        }
    }
}

/// Prints a failure: for people in lines, for programs as one JSON object on one line.
fn print_failure(failure: &Failure, json: bool) {
    let text = if json {
        serde_json::to_string(failure).unwrap_or_else(|_| failure.text())
    } else {
        failure.text()
    };
    // Standard error may be closed; there is nobody left to tell.
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// A command line that is not understood, or that asks for help.
fn not_understood(error: &clap::Error) -> ExitCode {
    let json = std::env::args_os().take_while(|a| a != "--").any(|a| a == "--json");
    if error.use_stderr() && json {
        let text = error.render().to_string();
        let message = text.lines().take_while(|l| !l.starts_with("Usage:"));
        let message =
            message.map(str::trim).filter(|l| !l.is_empty()).collect::<Vec<_>>().join(" ");
        let message = message.trim_start_matches("error: ").to_owned();
        print_failure(&Failure::new(Code::Usage, message), true);
    } else {
        let _ = error.print();
    }
    ExitCode::from(if error.use_stderr() { Exit::Usage.number() } else { 0 })
}

/// Runs the command, and sees to it that a signal ends it.
async fn until_told_to_end(cli: Cli) -> Outcome {
    if matches!(
        cli.command,
        Command::Demo(_) | Command::Dev(_) | Command::Node(_) | Command::Coordinator(_)
    ) {
        // These have processes to end, and see to signals themselves.
        return run(cli).await;
    }
    interrupted::watch(&cli)?;
    let out = Output::new(&cli.common);
    let done = run(cli).await;
    if !files::stream::interrupted() {
        app::finish(out).await;
    }
    interrupted::unless_reported().await;
    done
}

/// Runs the command. What more administrators must sign is kept in a file for them.
async fn run(cli: Cli) -> Outcome {
    let common = cli.common.clone();
    match dispatch(cli).await {
        Err(Failure { change: Some(change), .. }) => {
            commands::change::keep(&App::new(&common)?, &change)
        }
        done => done,
    }
}

async fn dispatch(cli: Cli) -> Outcome {
    let Cli { common, command } = cli;
    match command {
        Command::Demo(args) => commands::demo::run(&common, args).await,
        Command::Dev(args) => commands::dev::run(&common, args).await,
        Command::Encrypt(args) => commands::encrypt::run(&App::new(&common)?, args).await,
        Command::Decrypt(args) => commands::decrypt::run(&App::new(&common)?, args).await,
        Command::Rewrap(args) => commands::rewrap::run(&App::new(&common)?, args).await,
        Command::Inspect(args) => commands::inspect::run(&App::new(&common)?, &args),
        Command::Datakey(command) => commands::datakey::run(&App::new(&common)?, command).await,
        Command::Fragment(command) => commands::fragment::run(&App::new(&common)?, command),
        Command::Key(command) => commands::key::run(&App::new(&common)?, command).await,
        Command::Principal(command) => commands::principal::run(&App::new(&common)?, command).await,
        Command::Policy(command) => commands::policy::run(&App::new(&common)?, command).await,
        Command::Grant(command) => commands::grant::run(&App::new(&common)?, command).await,
        Command::Tenant(command) => commands::tenant::run(&App::new(&common)?, command).await,
        Command::Admin(command) => commands::admin::run(&App::new(&common)?, command).await,
        Command::Change(command) => commands::change::run(&App::new(&common)?, command).await,
        Command::Audit(command) => commands::audit::run(&App::new(&common)?, command).await,
        Command::Cluster(command) => commands::cluster::run(&App::new(&common)?, command).await,
        Command::Sync => commands::cluster::run(&App::new(&common)?, args::Cluster::Sync).await,
        Command::Node(command) => commands::node::run(Output::new(&common), command).await,
        Command::Coordinator(command) => {
            commands::coordinator::run(&App::new(&common)?, command).await
        }
        Command::Doctor(args) => commands::doctor::run(&App::new(&common)?, &args).await,
        Command::Config(Config::Check) => {
            check_config(&App::new(&common)?);
            Ok(())
        }
        Command::Completions { shell } => {
            let mut out = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "quorate", &mut out);
            print_line(String::from_utf8_lossy(&out).trim_end());
            Ok(())
        }
        Command::Docs(Docs::Errors) => {
            print_line(commands::docs::errors().trim_end());
            Ok(())
        }
        Command::Docs(Docs::Cli) => {
            print_line(commands::docs::cli().trim_end());
            Ok(())
        }
        Command::Docs(Docs::Man { dir }) => commands::docs::man(&dir),
    }
}

/// `quorate config check`.
fn check_config(app: &App) {
    #[derive(serde::Serialize)]
    struct Checked {
        config_file: Option<String>,
        config_file_exists: bool,
        profile: String,
        profile_from: config::Source,
        directory: String,
        directory_from: config::Source,
        profile_exists: bool,
        key: Option<String>,
        hedge_ms: Option<u64>,
        timeout_ms: Option<u64>,
    }
    let s = &app.settings;
    let value = Checked {
        config_file: s.file.as_ref().map(|(p, _)| app::shown(p)),
        config_file_exists: s.file.as_ref().is_some_and(|(_, exists)| *exists),
        profile: s.profile.0.clone(),
        profile_from: s.profile.1,
        directory: app::shown(&s.directory.0),
        directory_from: s.directory.1,
        profile_exists: s.directory.0.exists(),
        key: std::env::var("QUORATE_KEY").ok().or_else(|| s.settings.key.clone()),
        hedge_ms: s.settings.hedge_ms,
        timeout_ms: s.settings.timeout_ms,
    };
    app.out.result(&value, || {
        let text = serde_json::to_value(&value).unwrap_or_default();
        let rows: Vec<Vec<String>> = text
            .as_object()
            .into_iter()
            .flatten()
            .map(|(k, v)| {
                let v = v.as_str().map_or_else(|| v.to_string(), str::to_owned);
                vec![k.replace('_', " "), v]
            })
            .collect();
        output::table(&rows)
    });
}
