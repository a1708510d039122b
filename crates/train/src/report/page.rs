//! What the HTML reports have in common: one file with everything in it.

/// A page with its style sheet; `body` is HTML.
pub(crate) fn page(title: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta \
         name=\"viewport\" content=\"width=device-width\">\n<title>{}</title>\n<style>\n{}</style>\n\
         </head>\n<body>\n{body}</body>\n</html>\n",
        escape(title),
        include_str!("style.css")
    )
}

/// Text as HTML shows it.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

/// A table; columns from `numbers` on are set to the right.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>], numbers: usize) -> String {
    let row = |cells: &[String], tag: &str| {
        let cell = |(at, text): (usize, &String)| {
            let class = if at >= numbers {
                " class=\"number\""
            } else {
                ""
            };
            format!("<{tag}{class}>{}</{tag}>", escape(text))
        };
        let cells: String = cells.iter().enumerate().map(cell).collect();
        format!("<tr>{cells}</tr>\n")
    };
    let head: Vec<String> = head.iter().map(|text| (*text).to_owned()).collect();
    let head = if head.is_empty() {
        String::new()
    } else {
        row(&head, "th")
    };
    let rows: String = rows.iter().map(|cells| row(cells, "td")).collect();
    format!("<div class=\"scroll\"><table>\n{head}{rows}</table></div>\n")
}
