//! The page at `/`. crates/web/build writes the same page with another engine.js.

use std::sync::Arc;

use axum::Router;
use axum::http::header;
use axum::routing::get;

use crate::State;

const PAGE: &str = include_str!("page/index.html");
const STYLE: &str = include_str!("page/page.css");
const SCRIPTS: [(&str, &str); 4] = [
    ("/viewer.js", wdsr_viewer::SCRIPT),
    ("/zip.js", include_str!("page/zip.js")),
    ("/engine.js", include_str!("page/engine.js")),
    ("/page.js", include_str!("page/page.js")),
];

/// Serves the page and its files.
pub(crate) fn router() -> Router<Arc<State>> {
    let file = |media_type: &'static str, text: String| {
        let headers = [(header::CONTENT_TYPE, media_type)];
        get(move || async move { (headers, text) })
    };
    let page = PAGE.replace("<!-- viewer -->", wdsr_viewer::MARKUP);
    let style = [wdsr_viewer::STYLE, STYLE].concat();
    let mut router = Router::new()
        .route("/", file("text/html; charset=utf-8", page))
        .route("/page.css", file("text/css; charset=utf-8", style));
    for (path, script) in SCRIPTS {
        let script = file("text/javascript; charset=utf-8", script.to_owned());
        router = router.route(path, script);
    }
    router
}
