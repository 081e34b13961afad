//! The listener for any server, in one process: what `axum::serve` and tokio's timers may expect of it.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use axum::{Router, routing::get};
use common::accept::least_conn::LeastConn;
use tokio::sync::oneshot;
use tokio::time::sleep;

/// A timer of this time goes off no later than this.
const TIME: Duration = Duration::from_millis(50);
const IN_TIME: Duration = Duration::from_millis(150);

/// So many timers are tried, and so many must go off in time: on a machine that has other things to do, now and
/// then one does not. Where timers wait for the listener's tick, about 4 of 10 happen to be in time.
const TRIES: usize = 10;
const MUST: usize = 7;

/// One test, since a listener's runtime is made while its process has one thread that makes any.
#[test]
fn timers_go_off_in_time_and_a_shutdown_ends_the_listener() {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let none = LeastConn::shared(socket.try_clone().unwrap(), 0).err().unwrap();
    assert!(none.to_string().contains("1 worker"), "{none}");
    let beyond =
        LeastConn::shared(socket.try_clone().unwrap(), 2).unwrap().run(2, async |_| {}).err();
    assert!(beyond.unwrap().to_string().contains("0 to 1"));

    let late = async || {
        let start = Instant::now();
        sleep(TIME).await;
        format!("{}", start.elapsed().as_millis())
    };
    let (end, ended) = oneshot::channel();
    let client = thread::spawn(move || {
        let answers = [(); TRIES].map(|()| {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            answer
        });
        end.send(()).unwrap();
        answers
    });
    let app = Router::new().route("/", get(late));
    let ended = async { ended.await.unwrap() };
    let shared = LeastConn::shared(socket, 2).unwrap();
    let served = shared.run(1, |listener| {
        let served = axum::serve(listener, app).with_graceful_shutdown(ended);
        async { served.await }
    });
    served.unwrap().unwrap();
    let took = client.join().unwrap().map(|answer| {
        Duration::from_millis(answer.rsplit("\r\n").next().unwrap().parse().unwrap())
    });
    assert!(took.iter().all(|&took| took >= TIME), "{took:?}");
    assert!(took.iter().filter(|&&took| took < IN_TIME).count() >= MUST, "{took:?}");
}
