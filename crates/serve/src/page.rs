//! The page at `/`.

use std::sync::Arc;

use axum::Router;
use axum::http::header;
use axum::routing::get;

use crate::State;

const PAGE: &str = include_str!("page/index.html");
const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = include_str!("page/page.js");

/// Serves the page and its files.
pub(crate) fn router() -> Router<Arc<State>> {
    let file = |media_type: &'static str, text: String| {
        let headers = [(header::CONTENT_TYPE, media_type)];
        get(move || async move { (headers, text) })
    };
    let page = PAGE.replace("<!-- viewer -->", wdsr_viewer::MARKUP);
    let style = [wdsr_viewer::STYLE, STYLE].concat();
    Router::new()
        .route("/", file("text/html; charset=utf-8", page))
        .route("/page.css", file("text/css; charset=utf-8", style))
        .route(
            "/viewer.js",
            file(
                "text/javascript; charset=utf-8",
                wdsr_viewer::SCRIPT.to_owned(),
            ),
        )
        .route(
            "/page.js",
            file("text/javascript; charset=utf-8", SCRIPT.to_owned()),
        )
}
