//! The catalogue of well-known servers: how each is installed, started with four workers, and requested.
//!
//! Commands and configuration files have placeholders for what is known only at the start: `{program}`
//! and `{python}` (the executables), `{host}`, `{port}`, `{workers}`; `{apps}` (the folder of `app.py` and
//! similar files), `{conf}` (the configuration file, written for this start), `{folder}` (its folder, with
//! an `index.html`), `{root}` (the folder with the package's `usr`), `{user}` (serves if started by root).

use crate::server::nginx;

/// Workers of every server.
pub const WORKERS: usize = 4;

/// The source of a program.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Source {
    /// A Debian package, unpacked but not installed, if the program is not there already.
    Debian(&'static str),
    /// A Python package, in a virtual environment.
    Python(&'static str),
    /// This repository.
    Ours,
}

/// A program with one or more settings.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    /// Its name in `loadtest servers NAME`.
    pub name: &'static str,
    pub source: Source,
    /// The executable, if its name differs.
    pub file: &'static str,
    /// Whether it is a Ruby script: an unpacked one is started with `ruby`, which finds the unpacked libraries.
    pub is_ruby: bool,
    /// The option that prints its version.
    pub version: &'static str,
    /// Whether its workers are threads of one process: then the connections of each are not visible.
    pub has_threads: bool,
    /// Whether the short form includes it.
    pub quick: bool,
    pub settings: &'static [Setting],
}

/// A way to run a program.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Its name in tables.
    pub name: &'static str,
    /// The command; for our servers, the server with its options.
    pub command: &'static str,
    /// The text of its configuration file.
    pub file: Option<&'static str>,
    /// The text at `{setting}` in that file.
    pub setting: &'static str,
    /// How many blocking handlers a worker runs at a time; `None` if the server runs none of our code.
    pub at_once: Option<usize>,
}

const PROGRAM: Program = Program {
    name: "",
    source: Source::Ours,
    file: "",
    is_ruby: false,
    version: "--version",
    has_threads: false,
    quick: false,
    settings: &[],
};

/// A server that runs our code, one handler at a time.
const fn runs(name: &'static str, command: &'static str) -> Setting {
    Setting { name, command, file: None, setting: "", at_once: Some(1) }
}

/// A server that runs none of our code.
const fn answers(
    name: &'static str,
    command: &'static str,
    file: &'static str,
    setting: &'static str,
) -> Setting {
    Setting { name, command, file: Some(file), setting, at_once: None }
}

const NGINX: &str = "{program} -e stderr -p {folder} -c {conf}";
const HAPROXY: &str = "{program} -W -db -f {conf}";
const HAPROXY_FILE: &str = include_str!("../../servers/haproxy.cfg");
const APACHE: &str = "{program} -D FOREGROUND -d {folder} -f {conf}";
const APACHE_FILE: &str = include_str!("../../servers/apache.conf");
const UNICORN: &str = "{program} -E none -c {conf} {apps}/config.ru";
const UNICORN_FILE: &str = include_str!("../../servers/unicorn.rb");

/// gunicorn with these options.
macro_rules! gunicorn {
    ($options:literal) => {
        concat!("{program} --no-control-socket -b {host}:{port} -w {workers} app:wsgi ", $options)
    };
}

/// uWSGI with these options. Without --die-on-term, TERM reloads it.
macro_rules! uwsgi {
    ($options:literal) => {
        concat!(
            "{program} --plugins-dir {root}/usr/lib/uwsgi/plugins --plugin python3 --http-socket {host}:{port} --processes {workers} --master --need-app \
             --disable-logging --die-on-term --wsgi app:wsgi ",
            $options
        )
    };
}

/// Every server, in the order in which they are measured.
pub const CATALOGUE: &[Program] = &[
    Program {
        name: "ours",
        settings: &[
            runs("shared/epoll", "shared --accept epoll"),
            runs("shared/blocking", "shared --accept blocking"),
            runs("shared/exclusive", "shared --accept exclusive"),
            runs("shared/least-conn", "shared --accept least-conn"),
            runs("reuseport/hash", "reuseport --steer hash"),
            runs("reuseport/random", "reuseport --steer random"),
            runs("reuseport/least-conn", "reuseport --steer least-conn"),
        ],
        ..PROGRAM
    },
    Program {
        name: "nginx",
        source: Source::Debian("nginx-light"),
        version: "-v",
        quick: true,
        settings: &[
            answers("nginx", NGINX, nginx::CONFIGURATION, ""),
            answers("nginx reuseport", NGINX, nginx::CONFIGURATION, nginx::REUSEPORT),
        ],
        ..PROGRAM
    },
    Program {
        name: "haproxy",
        source: Source::Debian("haproxy"),
        version: "-v",
        has_threads: true,
        settings: &[
            answers("haproxy", HAPROXY, HAPROXY_FILE, ""),
            answers("haproxy shards by-thread", HAPROXY, HAPROXY_FILE, " shards by-thread"),
        ],
        ..PROGRAM
    },
    Program {
        name: "apache",
        source: Source::Debian("apache2-bin"),
        file: "apache2",
        version: "-v",
        settings: &[
            answers("apache event", APACHE, APACHE_FILE, ""),
            answers("apache buckets", APACHE, APACHE_FILE, "ListenCoresBucketsRatio 1"),
        ],
        ..PROGRAM
    },
    Program {
        name: "lighttpd",
        source: Source::Debian("lighttpd"),
        version: "-v",
        settings: &[answers(
            "lighttpd",
            "{program} -D -m {root}/usr/lib/lighttpd -f {conf}",
            include_str!("../../servers/lighttpd.conf"),
            "",
        )],
        ..PROGRAM
    },
    Program {
        name: "h2o",
        source: Source::Debian("h2o"),
        version: "-v",
        has_threads: true,
        settings: &[answers(
            "h2o",
            "{program} -c {conf}",
            include_str!("../../servers/h2o.yaml"),
            "",
        )],
        ..PROGRAM
    },
    Program {
        name: "gunicorn",
        source: Source::Python("gunicorn"),
        quick: true,
        settings: &[
            runs("gunicorn sync", gunicorn!("")),
            runs("gunicorn sync --reuse-port", gunicorn!("--reuse-port")),
            Setting { at_once: Some(4), ..runs("gunicorn gthread", gunicorn!("--threads 4")) },
            Setting {
                at_once: Some(4),
                ..runs("gunicorn gthread --reuse-port", gunicorn!("--threads 4 --reuse-port"))
            },
        ],
        ..PROGRAM
    },
    Program {
        name: "uvicorn",
        source: Source::Python("uvicorn"),
        settings: &[runs(
            "uvicorn",
            "{program} --host {host} --port {port} --workers {workers} --log-level warning app:app",
        )],
        ..PROGRAM
    },
    Program {
        name: "hypercorn",
        source: Source::Python("hypercorn"),
        settings: &[runs("hypercorn", "{program} -b {host}:{port} -w {workers} app:app")],
        ..PROGRAM
    },
    Program {
        name: "granian",
        // Without --respawn-failed-workers it ends when a worker dies.
        source: Source::Python("granian"),
        settings: &[runs(
            "granian",
            "{program} --interface asgi --host {host} --port {port} --workers {workers} \
             --respawn-failed-workers --respawn-interval 0.2 app:app",
        )],
        ..PROGRAM
    },
    Program {
        name: "uwsgi",
        source: Source::Debian("uwsgi-plugin-python3"),
        file: "uwsgi-core",
        settings: &[runs("uwsgi", uwsgi!("")), runs("uwsgi --reuse-port", uwsgi!("--reuse-port"))],
        ..PROGRAM
    },
    Program {
        name: "puma",
        source: Source::Debian("puma"),
        is_ruby: true,
        settings: &[Setting {
            at_once: Some(5),
            ..runs(
                "puma",
                "{program} -e production -w {workers} -b tcp://{host}:{port} {apps}/config.ru",
            )
        }],
        ..PROGRAM
    },
    Program {
        name: "unicorn",
        source: Source::Debian("unicorn"),
        is_ruby: true,
        settings: &[
            Setting { file: Some(UNICORN_FILE), ..runs("unicorn", UNICORN) },
            Setting {
                file: Some(UNICORN_FILE),
                setting: ", reuseport: true",
                ..runs("unicorn reuseport", UNICORN)
            },
        ],
        ..PROGRAM
    },
    Program {
        name: "node",
        source: Source::Debian("nodejs"),
        quick: true,
        settings: &[
            runs("node cluster, round robin", "{program} {apps}/app.js {host} {port} {workers} rr"),
            runs("node cluster, none", "{program} {apps}/app.js {host} {port} {workers} none"),
        ],
        ..PROGRAM
    },
    Program {
        name: "sanic",
        source: Source::Python("sanic"),
        settings: &[
            Setting { at_once: None, ..runs("sanic, the post's shared", SANIC_SHARED) },
            Setting { at_once: None, ..runs("sanic, the post's own", SANIC_OWN) },
        ],
        ..PROGRAM
    },
];

/// The post's two programs.
pub const SANIC_SHARED: &str = "{python} {apps}/sanic_shared.py {host} {port}";
pub const SANIC_OWN: &str = "{python} {apps}/sanic_reuseport.py {host} {port}";

/// The files that servers run and read, with their names.
pub const APPS: [(&str, &str); 6] = [
    ("app.py", include_str!("../../servers/app.py")),
    ("config.ru", include_str!("../../servers/config.ru")),
    ("app.js", include_str!("../../servers/app.js")),
    ("sanic_shared.py", include_str!("../../servers/sanic_shared.py")),
    ("sanic_reuseport.py", include_str!("../../servers/sanic_reuseport.py")),
    ("as_on_a_mac.py", include_str!("../../servers/as_on_a_mac.py")),
];

impl Program {
    /// The name of the executable.
    pub fn file(&self) -> &'static str {
        if self.file.is_empty() { self.name } else { self.file }
    }
}

/// Every program's name.
pub fn names() -> Vec<&'static str> {
    CATALOGUE.iter().map(|program| program.name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::Spec;
    use std::collections::BTreeSet;

    const PLACES: [&str; 11] = [
        "{program}",
        "{python}",
        "{host}",
        "{port}",
        "{workers}",
        "{apps}",
        "{conf}",
        "{folder}",
        "{root}",
        "{user}",
        "{setting}",
    ];

    fn settings() -> impl Iterator<Item = (&'static Program, &'static Setting)> {
        CATALOGUE.iter().flat_map(|program| program.settings.iter().map(move |it| (program, it)))
    }

    #[test]
    fn every_name_is_there_once_and_the_short_form_is_short() {
        let all: Vec<&str> = settings().map(|(_, setting)| setting.name).collect();
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
        assert_eq!(names().iter().collect::<BTreeSet<_>>().len(), CATALOGUE.len());
        let quick: Vec<&str> = CATALOGUE.iter().filter(|it| it.quick).map(|it| it.name).collect();
        assert_eq!(quick, ["nginx", "gunicorn", "node"]);
    }

    #[test]
    fn every_server_is_told_where_to_listen_and_how_many_workers_it_has() {
        for (program, setting) in settings() {
            if program.source == Source::Ours {
                assert!(Spec::parse(setting.command).unwrap().strategy().is_some());
                continue;
            }
            let all = format!("{} {}", setting.command, setting.file.unwrap_or_default());
            for place in ["{host}", "{port}"] {
                assert!(all.contains(place), "{}: {place}", setting.name);
            }
            let own = program.name == "sanic"; // the post's programs say it themselves
            assert!(own || all.contains("{workers}"), "{}", setting.name);
            assert!(shlex::split(setting.command).is_some_and(|words| words[0].starts_with("{p")));
            assert_eq!(setting.file.is_some(), setting.command.contains("{conf}"));
        }
    }

    #[test]
    fn a_place_that_nobody_fills_stands_nowhere() {
        for (_, setting) in settings() {
            let mut rest = format!("{} {}", setting.command, setting.file.unwrap_or_default());
            PLACES.iter().for_each(|place| rest = rest.replace(place, ""));
            let place = rest.split('{').skip(1).find(|after| {
                after.split_once('}').is_some_and(|(name, _)| {
                    !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase())
                })
            });
            assert_eq!(place, None, "{}", setting.name);
        }
    }

    #[test]
    fn what_a_command_runs_is_among_the_files_that_are_laid_out() {
        for (_, setting) in settings() {
            for after in setting.command.split("{apps}/").skip(1) {
                let name = after.split(' ').next().unwrap();
                assert!(APPS.iter().any(|(there, _)| *there == name), "{name}");
            }
        }
    }
}
