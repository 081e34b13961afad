//! The Markdown of texts.

use maud::{Markup, PreEscaped};
use pulldown_cmark::{Event, Parser, Tag, TagEnd, html};

/// The text as HTML. HTML within it is shown as text, pictures as their names; links lead to the web only.
pub fn markup(text: &str) -> Markup {
    let mut links = Vec::new();
    let events = Parser::new(text).filter_map(|event| match event {
        Event::Html(text) | Event::InlineHtml(text) => Some(Event::Text(text)),
        Event::Start(Tag::HtmlBlock | Tag::Image { .. })
        | Event::End(TagEnd::HtmlBlock | TagEnd::Image) => None,
        Event::Start(Tag::Link { ref dest_url, .. }) => {
            let kept = is_of_the_web(dest_url);
            links.push(kept);
            kept.then_some(event)
        }
        Event::End(TagEnd::Link) => links.pop().unwrap_or(false).then_some(event),
        other => Some(other),
    });
    let mut markup = String::new();
    html::push_html(&mut markup, events);
    PreEscaped(markup)
}

/// Whether a link leads to a web page.
pub fn is_of_the_web(url: &str) -> bool {
    ["https://", "http://"].iter().any(|scheme| url.starts_with(scheme))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paragraphs_code_and_emphasis_are_what_they_are_in_markdown() {
        let html = markup("One *two* `a < b`.\n\nNext\nline.").into_string();
        assert_eq!(html, "<p>One <em>two</em> <code>a &lt; b</code>.</p>\n<p>Next\nline.</p>\n");
    }

    #[test]
    fn nothing_in_it_is_loaded_or_run() {
        let bad = "<script>x</script>\n\n![p](http://a/b.png) [j](javascript:x) [w](https://a/) \
                   <b onclick='x'>b</b>";
        let html = markup(bad).into_string();
        for wrong in ["<script", "<img", "javascript", "<b"] {
            assert!(!html.contains(wrong), "{wrong}: {html}");
        }
        assert!(html.contains("<a href=\"https://a/\">w</a>") && html.contains("j "), "{html}");
    }
}
