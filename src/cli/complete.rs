//! `watchfire completion` and `watchfire man`: the command line described for shells and
//! for `man`, from the very commands that are parsed.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Command};
use clap_complete::Shell;
use clap_mangen::Man;

use super::{fail, say};

#[derive(Debug, Args)]
pub(crate) struct CompletionArgs {
    /// The shell.
    #[arg(value_enum)]
    shell: Shell,
    /// What the program is called where it is completed, such as a link named promtool.
    #[arg(long, value_name = "NAME", default_value = "watchfire")]
    name: String,
}

#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// The command the page is about, such as `test rules`; left out, one page has all.
    command: Vec<String>,
    /// Write one page for each command into this folder instead.
    #[arg(long, value_name = "DIR", conflicts_with = "command")]
    out: Option<PathBuf>,
}

/// Runs `watchfire completion`.
pub(crate) fn completion(args: &CompletionArgs, mut cli: Command) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut cli, &args.name, &mut script);
    say(&String::from_utf8_lossy(&script).trim_end());
    ExitCode::SUCCESS
}

/// Runs `watchfire man`.
pub(crate) fn man(args: &ManArgs, cli: Command) -> ExitCode {
    if let Some(folder) = &args.out {
        return match pages(cli, folder) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&format!("{}: {error}", folder.display())),
        };
    }
    let made = match find(&cli, &args.command) {
        Ok(command) if args.command.is_empty() => whole(command),
        Ok(command) => page(command),
        Err(error) => return fail(&error),
    };
    match made {
        Ok(page) => {
            say(&page.trim_end());
            ExitCode::SUCCESS
        }
        Err(error) => fail(&error),
    }
}

fn pages(cli: Command, folder: &Path) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let mut commands = vec![&cli];
    while let Some(command) = commands.pop() {
        std::fs::write(folder.join(format!("{}.1", dashed(command))), page(command)?)?;
        commands.extend(described(command));
    }
    Ok(())
}

/// The subcommands a page is made for.
fn described(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|c| !c.is_hide_set() && c.get_name() != "help")
}

/// `watchfire test rules`.
fn spoken(command: &Command) -> String {
    command.get_bin_name().unwrap_or_else(|| command.get_name()).to_owned()
}

/// `watchfire-test-rules`.
fn dashed(command: &Command) -> String {
    spoken(command).replace(' ', "-")
}

fn find<'a>(cli: &'a Command, words: &[String]) -> Result<&'a Command, String> {
    let mut command = cli;
    for word in words {
        let found = described(command).find(|c| c.get_name() == word);
        command = found.ok_or_else(|| {
            let known: Vec<&str> = described(command).map(Command::get_name).collect();
            let known = if known.is_empty() { "nothing".to_owned() } else { known.join(", ") };
            format!("`{}` has no command {word:?}; it has {known}", spoken(command))
        })?;
    }
    Ok(command)
}

/// The page of one command.
fn page(command: &Command) -> io::Result<String> {
    let mut page = Vec::new();
    let mut named = command.clone().display_name(dashed(command));
    if named.find_subcommand("help").is_some() {
        named = named.mut_subcommand("help", |help| help.hide(true));
    }
    Man::new(named).title(dashed(command)).render(&mut page)?;
    Ok(renamed(&page))
}

/// What stands after the flags are the examples.
fn renamed(page: &[u8]) -> String {
    String::from_utf8_lossy(page).replace(".SH EXTRA\nExamples:\n", ".SH EXAMPLES\n")
}

/// One page with the program and, a section each, all its commands.
fn whole(cli: &Command) -> io::Result<String> {
    let mut out = page(cli)?;
    let mut commands: Vec<&Command> = described(cli).collect();
    commands.reverse();
    while let Some(command) = commands.pop() {
        let man = Man::new(command.clone());
        let mut section = Vec::new();
        writeln!(section, ".SH \"{}\"", spoken(command).to_uppercase())?;
        let mut parts = Vec::new();
        man.render_synopsis_section(&mut parts)?;
        man.render_description_section(&mut parts)?;
        if command.get_arguments().next().is_some() {
            man.render_options_section(&mut parts)?;
        }
        if command.get_after_help().is_some() || command.get_after_long_help().is_some() {
            man.render_extra_section(&mut parts)?;
        }
        let parts = renamed(&parts).replace("\n.SH ", "\n.SS ");
        let parts = parts.strip_prefix(".SH ").map_or(parts.clone(), |rest| format!(".SS {rest}"));
        out += &(String::from_utf8_lossy(&section).into_owned() + &parts);
        let inner: Vec<&Command> = described(command).collect();
        commands.extend(inner.into_iter().rev());
    }
    Ok(out)
}
