//! What the command line takes, and what it refuses.

use super::*;

/// Parses a command line; a refusal as its text.
fn parse(line: &str) -> Result<Command, String> {
    let words = ["loadtest"].into_iter().chain(line.split_whitespace());
    Cli::try_parse_from(words).map(|cli| cli.command).map_err(|error| error.to_string())
}

#[test]
fn the_defaults_are_the_posts_command_line() {
    let Ok(Command::Bench(bench)) = parse("bench shared") else { panic!() };
    assert_eq!((bench.wrk.threads, bench.wrk.connections), (12, 100));
    assert_eq!(bench.duration, Duration::from_secs(10));
    assert!(!bench.mode.close);
}

#[test]
fn what_follows_the_dashes_is_the_servers() {
    let line = "bench reuseport --close -- --workers 8 --threads 3";
    let Ok(Command::Bench(bench)) = parse(line) else { panic!() };
    assert_eq!(bench.target.server_options, ["--workers", "8", "--threads", "3"]);
    assert_eq!(bench.wrk.threads, 12);
}

#[test]
fn the_prober_takes_several_faults_and_a_duration_or_a_number() {
    let line = "probe shared --fault stop-worker@2s --fault reload@3s*2/1s --rate 9";
    let Ok(Command::Probe(asked)) = parse(line) else { panic!() };
    assert_eq!((asked.faults.len(), asked.rate), (2, Some(9)));
    assert_eq!((asked.timeout, asked.arrivals), (Duration::from_secs(2), Arrivals::Poisson));
    assert!(parse("probe shared --requests 9").is_ok());
}

#[test]
fn every_command_takes_the_options_that_are_its_own_and_the_common_ones() {
    let everywhere = "--json a --html b --markdown";
    for line in [
        "bench --url http://127.0.0.1:8080/",
        "bench x=cmd:x",
        "compare --rate 1000 --rate 2000 --expect hello --seed 3",
        "cost --server x=cmd:x",
        "matrix --quick --seed 2",
        "lab --seed 2",
        "probe shared --arrivals even --seed 2 --expect hello --signal reload=USR2",
        "self-check --seed 2",
        "trust",
    ] {
        let parsed = parse(&format!("{line} {everywhere}"));
        assert!(parsed.is_ok(), "{line}: {}", parsed.err().unwrap_or_default());
    }
    let Ok(Command::Compare(defaults)) = parse("compare") else { panic!() };
    assert_eq!((defaults.rounds, defaults.run.random.seed), (40, 1));
}

#[test]
fn what_cannot_be_done_is_refused_by_name() {
    for (line, reason) in [
        ("bench", "required"),
        ("bench shared --url http://127.0.0.1:8080/", "--url"),
        ("bench --url http://127.0.0.1:8080/ -- --workers 2", "--url"),
        ("bench --url ftp://host/", "http://host:port"),
        ("bench shared --duration 1500ms", "whole seconds"),
        ("bench shared --duration 0s", "whole seconds"),
        ("bench shared --duration soon", "--duration"),
        ("bench shared --duration 25h", "from 1s to 24h"),
        ("bench shared --duration 99999999999h", "from 1s to 24h"),
        ("bench shared --duration=-1s", "such as 1"),
        ("compare --fixed-rate=-1s", "such as 10s"),
        ("bench shared --connections=-4", "a whole number from 1 to 1000000"),
        ("watch --port 80 --count 0", "a whole number of at least 1"),
        ("watch --port 65536", "a whole number from 1 to 65535"),
        ("cost --seed x", "a whole number of at least 0"),
        ("bench --url http://", "http://host:port/path"),
        ("bench shared --threads 0", "--threads"),
        ("bench shared --connections 0", "--connections"),
        ("bench shared --url-path spin", "/spin"),
        ("compare --rounds 3", "at least"),
        ("compare --rate 0", "--rate"),
        ("compare --threshold 60", "--threshold"),
        ("probe --connections 3", "required"),
        ("probe shared --rate 0", "--rate"),
        ("probe shared --arrivals late", "poisson"),
        ("probe shared --connections 0", "--connections"),
        ("probe shared --requests 0", "a whole number of at least 1"),
        ("probe shared --duration 0s", "--duration"),
        ("probe shared --duration 2s --requests 5", "--requests"),
        ("probe shared --timeout 0s", "--timeout"),
        ("probe shared --fault explode@1s", "there are stop-worker"),
        ("probe --url http://127.0.0.1/ --fault reload@1s", "--fault"),
        ("probe --url http://127.0.0.1/ --url-path /x", "--url-path"),
    ] {
        let refusal = parse(line).err().unwrap_or_else(|| panic!("{line} was accepted"));
        assert!(refusal.contains(reason), "{line}: {refusal}");
    }
}

#[test]
fn the_definition_of_the_command_line_holds_together() {
    use clap::CommandFactory;
    Cli::command().debug_assert();
}
