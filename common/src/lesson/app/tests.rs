//! The web app, asked without a socket.

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
    // HEAD goes through the Router to the same handler.
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
