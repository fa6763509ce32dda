//! Logs and metrics of `FileStore`.

#[cfg(feature = "tracing")]
mod log {
    use super::super::*;
    use tests::log::Log;

    /// Returns the lines that `body` logs.
    fn lines_logged_by(body: impl FnOnce()) -> Vec<String> {
        let log = Log::default();
        let guard = log.start();
        body();
        drop(guard);
        let text = log.text();
        text.lines()
            .map(|line| line.trim_start().to_owned())
            .collect()
    }

    #[test]
    fn logs_each_failure_and_recovery_once() {
        let folder = Folder::new();
        let valid = toml_with_token("a", "");
        let path = folder.write("t.toml", &valid);
        let store = open_without_polling(&path);
        let log_after = |text: Option<&str>| {
            match text {
                Some(text) => write(&path, text),
                None => fs::remove_file(&path).unwrap(),
            }
            let lines = lines_logged_by(|| drop((store.reload(), store.reload())));
            assert!(lines.len() <= 1, "{lines:?}");
            lines.into_iter().next().unwrap_or_default()
        };
        let name = path.display();
        let message = "the token file cannot be used; the tokens read before stay in use";

        assert_eq!(
            log_after(Some(&valid)),
            "",
            "an unchanged file logs nothing"
        );
        let line = log_after(Some("broken = hunter2"));
        let expected = format!(
            "ERROR tower_service_token: {message} error=the token file {name}: line 1: is not TOML tokens=1"
        );
        assert_eq!(line, expected);
        assert_eq!(
            log_after(Some("broken = hunter3")),
            "",
            "the same failure is logged once"
        );
        let line = log_after(Some("\nbroken = hunter2"));
        assert!(line.contains("line 2: is not TOML"), "{line}");
        let line = log_after(None);
        assert!(
            line.starts_with("ERROR ") && line.contains("cannot be read source="),
            "{line}"
        );
        assert_eq!(
            log_after(Some(&valid)),
            "INFO tower_service_token: the token file is in use tokens=1"
        );
        assert_eq!(
            log_after(Some("tokens = []")),
            "INFO tower_service_token: the token file is in use tokens=0"
        );
        let line = log_after(Some("broken = hunter2"));
        assert!(line.contains("line 1: is not TOML tokens=0"), "{line}");
    }
}

#[cfg(feature = "metrics")]
mod reload_metrics {
    use metrics_util::debugging::{DebugValue, DebuggingRecorder};

    use super::super::*;

    #[test]
    fn counts_failures_and_reloads_once() {
        let folder = Folder::new();
        let path = folder.write("t.toml", "tokens = []");
        let store = open_without_polling(&path);
        let recorder = DebuggingRecorder::new();
        metrics::with_local_recorder(&recorder, || {
            for text in [
                "broken",
                &toml_with_token("a", ""),
                &toml_with_token("b", ""),
                "broken",
                "tokens = []",
            ] {
                write(&path, text);
                drop((store.reload(), store.reload()));
            }
        });
        let mut counters: Vec<_> = recorder.snapshotter().snapshot().into_vec();
        counters.sort_by_key(|(key, ..)| key.key().clone());
        let counters = counters.into_iter().map(|(key, _, _, value)| {
            let key = key.key();
            let labels: Vec<_> = key
                .labels()
                .map(|label| (label.key(), label.value()))
                .collect();
            let DebugValue::Counter(count) = value else {
                panic!("{key} is not a counter")
            };
            format!("{} {labels:?} {count}", key.name())
        });
        assert_eq!(
            counters.collect::<Vec<_>>(),
            [
                "service_token_file_reloads_total [(\"outcome\", \"failed\")] 2",
                "service_token_file_reloads_total [(\"outcome\", \"loaded\")] 3",
            ]
        );
    }
}
