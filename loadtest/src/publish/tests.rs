use super::*;
use crate::lab::record::LabBody;
use crate::lab::record::tests::lab;
use crate::matrix::record::AtLoad;
use crate::servers::record::Form;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// A folder that looks like this repository.
fn checkout() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in [README, POLICIES, "loadtest/Cargo.toml"] {
        fs::create_dir_all(folder.path().join(name).parent().unwrap()).unwrap();
        fs::copy(root().join(name), folder.path().join(name)).unwrap();
    }
    folder
}

/// This command line, with the record in the place of FILE, and the folder in that of ROOT.
fn asked(folder: &tempfile::TempDir, line: &str, record: &impl serde::Serialize) -> Publish {
    let file = folder.path().join("record.json");
    fs::write(&file, serde_json::to_string(record).unwrap()).unwrap();
    let [file, root] = [&*file, folder.path()].map(|it| it.to_str().unwrap());
    let line = format!("publish {line}").replace("FILE", file).replace("ROOT", root);
    Publish::try_parse_from(line.split(' ')).unwrap()
}

fn whole() -> Lab {
    let mut lab = lab();
    lab.body.quick = false;
    lab.body.chapters.retain(|chapter| !matches!(chapter.outcome, Status::Failed(_)));
    lab
}

#[test]
fn what_is_published_is_what_the_record_gives_and_nothing_else_of_the_readme_changes() {
    let folder = checkout();
    let text = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
    let before = text(README);
    let mut lab = whole();
    let columns = &mut lab.body.matrix.as_mut().unwrap().columns;
    let many = columns.iter_mut().find(|column| column.name == "close, 64 workers").unwrap();
    many.cells[0].latencies = vec![AtLoad { share: 0.5, ..AtLoad::default() }];
    Checkout::at(folder.path()).unwrap().publish(&lab).unwrap();
    let after = text(README);
    let around = |text: &str| {
        let mut parts = text.split("<!-- ");
        let first = parts.next().unwrap().to_owned();
        let others = parts.filter(|part| !part.contains(", generated -->"));
        [first].into_iter().chain(others.map(str::to_owned)).collect::<Vec<_>>()
    };
    assert_eq!(around(&before).len(), 3);
    assert_eq!(around(&before), around(&after));
    assert!(after.contains("**What is post?** It is not the hash"), "{after}");
    assert!(
        after
            .contains("| requests, connections | use | requests/s | p99 | the default instead |\n"),
        "{after}"
    );
    assert!(text(RESULTS).contains("| your case | good | undecided | not good |\n"));
    let policies = text(POLICIES);
    assert!(policies.contains("| close, 64 workers requests/s |"), "{policies}");
    assert!(policies.contains("\n| shared/epoll | "), "{policies}");
    assert!(!policies.contains("\n| reuseport/first | "), "it has no latencies: {policies}");
    let saved = Lab::read(&folder.path().join(RECORD)).unwrap();
    assert_eq!(saved, lab);
    // A second time changes nothing.
    let documents = Checkout::at(folder.path()).unwrap().documents(&saved).unwrap();
    for (name, wanted) in documents {
        assert_eq!(text(name), wanted, "{name}");
    }
}

#[test]
fn servers_are_published_beside_the_lab_and_nothing_else_changes() {
    let folder = checkout();
    let at = Checkout::at(folder.path()).unwrap();
    at.publish(&whole()).unwrap();
    let published = |servers: &Servers| result(&asked(&folder, "--servers FILE ROOT", servers));
    let mut servers = documents::servers::tests::whole();
    servers.body.form = Form::Quick;
    assert!(published(&servers).unwrap_err().to_string().contains("only a complete run"));
    servers.body.form = Form::Whole;
    at.publish(&published(&servers).unwrap()).unwrap();
    let text = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
    assert!(text(RESULTS).contains("](servers.svg)") && text(SERVERS).starts_with("<svg"));
    // A lab without a matrix keeps the one that is published.
    let lab = Lab { body: LabBody { matrix: None, ..whole().body }, ..whole() };
    let refusal = result(&asked(&folder, "--lab FILE ROOT", &lab)).unwrap_err();
    assert!(!refusal.to_string().contains("matrix"), "it lacks chapters alone: {refusal}");
    let kept = Lab::read(&folder.path().join(RECORD)).unwrap();
    assert_eq!((kept.body.servers, kept.body.chapters), (Some(servers), whole().body.chapters));
}

#[test]
fn a_new_matrix_replaces_the_runs_that_are_published_and_more_of_them_are_added() {
    let folder = checkout();
    let matrix = whole().body.matrix.unwrap();
    let old = Matrix { warnings: vec!["old".into()], ..matrix.clone() };
    let body = LabBody { matrix: Some(old.clone()), more_matrices: vec![old], ..whole().body };
    let warnings = vec![Warning::NoMatrix.to_string(), "another".into()];
    Checkout::at(folder.path()).unwrap().publish(&Lab { body, warnings, ..whole() }).unwrap();
    let merged = |line: &str| merged(&asked(&folder, line, &matrix)).unwrap();
    let (lab, keeps_matrix) = merged("--from-results --matrix FILE ROOT");
    assert!(!keeps_matrix && lab.body.matrices().eq([&matrix]));
    assert_eq!(lab.warnings, ["another"]);
    let (lab, keeps_matrix) = merged("--from-results --more-matrix FILE ROOT");
    assert!(keeps_matrix && lab.body.more_matrices[1] == matrix);
    assert_eq!(lab.body.matrices().count(), 3);
}

#[test]
fn a_folder_that_is_not_this_repository_is_refused_in_a_line() {
    let spoilt = checkout();
    fs::write(spoilt.path().join(README), "no marks").unwrap();
    for (folder, reason) in [
        (tempfile::tempdir().unwrap(), "not a checkout of this repository"),
        (spoilt, "README.md has no place for the answer"),
    ] {
        let refusal = format!("{:#}", Checkout::at(folder.path()).unwrap_err());
        assert!(refusal.contains(reason) && refusal.lines().count() == 1, "{refusal}");
    }
}

#[test]
fn a_book_that_is_not_whole_is_refused_with_all_that_it_lacks() {
    let names = ["post", "stall", "spread", "order"];
    check(&whole(), &names, false).unwrap();
    type Spoil = fn(&mut Lab);
    let spoilt: [(&str, Spoil); 6] = [
        ("--quick", |lab| lab.body.quick = true),
        ("debug build", |lab| lab.warnings.push(Warning::DebugBuild.to_string())),
        ("no matrix", |lab| lab.body.matrix = None),
        ("no workload 'post'", |lab| drop(lab.body.matrix.as_mut().unwrap().columns.remove(0))),
        ("not run: order", |lab| lab.body.chapters.retain(|chapter| chapter.name != "order")),
        ("post failed: no", |lab| lab.body.chapters[0].outcome = Status::Failed("no".into())),
    ];
    for (words, spoil) in spoilt {
        let mut lab = whole();
        spoil(&mut lab);
        let refusal = check(&lab, &names, false).unwrap_err().to_string();
        assert!(refusal.contains(words), "{words}: {refusal}");
    }
}

#[test]
fn the_command_line_takes_a_lab_or_the_published_record_and_not_both() {
    for (line, fits) in [
        ("publish --lab a .", true),
        ("publish --lab a --matrix b .", true),
        ("publish --lab a --matrix b --more-matrix c --more-matrix d .", true),
        ("publish --from-results --more-matrix c .", true),
        ("publish --from-results .", true),
        ("publish --servers a .", true),
        ("publish --servers a --matrix b .", false),
        ("publish .", false),
        ("publish --lab a", false),
        ("publish --lab a --from-results .", false),
        ("publish --matrix b --from-results .", true),
    ] {
        assert_eq!(Publish::try_parse_from(line.split(' ')).is_ok(), fits, "{line}");
    }
}

#[test]
fn readme_and_results_are_what_the_published_record_gives() {
    let lab = Lab::read(&root().join(RECORD)).unwrap();
    for (name, wanted) in Checkout::at(&root()).unwrap().documents(&lab).unwrap() {
        let found = fs::read_to_string(root().join(name)).unwrap_or_default();
        assert!(
            found.trim_end() == wanted.trim_end(),
            "{name} differs: cargo run -p loadtest --bin publish -- --from-results ."
        );
    }
}
