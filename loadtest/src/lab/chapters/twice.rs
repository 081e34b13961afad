#![doc = include_str!("twice.md")]

use std::io::ErrorKind::AddrInUse;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::ensure;

use super::*;
use crate::interrupt;
use crate::server::Strategy;

const SHARED: &str = "shared-fd-server, again";
const OWN: &str = "reuseport-server, again";
const JOIN: &str = "reuseport-server --join";
const USER: &str = "--join, as another user";
const BARE: &str = "bare sockets, both with the flag";
const FIRST_WITHOUT: &str = "bare sockets, only the second with it";

/// The number of connections, and a user without files: "nobody" on most systems.
const CONNECTIONS: usize = 200;
const NOBODY: u32 = 65534;

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Tried {
    /// The message of the second server, if it was refused.
    refusal: Option<String>,
    /// Connections of the first and of the second server.
    got: [u64; 2],
    listeners: Vec<Listener>,
}

type Case = Box<dyn Fn() -> Result<Tried>>;

/// Runs the experiment.
pub fn run(context: &mut Context) -> Result<Findings> {
    let again = |server: &'static str, option: &'static str| -> Case {
        let second = move |port| start(&format!("{server} --port {port} {option}"));
        Box::new(move || twice(server, second))
    };
    let mut cases: Vec<(&str, Case)> = vec![
        (SHARED, again("shared --workers 2", "")),
        (OWN, again("reuseport --workers 2", "")),
        (JOIN, again("reuseport --workers 2", "--join")),
        (BARE, Box::new(|| bare(true))),
        (FIRST_WITHOUT, Box::new(|| bare(false))),
    ];
    // Tests whether this program may become another user.
    match Command::new("true").uid(NOBODY).gid(NOBODY).status() {
        Ok(_) => cases.push((USER, Box::new(as_another_user))),
        Err(error) => context
            .missing
            .push(format!("{USER}, is left out: to become another user needs root ({error})")),
    }
    let tried = context.in_turns("tried", 1, &cases, |case| case())?;
    Ok(findings(&tried))
}

/// Starts a server, and a second one on its port.
fn twice(first: &str, second: impl FnOnce(u16) -> Result<Server>) -> Result<Tried> {
    let first = start(first)?;
    let address = first.address();
    let second = second(address.port());
    interrupt::check()?; // before it is taken for a refusal
    let listeners = listeners(address.port())?;
    ask(address, CONNECTIONS)?;
    let sum = |server: &Server| server.accepted().iter().sum();
    let got = [sum(&first), second.as_ref().map_or(0, sum)];
    Ok(Tried { refusal: second.err().map(|error| in_a_line(&error)), got, listeners })
}

/// A server's message without its exit status and pids, which are of no use to the reader of a report.
fn in_a_line(error: &anyhow::Error) -> String {
    let said = format!("{error:#}");
    let said = said.split_once("): ").map_or(said.as_str(), |(_, reason)| reason);
    let mut parts = said.split(" (pid ");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |kept, part| kept + part.split_once(')').map_or(part, |(_pid, rest)| rest))
}

/// Two sockets of this program, without a server's check of the port.
fn bare(first_has_flag: bool) -> Result<Tried> {
    let listen = |address, flag| -> std::io::Result<TcpListener> {
        let socket = bound(address, flag)?;
        socket.listen(CONNECTIONS as i32)?;
        socket.set_nonblocking(true)?;
        Ok(socket.into())
    };
    let first = listen((Ipv4Addr::LOCALHOST, 0).into(), first_has_flag)?;
    let address = first.local_addr()?;
    let second = listen(address, true);
    let listeners = listeners(address.port())?;
    if let Err(error) = &second {
        ensure!(error.kind() == AddrInUse, "cannot bind a second socket: {error}");
    }
    // No server is needed: connected clients wait in the accept queue of their socket.
    let clients: Vec<Connection> =
        (0..CONNECTIONS).map(|_| Connection::open(address)).collect::<Result<_>>()?;
    let accepted = |by: &TcpListener| by.incoming().map_while(Result::ok).count() as u64;
    let got = [accepted(&first), second.as_ref().map_or(0, accepted)];
    drop(clients);
    Ok(Tried { refusal: second.err().map(|error| error.to_string()), got, listeners })
}

fn as_another_user() -> Result<Tried> {
    let start = |options: &str| {
        let options: Vec<String> = options.split(' ').map(str::to_owned).collect();
        ours::start_as(NOBODY, Strategy::Reuseport, &options)
    };
    // The control: on a free port this user can start a server.
    start("--workers 2").context("as another user, even on a port of its own")?.stop()?;
    let second = |port| start(&format!("--workers 2 --join --port {port}"));
    twice("reuseport --workers 2", second)
}

fn findings(tried: &Samples<Tried>) -> Findings {
    let of = |name: &str| tried.of(name).first();
    let outcome = |name: &str| match of(name) {
        Some(Tried { refusal: Some(refusal), .. }) => format!("refused: {refusal}"),
        Some(Tried { got: [first, second], .. }) => {
            format!("both run, and get {first} and {second} of {CONNECTIONS} connections")
        }
        None => "-".into(),
    };
    let got = of(BARE).map_or([f64::NAN; 2], |bare| bare.got.map(|count| count as f64));
    let refused = |name: &str| of(name).map(|tried| tried.refusal.is_some());
    // The message of a refusal stands below the table.
    let brief = |name: &str| match refused(name) {
        Some(true) => "refused".into(),
        _ => outcome(name),
    };
    let apart = refused(USER).zip(refused(JOIN)).map(|(other, same)| other && !same);
    let refusal = |name: &str| Some(format!("{name}: \"{}\"", of(name)?.refusal.as_ref()?));
    let refusals: Vec<String> = tried.names().filter_map(refusal).collect();
    let guarded = of(OWN).and_then(|own| own.refusal.clone());
    let figures = [
        ("first", got[0].into()),
        ("second", got[1].into()),
        // A refused server gets none.
        ("least", got[0].min(got[1]).into()),
        ("bare", outcome(BARE).into()),
        ("join", brief(JOIN).into()),
        ("user", brief(USER).into()),
        ("apart", apart.into()),
        ("refused", refused(SHARED).filter(|&it| it).map_or("", |_| "refused").into()),
        ("refusals", refusals.join("; ").into()),
        ("guarded", guarded.into()),
    ];
    let row = |name: &str| {
        let got = of(name).map_or([0; 2], |tried| tried.got);
        let total = got.iter().sum::<u64>().max(1) as f64;
        let [first, second] = got.map(|got| got as f64 / total);
        (name.to_owned(), vec![first.max(second), first.min(second)])
    };
    let is_refused = |all: &[Tried]| all.iter().any(|tried| tried.refusal.is_some());
    let starts =
        |_: &str, all: &[Tried]| Cell::from(if is_refused(all) { "refused" } else { "yes" });
    let second = |_: &str, all: &[Tried]| match is_refused(all) {
        true => Cell::default(),
        false => Cell::from(all.iter().map(|tried| tried.got[1]).sum::<u64>()),
    };
    let table = tried
        .table("The second start")
        .cells("starts", Unit::Text, starts)
        .sums("first got", |tried| tried.got[0])
        .cells("second got", Unit::Count, second)
        .table;
    let title = format!("Who got {CONNECTIONS} connections: one server, or two");
    let picture = Picture::Shares { title, rows: tried.names().map(row).collect() };
    let who = who_listens(tried, |tried| &tried.listeners);
    let page = include_str!("twice.md");
    Findings::of(
        page,
        &figures,
        &["", "to become another user needs root"],
        picture,
        [table],
        [who],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tried(refused: bool, got: [u64; 2]) -> Tried {
        let refusal = refused.then(|| "x listens there".to_owned());
        Tried { refusal, got, listeners: vec![] }
    }

    #[test]
    fn who_shares_who_is_refused_and_who_is_let_in_is_told() {
        let silent = "With SO_REUSEPORT the kernel shares out silently: a second socket on the same port \
             is let in, and of 200 connections the two got 90 and 110. Without the flag a second \
             start is refused. With it, another user's is refused, whose server would else join.";
        let apart = "The kernel does not share out";
        for (bare, user, verdicts, words) in [
            (tried(false, [90, 110]), Some(tried(true, [200, 0])), "++", silent),
            (tried(false, [0, 200]), None, "-?", apart),
            (tried(true, [200, 0]), None, "-?", apart),
            (tried(false, [100, 100]), Some(tried(false, [100, 100])), "+-", "not kept apart"),
            (tried(false, [100, 100]), None, "+?", "needs root"),
        ] {
            let mut all = vec![
                (SHARED, tried(true, [200, 0])),
                (OWN, tried(true, [200, 0])),
                (JOIN, tried(false, [104, 96])),
                (BARE, bare),
            ];
            all.extend(user.map(|user| (USER, user)));
            let all = samples_of(all.into_iter().map(|(name, tried)| (name, vec![tried])));
            findings(&all).expect(verdicts, &[words, "says \"x listens there\"."]);
        }
    }

    #[test]
    fn a_refusal_is_quoted_without_exit_status_and_pid() {
        let error = anyhow::anyhow!(
            "x did not start (exit status: 1): cannot listen: x (pid 12) listens there (--join \
             helps): in use (os error 98)"
        );
        let expected = "cannot listen: x listens there (--join helps): in use (os error 98)";
        assert_eq!(in_a_line(&error), expected);
    }

    #[test]
    fn the_kernel_lets_a_second_socket_in_only_if_both_have_the_flag() {
        let both = bare(true).unwrap();
        assert_eq!((both.refusal, both.got.iter().sum()), (None, CONNECTIONS as u64));
        assert_eq!(both.listeners.len(), 2);
        let one = bare(false).unwrap();
        assert!(one.refusal.is_some());
        assert_eq!((one.got, one.listeners.len()), ([CONNECTIONS as u64, 0], 1));
    }
}
