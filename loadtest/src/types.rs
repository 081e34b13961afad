//! Values that several modules use: values of options, and counts by kind.

/// Defines counts of several kinds, each with its field (also in JSON) and its name in reports.
macro_rules! counts {
    ($(#[$about:meta])* $Name:ident { $($(#[$meaning:meta])* $field:ident $name:literal,)* }) => {
        $(#[$about])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize,
        )]
        pub struct $Name { $($(#[$meaning])* pub $field: u64,)* }

        impl $Name {
            /// Each kind's name and count.
            pub fn kinds(&self) -> [(&'static str, u64); [$($name),*].len()] {
                [$(($name, self.$field)),*]
            }

            /// All kinds together.
            pub fn total(&self) -> u64 {
                self.kinds().iter().map(|(_, count)| count).sum()
            }
        }

        impl std::ops::AddAssign for $Name {
            fn add_assign(&mut self, other: Self) {
                $(self.$field += other.$field;)*
            }
        }
    };
}
pub(crate) use counts;

counts! {
    /// Errors by kind, as wrk counts them.
    Errors {
        /// Connections that could not be opened.
        connect "connect",
        /// Connections that ended before or within an answer.
        read "read",
        /// Requests that could not be sent.
        write "write",
        /// Answers with a status of 400 or above. They count as requests, too.
        status "status",
        /// Answers that took longer than wrk's timeout. The latencies lack them.
        timeout "timeout",
    }
}

impl Errors {
    /// The kinds that occurred with their counts, for a line of text.
    pub fn occurred(&self) -> String {
        let kinds = self.kinds().into_iter().filter(|(_, count)| *count > 0);
        kinds.map(|(kind, count)| format!("{kind} {count}")).collect::<Vec<_>>().join(", ")
    }
}

/// A path of a request, such as `/` or `/block/20000`.
/// Fails when it does not begin with a slash or cannot stand in a request line; with the remedy.
pub fn url_path(text: &str) -> Result<String, String> {
    match text {
        _ if !text.starts_with('/') => Err(format!("a path begins with a slash, as in /{text}")),
        _ if !is_plain(text) => Err("a path has no spaces; write %20".into()),
        _ => Ok(text.into()),
    }
}

/// The URL of a request: `http://host:port/path`.
/// Fails when it is something else.
pub fn http_url(text: &str) -> Result<String, String> {
    match text.strip_prefix("http://") {
        Some(rest) if !rest.is_empty() && !rest.starts_with('/') && is_plain(rest) => {
            Ok(text.into())
        }
        _ => Err("expected http://host:port/path".into()),
    }
}

fn is_plain(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_graphic())
}
