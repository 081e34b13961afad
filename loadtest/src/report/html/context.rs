//! What is needed to judge the figures, and to get them again.

use anyhow::{Context, Result};
use maud::{Markup, html};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::environment::Environment;
use crate::measure::comparison::Comparison;
use crate::report::html::figure::{figure, words};

/// What of a file's name means something else in a link.
const NOT_IN_A_LINK: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'/').remove(b'.').remove(b'-').remove(b'_').remove(b'~');

/// Warnings, machine, commands, raw data. `json` is the record's file, relative to the page.
///
/// # Errors
/// When an argument cannot be quoted for a shell: it has a NUL.
pub fn section(comparison: &Comparison, json: Option<&str>) -> Result<Markup> {
    let command = command(&comparison.arguments)?;
    Ok(html! {
        @if !comparison.warnings.is_empty() {
            section {
                h2 { "Know before you believe it" }
                ul {
                    @for (index, warning) in comparison.warnings.iter().enumerate() {
                        li { (words(warning, &format!("/warnings/{index}"))) }
                    }
                }
            }
        }
        section {
            h2 { "The machine" }
            (machine(&comparison.environment))
        }
        section {
            h2 { "Once more" }
            pre {
                code {
                    @if let Some(commit) = clean(&comparison.environment) {
                        "git checkout " (commit) "\n"
                    }
                    "make build\n" (command)
                }
            }
            p.caption {
                "On another machine, or another day, all absolute figures will differ; ratios \
                 should hardly. The same raw data always gives the same report."
            }
            @if let Some(json) = json {
                p {
                    "Raw data, with every slice: "
                    (link(json))
                    " (schema " code { (words(&comparison.schema, "/schema")) } ")."
                }
            }
        }
    })
}

/// A link to a file beside the page.
pub fn link(file: &str) -> Markup {
    // The dot keeps a name with a colon from being taken for another scheme.
    html! { a href={ "./" (utf8_percent_encode(file, NOT_IN_A_LINK)) } { (file) } }
}

/// The commit, unless the sources differed from it.
fn clean(environment: &Environment) -> Option<&str> {
    environment.commit.as_deref().filter(|commit| !commit.ends_with("-dirty"))
}

/// The command line, as a shell reads it.
///
/// # Errors
/// When an argument cannot be quoted for a shell: it has a NUL.
pub fn command(arguments: &[String]) -> Result<String> {
    let words =
        std::iter::once("target/release/loadtest").chain(arguments.iter().map(String::as_str));
    shlex::try_join(words).context("cannot quote the arguments for a shell")
}

/// Where it ran, and with what.
pub fn machine(environment: &Environment) -> Markup {
    let Environment { kernel, cpu, cores, memory_bytes, wrk, rustc, commit, started_at } =
        environment;
    let texts = [
        ("kernel", "kernel", Some(kernel)),
        ("CPU", "cpu", cpu.as_ref()),
        ("load generator", "wrk", wrk.as_ref()),
        ("compiler", "rustc", Some(rustc)),
        ("commit", "commit", commit.as_ref()),
        ("begun", "started_at", Some(started_at)),
    ];
    html! {
        dl {
            @for (name, field, text) in texts {
                div {
                    dt { (name) }
                    dd {
                        @match text {
                            Some(text) => (words(text, &format!("/environment/{field}"))),
                            None => "unknown",
                        }
                    }
                }
            }
            @let number = |cores: usize| cores.to_string();
            div { dt { "cores" } dd { (figure(*cores, "/environment/cores", number)) } }
            @if let Some(bytes) = *memory_bytes {
                @let gib = |bytes: u64| format!("{:.1} GiB", bytes as f64 / (1u64 << 30) as f64);
                div { dt { "memory" } dd { (figure(bytes, "/environment/memory_bytes", gib)) } }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_can_be_pasted_into_a_shell() {
        let arguments = ["compare", "shared --workers 2", "it's"].map(str::to_owned);
        let command = command(&arguments).unwrap();
        assert_eq!(shlex::split(&command).unwrap()[1..], arguments);
        assert!(super::command(&["a\0b".into()]).is_err());
    }
}
