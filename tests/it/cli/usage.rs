//! The binary as a shell sees it: streams and exit codes.

use std::process::{Command, Output, Stdio};

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_onstage"));
    command.args(arguments).env_clear().stdin(Stdio::null());
    command
}

fn onstage(arguments: &[&str]) -> Output {
    command(arguments).output().expect("the binary runs")
}

#[test]
fn version_is_on_stdout_and_ends_with_0() {
    let output = onstage(&["--version"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stdout.starts_with(b"onstage "));
    assert!(output.stderr.is_empty());
}

#[test]
fn an_unknown_flag_ends_with_2() {
    let output = onstage(&["serve", "--prot", "1"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty());
}

#[test]
fn a_wrong_variable_ends_with_78() {
    let output = command(&["serve", "x"])
        .env("ONSTAGE_SERVER__PORT", "http")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(78));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        text.starts_with("error: invalid value `http` for `server.port`"),
        "{text}"
    );
}

#[test]
fn a_target_that_is_not_there_ends_with_1_and_one_message() {
    let output = onstage(&["serve", "does/not/exist", "--log-level", "off"]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.starts_with("error: "), "{text}");
    assert!(
        !text.contains("panicked") && !text.contains("stack backtrace"),
        "{text}"
    );
}

#[test]
fn errors_in_a_pipe_have_no_colours() {
    let output = onstage(&["serve", "models:/iris/1"]);
    assert!(!output.stderr.contains(&0x1b));
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    for arguments in [&["doctor"][..], &["--help"], &["serve", "--check-config"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = command(arguments).stdout(writer).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {text}");
        assert_eq!(text, "", "{arguments:?}");
    }
}
