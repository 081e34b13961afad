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
    /// The one request that is measured goes straight to its handler. The Router, which clones itself
    /// and boxes a future per request, would take about half as many instructions again, and the
    /// question is what sockets cost. All other requests (404, 405 with its Allow, HEAD, the lab) go
    /// through the Router, in which `/` has the same handler.
    pub async fn answer(&self, request: Request) -> Result<Response, Infallible> {
        if request.method() == Method::GET && request.uri().path() == "/" {
            return Ok(hello(State(self.cost)).await.into_response());
        }
        self.router.clone().call(request).await
    }
}

#[cfg(test)]
mod tests;
