//! Runs the command lines of a page as a reader would, and compares what they print with what the page shows.
//!
//! The rules are in CONTRIBUTING.md, section "Documentation".

use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::time::Instant;

use crate::support::server::{onnxruntime, project};

/// A fenced block whose lines are typed into a shell.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) line: usize,
    marker: Marker,
    commands: Vec<Typed>,
}

/// What the comment above a block says.
#[derive(Debug, PartialEq, Eq)]
enum Marker {
    None,
    NotExecutable,
    /// The file that runs it instead.
    TestedBy(String),
    WithOnnxRuntime,
}

/// One command, and what the page shows of its output; nothing means that it is not compared.
#[derive(Debug, PartialEq, Eq)]
struct Typed {
    command: String,
    shown: Vec<String>,
}

/// The blocks of `page` whose info string is `console`, `sh` or `bash`.
pub(super) fn blocks(page: &str) -> Result<Vec<Block>, String> {
    let mut blocks = Vec::new();
    let mut lines = page.lines().enumerate();
    let mut above = "";
    while let Some((index, line)) = lines.next() {
        let Some(info) = line.trim_start().strip_prefix("```") else {
            if !line.trim().is_empty() {
                above = line.trim();
            }
            continue;
        };
        let inside: Vec<&str> = lines
            .by_ref()
            .map(|(_, line)| line)
            .take_while(|line| line.trim() != "```")
            .collect();
        if matches!(info.trim(), "console" | "sh" | "bash") {
            let line = index + 1;
            let marker = marker(above).map_err(|error| format!("line {line}: {error}"))?;
            let commands = typed(&inside);
            if commands.is_empty() && marker != Marker::NotExecutable {
                return Err(format!(
                    "line {line}: no line of the block begins with `$ `"
                ));
            }
            blocks.push(Block {
                line,
                marker,
                commands,
            });
        }
        above = "";
    }
    Ok(blocks)
}

fn marker(above: &str) -> Result<Marker, String> {
    let comment = above
        .strip_prefix("<!--")
        .and_then(|rest| rest.strip_suffix("-->"));
    let Some(comment) = comment.map(str::trim) else {
        return Ok(Marker::None);
    };
    match comment.split_once(':') {
        Some(("not executable", reason)) if !reason.trim().is_empty() => Ok(Marker::NotExecutable),
        Some(("tested by", file)) => Ok(Marker::TestedBy(file.trim().to_owned())),
        None if comment == "with onnxruntime" => Ok(Marker::WithOnnxRuntime),
        _ => Err(format!("`{above}` is no marker that this test knows")),
    }
}

fn typed(lines: &[&str]) -> Vec<Typed> {
    let mut commands: Vec<Typed> = Vec::new();
    let mut continues = false;
    for line in lines {
        match (line.strip_prefix("$ "), commands.last_mut()) {
            (Some(command), _) => commands.push(Typed {
                command: command.to_owned(),
                shown: Vec::new(),
            }),
            (None, Some(last)) if continues => {
                last.command.push('\n');
                last.command.push_str(line);
            }
            (None, Some(last)) => last.shown.push((*line).to_owned()),
            (None, None) => {}
        }
        continues = line.ends_with('\\') && (continues || line.starts_with("$ "));
    }
    for typed in &mut commands {
        while typed
            .shown
            .last()
            .is_some_and(|line| line.trim().is_empty())
        {
            typed.shown.pop();
        }
    }
    commands
}

/// Whether `printed` is what a page shows: `...` stands for anything within a line, and alone for any lines.
pub(super) fn shows(shown: &[String], printed: &[String]) -> bool {
    match (shown.split_first(), printed.split_first()) {
        (None, None) => true,
        (Some((pattern, rest)), _) if pattern.trim() == "..." => {
            (0..=printed.len()).any(|skipped| shows(rest, &printed[skipped..]))
        }
        (Some((pattern, shown)), Some((line, printed))) => {
            fits(pattern.trim_end(), line.trim_end()) && shows(shown, printed)
        }
        _ => false,
    }
}

fn fits(pattern: &str, line: &str) -> bool {
    match pattern.split_once("...") {
        None => pattern == line,
        Some((before, after)) => line.strip_prefix(before).is_some_and(|rest| {
            let mut starts = rest.char_indices().map(|(at, _)| at).chain([rest.len()]);
            starts.any(|at| fits(after, &rest[at..]))
        }),
    }
}

/// A directory that looks like the project, where the commands of one page run.
pub(super) struct Desk {
    directory: tempfile::TempDir,
    servers: Vec<Child>,
    /// The address that the page calls `127.0.0.1:8080`.
    address: Option<String>,
}

impl Desk {
    pub(super) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        for name in ["README.md", "Cargo.toml", "model-examples", "tests"] {
            std::os::unix::fs::symlink(project().join(name), directory.path().join(name)).unwrap();
        }
        let binaries = directory.path().join("bin");
        fs::create_dir(&binaries).unwrap();
        let binary = env!("CARGO_BIN_EXE_onstage");
        std::os::unix::fs::symlink(binary, binaries.join("onstage")).unwrap();
        Self {
            directory,
            servers: Vec::new(),
            address: None,
        }
    }

    /// Types the commands of a block, unless its marker says otherwise.
    pub(super) fn run(&mut self, page: &str, block: &Block) -> Result<(), String> {
        let with_onnxruntime = match &block.marker {
            Marker::NotExecutable => return Ok(()),
            Marker::TestedBy(file) => {
                let text = fs::read_to_string(project().join(file)).unwrap_or_default();
                let alike = Path::new(page).parent().and_then(Path::parent);
                let alike = alike.map_or(page.to_owned(), |parent| {
                    format!("{}/*/README.md", parent.display())
                });
                return if text.contains(page) || text.contains(&alike) {
                    Ok(())
                } else {
                    Err(format!(
                        "`{file}` does not run it: it does not name `{page}`"
                    ))
                };
            }
            Marker::None => false,
            Marker::WithOnnxRuntime => true,
        };
        for typed in &block.commands {
            let printed = self.type_in(&typed.command, with_onnxruntime)?;
            let printed: Vec<String> = printed.lines().map(str::to_owned).collect();
            if !typed.shown.is_empty() && !shows(&typed.shown, &printed) {
                let (shown, printed) = (typed.shown.join("\n"), printed.join("\n"));
                let mut message = format!("`{}` does not print what is shown", typed.command);
                let _ = write!(message, "\n--- shown\n{shown}\n--- printed\n{printed}\n");
                return Err(message);
            }
        }
        Ok(())
    }

    fn type_in(&mut self, command: &str, with_onnxruntime: bool) -> Result<String, String> {
        let command = command.replace("cargo run --release -- ", "onstage ");
        if command.contains("onstage serve") && !command.contains("--check-config") {
            return self.serve(&command, with_onnxruntime);
        }
        let address = self.address.as_deref().unwrap_or("127.0.0.1:8080");
        let command = command
            .replace("127.0.0.1:8080", address)
            .replace("curl ", "curl -sS ");
        let output = self.shell(&command, with_onnxruntime).output().unwrap();
        let mut printed = String::from_utf8_lossy(&output.stdout).into_owned();
        printed.push_str(&String::from_utf8_lossy(&output.stderr));
        if !matches!(output.status.code(), Some(0 | 1)) {
            return Err(format!(
                "`{command}` ended with {}:\n{printed}",
                output.status
            ));
        }
        Ok(printed.replace(address, "127.0.0.1:8080"))
    }

    /// Starts a server on free ports, which goes on until the page ends.
    fn serve(&mut self, command: &str, with_onnxruntime: bool) -> Result<String, String> {
        let log = self
            .directory
            .path()
            .join(format!("server-{}.log", self.servers.len()));
        let errors = log.with_extension("err");
        let exec = match &self.address {
            // A page that names the port means the one that its server has.
            Some(address) if command.contains("--port 8080") => {
                let port = address.rsplit(':').next().unwrap_or_default();
                format!("exec {command} --grpc-port 0").replace("8080", port)
            }
            _ => format!("exec {command} --port 0 --grpc-port 0"),
        };
        let mut shell = self.shell(&exec, with_onnxruntime);
        let shell = shell.stdout(File::create(&log).unwrap());
        self.servers.push(
            shell
                .stderr(File::create(&errors).unwrap())
                .spawn()
                .unwrap(),
        );
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(30) {
            let printed = fs::read_to_string(&log).unwrap();
            if printed.ends_with("'\n\n") {
                return Ok(self.remember(&printed));
            }
            let server = self.servers.last_mut().expect("it was just started");
            if let Some(status) = server.try_wait().unwrap() {
                let errors = fs::read_to_string(&errors).unwrap();
                let address = self.address.as_deref().unwrap_or("127.0.0.1:8080");
                let told = errors.lines().filter(|line| !line.starts_with('{'));
                let told = told.collect::<Vec<_>>().join("\n");
                return match status.code() {
                    Some(1) => Ok(told.replace(address, "127.0.0.1:8080")),
                    _ => Err(format!("`{command}` ended with {status}:\n{errors}")),
                };
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let errors = fs::read_to_string(&errors).unwrap();
        Err(format!("`{command}` does not serve:\n{errors}"))
    }

    fn remember(&mut self, banner: &str) -> String {
        let address = |word: &str, scheme: &str| -> String {
            let line = banner
                .lines()
                .find(|line| line.trim_start().starts_with(word));
            let value = line.and_then(|line| line.split_whitespace().nth(1));
            value
                .unwrap_or_default()
                .trim_start_matches(scheme)
                .to_owned()
        };
        let (http, grpc) = (address("HTTP", "http://"), address("gRPC", ""));
        let shown = banner
            .replace(&http, "127.0.0.1:8080")
            .replace(&grpc, "127.0.0.1:8081");
        self.address = Some(http);
        shown.trim_end().to_owned()
    }

    fn shell(&self, command: &str, with_onnxruntime: bool) -> Command {
        let directory = self.directory.path();
        let path = format!(
            "{}:/usr/local/bin:/usr/bin:/bin",
            directory.join("bin").display()
        );
        let mut shell = Command::new("bash");
        shell.args(["-euo", "pipefail", "-c", command]);
        shell
            .current_dir(directory)
            .stdin(Stdio::null())
            .env_clear();
        shell
            .env("PATH", path)
            .env("HOME", directory)
            .env("NO_COLOR", "1");
        if let Some(port) = self
            .address
            .as_deref()
            .and_then(|address| address.rsplit(':').next())
        {
            shell.env("ONSTAGE_SERVER__PORT", port);
        }
        if with_onnxruntime {
            shell.env("ORT_DYLIB_PATH", onnxruntime());
        }
        shell
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        for server in &mut self.servers {
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}

/// Every page whose commands are run.
pub(super) fn pages() -> Vec<PathBuf> {
    let mut pages = vec![PathBuf::from("README.md"), PathBuf::from("CONTRIBUTING.md")];
    let examples = Path::new("model-examples");
    let folders = fs::read_dir(project().join(examples)).unwrap();
    let folders = folders.map(|entry| examples.join(entry.unwrap().file_name()).join("README.md"));
    pages.push(examples.join("README.md"));
    pages.extend(folders.filter(|page| project().join(page).exists()));
    let all = super::links::pages().into_keys();
    pages.extend(all.filter(|page| page.starts_with("docs")));
    pages.sort();
    pages
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(page: &str) -> Result<(), String> {
        let mut desk = Desk::new();
        blocks(page)?
            .iter()
            .try_for_each(|block| desk.run("page.md", block))
    }

    #[test]
    fn what_is_shown_is_compared_with_what_is_printed() {
        assert_eq!(
            run("```console\n$ echo one; echo two\none\ntwo\n```"),
            Ok(())
        );
        assert_eq!(run("```sh\n$ echo one \\\n  two\none t...o\n```"), Ok(()));
        assert_eq!(run("```console\n$ seq 9\n1\n...\n9\n```"), Ok(()));
        let wrong = run("```console\n$ echo one\ntwo\n```").unwrap_err();
        assert!(
            wrong.contains("--- shown\ntwo\n--- printed\none"),
            "{wrong}"
        );
        assert!(run("```console\n$ echo one\none\nmore\n```").is_err());
    }

    #[test]
    fn a_command_that_does_not_exist_fails_and_an_answer_of_no_does_not() {
        assert!(
            run("```console\n$ onstagee doctor\n```")
                .unwrap_err()
                .contains("127")
        );
        assert!(
            run("```console\n$ onstage nonsense\n```")
                .unwrap_err()
                .contains("status: 2")
        );
        assert_eq!(
            run("```console\n$ onstage inspect nothing\n...`nothing`...\n```"),
            Ok(())
        );
    }

    #[test]
    fn a_block_is_run_or_says_why_not() {
        assert_eq!(
            run("<!-- not executable: needs a cluster -->\n\n```sh\nhelm install\n```"),
            Ok(())
        );
        assert!(run("<!-- not executable: -->\n```sh\n$ helm\n```").is_err());
        assert!(run("<!-- whatever -->\n```sh\n$ true\n```").is_err());
        assert!(run("```sh\nhelm install\n```").is_err(), "nothing is typed");
        assert!(run("<!-- tested by: tests/nothing.py -->\n```sh\n$ true\n```").is_err());
        assert_eq!(run("```toml\nport = 1\n```"), Ok(()), "no command");
    }
}
