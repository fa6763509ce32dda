//! Runs the two commands that the quickstart prints, unchanged, with a shell and the real `curl`.

use std::process::{Command, Stdio};

use libtest_mimic::{Failed, Trial};
use test_support::optional_trial::optional_trial;
use test_support::process::{Process, example};

pub(crate) fn trials() -> Vec<Trial> {
    let has_curl = Command::new("curl")
        .arg("--version")
        .stdout(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    let missing = (!has_curl).then(|| "curl is not installed".to_owned());
    let trials = ["authorization", "x_api_key"].into_iter().enumerate();
    let trials = trials.map(|(number, name)| {
        let name = format!("curl::printed_{name}_command_succeeds");
        optional_trial(missing.as_ref(), name, move || {
            printed_command_succeeds(number)
        })
    });
    trials.collect()
}

fn printed_command_succeeds(number: usize) -> Result<(), Failed> {
    let mut quickstart = Process::spawn(example("quickstart").env("PORT", "0"));
    let _token = quickstart.line();
    let commands = [quickstart.line(), quickstart.line()];
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(&commands[number]).env("NO_PROXY", "*");
    let output = Process::spawn(&mut shell).finish().succeeded();
    let output: serde_json::Value = serde_json::from_str(&output)?;
    let expected = serde_json::json!({
        "name": "my-service-token",
        "roles": ["stackstate-k8s-troubleshooter"],
    });
    if output == expected {
        Ok(())
    } else {
        Err(format!("{output}").into())
    }
}
