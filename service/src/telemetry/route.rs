//! Takes the lines of each role to the file of that role.

use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

/// Where the lines of each role go; without an entry they go to the writer of the process.
#[derive(Clone, Default)]
pub struct LogRoutes {
    files: Arc<RwLock<HashMap<String, Arc<File>>>>,
}

type File = Mutex<Box<dyn Write + Send>>;

impl LogRoutes {
    pub(super) fn add(&self, role: &str, file: Box<dyn Write + Send>) {
        let mut files = self.files.write().unwrap_or_else(PoisonError::into_inner);
        files.insert(role.to_owned(), Arc::new(Mutex::new(file)));
    }

    fn of(&self, role: &str) -> Option<Arc<File>> {
        self.files.read().unwrap_or_else(PoisonError::into_inner).get(role).cloned()
    }
}

/// The `role` field of a span, kept where events can find it.
struct Role(String);

/// Notes the `role` field of every span that has one.
pub(super) struct RoleLayer;

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for RoleLayer {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut role = RoleField(None);
        attributes.record(&mut role);
        if let (Some(role), Some(span)) = (role.0, context.span(id)) {
            span.extensions_mut().insert(Role(role));
        }
    }
}

struct RoleField(Option<String>);

impl Visit for RoleField {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "role" {
            self.0 = Some(value.to_owned());
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "role" {
            let mut text = String::new();
            write!(text, "{value:?}").expect("a string can always be written to");
            self.0 = Some(text);
        }
    }
}

/// Writes a line as `format` does, to where the role of the innermost span that has one wants it.
pub(super) struct Routed<F> {
    pub(super) format: F,
    pub(super) routes: LogRoutes,
}

impl<S, N, F> FormatEvent<S, N> for Routed<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let file = context
            .event_scope()
            .into_iter()
            .flatten()
            .find_map(|span| span.extensions().get::<Role>().map(|role| self.routes.of(&role.0)))
            .flatten();
        let Some(file) = file else {
            return self.format.format_event(context, writer, event);
        };
        let mut line = String::new();
        self.format.format_event(context, Writer::new(&mut line), event)?;
        let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(line.as_bytes()).map_err(|_| fmt::Error)
    }
}
