//! Records the library's events on the current thread, field by field.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};

use tracing::field::{Field, Visit};
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::layer::{Context, SubscriberExt};

/// The fields of an event by name, with its `level`.
pub type Event = BTreeMap<String, String>;

/// The events of the current thread with the target `tower_service_token`. Clones share them.
#[derive(Clone, Default)]
pub struct Events(Arc<Mutex<Vec<Event>>>);

impl Events {
    /// Records events until the guard is dropped.
    pub fn start(&self) -> DefaultGuard {
        // With a global subscriber installed, `tracing` dispatches each event to the subscriber of
        // its thread. An error means that a global subscriber is already installed.
        let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry());
        let subscriber = tracing_subscriber::registry().with(self.clone());
        tracing::subscriber::set_default(subscriber)
    }

    /// Returns the events since the last call.
    pub fn take(&self) -> Vec<Event> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }

    /// Returns the only event since the last call.
    #[track_caller]
    pub fn only(&self) -> Event {
        let mut events = self.take();
        assert_eq!(events.len(), 1, "{events:?}");
        events.remove(0)
    }
}

/// Panics unless an event has these fields.
#[track_caller]
pub fn assert_fields(event: &Event, fields: &[(&str, &str)]) {
    for (name, value) in fields {
        let found = event.get(*name).map(String::as_str);
        assert_eq!(found, Some(*value), "{name} of {event:?}");
    }
}

impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Events {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        if event.metadata().target() == "tower_service_token" {
            let level = event.metadata().level().to_string();
            let mut fields = Fields(Event::from([("level".to_owned(), level)]));
            event.record(&mut fields);
            self.0.lock().unwrap().push(fields.0);
        }
    }
}

struct Fields(Event);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.to_owned());
    }
}
