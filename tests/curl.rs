//! The two commands that the quickstart prints, run to the letter by a shell and the real `curl`.
//!
//! Where there is no `curl` they are reported as ignored; with `SERVICE_TOKEN_REQUIRE_SERVICES=1`
//! in the environment they fail instead.

#[expect(
    dead_code,
    reason = "only the tests of the examples signal a process and see it fail"
)]
#[path = "support/process.rs"]
mod process;
#[path = "support/optional_trial.rs"]
mod optional_trial;

use std::process::{Command, ExitCode, Stdio};

use libtest_mimic::{Arguments, Failed};

use self::optional_trial::optional_trial;
use self::process::{Process, example};

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let has_curl = Command::new("curl")
        .arg("--version")
        .stdout(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    let missing = (!has_curl).then(|| "there is no curl".to_owned());
    let trials = ["authorization", "x_api_key"].into_iter().enumerate();
    let trials = trials.map(|(number, name)| {
        let name = format!("the_{name}_command_works_as_printed");
        optional_trial(missing.as_ref(), name, move || works_as_printed(number))
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

fn works_as_printed(number: usize) -> Result<(), Failed> {
    let mut quickstart = Process::spawn(example("quickstart").env("PORT", "0"));
    let _token = quickstart.line();
    let commands = [quickstart.line(), quickstart.line()];
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(&commands[number]).env("NO_PROXY", "*");
    let answer = Process::spawn(&mut shell).finish().succeeded();
    let answer: serde_json::Value = serde_json::from_str(&answer)?;
    let expected = serde_json::json!({
        "name": "my-service-token",
        "roles": ["stackstate-k8s-troubleshooter"],
    });
    if answer == expected {
        Ok(())
    } else {
        Err(format!("{answer}").into())
    }
}
