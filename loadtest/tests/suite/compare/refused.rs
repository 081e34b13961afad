//! What cannot be compared is refused before anything starts.

use std::fs;
use std::path::Path;

use super::samples_of;
use crate::support::{assert_refused, free_port, run};

#[test]
fn what_cannot_be_compared_is_refused_before_anything_starts() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (old, other, mix) = (path("old.json"), path("other.json"), path("mix"));
    fs::write(&old, r#"{"schema":"loadtest-compare/0"}"#).unwrap();
    fs::write(&other, "a letter").unwrap();
    fs::write(&mix, "often /\n").unwrap();
    let cases: [(&[&str], &[&str]); 18] = [
        (&["apache", "shared"], &["'apache'", "shared, reuseport"]),
        (&["shared 'x", "shared"], &["quote"]),
        (&["shared"], &["two or more"]),
        (&["shared", "reuseport", "shared"], &["'shared' is given twice", "a=shared"]),
        (&["a=shared", "a=reuseport"], &["'a' is given twice"]),
        (&["--slice", "500ms"], &["500ms", "whole seconds"]),
        (&["--rounds", "5"], &["'5'", "at least 6 rounds"]),
        (&["--rounds", "many"], &["'many'", "(see loadtest compare --help)"]),
        (&["--threshold", "70"], &["'70'", "percent"]),
        (&["--baseline", "nobody"], &["'nobody'", "'shared', 'reuseport'"]),
        (&["--threads", "8", "--connections", "4"], &["--connections 4", "--threads 8"]),
        (&["--mix", &mix], &["line 1", "often is not a weight"]),
        (&["--mix", "/no/such"], &["/no/such", "name a file"]),
        (&["--fixed-rate", "0s", "--expect", "x"], &["--expect", "--fixed-rate 0s"]),
        (&["--json", &old], &["loadtest-compare/0", "not loadtest-compare/2"]),
        (&["--json", &other], &["other.json", "not a result of compare"]),
        (&["--json", &path("none"), "--resume"], &["none", "cannot read", "without --resume"]),
        (&["--json", &old, "--resume"], &["loadtest-compare/0", "not loadtest-compare/2"]),
    ];
    for (arguments, words) in cases {
        let mut all = vec!["compare"];
        all.extend(arguments);
        if !arguments.contains(&"--json") {
            all.extend(["--json", "/dev/null/x"]); // nothing may come as far as this
        }
        assert_refused(&run("loadtest", &all), words, arguments);
    }
    assert_eq!(fs::read_to_string(&other).unwrap(), "a letter");
    // A server's own refusal is passed on.
    let json = path("new.json");
    let refused = run("loadtest", &["compare", "shared --workers 0", "reuseport", "--json", &json]);
    assert_refused(&refused, &["--workers", "cannot start 'shared --workers 0'"], "no workers");
    assert!(!Path::new(&json).exists());
    let refused = run("loadtest", &["compare", "a=cmd:false {port}", "shared", "--json", &json]);
    let words = ["cannot start 'a': false did not start", "printed nothing", "run its command"];
    assert_refused(&refused, &words, "a command that ends at once");
    // So is that nothing runs where something should.
    let url = format!("a=http://127.0.0.1:{}/", free_port());
    let refused = run("loadtest", &["compare", "shared", &url, "--json", &json]);
    assert_refused(
        &refused,
        &["cannot start 'a'", &url[2..], "refused", "start that"],
        "no server",
    );
    assert!(!samples_of(Path::new(&json)).exists());
}
