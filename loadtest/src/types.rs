//! Checked values that more than one room takes from people: on the command line and in files.

/// A path that can be asked for, such as `/` or `/block/20000`.
///
/// # Errors
/// When it does not begin with a slash or cannot stand in a request line; with the remedy.
pub fn url_path(text: &str) -> Result<String, String> {
    match text {
        _ if !text.starts_with('/') => Err(format!("a path begins with a slash, as in /{text}")),
        _ if !is_plain(text) => Err("a path has no spaces; write %20".into()),
        _ => Ok(text.into()),
    }
}

/// A URL that can be asked for: `http://host:port/path`.
///
/// # Errors
/// When it is something else.
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
