//! The web app that every worker serves: `GET /` answers `hello`.

use std::convert::Infallible;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::Method;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tower_service::Service;

use crate::cli::options::Options;
use crate::lab::burn::burn;
use crate::lab::routes;

/// The axum app of one worker.
pub struct App {
    router: Router,
    cost: Cost,
}

/// CPU time that the handler burns per request.
#[derive(Clone, Copy)]
struct Cost(Duration);

/// The handler of the post.
async fn hello(State(Cost(cost)): State<Cost>) -> &'static str {
    burn(cost);
    "hello"
}

impl App {
    /// Builds the app; `--lab` adds the lab's routes.
    pub fn new(options: &Options) -> Self {
        let cost = Cost(options.handler_cost);
        let mut router = Router::new().route("/", get(hello));
        if options.lab {
            router = routes::add_to(router);
        }
        Self { router: router.with_state(cost), cost }
    }

    /// Answers one request.
    ///
    /// The one request that is measured goes straight to its handler. Through the Router, which
    /// clones itself and boxes a future per request, it would take about half as many instructions
    /// again, and the question is what sockets cost. Everything else (404, 405 with its Allow, HEAD,
    /// the lab) is the Router's, where `/` is the same handler.
    pub async fn answer(&self, request: Request) -> Result<Response, Infallible> {
        if request.method() == Method::GET && request.uri().path() == "/" {
            return Ok(hello(State(self.cost)).await.into_response());
        }
        self.router.clone().call(request).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::{Body, to_bytes};

    fn ask(lab: bool, method: Method, path: &str) -> (u16, String, String) {
        let options = Options { lab, ..Options::for_tests() };
        let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let response = App::new(&options).answer(request).await.unwrap();
            let status = response.status().as_u16();
            let header = |name| response.headers().get(name).map_or("", |v| v.to_str().unwrap());
            let seen = format!("{}{}", header("content-type"), header("allow"));
            let body = to_bytes(response.into_body(), 1000).await.unwrap();
            (status, seen, String::from_utf8(body.to_vec()).unwrap())
        })
    }

    #[test]
    fn the_front_page_says_hello_as_plain_text() {
        let (status, kind, body) = ask(false, Method::GET, "/");
        assert_eq!((status, &*kind, &*body), (200, "text/plain; charset=utf-8", "hello"));
    }

    #[test]
    fn the_short_cut_and_the_router_give_the_same_answer() {
        // HEAD takes the Router's way to the same handler.
        let (status, kind, body) = ask(false, Method::HEAD, "/");
        assert_eq!((status, &*kind, &*body), (200, "text/plain; charset=utf-8", ""));
        assert_eq!(ask(false, Method::GET, "/?query").2, "hello");
    }

    #[test]
    fn other_paths_are_404_and_other_methods_405() {
        assert_eq!(ask(false, Method::GET, "/other").0, 404);
        let (status, allow, _) = ask(false, Method::POST, "/");
        assert_eq!((status, &*allow), (405, "GET,HEAD"));
    }

    #[test]
    fn the_labs_routes_exist_in_the_lab_alone() {
        for path in ["/spin/1", "/block/1"] {
            assert_eq!(ask(false, Method::GET, path).0, 404);
            assert_eq!(ask(true, Method::GET, path).0, 200);
        }
        assert_eq!(ask(true, Method::GET, "/spin/long").0, 400);
    }

    #[test]
    fn a_lab_route_ends_after_a_second_however_much_is_asked_for() {
        let start = std::time::Instant::now();
        ask(true, Method::GET, &format!("/block/{}", u64::MAX));
        assert!(start.elapsed() < 5 * routes::LIMIT);
    }
}
